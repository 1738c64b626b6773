// Package demo builds the LVS tutorial in network namespaces of its own and
// walks through what a pair of directors does: sharing traffic, handing over,
// dying, coming back, and losing real servers.
//
// Nothing is simulated: two daemons run from ordinary config files, each in
// its director's namespace; a client asks over real sockets; the kernel
// forwards. Each step says what is expected, what was seen and how long it
// took, and the demo has succeeded only if every step held.
//
// Whatever happens, nothing of it stays behind (see package netlab).
package demo
