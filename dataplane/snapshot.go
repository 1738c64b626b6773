package dataplane

import (
	"fmt"
	"net"
	"net/netip"
)

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
	// PeerInterfaces are by which interfaces Peers are reached, in their order,
	// as RealServer.Interface says it; what it lacks is empty.
	PeerInterfaces []string
	// SecondChance sends flow-less TCP segments of Active addresses to Peers[0].
	SecondChance bool
}

// Generation numbers the snapshots a plane has put in force: 1, 2, 3 ...
type Generation uint64
