// Package takeover decides which of two directors owns which resource groups:
// start, hand-over, takeover, failback, heal, stop. It is pure: inputs carry
// the time, outputs are data; no socket, no clock, no goroutine, no log.
//
// Towards an old heartbeat node the rules are sections 9 to 11 of
// heartbeat-wire.md: auto_failback on, off and, see legacy.go, legacy. Two
// Systole directors recognise each other by the message "systole", which an old
// node ignores, and do better: no ten seconds at a cold start, no restart after
// a partition, no groups without an owner after a quick restart. Where an old
// node would leave groups with no owner, or with two, for good, we take or leave
// them: see adopt and yield. Between them legacy is another word for on.
//
// # Promises
//
//  1. A planned hand-over (standby, takeover, failback, Shutdown) always has a
//     forwarder: the giver drains, that is forwards without answering ARP,
//     from its release until DrainGrace after the taker has announced. At no
//     time do two directors answer ARP.
//  2. When the peer dies, everything is acquired in the same Step, before
//     anything else is sent.
//  3. After a partition, or a false alarm, each class keeps one owner: the one
//     with the higher epoch, which is the later one, whom the clients know; of equal
//     ones the preferred node. The other lets go on hearing it and not before,
//     so somebody always serves. The owner announces itself again.
//  4. Messages may be late, doubled or reordered: of reports the newest
//     counts, an answer counts only for the question it answers, and a
//     hand-over that got stuck is taken back.
//  5. A bad message or order is reported, or refused, with its reason and
//     changes nothing.
//  6. Groups that cannot be acquired are offered to a peer that lives; alone,
//     and at a takeover, it is tried again until it works; in a hand-over the
//     giver has them again. Of two that cannot, only the preferred one tries.
//  7. An address that cannot be removed never has two owners and never costs a
//     reboot: the director fences itself (fence.go), and only then hands over.
//     Where no data plane can be fenced the hand-over is held back.
//  8. Of two directors that see different numbers of ping nodes the one that
//     sees fewer gives its groups up (ipfail.go). Never do both; and groups
//     that go to and fro do so ever more slowly.
//  9. With Config.AwaitFlows an auto failback waits until the peer has the flow
//     table. What an operator orders does not wait.
//  10. With Config.AtMostOne there are never two owners, see below.
//
// # The message "systole"
//
//	info       hello (who I am), claim (what I think is mine), hold (what I
//	           own), refuse (the ask_resources I got does not fit: end it).
//	           hello and claim are answered by hold.
//	rsc_hold   as in a full resource report: the sender's words
//	isstable   0, 1
//	epoch      hex/hex: numbers of the sender's last acquisitions of its local
//	           and of its foreign groups. Each is one more than all seen so
//	           far. Relative; they survive no restart.
//	n, re      hex: number of a question, and in its answer
//	suspended  1: the sender was stalled; its lease has ended, it serves nobody
//	pings      hex: number of ping nodes the sender sees; absent if it has none
//
// # Why there are not two owners after a crash
//
// B takes over when it has heard no beat of A for A's deadtime. Then A serves
// no more, because:
//
//   - A was killed: the kernel took its data plane with it.
//   - A hangs or is stalled: its lease (LeaseArmed) ends one deadtime after the
//     last beat it sent, and B counts from a beat it received, which is later.
//   - A was stalled and wakes: its lease is found lapsed before anything else
//     is done (LeaseLapsed), and is armed again only when B has answered that
//     it did not take over, or is dead, which is not believed in the first two
//     keepalives: the answer must belong to the last question and be younger
//     than two keepalives; and who has answered such a question believes a
//     death no sooner either. What B has taken is released before the lease is
//     armed.
//
// The argument needs that A knows that B lives: alone, A has LeaseUnlimited,
// for nobody would serve in its place. A arms before it sends anything that
// shows that it knows B. The windows that remain:
//
//   - B starts and hears A, A hangs before it has heard B. Then A's lease is
//     unlimited and B takes over after the deadtime: two owners until A wakes.
//     It is as long as the way of one beat, more if the network works in one
//     direction only. The same holds for an A that hangs in a partition and
//     wakes after it has healed. (kill -9 is not affected.)
//   - A's beats are lost or late for a whole deadtime though A lives: this is a
//     partition. Both serve; when a message of B gets through to A, A lets go.
//   - The clocks of A and B run at different speeds: the difference over one
//     deadtime. The caller may grant leases that are a little shorter.
//
// # What is kept over a restart
//
// LeaseUnlimited outlives the daemon of a director that is alone, and the next
// daemon leaves things so (Kept) until something of the peer is heard or the
// start ends without it: a restart is not seen by the clients. It makes no
// second owner:
//
//   - The peer is dead, or was never there: nobody else serves.
//   - It lives, and the director knew it: the lease was armed and has ended
//     with the old daemon. Nothing is kept; not even if the peer did not take
//     over yet.
//   - It lives, and the director did not know it: it began, or came back into
//     sight, while no daemon ran. While it does not own anything, it takes
//     nothing before we answer it, and what is kept ends before we do: with its
//     first beat. If it has taken over already, there were two owners before we
//     began, as the unlimited lease allows; that beat is the end of it.
//   - It lives behind a partition, in one direction or in both: both serve, as
//     they did before the restart, and what is kept ends when a message of it
//     gets through. A peer that hears us as a new incarnation, and takes what is
//     without an owner, sends its beats all the while: two owners for the way of
//     one beat, if it did not serve anyway.
//   - With Config.AtMostOne no lease is unlimited, and nothing is kept. Nor with
//     Config.Legacy: there a peer takes who is not active yet for one who holds
//     nothing, and would take its own groups on hearing us.
//
// # At most one
//
// Without Config.AtMostOne both sides of a partition serve, which is right for
// stateless services. With it a director owns something only while it has
// quorum (Quorum), and is never granted LeaseUnlimited. Let D and E be the dead
// times that A and B announce. B declares A dead, or gains quorum, whichever is
// later, at the time t. It acquires at t+D+E+2 keepalives, and by then A serves
// no more. For, A had quorum before t at the latest, and
//
//   - A runs: it is told by t+E that it has lost it (that is the promise of
//     Quorum) and ends its lease before anything else;
//   - A stands still from some moment before t+E on: its last beat, and with it
//     its last lease, is older than that, so the lease ends before t+E+D. When
//     A wakes later the lapse is found first: A lets go of everything, unless
//     B lives and answers it. When it wakes earlier it may beat once before it
//     is told: that is what the two keepalives are for;
//   - A was killed: see above.
//
// So the evidence of a death, early or by the full dead time, does not matter:
// silence proves nothing here. Only what proves that A's data plane has ended
// (Peer.Ended, or its own shutdone) saves the wait. The price is that clients
// wait about three dead times after a crash instead of one, and that nobody
// serves where nobody has quorum.
//
// Who gains quorum while the other one lives takes nothing by the other's older
// words, which may be from before a cut that is just over: it takes what nobody
// holds when the other has answered that it does not.
//
// The argument is as good as the quorum. Two directors that see the same
// tie-breaker but not each other must not both have it: that is for package
// hb/membership to see to.
//
// # What the caller owes
//
//   - Outputs are done in their order, Acquire, Release and Fence are answered
//     by Done in theirs.
//   - When a lease has lapsed, LeaseLapsed is the next input, before any event
//     of the heartbeat: a wrong death that is stepped first would be believed.
//     For the same reason PeerLives is called before each Step.
//   - LeaseArmed lasts until one deadtime after the last beat sent, not after
//     the moment of arming: B counts from that beat.
//   - A new process releases what an old one has left before its first beat,
//     but for what it tells as Kept before any other input.
//   - After Stopped the heartbeat goes on for two or three seconds, to send
//     again what was lost (section 11).
package takeover
