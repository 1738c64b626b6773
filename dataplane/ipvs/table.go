package ipvs

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"systole/dataplane"
)

// Table is IPVS's table, or another plane's in the same form.
type Table struct {
	Version  string    `json:"version,omitempty"` // of IPVS; "" is 1.2.1
	Size     int       `json:"size"`              // of the connection (flow) table, in buckets
	Services []Service `json:"services"`
}

// Service is a virtual service. It is named by its Key or, in tables that
// somebody else filled, by a firewall mark.
type Service struct {
	Key       dataplane.ServiceKey `json:"key"`
	FWMark    uint32               `json:"fwmark,omitempty"` // not 0: Key is empty, but for its address family
	Scheduler string               `json:"scheduler"`
	Flags     Flags                `json:"flags,omitempty"`
	Timeout   uint32               `json:"timeout,omitempty"` // of persistence, in seconds
	Netmask   uint32               `json:"netmask,omitempty"` // of persistence: IPv4 mask in network byte order as the kernel gives it, IPv6 prefix length
	Servers   []Server             `json:"servers"`
}

// Server is a real server of a service.
type Server struct {
	Addr     netip.AddrPort `json:"addr"`
	Forward  Forward        `json:"forward"`
	Weight   uint32         `json:"weight"`
	Upper    uint32         `json:"upper,omitempty"` // connection thresholds; 0: none
	Lower    uint32         `json:"lower,omitempty"`
	Active   uint32         `json:"active"`   // established connections
	Inactive uint32         `json:"inactive"` // all others
}

// Forward is a forwarding method (linux/ip_vs.h, IP_VS_CONN_F_FWD_MASK).
type Forward uint8

// The forwarding methods. Gate (DR) is called Route by ipvsadm.
const (
	Masq   Forward = 0
	Local  Forward = 1
	Tunnel Forward = 2
	Route  Forward = 3
)

// String is the method as ipvsadm prints it.
func (f Forward) String() string {
	switch f {
	case Masq:
		return "Masq"
	case Local:
		return "Local"
	case Tunnel:
		return "Tunnel"
	case Route:
		return "Route"
	}
	return "Unknown"
}

// Flags are a service's flags (linux/ip_vs.h, IP_VS_SVC_F_*).
type Flags uint32

// The flags. The meaning of the Sched flags is the scheduler's affair.
const (
	Persistent Flags = 0x01
	hashed     Flags = 0x02 // the kernel's own note
	OnePacket  Flags = 0x04
	Sched1     Flags = 0x08
	Sched2     Flags = 0x10
	Sched3     Flags = 0x20
)

// id is what names a service in the kernel. IPv4 and IPv6 services may have
// the same firewall mark.
type id struct {
	key    dataplane.ServiceKey
	fwmark uint32
}

func (s *Service) id() id { return id{s.Key, s.FWMark} }

func (s *Service) String() string {
	if s.FWMark != 0 {
		return fmt.Sprintf("fwmark %d", s.FWMark)
	}
	return s.Key.String()
}

// v6 tells a service's address family.
func (s *Service) v6() bool { return s.Key.VIP.Is6() }

// maxWeight is the largest weight that can be read back from the kernel by
// the library in use.
const maxWeight = 65535

// want is the table that s asks for, or why it cannot be.
func want(s dataplane.Snapshot) ([]Service, error) {
	vips := make(map[netip.Addr]bool, len(s.VIPs))
	for _, v := range s.VIPs {
		vips[v.Addr] = true
	}
	seen := make(map[dataplane.ServiceKey]bool, len(s.Services))
	out := make([]Service, 0, len(s.Services))
	for _, svc := range s.Services {
		invalid := func(format string, args ...any) error {
			return fmt.Errorf("%w: service %s: %s", dataplane.ErrInvalid, svc.ServiceKey, fmt.Sprintf(format, args...))
		}
		switch {
		case !svc.VIP.IsValid():
			return nil, fmt.Errorf("%w: a service without an address", dataplane.ErrInvalid)
		case svc.VIP.Is4In6() || svc.VIP.Zone() != "":
			return nil, invalid("the address must be plain IPv4 or IPv6")
		case !vips[svc.VIP]:
			return nil, invalid("its address is not among the virtual addresses")
		case seen[svc.ServiceKey]:
			return nil, invalid("listed twice")
		case svc.Scheduler == "" || len(svc.Scheduler) > 15:
			return nil, invalid("scheduler %q is no name IPVS could have", svc.Scheduler)
		}
		seen[svc.ServiceKey] = true
		if err := Carries(svc); err != nil {
			return nil, invalid("%v", err)
		}
		servers, err := wantServers(&svc)
		if err != nil {
			return nil, invalid("%v", err)
		}
		out = append(out, Service{
			Key: svc.ServiceKey, Scheduler: svc.Scheduler, Netmask: wholeMask(svc.VIP), Servers: servers,
		})
	}
	return out, nil
}

// Carries is nil if the ipvs plane can forward svc, else why it cannot.
func Carries(svc dataplane.Service) error {
	switch {
	case svc.Mark != 0 || svc.Port == 0 || svc.LastPort != 0:
		return errors.New("a service must have an address and one port")
	case svc.Protocol != dataplane.TCP && svc.Protocol != dataplane.UDP:
		return errors.New("protocol must be tcp or udp")
	case len(svc.SchedulerFlags) > 0 || svc.Persistence != dataplane.Persistence{} || svc.OnePacket:
		return errors.New("the ipvs plane sets no flags and no persistence")
	case svc.Timeouts != dataplane.Timeouts{} || svc.Lost != dataplane.Reset:
		return errors.New("in IPVS timeouts, and what becomes of flows of lost servers, are the machine's settings (sysctl), not a service's")
	}
	for _, r := range svc.Servers {
		if r.Forward != dataplane.Gate || r.Port != 0 && r.Port != svc.Port || r.Upper != 0 || r.Lower != 0 {
			return fmt.Errorf("real server %s: the ipvs plane forwards by gate, without thresholds", r.Addr)
		}
	}
	return nil
}

func wantServers(svc *dataplane.Service) ([]Server, error) {
	seen := make(map[netip.Addr]bool, len(svc.Servers))
	out := make([]Server, 0, len(svc.Servers))
	for _, r := range svc.Servers {
		switch {
		case !r.Addr.IsValid():
			return nil, fmt.Errorf("a real server without an address")
		case r.Addr.BitLen() != svc.VIP.BitLen() || r.Addr.Is4In6() || r.Addr.Zone() != "":
			return nil, fmt.Errorf("real server %s: gate (DR) needs the address family of the service", r.Addr)
		case r.Weight > maxWeight:
			return nil, fmt.Errorf("real server %s: weight %d is above %d", r.Addr, r.Weight, maxWeight)
		case seen[r.Addr]:
			return nil, fmt.Errorf("real server %s: listed twice", r.Addr)
		}
		seen[r.Addr] = true
		out = append(out, Server{Addr: netip.AddrPortFrom(r.Addr, svc.Port), Forward: Route, Weight: r.Weight})
	}
	return out, nil
}

// wholeMask is the mask ipvsadm gives a service without persistence.
func wholeMask(vip netip.Addr) uint32 {
	if vip.Is4() {
		return 0xffffffff
	}
	return 128
}

// TableOf is the table that s describes, for a plane that is not the kernel's:
// every server gets its traffic by gate (DR). Connection counts are zero, and
// Size is the caller's to set.
func TableOf(s dataplane.Snapshot) Table {
	var t Table
	for i := range s.Services {
		svc := Service{Key: s.Services[i].ServiceKey, Scheduler: s.Services[i].Scheduler}
		for _, r := range s.Services[i].Servers {
			svc.Servers = append(svc.Servers, Server{
				Addr: netip.AddrPortFrom(r.Addr, svc.Key.Port), Forward: Route, Weight: r.Weight,
			})
		}
		t.Services = append(t.Services, svc)
	}
	return t
}

// sorted returns the services as ipvsadm orders them: IPv4 before IPv6 before
// firewall marks, then by protocol, address and port; servers by address.
func sorted(services []Service) []Service {
	out := slices.Clone(services)
	slices.SortStableFunc(out, func(a, b Service) int {
		return cmp.Or(
			cmp.Compare(a.FWMark, b.FWMark),
			cmp.Compare(a.Key.VIP.BitLen(), b.Key.VIP.BitLen()),
			cmp.Compare(a.Key.Protocol, b.Key.Protocol),
			a.Key.Compare(b.Key),
		)
	})
	for i := range out {
		out[i].Servers = slices.Clone(out[i].Servers)
		slices.SortStableFunc(out[i].Servers, func(a, b Server) int { return a.Addr.Compare(b.Addr) })
	}
	return out
}
