// Package hbtest runs heartbeat cores on a simulated network in virtual time:
// a minute of cluster life takes milliseconds, and one seed decides everything
// that is random, so every run can be had again.
//
// Network is the simulation. RunScript runs a text file of commands against
// one and compares what happens with what the file says: test, golden output
// and documentation at once (package hb's testdata).
//
// # Promises
//
//  1. The same seed and the same calls give the same run.
//  2. A core is called exactly at its deadlines and when a packet arrives,
//     never late, unless its node is paused.
//  3. The network itself allocates nothing for a packet: what a run costs is
//     the cores' work. (OnPacket, Drop and a wrong clock cost more.)
package hbtest
