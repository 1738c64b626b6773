// Package driver runs a heartbeat core on real media. It is the only place of
// the heartbeat side with sockets and a clock.
//
// One goroutine, the loop, owns the core. One more for each medium reads
// packets, takes the time and hands them to the loop.
//
// # Promises
//
//  1. Beats keep the core's absolute schedule: the time that work takes does
//     not add up.
//  2. Nothing delays a beat but the loop's own work: no consumer of events, no
//     medium, no log. Sending never waits, events are queued, and the driver
//     writes no log: what it has to say is an hb.Report among the events.
//  3. Every event arrives in order, or Run ends with ErrOverflow: an event
//     that takeover misses would be worse than a node that is seen dead. Only
//     Reports, Suspected and Cleared may be left out, and then a Report says
//     how many.
//  4. When Run has returned, all its goroutines have ended, the media are
//     closed, and Events is closed.
//  5. In steady state neither a beat nor a received packet allocates memory.
package driver
