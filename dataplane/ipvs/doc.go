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
//     for the microseconds until the next command, without servers.
//  2. An Apply that fails half way is undone as far as the kernel lets it,
//     and its error says whether it was.
//  3. Only services that are configured, or that an Apply created, are ever
//     changed or removed; an operator's own stay as they are, in the same
//     table. A configured service that exists already is taken over.
//  4. Applying what is there already sends no command.
//
// The services of standby addresses are in the table too: without the address
// no packet reaches them. There is no lease (Renew returns
// dataplane.ErrNoLease), so a director on this plane alone relies on its
// address being taken away. Snapshot.Peers and SecondChance have no meaning
// here, nor have MAC addresses: the kernel does its own ARP.
//
// The connections of a server that has left the table are dropped packet by
// packet until they time out, unless the operator has set
// net.ipv4.vs.expire_nodest_conn; the package changes no sysctl.
package ipvs
