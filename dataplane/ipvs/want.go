package ipvs

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"systole/dataplane"
)

const (
	// gueDefault is the port of GUE (IANA) where a real server names none.
	gueDefault = 6080
	// maxWeight is what an int of the kernel holds.
	maxWeight = math.MaxInt32
	// maxPersistence is ipvsadm's limit. The kernel counts in jiffies, in 32
	// bits: 49 days with 1,000 in a second.
	maxPersistence = 31 * 24 * time.Hour
	// maxName is what names of schedulers and persistence engines may have.
	maxName = 15
)

// schedFlagNames are the names of the flags by their scheduler, in the order
// of Sched1, Sched2, Sched3.
var schedFlagNames = map[string][3]string{
	"":   {"flag-1", "flag-2", "flag-3"},
	"sh": {"sh-fallback", "sh-port", "flag-3"},
	"mh": {"mh-fallback", "mh-port", "flag-3"},
}

// flagNamed is the flag of a scheduler that name means.
func flagNamed(scheduler, name string) (Flags, error) {
	own, ok := schedFlagNames[scheduler]
	if !ok {
		own = schedFlagNames[""]
	}
	for _, names := range [][3]string{own, schedFlagNames[""]} {
		if i := slices.Index(names[:], name); i >= 0 {
			return Sched1 << i, nil
		}
	}
	return 0, fmt.Errorf("scheduler %s has no flag %q: it has %s", scheduler, name, strings.Join(own[:], ", "))
}

// Carries is nil if the ipvs plane can forward svc, else why it cannot.
func Carries(svc dataplane.Service) error {
	if err := checkKey(svc.ServiceKey); err != nil {
		return err
	}
	switch {
	case svc.Scheduler == "" || len(svc.Scheduler) > maxName:
		return fmt.Errorf("scheduler %q is no name IPVS could have", svc.Scheduler)
	case svc.Timeouts != dataplane.Timeouts{}:
		return errors.New("in IPVS timeouts are the machine's (ipvsadm --set), not a service's")
	case svc.Lost != dataplane.Reset:
		return errors.New("in IPVS the fate of a lost server's flows is the machine's (sysctl net.ipv4.vs.expire_nodest_conn), not a service's")
	case svc.OnePacket && svc.Mark == 0 && svc.Protocol != dataplane.UDP:
		return errors.New("one packet at a time is for udp")
	case svc.Port == 0 && svc.Mark == 0 && svc.Persistence.Timeout == 0:
		return errors.New("IPVS serves all ports of an address with persistence only: set it, or use a fwmark")
	}
	for _, name := range svc.SchedulerFlags {
		if _, err := flagNamed(svc.Scheduler, name); err != nil {
			return err
		}
	}
	if err := checkPersistence(svc.Persistence, svc.VIP.BitLen()); err != nil {
		return err
	}
	seen := make(map[netip.Addr]bool, len(svc.Servers))
	for i := range svc.Servers {
		r := &svc.Servers[i]
		if !r.Addr.IsValid() {
			return errors.New("a real server without an address")
		}
		err := checkServer(&svc, r)
		if err == nil && seen[r.Addr] {
			err = errors.New("listed twice")
		}
		if err != nil {
			return fmt.Errorf("real server %s: %w", r.Addr, err)
		}
		seen[r.Addr] = true
	}
	return nil
}

func checkKey(k dataplane.ServiceKey) error {
	switch {
	case !k.VIP.IsValid():
		return errors.New("a service without an address")
	case k.VIP.Is4In6() || k.VIP.Zone() != "":
		return errors.New("the address must be plain IPv4 or IPv6")
	case k.LastPort != 0:
		return errors.New("IPVS has no port ranges: mark the packets with the firewall and use that fwmark, or all ports with persistence")
	case k.Mark != 0 && (!k.VIP.IsUnspecified() || k.Port != 0 || k.Protocol != 0):
		return errors.New("a service of a fwmark has neither address nor port nor protocol")
	case k.Mark == 0 && k.VIP.IsUnspecified():
		return fmt.Errorf("%s is no address of a service", k.VIP)
	case k.Mark == 0 && k.Protocol != dataplane.TCP && k.Protocol != dataplane.UDP && k.Protocol != dataplane.SCTP:
		return errors.New("protocol must be tcp, udp or sctp")
	}
	return nil
}

func checkPersistence(p dataplane.Persistence, bits int) error {
	switch {
	case p.Timeout == 0 && p != dataplane.Persistence{}:
		return errors.New("persistence without a timeout")
	case p.Timeout < 0 || p.Timeout > maxPersistence || p.Timeout%time.Second != 0:
		return fmt.Errorf("persistence of %s: IPVS counts whole seconds, up to %d", p.Timeout, maxPersistence/time.Second)
	case p.PrefixLen < 0 || p.PrefixLen > bits:
		return fmt.Errorf("persistence for /%d: an address of the service's family has %d bits", p.PrefixLen, bits)
	case len(p.Engine) > maxName:
		return fmt.Errorf("persistence engine %q is no name IPVS could have", p.Engine)
	}
	return nil
}

func checkServer(svc *dataplane.Service, r *dataplane.RealServer) error {
	switch {
	case r.Addr.Is4In6() || r.Addr.Zone() != "":
		return errors.New("the address must be plain IPv4 or IPv6")
	case r.Forward > dataplane.Masq:
		return fmt.Errorf("no such way of forwarding: %d", uint8(r.Forward))
	case r.Addr.BitLen() != svc.VIP.BitLen() && r.Forward != dataplane.IPIP && r.Forward != dataplane.GUE:
		return fmt.Errorf("%s needs the address family of the service; ipip and gue do not", r.Forward)
	case r.Weight > maxWeight:
		return fmt.Errorf("weight %d is above %d", r.Weight, maxWeight)
	case r.Lower > r.Upper:
		return fmt.Errorf("the lower threshold, %d, is above the upper one, %d", r.Lower, r.Upper)
	case r.Forward != dataplane.Masq && r.Port != 0 && r.Port != svc.Port:
		return fmt.Errorf("port %d: only masq changes the port", r.Port)
	case r.Port != 0 && svc.Port == 0 && svc.Mark == 0:
		return fmt.Errorf("port %d: with a service on all ports, servers keep the client's", r.Port)
	case r.Forward != dataplane.GUE && r.TunnelPort != 0:
		return fmt.Errorf("tunnel port %d: only gue has one", r.TunnelPort)
	}
	return nil
}

// want is the table that s asks for, or why it cannot be.
func want(s dataplane.Snapshot) ([]Service, error) {
	vips := make(map[netip.Addr]bool, len(s.VIPs))
	for _, v := range s.VIPs {
		switch {
		case !v.Addr.IsValid():
			return nil, fmt.Errorf("%w: a virtual address that is none", dataplane.ErrInvalid)
		case vips[v.Addr]:
			return nil, fmt.Errorf("%w: virtual address %s: listed twice", dataplane.ErrInvalid, v.Addr)
		case v.Role > dataplane.Draining:
			return nil, fmt.Errorf("%w: virtual address %s: no such role: %d", dataplane.ErrInvalid, v.Addr, uint8(v.Role))
		}
		vips[v.Addr] = true
	}
	seen := make(map[dataplane.ServiceKey]bool, len(s.Services))
	out := make([]Service, 0, len(s.Services))
	for i := range s.Services {
		svc := &s.Services[i]
		invalid := func(err error) error {
			return fmt.Errorf("%w: service %s: %w", dataplane.ErrInvalid, svc.ServiceKey, err)
		}
		err := Carries(*svc)
		switch {
		case err != nil:
			return nil, invalid(err)
		case svc.Mark == 0 && !vips[svc.VIP]:
			return nil, invalid(errors.New("its address is not among the virtual addresses"))
		case seen[svc.ServiceKey]:
			return nil, invalid(errors.New("listed twice"))
		}
		seen[svc.ServiceKey] = true
		out = append(out, serviceOf(svc))
	}
	return out, nil
}

// serviceOf is svc in IPVS's terms, as near as they come.
func serviceOf(svc *dataplane.Service) Service {
	out := Service{Key: svc.ServiceKey, Scheduler: svc.Scheduler, Netmask: wholeMask(svc.VIP)}
	for _, name := range svc.SchedulerFlags {
		f, _ := flagNamed(svc.Scheduler, name)
		out.Flags |= f
	}
	if svc.OnePacket {
		out.Flags |= OnePacket
	}
	if p := svc.Persistence; p.Timeout != 0 {
		out.Flags |= Persistent
		out.Timeout, out.Engine = uint32(p.Timeout/time.Second), p.Engine
		if p.PrefixLen != 0 {
			out.Netmask = maskFor(p.PrefixLen, out.v6())
		}
	}
	for i := range svc.Servers {
		out.Servers = append(out.Servers, serverOf(svc, &svc.Servers[i]))
	}
	return out
}

// serverOf is r in IPVS's terms. IPVS names a server by address and port: that
// of the service, or 0 where a service has many.
func serverOf(svc *dataplane.Service, r *dataplane.RealServer) Server {
	s := Server{Addr: netip.AddrPortFrom(r.Addr, svc.Port), Forward: Route, Weight: r.Weight, Upper: r.Upper, Lower: r.Lower}
	switch r.Forward {
	case dataplane.IPIP:
		s.Forward = Tunnel
	case dataplane.GUE:
		s.Forward, s.Tunnel = Tunnel, TunnelTo{Type: GUE, Port: cmp.Or(r.TunnelPort, gueDefault)}
	case dataplane.Masq:
		s.Forward, s.Addr = Masq, netip.AddrPortFrom(r.Addr, cmp.Or(r.Port, svc.Port))
	}
	return s
}

// maskFor is a prefix length as the kernel has it.
func maskFor(prefix int, v6 bool) uint32 {
	if v6 {
		return uint32(prefix)
	}
	b := binary.BigEndian.AppendUint32(nil, ^uint32(0)<<(32-prefix))
	return binary.NativeEndian.Uint32(b)
}

// TableOf is the table that s describes, for a plane that is not the kernel's.
// Counts are zero, and Size is the caller's to set. What IPVS has no words for
// is left out: of a port range its first port is shown.
func TableOf(s dataplane.Snapshot) Table {
	var t Table
	for i := range s.Services {
		t.Services = append(t.Services, serviceOf(&s.Services[i]))
	}
	return t
}
