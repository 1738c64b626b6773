package config

import (
	"net/netip"
	"time"
)

// Config is one cluster's configuration as written in systole.yaml: the same
// file on every director. Every field has been checked and has its default.
//
// The name of a field's key in the file is its name in lower case with "_"
// between words; where it differs, the field's comment says so.
type Config struct {
	File string // where it was read from, for messages; not a key

	Node    string // our own name, a director's or a witness's; default: the host name in lower case
	Cluster Cluster
	Groups  []Group
	// Services in the order of the file.
	Services  []Service
	DataPlane DataPlane // key: dataplane
	Sync      *Sync     // nil: no flows are carried to the other director
	Metrics   Metrics
	Control   Control
}

// Cluster is the heartbeat side: who the directors are and how they talk. All
// its times are whole milliseconds, the unit of the wire.
type Cluster struct {
	Name         string        // a label for people; default "systole"
	Keepalive    time.Duration // period of our beats, 10 ms to 1 min; default 1 s
	Deadtime     time.Duration // silence that means dead, up to 1 h; default 10 s; > 2 x keepalive
	Warntime     time.Duration // a beat this late is logged; < deadtime; default deadtime/2
	Initdead     time.Duration // deadtime until the cluster is first complete; >= deadtime; default per heartbeat-wire.md section 7
	Suspicion    bool          // a director that answers nothing is dead before its deadtime; default true
	AutoFailback bool          // the preferred director takes its groups back; default true
	Legacy       bool          // key auto_failback, value "legacy": an old heartbeat is spoken to so; AutoFailback is true
	Partition    string        // AtLeastOne (default) or AtMostOne; the latter needs the key quorum
	Authkeys     string        // path of the authkeys file, mode 0600 enforced; default /etc/systole/authkeys
	StateDir     string        // uuid and generation files; default /var/lib/systole
	Realtime     bool          // nice -20 and locked memory for the daemon; default false
	Nodes        []string      // one or two names, lower case, in order
	Witnesses    []string      // members that vote and own nothing, at most 14, none of Nodes; see Members
	Media        []Medium      // at least one if there are two members
	Autojoin     string        // who may join without being in Nodes: "none", "other", "any"; default none
	Ping         []Ping
	DeadPing     time.Duration // silence after which a ping node is dead; key: deadping; default deadtime
	Quorum       Quorum
	// Addresses are the directors' own on the LAN of the real servers, by node
	// name, each of Nodes; nil: those of a ucast medium on the data plane's
	// interface. See Config.DirectorAddr.
	Addresses map[string]netip.Addr
}

// Medium is one heartbeat path. The fields that mean nothing for its Type are
// zero.
type Medium struct {
	Type string // "ucast", "bcast", "mcast", "serial"
	// ucast, bcast, mcast
	Interface string
	Port      uint16 // UDP; default 694
	// ucast
	Peers map[string]netip.Addr // node name -> its address on this medium, all of one family; every member, ourselves too
	// mcast
	Group netip.Addr // IPv4 or IPv6; default 225.0.0.1
	TTL   int        // 1 to 255; default 1
	// serial
	Device string // path
	Baud   int    // bit/s, 9600 to 460800; default 19200
}

// Group is a resource group: addresses that move together.
type Group struct {
	Name      string
	Preferred string // the director that should own it; default: the first of Cluster.Nodes
	// Haresources is the first resource of the group's line in an old node's
	// haresources, if that is not the first VIP's address alone; see Key.
	Haresources string
	VIPs        []VIP // at least one
}

// VIP is a virtual address and the interface it lives on.
type VIP struct {
	Addr      netip.Addr // key: address, as "ADDRESS" or "ADDRESS/PREFIX"
	PrefixLen int        // 1 to 32, IPv6: to 128; default: the most; part of the key address
	Interface string
}

// Service is a virtual service: of one port, of a range of ports, of all ports,
// or of the packets that the firewall gave a mark.
type Service struct {
	VIP       netip.Addr // a VIP of a group; with FWMark unspecified, of the servers' family; key: virtual, as "VIP:PORT"
	Port      uint16     // part of the key virtual; 0: all ports ("VIP:*")
	LastPort  uint16     // of a range ("VIP:FIRST-LAST"), else 0; part of the key virtual
	FWMark    uint32     // instead of the key virtual; 0: none
	Protocol  string     // "tcp" (default), "udp", "sctp"; "" with FWMark
	Scheduler string     // one of IPVS's; default "rr"
	// SchedulerFlags are those of sh and mh: "sh-port", "sh-fallback" ...;
	// key: scheduler_flags.
	SchedulerFlags []string
	Persistent     Persistent
	OnePacket      bool // each datagram is scheduled by itself; key: one_packet
	QUIC           QUIC // udp: connections go by their IDs
	Timeouts       Timeouts
	Lost           string // fate of a removed server's connections: "reset" (default), "reschedule", "keep"
	// Quiescent: a server whose check fails gets weight 0 and keeps its
	// connections; else it leaves the table. Default false.
	Quiescent bool
	Servers   []Server // at least one
	Fallback  *Server  // serves while no real server does; it is not checked and has Weight 1
	Check     Check
}

// Persistent binds a client's address to a server.
type Persistent struct {
	Timeout   time.Duration // 1 s to 1 day, whole seconds; 0: not persistent
	PrefixLen int           // of client addresses that count as one; 0: each is its own; key: netmask
}

// Timeouts are those of a service's connections; 0: as IPVS has them.
type Timeouts struct {
	TCP    time.Duration // default 15 min
	TCPFin time.Duration // default 2 min; key: tcpfin
	UDP    time.Duration // default 5 min
}

// Server is a real server.
type Server struct {
	Addr       netip.Addr // key: address
	Weight     uint32     // 0 (quiesced) to 65535; default 1
	Forward    string     // "gate" (default), "ipip", "gue", "masq"
	Port       uint16     // of the server, with masq only; 0: the service's
	TunnelPort uint16     // UDP port of gue; default 6080, 0 with other methods; key: tunnel_port
	Upper      uint32     // connections from which on it gets no more; 0: no limit
	Lower      uint32     // and until it is below this; 0: three quarters of Upper
	ServerID   string     // with Service.QUIC: its ID there, in hexadecimal digits, lower case; key: server_id
	// Check is used instead of the service's check if not nil. It is whole:
	// what the file does not say for this server has been taken from there.
	Check *Check
}

// Check is a health check. The fields that mean nothing for its Type are zero.
type Check struct {
	Type     string        // "tcp" (default), "http", "none" (always up)
	Port     uint16        // default: the service's
	Interval time.Duration // from one check to the next, 10 ms to 1 h; default 2 s
	Timeout  time.Duration // for the whole check; <= Interval; default 1 s, or Interval if that is less
	Rise     int           // consecutive successes until up; default 1
	Fall     int           // consecutive failures until down; default 1
	// http only
	Path        string // "request" in ldirectord; begins with "/"; default "/"
	VirtualHost string // Host header; empty: the server's address
	Method      string // "GET" (default), "HEAD"
	Expect      string // regular expression (RE2) the body must match ("receive"); empty: any 2xx
}

// DataPlane says how packets are forwarded.
type DataPlane struct {
	Interface string // the NIC XDP attaches to; may be empty if there is no service, or Mode is "ipvs"
	// Interfaces are several NICs instead, Interface is the first of them then;
	// nil: Interface alone. See NICs.
	Interfaces []string
	Mode       string // "auto" (default: native, else generic, else ipvs), "native", "generic", "ipvs"
	Pin        string // directory on a bpffs; default /sys/fs/bpf/systole
	Flows      int    // size of the flow table, a power of two from 1<<10 to 1<<24; default 1<<20
	Evict      bool   // take another's XDP program off the interface; default false
}

// Metrics is the Prometheus endpoint; empty Listen means none.
type Metrics struct {
	Listen string // "127.0.0.1:9101"
}

// Control is the local control socket.
type Control struct {
	Socket string // default /run/systole/systole.sock
}
