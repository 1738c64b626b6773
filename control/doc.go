// Package control is the director: it joins what the heartbeat says, what the
// health checks say and what the operator says into one State, and makes the
// machine follow it.
//
// # Promises
//
//  1. One goroutine, Director.Run, owns all state. Everything else sends it
//     inputs; nobody shares memory with it.
//  2. Plan is pure: the same config, health, addresses and roles give the same
//     Snapshot. Every change, whatever its cause, is a new Snapshot.
//  3. Status, metrics, page and log are renderings of one value, State.
//  4. A reload that cannot be taken whole changes nothing.
//  5. The beat that tells the peer "I am alive" and the lease that lets the
//     data plane answer for a virtual address are one act (Lease), and neither
//     is done by a daemon whose control loop is stuck.
//  6. A witness (cluster.witnesses) is a director without takeover, planes,
//     addresses and checks: it is heard and votes, and owns nothing ever. A
//     director's takeover and lease hear nothing of witnesses but the quorum.
//  7. A daemon that starts where one was alone leaves its data plane and its
//     addresses as they are (Kept) until it has decided who owns them; the first
//     word of the peer decides it at once. Until all servers are known its
//     predecessor's generation stays in force, and is replaced in one step.
//  8. Who quiesces or resumes a server, or chooses a plane, is answered when the
//     planes follow, or with the reason why they do not.
//
// The package knows planes, heartbeat and addresses by interface only: the
// command wires the real ones in.
package control
