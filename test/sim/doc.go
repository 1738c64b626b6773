// Package sim runs whole clusters in virtual time: real heartbeat cores on a
// simulated network (package hbtest), on two of the nodes real takeover machines
// and leases in a control loop like that of package control, and models of the
// data plane, its addresses and a client with an ARP cache. 2 to 16 nodes fail
// in every way there is, at any moment; after each step the promises are
// checked.
//
// A Plan decides everything: the cluster, what befalls it and when, and a seed
// for the rest. Generate makes one from a seed, Parse reads one from a script,
// Run runs it, Shrink makes one that fails shorter.
//
//	go test ./test/sim                                       100,000 failures, about a minute
//	SYSTOLE_SIM_FAILURES=1000000 go test ./test/sim -run Million -v
//	SYSTOLE_SIM_SCRIPT=file go test ./test/sim -run Replay -v    all that happens in one
//	SYSTOLE_SIM_SEED=n                                       where the seeds begin
//
// # What fails
//
// A daemon is killed or its host dies, and is back later; a daemon is stopped, a
// host frozen, a control loop stuck while its heartbeat goes on; a direction or a
// node is cut off, or a medium is: a direction of it, or a cable is pulled, which
// its node sees; packets are lost, late, doubled, overtaken; a wall clock is
// wrong. In two plans of three (hosts) a machine whose daemon is gone or stopped
// answers echo requests and refuses packets, and one that is dead, frozen or cut
// off does not, so that deaths come before the dead time; in every second one
// (ends) a director says while its lease is armed that its data plane ends with
// its daemon, and it does. Meanwhile operators order hand-overs and stops. Failures
// overlap: only at a Rest does a plan wait until all is repaired.
//
// In some scripts nothing is owned without the majority (atmostone), and every node
// has its part in the agreement on who is in (package membership).
//
// # What is checked
//
//  1. Two owners: both data planes answer ARP for one class of groups. That is
//     allowed only in the windows that packages hb and takeover state: if
//     directors are parted, in one direction or both; if the last beats of one
//     were lost; if one was alone (its lease has no end) and is dead, stalled or
//     stuck so that it cannot learn that it is not alone any more; if one was
//     declared dead early while its machine was frozen, and has gone on before
//     its lease ended; or if so many packets were lost or slow at once that none
//     of a whole look was answered, which is a partition to who looks. And then
//     no longer than patience after the last failure: a dead time, two
//     keepalives, two periods of asking again, a claim and its answer. With
//     atmostone never.
//  2. No owner: not longer than patience after the last failure, if a director
//     can act. With atmostone it must have the quorum, for a view and the wait
//     until the other's lease has ended, five dead times, and then no bound of
//     promise 3 is exact but that of orders and single media.
//  3. The client. After one failure of a cluster at rest, what it sends is not
//     forwarded for at most: nothing after a wrong clock; an exchange of
//     messages when a cut or a partition has healed (one of two owners has let
//     go, and clients learn which); the dead time less the lease's term if a
//     daemon is killed, stopped or stuck; the dead time if the host died, or
//     froze, or the lease ends with the daemon. With hosts it is not the dead
//     time, but a beat that is late and a look: a keepalive and a half, where
//     experience says that little is lost, and after a kill that ends the lease
//     a keepalive and three eighths. Or, if the daemon is back sooner, the time
//     it was away and three keepalives. Plus the way of a packet and the system
//     calls of a takeover. If one of two media fails, nothing at all, nor when it
//     is back. In a planned hand-over, a stop or a failback between
//     directors at rest: nothing at all.
//  4. A node is declared dead before its dead time only with true evidence: it is
//     gone, or frozen, or cut off, or has ended as it promised; or it was so, or
//     packets were lost or slow, less than a dead time ago, when it was asked. Else a director whose beats arrive
//     is not declared dead before its dead time. When it is, its lease has ended.
//  5. A message that was submitted when its receiver knew its sender arrives
//     exactly once, or is reported as lost, never both, nor after one of a later
//     life.
//  6. At rest, which must come within the longest time-out of a hand-over that
//     got stuck: every node is active for every other; nothing is missing; each
//     class has one owner, and both directors and the client know which; every
//     node could declare every other dead early, with hosts, and knows of each
//     director what it promised; only beats, acknowledgements and calm probes
//     are sent, and their number is right; no error is reported.
//  7. With atmostone: views with one name have the same members, their numbers
//     grow, and a settled quorum is the only one (promises 1, 2 and 4 of package
//     membership); at rest all have the view of all.
//
// # What is not simulated
//
// Health checks, failing system calls (package takeover's own simulation has
// those, and old peers), ping nodes. A clock that is wrong stays so for a life of
// a process: one that jumps while it runs shows only in what is sent.
package sim
