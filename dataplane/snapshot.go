package dataplane

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// Protocol is an IP protocol number as it stands in the IP header.
type Protocol uint8

// The protocols a virtual service can have.
const (
	TCP Protocol = 6
	UDP Protocol = 17
)

// String is the protocol's name as operators write it: "tcp", "udp".
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	}
	return fmt.Sprintf("proto-%d", uint8(p))
}

// ServiceKey names a virtual service: the triple a packet is matched by.
type ServiceKey struct {
	VIP      netip.Addr
	Port     uint16 // host byte order
	Protocol Protocol
}

// String is "192.168.145.101:80/tcp", the label used in logs and metrics.
func (k ServiceKey) String() string {
	return netip.AddrPortFrom(k.VIP, k.Port).String() + "/" + k.Protocol.String()
}

// ParseServiceKey reads what String writes.
func ParseServiceKey(s string) (ServiceKey, error) {
	addr, proto, _ := strings.Cut(s, "/")
	ap, err := netip.ParseAddrPort(addr)
	k := ServiceKey{VIP: ap.Addr(), Port: ap.Port()}
	switch {
	case err != nil:
		return ServiceKey{}, fmt.Errorf("service %q: write it as 192.168.145.101:80/tcp: %w", s, err)
	case proto == "tcp":
		k.Protocol = TCP
	case proto == "udp":
		k.Protocol = UDP
	default:
		return ServiceKey{}, fmt.Errorf("service %q: write it as 192.168.145.101:80/tcp (or /udp)", s)
	}
	return k, nil
}

// Compare orders keys by address, port and protocol.
func (k ServiceKey) Compare(o ServiceKey) int {
	if c := k.VIP.Compare(o.VIP); c != 0 {
		return c
	}
	if k.Port != o.Port {
		return int(k.Port) - int(o.Port)
	}
	return int(k.Protocol) - int(o.Protocol)
}

// RealServer is one real server of one service.
type RealServer struct {
	Addr netip.Addr
	// Weight is its share of new connections; 0 quiesces it: its flows stay,
	// it gets no new ones.
	Weight uint32
	// MAC is where gate (DR) forwarding sends its frames. Nil or all zero
	// means not known yet: the server then gets no new flow.
	MAC net.HardwareAddr
}

// Service is a virtual service with the real servers that should have its
// traffic now. A server that is not listed has left: its flows end.
type Service struct {
	ServiceKey
	Scheduler string // a name of package scheduler: "rr", "wrr"
	Servers   []RealServer
}

// Role is what a director does with the traffic of a virtual address.
type Role uint8

const (
	// Standby leaves the address alone, but for packets that the owning
	// director sends over because it lacks their flow (see Snapshot.Peers).
	Standby Role = iota
	// Active forwards and is the owner: it answers ARP for the address.
	Active
	// Draining forwards like Active but no longer answers ARP: the time
	// between letting go of an address and the last client noticing.
	Draining
)

// String is the role's name: "standby", "active", "draining".
func (r Role) String() string {
	switch r {
	case Standby:
		return "standby"
	case Active:
		return "active"
	case Draining:
		return "draining"
	}
	return fmt.Sprintf("role-%d", uint8(r))
}

// VIP is a virtual address and this director's role for it.
type VIP struct {
	Addr netip.Addr
	Role Role
}

// Snapshot is everything a plane is to do, at one moment.
type Snapshot struct {
	VIPs     []VIP
	Services []Service // every service's VIP is among VIPs

	// Peers are the MAC addresses of the other directors on this LAN.
	//
	// A TCP segment without a flow here (not a SYN) may belong to a connection
	// that another director started before the address moved. It is not
	// rescheduled, which would reset it: it gets a second chance at the first
	// peer. A packet that comes *from* a peer is forwarded if its flow is
	// known, whatever the Role, and is never scheduled nor sent on to a peer
	// again, so no loop is possible.
	Peers []net.HardwareAddr
	// SecondChance sends flow-less TCP segments of Active addresses to Peers[0].
	SecondChance bool
}

// Generation numbers the snapshots a plane has put in force: 1, 2, 3 ...
type Generation uint64
