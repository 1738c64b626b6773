// Package ipvs is the plane that forwards with the kernel's IP Virtual Server:
// it keeps the kernel's table equal to the Snapshot. It is the fallback where
// XDP cannot be used, and serves behind XDP the packets XDP passes.
//
// # Promises
//
//  1. A service that can take connections and is to go on taking them can do
//     so at every moment of an Apply: servers are added and weights raised
//     before others are lowered and removed. IPVS has no atomic swap of a
//     whole table; this is the part of it that can be had, and Apply is not
//     one step for a packet as it is with XDP. A service that is new exists,
//     for the microseconds until the next command, without servers. One whose
//     scheduler changes has none while the kernel waits for the packets that
//     use the old one (ip_vs_edit_service), some milliseconds, in which it
//     takes no new connection.
//  2. An Apply that fails half way is undone as far as the kernel lets it,
//     and its error says whether it was.
//  3. Only services that are configured, or that an Apply created, are ever
//     changed or removed; an operator's own stay as they are, in the same
//     table. A configured service that exists already is taken over.
//  4. Applying what is there already sends no command.
//  5. All that IPVS can do can be asked for: its schedulers with their flags,
//     persistence with mask and engine, firewall marks, TCP, UDP and SCTP,
//     IPv4 and IPv6, gate, masq to another port, ipip and GUE tunnels (also to
//     the other address family), thresholds, one-packet scheduling. What it
//     cannot do is refused by Carries with the reason, before any command.
//  6. What List, ListConnections, ListTimeouts, ListDaemons and Save write is
//     what ipvsadm 1.31 writes, byte for byte, but for thresholds, which it
//     does not save; and ParseSave reads it.
//  7. The contract of package dataplane is kept, with real packets, but for the
//     deviations that planetest names, all of which are the kernel's ways
//     (test/vm/guest, TestConformance). Turns of a new service go through its
//     servers in the order in which they are configured.
//
// The kernel is spoken to over its generic netlink family directly: encode.go
// and decode.go are all of it. A kernel without IPVS is found out by Open. A
// plane belongs to the network namespace it was opened in, whichever thread
// uses it.
//
// The services of standby addresses are in the table too: without the address
// no packet reaches them. There is no lease (Renew returns
// dataplane.ErrNoLease), so a director on this plane alone relies on its
// address being taken away. Snapshot.Peers and SecondChance have no meaning
// here, nor have MAC addresses: the kernel does its own ARP.
//
// The connections of a server that has left the table are dropped packet by
// packet until they time out, unless the operator has set
// net.ipv4.vs.expire_nodest_conn; the package changes no sysctl. The timeouts
// of connections are the machine's as well (SetTimeouts), and so are the sync
// daemons (StartDaemon), which Close leaves running.
//
// A tunnel by GUE has no checksum of its own, over IPv6 neither (RFC 6935): the
// packet within has one.
package ipvs
