// Package xdp is the plane that forwards in the network driver: an XDP program
// (package bpf) attached to one interface or several, with IPv4 and IPv6 services of
// TCP, UDP and SCTP, on one port, a range of them or all, and forwarding by gate
// (DR), ipip and GUE tunnels, per real server. What masq needs passes by: see
// Carries.
// Frames may have up to two VLAN tags, which they keep. Fragments go where their
// first one went, ICMP errors to the server of the flow that they quote.
//
// # Promises beyond those of package dataplane
//
//  1. Whatever happens to the daemon, its program and maps stay in the kernel
//     (pinned) until Close; the lease ends by itself, and at once when the
//     daemon dies: before the kernel closes the daemon's sockets, so that a
//     peer to whom they are closed cannot be a second owner. (An unlimited
//     lease stays: nobody would serve in our place.)
//  2. Open after a crash or an upgrade continues where the predecessor was:
//     the program is replaced in one step, flows, counters, server identities
//     and the generation in force stay, no packet is lost. What it serves until
//     the first Apply is Info.Inherited.
//     If the layout of the maps has changed, the flows are carried over before
//     and while the program is replaced (carry.go): no connection is lost.
//     Maps that are of no use, of an unknown layout or another shape, are named
//     in the log; their program goes on until the first Apply, which replaces
//     it and them and begins with empty ones.
//  3. An XDP program of somebody else is named and never replaced, unless
//     Config.Evict asks for it.
//  4. Strict round robin: n connections over k equal servers differ by at most
//     one, on any number of CPUs, also across changes of other services.
//  5. A new flow of a service with lc or wlc goes where IPVS would send it, by
//     the connections that there are at that moment: also in a burst. Of n CPUs
//     that choose at once each may choose the same server, so with equal ones
//     nobody has more than n connections beyond another. What no packet tells
//     (connections whose time is over, or from another director) counts a
//     second later at most, where a census of the flow table takes less than a
//     twentieth of that.
//  6. A flow that is in the table stays on its server, also of hash schedulers
//     (sh, mh): they store flows like rr, so their table may change.
//  7. A SYN flood pushes out no established flow, but where all eight places
//     of a SYN are taken by such: what a SYN makes is on probation, and a CPU
//     stores only so many flows per second (Config.NewFlows). What is above is
//     forwarded by a hash of the client.
//  8. A QUIC connection of a service with server IDs (Service.ServerIDLength)
//     stays on its server when the client's address changes, and when it comes to
//     a plane that has no flow of it. It does so while the server is in the
//     service, whatever its weight, or has left one whose Lost is Keep. A client
//     with a flow to another server keeps that.
//  9. The flows of both families can be listed (Flows), given from elsewhere
//     (Insert) and watched for changes (Sweep) while packets come and go.
//
// # Generations
//
// The kernel holds two images of the whole configuration. Apply compiles a
// Snapshot into an image, copies it over the idle one and flips one word. The
// image that was left is not written again before an RCU grace period is over,
// that is, until no packet can still be using it; that wait happens in the
// background, not in the Apply that flipped, and mostly takes less time than the
// next Apply needs to be compiled (grace.go).
//
// Of an image, megabytes for thousands of services, only the blocks are cleared
// and copied that this configuration or the one before it uses (canvas.go).
//
// # Sizes
//
// One generation holds 16383 services, as many real servers of all services
// together, and 1024 virtual addresses of each family. The flow tables have their
// memory from the beginning (Config.Flows); nothing that reads all of them, for
// counters or to take ids back, holds up a packet or Renew, and a Sweep passes
// through the largest in 32 calls of one to three milliseconds.
//
// # Several interfaces
//
// Each has its own pinned link, native or generic, and all have the same maps.
// What comes in by one leaves by the one that RealServer.Interface names, with
// its MAC address and the VLAN tags it came with: XDP_TX if it is the same one,
// else a redirection.
//
//   - A server behind none of them gets no new connections; packets of flows it
//     has pass ("other_interface").
//   - A server behind one that is gone gets no new connections; packets of its
//     flows are dropped ("interface_gone"), and TCP sends them again when it is
//     back. Stale tells when the next Apply would attach to it.
//   - From native XDP to an interface that has generic XDP alone nothing can be
//     redirected: it passes ("no_redirect").
//   - A bond is one interface, see bond.go.
//   - A packet that comes in by an interface but is for the MAC address of
//     another one passes.
//
// With one interface no packet pays for any of this: the servers' addresses
// stand in the table that is read anyhow, and with several they do not.
//
// # What passes that a reassembling director would forward
//
// A fragment that comes before the first of its datagram, which alone has the
// ports. It may be for the kernel, so it must not be lost here, and XDP can
// neither keep a frame nor send two for one; it passes, counted as "fragment".
// The daemon has a copy, and sends that on when the first one has come (early.go).
//
// # Tunnels
//
// The outer header is what kernel IPVS writes (bpf/tunnel.h). It comes from
// RealServer.Source and goes to the MAC address that the way to the real server
// has, by the interface and with the VLAN tags that the packet came with. A
// packet that does not fit into RealServer.MTU with it is answered: the client is
// told by ICMP how much fits, "tunnel_too_big". Two kinds are not:
//
//   - IPv4 without DF. IPVS sends the outer packet in fragments, XDP cannot make
//     two frames of one: it passes, counted as "tunnel_fragment", with all later
//     fragments of the same datagram. An IPVS that holds the service forwards it,
//     by a flow of its own, so perhaps to another real server; without IPVS the
//     kernel refuses it. Where clients send such datagrams the network between
//     director and real server should have an MTU with room for the header.
//   - What is above a thousand in a unit of age (about a second) and CPU:
//     dropped, "tunnel_silent".
//
// The MTU is that of the route. Errors of routers about outer packets come to
// the director's own address and are not looked at: a narrower link on the way
// must be told to the director's routing table.
//
// # Identities
//
// A flow remembers the ids of its real server and of its service. An id stays
// with its (service, server) for good, also over restarts; it is taken back only
// when ids run out, and only after every flow that names it was cleared from the
// table.
package xdp
