// Package interop runs the real Linux-HA heartbeat (package linuxha) and the
// real Systole daemon as the two directors of one cluster, in network
// namespaces. It has tests and no code.
//
// Each test is a story told by one lab, as a cold start of the real one takes
// more than ten seconds. Its rows run in order and each asserts on both sides:
// what the real one's tools and log say, what ours says of itself, what went
// over the wire, and who answers ARP. A decoder of the test's own, which shares
// no code with package wire, verifies every packet. Ours says in each status what
// it is, and never asks the real one or its machine anything that only a Systole
// node answers.
//
// TestMatrix has a short story for each cell of a table: medium, method of
// authentication, message format, and what happens; TestMatrixCovers says what of
// their product is in it. What each story was, and how many lines of which weight
// both logs have, is printed at the end (go test -v) and put in
// build/interop.txt.
//
// The tests need root, Debian's heartbeat and resource-agents, and nft.
package interop
