// Package flowsync carries the flow table of the director that serves to the
// others, so that connections outlive it. The messages are those of IPVS's
// connection synchronisation, version 1 (package wire): a kernel's backup
// daemon (ipvsadm --start-daemon backup) takes what we send, and we take what a
// kernel's master daemon sends, if asked to (Config.Kernel).
//
// Core decides what is sent when, and what becomes of what arrives. It is pure:
// it takes the time, datagrams and a Table, and returns datagrams. Syncer is
// the edge: sockets, a clock, goroutines.
//
// # Promises
//
//  1. Only flows of virtual addresses that are active here are sent (Table), of
//     both address families; and templates with them, by which a persistent
//     client's next connection finds its server. No message can say a flow of
//     two families, nor the template of a range of ports.
//  2. A new flow, or a new state, is sent with the first sweep that meets it, if
//     the bandwidth allows; a sweep of a million entries takes 50 ms, a larger
//     table more in proportion. A flow with traffic is sent again each tenth of
//     its timeout, so that it does not expire at the other side before it does
//     here.
//  3. In any second at most Config.Bandwidth bytes of UDP payload leave, and a
//     tenth more. A flow on probation (SYN) gets at most a quarter of it: a flood of SYNs
//     delays no established flow.
//  4. A director that joins asks for the whole table, and so does one that has
//     lost track, or has refused flows because it did not know their servers
//     yet. The sender is InSync when the peer has confirmed all of it; who does
//     not know all servers does not confirm for ten seconds, then has to do
//     without. A flow that finds no room in the peer's table is confirmed, and
//     counted there: no waiting would make room for it.
//  5. What is lost on the way is found out and sent again as it is by then. A
//     message that was overtaken by a later one of the same flow changes
//     nothing: a flow's last state is what stays.
//  6. From a Systole peer nothing counts that is not signed with a key of ours
//     and made in answer to this start of ours, and nothing counts twice.
//
// # The trailer
//
// Between Systole nodes a message ends with a trailer. It lies within the
// message's size but after the last connection it counts, where a kernel never
// looks; so the same datagram serves kernels and Systole nodes. Big-endian:
//
//	 0  session: a random number, the sender's since its start (64 bits)
//	 8  echo: the receiver's session, as the sender knows it; 0: not known
//	16  number of this message, 1, 2, 3 ... in the session
//	24  floor: the sender knows the fate of all its messages up to this number
//	32  upto: the sender has missed none of the echoed session's messages up to
//	    this number but those listed at the end
//	40  wants: numbers the whole table it asks for; 0: it has not asked yet, or
//	    got flows of servers that it does not know yet (32 bits)
//	44  gives: the number of the receiver's last wish that is fulfilled
//	48  missed messages: how far below upto a run begins, its length (16 bits each)
//	    ... any number of runs ...
//	 n  size of the trailer in bytes (16 bits)
//	+2  version of the trailer, 1   +3  index of the key (8 bits each)
//	+4  "SyFs"
//	+8  HMAC-SHA256 of the whole message before it (32 bytes)
//
// Keys are not the heartbeat's own but derived from them (Derive), so that a
// message of one can never be one of the other.
//
// # Why nothing counts twice
//
// A message counts if its echo is our session, which nobody could know before
// we drew it; if its session is the one the peer has now; and if its number is
// new within that session (a window of Window numbers). A peer that was
// restarted has a new session. It is believed once a message of it echoes our
// session: then it was made after we started, by somebody who has the key. The
// session before it is not believed again, unless it goes on with new numbers
// while the present one is silent: then a late message had turned them round. A message that echoes anything
// else changes nothing; it is answered with our session, so that its sender can
// make one that counts: three messages until a new node has been believed.
// Within a mode that takes kernels' messages (Config.Kernel) whoever reaches
// the port can insert flows; that is the kernel's protocol.
//
// # What is lost
//
// The receiver tells which numbers it has missed. The sender remembers for each
// of its last Window messages which entries of the table were in it, and has
// them sent again by the next sweep, with a new number, as they are then. So
// nothing old is ever repeated, and a message need not be kept. A receiver that
// has missed more than the sender remembers asks for the whole table; and a
// sender does not run further ahead of what was confirmed than a quarter of
// Window, however large the bandwidth is.
//
// # What is overtaken
//
// The numbers of a session are the order in which the sender read its table. A
// receiver that has missed messages therefore remembers of the later ones which
// set which flow, in a table of fixed size (order). When a missed one comes
// after all, it is taken if none of its flows was set since. Otherwise it counts
// as missed, and the sender offers its flows again, as they are then: the table
// need not be exact, only never say "not since" wrongly. An overtaken message's
// word of what is wished for, or given, is old as well and does not count.
//
// A kernel's messages have no numbers, and tell no age. The last to arrive is
// taken; a kernel repeats a connection with each state and each so many packets
// of it (sync_threshold, sync_refresh_period), and so corrects itself.
package flowsync
