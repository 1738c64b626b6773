// Package selflan makes the test process itself the director on a small LAN:
// it runs in a network namespace of its own, with "eth0" on a switch, and other
// hosts are plugged in as the test needs them.
//
//	func TestMain(m *testing.M) { selflan.Main(m) }
//
//	func TestLearn(t *testing.T) {
//		lan := selflan.New(t)
//		server := lan.Host(t, "port1", "192.168.145.11/24")
//		... the code under test, as it is, finds server on eth0 ...
//	}
//
// It is for the packages that use the network of the process they run in
// (control/vip, control/neighbour), whose tests look into them from inside.
// Package netlab is for whole programs: its hosts have names and processes and
// are cleaned up after a killed run, and the test is outside of all of them.
//
// # Promises
//
//  1. The director is the whole process, not a thread: goroutines and timers of
//     the code under test are in its namespace whatever thread runs them.
//  2. Nothing has a name outside, and all of it ends with the process, however
//     that ends. Any number of test processes may run side by side.
//  3. Each LAN is a new one. The director's interface is gone after the test;
//     one LAN at a time, therefore no t.Parallel.
//
// Only root can do this. Without it the package's other tests run as they are,
// and those that ask for a LAN are skipped, or fail with SYSTOLE_CI=1.
package selflan
