// Package scheduler turns the weights of a service's real servers into a table
// of slots: the order in which new connections go to them. A plane walks the
// table with one counter, so whatever is fair over the table is fair over the
// connections, on any number of CPUs.
//
// It is pure: the same weights give the same table.
//
// # Promises
//
//  1. A server of weight 0 has no slot.
//  2. rr gives every other server exactly one slot, in the order given.
//  3. wrr gives every server exactly weight/gcd slots, spread out: at no point
//     of the table has a server had more than one slot beyond its share.
package scheduler
