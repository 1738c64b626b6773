// Package membership agrees on who is in the cluster: what heartbeat's
// "consensus cluster membership" gave. Package hb says whom this node hears;
// here all nodes that hear each other settle on one View with a number, and on
// whether they have the quorum.
//
// A Machine is pure: inputs carry the time and what hb saw, outputs are
// messages to submit and Views. Messages are of type systole-view, which old
// nodes carry and ignore.
//
// # How it works
//
// There is one kind of message, the report: whom its node hears, which view it
// has accepted and which it has installed. A report is sent when it changes,
// and to who asks; at rest nothing is sent. Reports of nodes that cannot hear
// each other are passed on by one that hears both, half a dead time later: who
// has just begun will hear the others with their next beats. So all nodes of a
// component know the same graph, and each computes from it, alike, who belongs
// together. The member with the lowest name, the coordinator, gives that set the next
// number and accepts it; the others accept what the coordinator reports; who
// knows that all members have accepted a view installs it. A view with more
// members waits, a quarter of a dead time at most, until the one before is
// installed: members that are two views apart do not confirm each other.
//
// Who belongs together: an edge joins two nodes that hear each other, both
// ways. If the graph of a component is complete, it is one view. If not, the
// node with the fewest edges leaves (of several the one with the highest name)
// until the rest is complete; those that left do the same among themselves. So
// the members of a view always all hear each other, and one broken node does
// not take the others with it. Nobody leaves a member that it hears, and that
// hears it, before half a dead time has passed: nodes do not see a death all at
// once.
//
// Old nodes (heartbeat 3) make no reports; hb knows them by their status, and who
// has not said its status yet is neither old nor anything else. An old one is
// a member while every other member hears it, and it has no vote, because two
// parts of the cluster could count it. Quorum needs the votes of more than half
// of all nodes, old ones included in "all", or a view that lacks nobody.
//
// # Promises
//
//  1. Views with the same ID (number, coordinator and its generation) have the
//     same members at every node.
//  2. The numbers of the views that a node installs grow, from its start on,
//     also when parts of a cluster come together.
//  3. When nothing has changed for a bounded time (a dead time for hb to see
//     it, and about three more), all nodes that the rule above puts together
//     have installed the same view, of exactly them.
//  4. View.Quorum is lost at once when too few members confirm the view. A
//     part of the cluster that was cut off may go on to believe in its quorum
//     until it knows, at most one dead time and the delay of a message.
//     View.Settled says that this time has passed: when a view with Quorum is
//     Settled, no node that it lacks has Quorum any more. Later one may get it
//     in a later view, but is not Settled there before this view has lost its
//     quorum, or has been left for one of both. So keep resources with Quorum;
//     take those of a lost node with both.
//  5. A bad message is an error that names the field, and changes nothing.
//     Memory is bounded by the number of nodes.
//
// Promise 4 assumes that a message arrives, or its loss is told (hb.Lost),
// within Config.Settle of being sent while the sender is not held for dead;
// that clocks run at one rate; that all nodes have the same Rule and lists of
// nodes that differ in one node at most; and, for a tie-breaker that is no
// node of the cluster, that two parts which cannot hear each other do not both
// see it. A stall of the process must be told before anything else (Stalled).
//
// # Messages
//
// The fields of systole-view; numbers are decimal, names separated by blanks.
//
//	about            the node whose report it is; not src if it is passed on
//	gen, serial      its generation, and a number that grows with each report
//	alive            the nodes it hears (but none that surely does not hear it), and itself
//	votes            the votes of all nodes it knows of
//	accepted         number:generation:coordinator of the view it has accepted
//	members          of that view
//	installed        the view it has installed, as above
//	ask              1: whoever hears this, send your report
//	echo             node:serial, for each ask answered
package membership
