package ipvs

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"systole/dataplane"
)

// Table is IPVS's table, or another plane's in the same form.
type Table struct {
	Version  string    `json:"version,omitempty"` // of IPVS; "" is 1.2.1
	Size     int       `json:"size"`              // of the connection (flow) table, in buckets
	Services []Service `json:"services"`
}

// Service is a virtual service.
type Service struct {
	Key       dataplane.ServiceKey `json:"key"`
	Scheduler string               `json:"scheduler"`
	Flags     Flags                `json:"flags,omitempty"`
	Timeout   uint32               `json:"timeout,omitempty"` // of persistence, in seconds
	Netmask   uint32               `json:"netmask,omitempty"` // of persistence: IPv4 mask in network byte order as the kernel gives it, IPv6 prefix length
	Engine    string               `json:"engine,omitempty"`  // of persistence: "sip", or "" for the client's address
	Stats     Stats                `json:"stats"`
	Servers   []Server             `json:"servers"`
}

// Server is a real server of a service.
type Server struct {
	Addr     netip.AddrPort `json:"addr"`
	Forward  Forward        `json:"forward"`
	Weight   uint32         `json:"weight"`
	Tunnel   TunnelTo       `json:"tunnel,omitzero"` // with Forward Tunnel
	Upper    uint32         `json:"upper,omitempty"` // connection thresholds; 0: none
	Lower    uint32         `json:"lower,omitempty"`
	Active   uint32         `json:"active"`   // established connections
	Inactive uint32         `json:"inactive"` // all others
	// Persistent are clients that persistence binds to the server.
	Persistent uint32 `json:"persistent,omitempty"`
	Stats      Stats  `json:"stats"`
}

// Stats count what a service or a server got ("in") and, with Masq alone, what
// came back through the director ("out").
type Stats struct {
	Connections uint64 `json:"connections"`
	InPackets   uint64 `json:"in_packets"`
	OutPackets  uint64 `json:"out_packets,omitempty"`
	InBytes     uint64 `json:"in_bytes"`
	OutBytes    uint64 `json:"out_bytes,omitempty"`
	Rate        Rate   `json:"rate,omitzero"`
}

// Rate is what Stats grew by in a second. The kernel estimates it over a few.
type Rate struct {
	Connections uint64 `json:"connections"`
	InPackets   uint64 `json:"in_packets"`
	OutPackets  uint64 `json:"out_packets,omitempty"`
	InBytes     uint64 `json:"in_bytes"`
	OutBytes    uint64 `json:"out_bytes,omitempty"`
}

// StatsOf are a plane's counters in IPVS's form.
func StatsOf(c dataplane.Counters) Stats {
	return Stats{
		Connections: c.Connections, InPackets: c.Packets, OutPackets: c.OutPackets,
		InBytes: c.Bytes, OutBytes: c.OutBytes,
	}
}

// since is the rate from before to s, after some time; 0 where a counter went
// back, as it does when a service is made anew.
func (s *Stats) since(before *Stats, after time.Duration) Rate {
	per := func(now, then uint64) uint64 {
		if now < then || after <= 0 {
			return 0
		}
		return uint64(float64(now-then)/after.Seconds() + 0.5)
	}
	return Rate{
		Connections: per(s.Connections, before.Connections),
		InPackets:   per(s.InPackets, before.InPackets), OutPackets: per(s.OutPackets, before.OutPackets),
		InBytes: per(s.InBytes, before.InBytes), OutBytes: per(s.OutBytes, before.OutBytes),
	}
}

// Rates fills in the rates from an earlier reading of the same table. What was
// not there then has none yet.
func (t *Table) Rates(before Table, after time.Duration) {
	type name struct {
		service dataplane.ServiceKey
		server  netip.AddrPort
	}
	old := make(map[name]*Stats)
	for i := range before.Services {
		s := &before.Services[i]
		old[name{service: s.Key}] = &s.Stats
		for j := range s.Servers {
			old[name{s.Key, s.Servers[j].Addr}] = &s.Servers[j].Stats
		}
	}
	rate := func(n name, s *Stats) {
		s.Rate = Rate{}
		if b := old[n]; b != nil {
			s.Rate = s.since(b, after)
		}
	}
	for i := range t.Services {
		s := &t.Services[i]
		rate(name{service: s.Key}, &s.Stats)
		for j := range s.Servers {
			rate(name{s.Key, s.Servers[j].Addr}, &s.Servers[j].Stats)
		}
	}
}

// TunnelTo is how packets for a server are wrapped.
type TunnelTo struct {
	Type  TunnelType `json:"type"`
	Port  uint16     `json:"port,omitempty"`  // destination port of GUE
	Flags uint16     `json:"flags,omitempty"` // linux/ip_vs.h, IP_VS_TUNNEL_ENCAP_FLAG_*
}

// TunnelType is a kind of tunnel (linux/ip_vs.h, IP_VS_CONN_F_TUNNEL_TYPE_*).
type TunnelType uint8

// The kinds.
const (
	IPIP TunnelType = 0
	GUE  TunnelType = 1
	GRE  TunnelType = 2
)

// String is the kind as ipvsadm has it: "ipip", "gue", "gre".
func (t TunnelType) String() string {
	if t > GRE {
		return fmt.Sprintf("type-%d", uint8(t))
	}
	return [...]string{"ipip", "gue", "gre"}[t]
}

// Checksums of what is wrapped (linux/ip_vs.h): with neither flag there is none.
const (
	tunCsum    = 1 // a checksum
	tunRemCsum = 2 // remote checksum offload
)

// Forward is a forwarding method (linux/ip_vs.h, IP_VS_CONN_F_FWD_MASK).
type Forward uint8

// The forwarding methods. Gate (DR) is called Route by ipvsadm.
const (
	Masq   Forward = 0
	Local  Forward = 1
	Tunnel Forward = 2
	Route  Forward = 3

	forwardMask Forward = 0x7
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

func (s *Service) String() string { return s.Key.String() }

// v6 tells a service's address family.
func (s *Service) v6() bool { return s.Key.VIP.Is6() }

// wholeMask is the mask ipvsadm gives a service without persistence: every
// client for itself.
func wholeMask(vip netip.Addr) uint32 {
	if vip.Is4() {
		return 0xffffffff
	}
	return 128
}

// sorted returns the services as ipvsadm orders them: IPv4 before IPv6 before
// firewall marks, then by protocol, address and port; servers by address.
func sorted(services []Service) []Service {
	out := slices.Clone(services)
	slices.SortStableFunc(out, func(a, b Service) int {
		return cmp.Or(
			cmp.Compare(a.Key.Mark, b.Key.Mark),
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
