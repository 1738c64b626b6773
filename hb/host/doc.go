// Package host is what the peers' machines say beside their daemons, and what
// our own say of their cables: the evidence by which a director that died, a
// machine that died and a path that was cut are told apart (hb/doc.go).
//
//   - A machine answers an ICMP echo request, also while its heartbeat daemon is
//     stopped, hung or gone: hb.HostAnswered.
//   - It refuses a datagram to a UDP port on which nobody listens (ICMP port
//     unreachable): hb.PortRefused. Nothing is sent for that; our own beats are
//     what is refused. Linux refuses the first six and then one in a second
//     (net.ipv4.icmp_ratelimit), and never what came by multicast or broadcast.
//   - The kernel of a daemon that died, however that happened, closes its
//     connections: a TCP connection between the daemons that carries nothing, a
//     tether, tells at once what else the next beat would: hb.Disconnected, and
//     hb.PortRefused if the daemon does not accept another.
//   - An interface of ours loses its carrier, or is removed: hb.CarrierLost, and
//     hb.CarrierBack afterwards.
//
// # Promises
//
//  1. Ask never waits, and an answer is reported as soon as it is there.
//  2. Only an answer to a request of this process, from the address that was
//     asked, on the interface on which it was asked, and not older than a
//     second, counts. A machine that cannot see our requests cannot forge one.
//  3. A refusal counts if the machine that was sent to says so itself, of the
//     very port. It is not authenticated, as ICMP is not: it may raise a
//     suspicion, which a probe then clears.
//     So may a tether that somebody else on the path has cut. A tether is held
//     with configured addresses only, one each; what is said over it ends it.
//  4. Every change of a carrier is reported, but changes that cancel out before
//     they are read, and so is a carrier that is missing from the beginning.
//  5. Memory is bounded, whoever sends whatever; other machines' pings do not
//     even wake the process.
//  6. While an interface is absent nothing is answered; when it is there again
//     it is used within a second.
//
// It needs CAP_NET_RAW and works in the network namespace of the process.
package host
