// Package broker stands between the heartbeat and its two kinds of users: the
// director, which must never wait, and the programs on this machine, which may.
//
// It reads the heartbeat's events. Those the director needs go on to it, in
// order; the messages of programs do not, so that however many of them come the
// director has no more to do. Every event goes to the programs that want it,
// each of which has a queue of its own. In return the director says which view
// of the cluster is in force.
//
// # Promises
//
//  1. Neither the heartbeat nor the director waits for a program. A
//     subscription whose queue is full ends, after what is in it, with a record
//     of how many events were left out.
//  2. Events reach the director in order and none is left out. If it does not
//     read, neither does the broker, and the heartbeat gives up as it would
//     have without a broker (driver.ErrOverflow).
//  3. Programs' messages leave in the order in which Send was called, one after
//     the other; while there is no room for the first, all wait. The window of
//     the heartbeat is never used up by them: hb.Core.Offer.
//  4. What is not a good message is refused with the name of its field, and
//     nothing is sent.
//  5. Memory is bounded: maxSubscriptions queues of maxQueue events and
//     maxQueueBytes each.
//
// How senders are slowed: a message counts until every live node has
// acknowledged it, over the whole cluster (heartbeat-wire.md section 6.4); and
// until the broker here has it back, if it is for us too. A program that hears
// slowly is no reason for anybody to wait: its node has acknowledged.
package broker
