// Package fallback makes one plane of two: XDP, which is fast, and the kernel's
// IPVS, which can more and is there when XDP is not.
//
// # Promises
//
//  1. Each service is carried by one plane, and Report says which and why not
//     by the other. Without an operator's choice XDP carries what it can, IPVS
//     the rest; and IPVS holds the services of XDP as well, for it takes what
//     XDP passes, and all of it when XDP is not attached.
//  2. Which plane carries a service depends on the whole service, as Declare
//     was told, not on the servers that are up: a health check moves nothing.
//  3. A service that no plane can carry is an error that names the reason of
//     each, before anything changes.
//  4. A plane that a service leaves, by command or by another configuration,
//     goes on with the connections it has; the other one gets all new ones.
//     It forgets the service when the last of them has ended.
//  5. The lease is granted to every plane that keeps one, also to one that was
//     opened later.
//  6. When XDP is lost (its interface, or its place there to another program),
//     IPVS gets its connections (Config.Carry) and goes on with them. XDP is not
//     attached again before it has those of IPVS. By command the connections
//     are copied as well, so that XDP can be taken off after "plane ipvs"
//     without a loss.
//  7. Nothing of this holds the caller up. A try takes half a minute at most; what
//     was not carried by then is said and tried again twice, except before XDP is
//     attached, which does not wait for it any longer.
//
// # Why IPVS may hold what XDP carries
//
// What XDP forwards IPVS never sees. What XDP passes of a service it carries is
// one of these, and IPVS does what the kernel without it would have done, or
// better: a TCP segment without a flow that is no SYN finds no connection in
// IPVS either, which schedules SYNs only (net.ipv4.vs.sloppy_tcp is 0), and is
// reset by the kernel; if IPVS has its connection, it is forwarded. A packet for
// which no server is eligible finds none in IPVS: the client gets an ICMP error.
// A datagram whose server has left (Lost is Reset) is the one thing that IPVS
// does otherwise: it schedules it to another server.
//
// # Limits
//
// A segment that comes between the loss of XDP and the end of the carrying finds
// no connection, and the kernel resets it: with Watch that is some hundredths of
// a second and the time it takes to send the flows. Only "plane ipvs" before a
// loss that is meant avoids it.
//
// What XDP carries and IPVS cannot hold (choice xdp, a service that IPVS cannot
// carry) ends with XDP. A connection that IPVS alone has stays there, as XDP passes
// what it has no flow of. After a return by command a client of a udp service
// that IPVS served may get another server until it is carried. The choice is
// forgotten when the daemon ends.
package fallback
