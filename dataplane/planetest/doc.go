// Package planetest holds what every data plane is tested with: a conformance
// suite (Run), the frames it sends (Frame), and a plane in memory (Fake) for
// tests of what sits above a plane.
//
// What a plane does otherwise on purpose it names (Deviation), and the suite
// tests that it does so.
//
// The suite is the contract of package dataplane in executable form. The Fake
// passes it like any other plane, so what is tested against the Fake holds for
// the real ones.
package planetest
