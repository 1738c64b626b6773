package dataplane

import (
	"errors"
	"net/netip"
	"time"
)

// Unlimited is the lease of a director without a live peer: it does not end.
const Unlimited time.Duration = 1<<63 - 1

// Errors a Plane returns, to be tested with errors.Is.
var (
	// ErrNoLease is returned by Renew of a plane that cannot end by itself.
	ErrNoLease = errors.New("this plane keeps no lease")
	// ErrUnavailable wraps the reason why a plane cannot work on this machine.
	ErrUnavailable = errors.New("plane unavailable")
	// ErrInvalid wraps the reason why a Snapshot was refused.
	ErrInvalid = errors.New("invalid snapshot")
)

// Plane forwards packets according to the last Snapshot applied. Its methods
// may be called from several goroutines.
type Plane interface {
	// Info tells what the plane is and how it is attached.
	Info() Info
	// Apply puts s in force as one atomic step and returns its generation.
	// On error the previous snapshot stays in force.
	Apply(s Snapshot) (Generation, error)
	// Renew grants the plane its virtual addresses for d from now (Unlimited:
	// until the next Renew). When the time runs out the plane stops answering
	// for them, traffic and ARP. ErrNoLease if the plane has no such thing.
	Renew(d time.Duration) error
	// Stats reads the counters. It may take milliseconds; Renew does not wait
	// for it, and Apply should not.
	Stats() (Stats, error)
	// Close withdraws the plane: nothing of it stays in the kernel.
	Close() error
}

// Detached is the Mode of a plane that sees no packets at present: its interface
// is gone. Apply attaches it again when it is back.
const Detached = "detached"

// Info describes a plane for status, log and metrics.
type Info struct {
	Name      string `json:"name"`                // "xdp", "ipvs"
	Mode      string `json:"mode,omitempty"`      // "native", "generic"; "mixed": see Interfaces
	Interface string `json:"interface,omitempty"` // the NIC it is attached to; several: "eth0, eth1"
	// Interfaces are what there is to say of each, if it can be attached to
	// several.
	Interfaces []Interface `json:"interfaces,omitempty"`
	Reason     string      `json:"reason,omitempty"` // why this mode and not a better one
	Lease      bool        `json:"lease"`            // it can end by itself
	// EndsWithDaemon: if this process dies, an armed lease ends before the
	// kernel closes the process's sockets.
	EndsWithDaemon bool `json:"ends_with_daemon"`
	// Inherited are the virtual addresses that the generation of a predecessor
	// goes on serving, under an unlimited lease, until the first Apply.
	Inherited []netip.Addr `json:"inherited,omitempty"`
}

// Interface is one of the interfaces of a plane.
type Interface struct {
	Name   string `json:"name"`
	Mode   string `json:"mode"`             // "native", "generic", Detached
	Reason string `json:"reason,omitempty"` // why this mode and not a better one
	// Members are those of a bond that has the plane's program on each of them
	// and not on itself.
	Members []string `json:"members,omitempty"`
}

// InterfaceCounters count what came in by an interface and was forwarded, and
// what was forwarded by it.
type InterfaceCounters struct {
	InPackets  uint64 `json:"in_packets"`
	InBytes    uint64 `json:"in_bytes"`
	OutPackets uint64 `json:"out_packets"`
	OutBytes   uint64 `json:"out_bytes"`
}

// Counters count what was forwarded.
type Counters struct {
	Packets     uint64 `json:"packets"`
	Bytes       uint64 `json:"bytes"`
	Connections uint64 `json:"connections"` // flows scheduled
	// What the servers sent back through the director: with Masq only.
	OutPackets uint64 `json:"out_packets,omitempty"`
	OutBytes   uint64 `json:"out_bytes,omitempty"`
}

// Conns are the flows there are now, as IPVS counts them: ActiveConn are TCP
// connections that are established or half open and SCTP associations that are
// established, InActConn all others (closing, UDP).
type Conns struct {
	Active   uint64 `json:"active"`
	Inactive uint64 `json:"inactive"`
	// Persistent are the clients that persistence binds to the server.
	Persistent uint64 `json:"persistent,omitempty"`
}

// ServerKey names a real server within a service.
type ServerKey struct {
	Service ServiceKey
	Server  netip.Addr
}

// CPUStats are the counters of one CPU.
type CPUStats struct {
	CPU int `json:"cpu"`
	// Counters are of the real servers there are now; those of servers that
	// have gone are in the services' alone.
	Counters Counters          `json:"counters"`
	Reasons  map[string]uint64 `json:"reasons"`
}

// Stats are a plane's counters since it was first loaded.
type Stats struct {
	Services map[ServiceKey]Counters
	Servers  map[ServerKey]Counters
	Conns    map[ServerKey]Conns
	// Reasons counts packets by what became of them other than being
	// forwarded by a flow: "no_server", "lease_ended", "second_chance" ...
	Reasons map[string]uint64
	// CPUs are counters by CPU, of those that there can be; nil if the plane
	// cannot tell.
	CPUs []CPUStats
	// Interfaces are counters by interface, since it was first named in the
	// configuration; nil if the plane cannot tell.
	Interfaces map[string]InterfaceCounters
	// Flows is the number of entries of the flow table in use, FlowTableSize
	// how many it has; -1 if the plane cannot tell.
	Flows         int64
	FlowTableSize int
	// FlowTableBytes is the memory the table takes; 0 if the plane cannot tell.
	FlowTableBytes int64
}
