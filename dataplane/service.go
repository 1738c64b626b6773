package dataplane

import (
	"net"
	"net/netip"
	"time"
)

// Forward is how a packet gets from the director to a real server.
type Forward uint8

// The forwarding methods, by the names ldirectord has for them.
const (
	Gate Forward = iota // DR: only the frame's MAC addresses change
	IPIP                // IP in IP (RFC 2003), IPv6 in IPv6 (RFC 2473), or one in the other
	GUE                 // IP in UDP: Generic UDP Encapsulation, variant 0, without options
	Masq                // NAT: replies come back through the director
)

// String is the method's name: "gate", "ipip", "gue", "masq".
func (f Forward) String() string {
	return [...]string{"gate", "ipip", "gue", "masq"}[f&3]
}

// RealServer is one real server of one service.
type RealServer struct {
	Addr netip.Addr
	// Weight is its share of new connections; 0 quiesces it: its flows stay,
	// it gets no new ones.
	Weight uint32
	// MAC is where frames for it are sent: its own, or with a tunnel that of
	// the router to it. Nil or all zero means not known yet: packets for it
	// are dropped until it is.
	MAC net.HardwareAddr
	// Interface is by which of the plane's interfaces it is reached; another
	// name: by none of them. Empty: by the one that a packet for it came in by.
	Interface string

	Forward    Forward
	Port       uint16 // of the server, with Masq only; 0: the service's
	TunnelPort uint16 // destination port of GUE; 0: 6080
	// Source and MTU are of the way to it, for planes that write the outer
	// headers of tunnels themselves: the director's address in them, of the
	// family of Addr, and how large a packet may be with them. Source not
	// valid means not known yet, like no MAC; MTU 0 is 1500.
	Source netip.Addr
	MTU    int
	// ServerID is what the server writes into the QUIC connection IDs it
	// chooses, Service.ServerIDLength bytes, each server another one.
	ServerID []byte
	// Upper and Lower are thresholds of connections: at Upper the server gets
	// no more until it is below Lower (0: three quarters of Upper). 0: none.
	Upper, Lower uint32
}

// Lost is what becomes of the flows of a real server that has left its service.
type Lost uint8

// The fates of such flows.
const (
	// Reset lets their packets go up, where the kernel refuses them.
	Reset Lost = iota
	// Reschedule gives them another server, as if their next packet began
	// them: right for datagrams and for servers that share their state.
	Reschedule
	// Keep goes on sending them to the server that has left.
	Keep
)

// String is the word for it in the config: "reset", "reschedule", "keep".
func (l Lost) String() string {
	return [...]string{"reset", "reschedule", "keep", "lost-3"}[l&3]
}

// Persistence binds clients to servers: all connections of one client address
// within the time go to one server.
type Persistence struct {
	Timeout   time.Duration // since the client's last connection ended; 0: no persistence
	PrefixLen int           // of the client addresses that count as one; 0: whole addresses
	Engine    string        // what tells clients apart: "sip" (the Call-ID, IPVS alone), or "", their address
}

// Timeouts are how long a flow is remembered after its last packet. Zero means
// what IPVS does: 15 min, 2 min, 5 min.
type Timeouts struct {
	TCP, TCPFin, UDP time.Duration
}

// MaxServerID is the most bytes a ServerID has.
const MaxServerID = 8

// Service is a virtual service with the real servers that should have its
// traffic now. A server that is not listed has left: its flows end as Lost says.
type Service struct {
	ServiceKey
	Scheduler string // a name of package scheduler: "rr", "wrr" ..., or one of IPVS alone
	// SchedulerFlags are IPVS's: "sh-port", "sh-fallback", "mh-port",
	// "mh-fallback", "flag-1", "flag-2", "flag-3".
	SchedulerFlags []string
	Persistence    Persistence
	// OnePacket schedules each datagram by itself: no flow is kept.
	OnePacket bool
	// ServerIDLength is how many bytes of a QUIC connection ID, after the first,
	// name the server that chose it: the plaintext form of QUIC-LB
	// (draft-ietf-quic-load-balancers). A datagram without a flow that bears
	// one goes to that server, so a connection stays when its client's address
	// changes. 1 to MaxServerID, of UDP alone; 0: only addresses tell.
	ServerIDLength int
	Timeouts       Timeouts
	Lost           Lost
	Servers        []RealServer
}
