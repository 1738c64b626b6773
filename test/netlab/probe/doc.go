// Package probe looks at a pair of directors the way their clients do, from a
// host of a netlab: is the virtual address served, since when not, and by whom.
//
//   - UDP asks at a fixed pace, each question on its own. Its Series tells the
//     gap: the longest time without an answer.
//   - HTTP asks in a closed loop over fresh connections and counts failures.
//   - Kept holds connections open and counts those that break.
//   - Ownership asks who owns the address, by ARP and by what each director's
//     data plane does with a frame sent to it alone, and so finds two owners.
//
// Each probe is started, runs by itself, and gives its result when stopped.
// The arithmetic on what was seen is pure. Loads are bounded: one question per
// interval, one request per worker at a time.
package probe
