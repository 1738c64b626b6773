// Package linuxha runs the real Linux-HA heartbeat (3.0.6, as Debian has it) on
// the hosts of a lab, for tests that put Systole beside it: as its peer
// (test/interop) and as its rival (test/failover).
//
// A Machine is a host of a netlab.Lab with a boot of its own: a pid, mount, uts
// and ipc namespace within the host's network namespace, with a host name,
// /etc/ha.d, /var/lib/heartbeat, /var/log and /run of its own below the lab's
// directory. So several run on one computer, beside a heartbeat that it may have
// itself, and leave nothing behind.
//
//   - Kill is kill -9 of all of it at once, as when a machine loses its power
//     but for its kernel: the addresses that it had stay and answer ARP, until
//     Forget takes them away.
//   - Whatever heartbeat does to reboot its machine (it does when a resource does
//     not stop) does nothing here.
//   - Methods that cannot do what they say end the test (testing.TB).
//
// It needs root, Debian's heartbeat and resource-agents: Need says so.
package linuxha
