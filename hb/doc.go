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
//		// send out.Packets on every medium, hand on out.Events
//		// wait for a packet, a message to submit, or core.Deadline()
//		core.Receive(now, medium, packet) // or Submit, or Tick
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
//     (section 7), not before; and an event says so at that time, not at the
//     next point of a polling grid. Time in which the core was not called
//     does not count as silence of others: see Stalled.
//  4. Memory is bounded: history, missing sets and node tables have limits.
//     At rest only beats and acknowledgements are sent.
//  5. Bad packets change nothing and are reported, at a bounded rate.
//  6. With keys of method sha256 nothing that is replayed counts, whenever it
//     was recorded and whoever has restarted since: see Replay.
//  7. Keys can be replaced while the cluster runs, node by node: SetKeys.
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
// # Out of scope for now
//
// Ping nodes, autojoin and the membership commands (sections 12, 13): the node
// list is fixed by Config. Packets of others are refused with a report.
//
// A Core is not safe for concurrent use.
package hb
