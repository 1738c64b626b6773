package planetest

import (
	"slices"
	"time"

	"systole/dataplane"
)

// Deviation is something in which a plane keeps to its own way and not to the
// contract's. The suite tests what such a plane does instead: a Deviation that
// is none any more fails.
type Deviation string

// The deviations that there are, all of kernel IPVS.
const (
	// LostDrops: while a flow lasts that had a server or a service that has
	// left, its packets are dropped; a SYN, too, opens nothing.
	LostDrops Deviation = "the packets of a flow without its server are dropped while the flow lasts"
	// SynAckOpens: any TCP segment with SYN opens a connection.
	SynAckOpens Deviation = "SYN+ACK opens a connection"
	// OwnNeighbours: a server that the director has no MAC address of is served.
	OwnNeighbours Deviation = "the plane finds the MAC addresses of servers by itself"
	// NoPeers: the other director is a client like any other.
	NoPeers Deviation = "the plane knows no other director: there is no second chance"
	// OwnersOnly: what is no address of the machine's is not forwarded.
	OwnersOnly Deviation = "who has let go of the address (draining) does not forward"
	// LateCounts: counters may be seconds old.
	LateCounts Deviation = "counters are brought up to date now and then"
	// PortKeepsServer: a connection from the port of one that has ended by FIN
	// gets its server, while the plane remembers that; after a RST it does not.
	PortKeepsServer Deviation = "a connection from the port of one that ended by FIN gets the same server"
	// AddressOnly: a client's other address is another connection.
	AddressOnly Deviation = "the IDs of QUIC connections are not looked at"
)

// deviates tells whether the plane does, and notes it in the test's log.
func (b *bench) deviates(d Deviation) bool {
	b.Helper()
	if !slices.Contains(b.Deviations, d) {
		return false
	}
	b.Logf("deviates: %s", d)
	return true
}

// stats reads the counters; of a plane that is late, when they are enough.
func (b *bench) stats(enough func(dataplane.Stats) bool) dataplane.Stats {
	b.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		st, err := b.Plane.Stats()
		if err != nil {
			b.Fatal(err)
		}
		if !slices.Contains(b.Deviations, LateCounts) || enough(st) || time.Now().After(end) {
			return st
		}
	}
}
