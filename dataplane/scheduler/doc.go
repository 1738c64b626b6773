// Package scheduler turns the weights of a service's real servers into a table
// of slots. With rr and wrr a plane walks the table with one counter, so
// whatever is fair over the table is fair over the connections, on any number
// of CPUs. With sh and mh a hash of the client's address points into it. With lc
// and wlc each server is in it once, and Fewest chooses among them.
//
// It is pure: the same servers give the same table.
//
// # Promises
//
//  1. A server of weight 0 has no slot.
//  2. rr, lc and wlc give every other server exactly one slot, in the order given.
//  3. wrr gives every server exactly weight/gcd slots, spread out: at no point
//     of the table has a server had more than one slot beyond its share.
//  4. sh and mh give the same table for any order of the servers, on every
//     director.
//  5. sh gives every server exactly weight/gcd slots.
//  6. mh gives every server its share of MaglevSlots but for one part in
//     twenty of the table, and if one of n equal servers goes, most slots of
//     the others stay theirs.
//  7. lc and wlc choose exactly as IPVS does: of the servers' overheads, 256 for
//     an active connection and 1 for an inactive one, the least, with wlc the
//     least for its weight; of equal ones the first in the order given.
//
// # Beside IPVS
//
// The names and what they mean to a client are IPVS's, the tables are not bit
// for bit the kernel's: it orders servers by when they were added, gives sh 256
// buckets whatever the weights, and hashes otherwise. A quiesced server has no
// slots here, so its clients are spread over the others, as with sh-fallback and
// mh-fallback of IPVS; without those IPVS refuses them.
package scheduler
