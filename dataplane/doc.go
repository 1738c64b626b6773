// Package dataplane is the contract between the control plane and whatever
// forwards packets: what a director should be doing right now, as one value
// (Snapshot), and what a forwarder promises about it (Plane).
//
// # Promises
//
//  1. A Snapshot is whole. Nothing is added to or removed from a plane; a
//     plane is told the new state and becomes it. A packet sees the old
//     generation or the new one, never a mixture (DESIGN, promise 3).
//  2. If Apply fails the old generation stays in force, untouched, and Apply
//     says why.
//  3. A flow that exists stays on its real server while that server is in the
//     service, whatever happens to the others (promise 2).
//  4. What is not addressed to a configured service passes (promise 5).
//  5. A plane that keeps a lease answers for its virtual addresses only while
//     the lease runs (promise 4).
//  6. A plane whose forwarding outlives its process goes on as it is until the
//     first Apply of the next one, and says what it serves meanwhile, if its
//     lease has no end (Info.Inherited).
//
// The package holds data and the contract only: no sockets, no clock, no log.
// Neither it nor what lies below knows of heartbeat.
package dataplane
