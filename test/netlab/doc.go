// Package netlab builds a small LAN out of network namespaces: hosts on one
// switch, each with its own kernel stack, and nothing simulated between them.
// The demo, the end-to-end tests and the benchmarks use it.
//
//	lab, err := netlab.New("demo")
//	defer lab.Close()
//	node1, err := lab.AddHost("node1", netip.MustParsePrefix("192.168.145.10/24"))
//	err = node1.Do(func() error { ... in node1's namespace ... })
//	node1.Cut() // pulls the cable out of the switch
//
// A host is a named namespace "<prefix>-<host>" (so that `ip netns exec` finds
// it) with "eth0" on the switch, which is a bridge in "<prefix>-switch".
//
// # Promises
//
//  1. Close undoes everything, after a partial failure of New or AddHost too:
//     processes, namespaces, mounts and files.
//  2. Processes started in a host die with the program that started them,
//     however it dies. Namespaces and mounts that a killed program leaves
//     behind are removed by the next New of the same prefix, and only if the
//     record in RunDir proves that they are a lab's.
//  3. Two labs with different prefixes do not disturb each other, whether of
//     one process or of two. The same prefix twice is ErrBusy.
//  4. Nothing outside the lab's namespaces and its directory is changed.
//
// Only the kernel is needed: neither iproute2 nor ethtool nor a mounted sysfs.
// Everything here needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN).
package netlab
