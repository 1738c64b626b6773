// Package hb is the Linux-HA heartbeat protocol as a pure state machine.
//
// A Core is one node's view of the cluster. It is given packets, messages to
// send and the time; it returns packets to send and events. It opens no
// socket, reads no clock, starts no goroutine and writes no log: package
// hb/driver does that on real media, package hb/hbtest in virtual time.
//
// The rules are heartbeat-wire.md; each constant and each check names its
// section. Where Systole is stricter or calmer than the original, the comment
// says so and why; towards an original node nothing of it is visible as an
// error.
//
// # Use
//
//	core, err := hb.New(cfg, now, rnd)
//	for {
//		out := core.Drain()
//		// send out.Packets on every medium or on theirs, ask the machines
//		// of out.Asks, hand on out.Events
//		// wait for a packet, a notice, a message to submit, or core.Deadline()
//		core.Receive(now, medium, packet) // or Notice, Submit, Tick
//	}
//
// # Promises
//
//  1. The same calls with the same times and the same random source give the
//     same outputs.
//  2. A control message that was submitted arrives exactly once at every live
//     node, or its loss is reported there as an event (section 6). Messages
//     may arrive out of order after a loss; who needs them in order sets
//     Config.Ordered.
//  3. A node is dead when it was silent for the dead time it announced itself
//     (section 7), and an event says so at that time, not at the next point of
//     a polling grid. Initdead, which is longer, is for nodes that were not
//     heard yet, and for old ones. It is dead before only if it is a Systole
//     node and there is evidence: see Suspicion. Time in which the core was not
//     called does not count as silence of others: see Stalled.
//  4. Memory is bounded: history, missing sets and node tables have limits.
//     At rest only beats and acknowledgements are sent, and to each Systole
//     node one probe in ten beats, in a second at least; a few more when a link has
//     come up.
//  5. Bad packets change nothing and are reported, at a bounded rate.
//  6. With keys of method sha256 nothing that is replayed counts, whenever it
//     was recorded and whoever has restarted since: see Replay.
//  7. Keys can be replaced while the cluster runs, node by node: SetKeys.
//  8. Each link is judged by the others: one that misses two beats (more, if
//     it is known to lose many) which came on another medium is late at once,
//     and dead when a window of probes on it stays unanswered. To an old node,
//     and where nothing else works, it is dead after the dead time.
//  9. The list of nodes changes only by Config, AddNodes and RemoveNodes, here
//     or at another node, and if so configured by nodes that join by
//     themselves; an event tells of every change (section 13).
//  10. Ping nodes (section 12) are asked with every status. They count for
//     nothing but to be seen.
//
// # Replay
//
// heartbeat knows no freshness beyond generations and numbers (section 3.3): a
// node that has just started believes what is replayed from an earlier life of
// the others. Method sha256, which only Systole nodes have, closes that. Each
// life of a node has a random nonce (Config.Nonce), and a packet counts only if
// it names the receiver's: then it was made for this life of it, within which
// generations and numbers say the rest. NS_ messages are numbered, too, for
// that purpose, and count once on each medium. Three fields are added, after ttl:
//
//	nonce    binary, 8 bytes: the sender's
//	seen     binary, 8 bytes each: the nonces of the others, as it knows them;
//	         one zero byte if it knows none
//	nscount  in NS_ messages: hex, from 1 in each life, one more with each
//
// They are sent as soon as one key is of method sha256, whichever key signs, so
// that the nodes know each other when the first of them begins to sign with it.
// As long as other methods are listed as well, packets signed with those are
// accepted, with the protection those have: a roll-over ends with the removal
// of the old key. The file guard.go has the argument, testdata/sha256.txt and
// testdata/replay.txt show it.
//
// # Suspicion
//
// Silence for the dead time is proof, as the sender agreed to it, but it has to
// be long, since beats are lost and machines are busy. A question has an answer
// within a round trip. So between Systole nodes a beat that is late is asked
// for, and the dead time is only the upper bound.
//
// A Systole node adds to its status, what old nodes ignore:
//
//	systole  1
//	ka       its keepalive, milliseconds, hex
//	ends     1, if its data plane ends with its process: the kernel takes its
//	         lease before it closes the process's sockets
//
// and answers, on the medium on which it came, at once,
//
//	NS_probe  dest, n (hex), [late=1]    with
//	NS_alive  dest, n
//
// and if it was held for late and may beat, with a beat as well, at most
// sixteen in a keepalive.
//
// A suspicion begins when a beat is late by Grace, when the node's machine
// refuses a packet, when a connection to its daemon is closed or when our
// carrier is lost on a medium on which it was heard. Then for a Window we send
// probes on every medium, evenly spaced, and with each ask its machine for an
// echo. It ends
//
//   - with any new numbered message of the node, or the answer to one of these
//     probes. Numbers never recur, so what somebody has recorded does not count,
//     nor do copies of old messages, which a slow line may carry late. If it was
//     no beat the next look comes an eighth of a keepalive later, and with it
//     another beat on demand: this is how loss is healed.
//   - with death, if its daemon has ended: its machine refused two packets in
//     half a window, or one in a whole one, no probe was answered, and it has
//     said ends.
//   - with death, if its machine is gone or cut off: at the end of the window
//     nothing at all has come from it, no answer to a probe, no echo, no
//     refusal; and all that is silent is known to speak: the machine answered
//     echo requests of late, every link on which the node was heard has
//     answered probes, and one of them at least works on our side.
//   - with the dead time in every other case. After the window it is asked on
//     at most twice in a keepalive.
//
// How many probes make a window follows from the loss that was measured, such
// that all are lost by chance once in 10⁹ times, if losses are independent, and
// at least eight. If that many take longer the window grows. It lasts until the
// slowest line on which the node was heard, and its machine, have had the time
// to answer (RFC 6298, without its lower limit). Who was late himself at the
// end of the window asks once more, and who stood still begins anew: answers may
// be waiting to be read.
//
// # Why there are not two owners after a crash
//
// A owns groups, B would take them. A's data plane has a lease, renewed right
// before each beat leaves (package control), which ends a margin sooner than one
// dead time D after it. B declares A dead, and A serves no more, because:
//
//	A's machine is off, or its cables  nothing is left that serves, or nobody
//	                                   reaches it.
//	its daemon was killed, or crashed  A said ends: its lease ends in the kernel's
//	                                   exit path (sched_process_exit of the thread
//	                                   group's leader) and files are closed after
//	                                   that. A refusal comes from a closed socket.
//	                                   So there is no lease when B sees one. Not
//	                                   ends: B waits for D.
//	its daemon hangs, or starves       its sockets are open and its machine runs, so
//	                                   that it answers echo requests: no early
//	                                   death. B counts D from a beat that it
//	                                   received, A its lease from before a beat
//	                                   that it sent.
//
// The second argument needs that nothing extends A's lease but what extends B's
// patience. Therefore an answer to a probe does neither: it is no beat, and it
// goes out only if the last beat might, so that a director whose lease may not
// be renewed does not look alive. A beat on demand is a beat like any other and
// does both.
//
// And there is no stop without a takeover under load, but for the margin: a
// lease ends only if no beat was sent for nearly as long as B waits. A that is
// merely late is not dead to B, since its machine answers, and when it runs
// again its first act is to answer the probes with a beat, which renews both. A
// stall that ends within the margin costs the question who owns what (package
// takeover). The shorter the dead time, the more a busy machine needs
// cluster.realtime for it.
//
// What remains:
//
//   - A partition. Each side sees what it would see if the other one were off,
//     and it sees it sooner than with the dead time alone. Package takeover has
//     the rules for it, and for the heal. A cut in one direction is one: who
//     is not heard is dead, and hears that.
//   - A machine that stands still as a whole, as a frozen virtual one does, is
//     like one that is off. If it goes on before its lease ends, it serves until
//     it hears a beat of the new owner.
//   - Beats are lost and then A hangs: B counts from an older beat than A, by a
//     keepalive for each lost one (less with beats on demand, which B asked
//     for), and the margin of the lease may be smaller.
//   - A lease that is not limited, since A sees nobody who could take over,
//     ends with a process only if the kernel's hook ends it in that mode, too;
//     otherwise A must not say ends.
//   - A refusal says that a socket is closed. A medium that closes it while the
//     process lives (its interface was removed) looks like an end of the daemon,
//     if no other medium carries an answer within half a window.
//   - Losses that are not independent: a network that drops everything for a
//     keepalive and a half is a partition for as long. So is one that suddenly
//     holds everything up for longer than a window.
//   - Echo requests that A's machine begins to drop right before A hangs: it
//     takes ten beats, or a second, and three questions to find that out.
//
// A Core is not safe for concurrent use.
package hb
