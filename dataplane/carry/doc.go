// Package carry copies the connections of one data plane to the other, so that
// they go on when the plane that has them cannot: it is what package fallback
// is given for that, and knows the kernel.
//
// # From XDP to IPVS
//
// The kernel lets nobody insert a connection but its own backup sync daemon. So
// one is started on the loopback interface, is sent the flows (flowsync.Feed),
// and is stopped. A backup daemon that an operator has running is used as it is,
// and stays; what it is sent does not leave the machine. The daemon takes the
// connection in with the method of forwarding that its server has in IPVS.
// A connection that IPVS has with another server, of an earlier stay, is
// replaced if the flow is established.
//
// The XDP plane's table outlives its attachment: it is read after the loss.
//
// Templates go with the connections, both ways: a persistent client's next
// connection finds its server. Those of ranges of ports and of firewall marks
// stay, as only one of the planes has such.
//
// # From IPVS to XDP
//
// The kernel's list of connections is read, and inserted. Connections of
// services that XDP does not have are passed over. The kernel walks its table
// from the start for each page of that list, so ten times as many connections
// take a hundred times as long (a hundred thousand: 35 s in a machine that is
// emulated, where the other direction takes 0.9 s), and the caller's time may end
// before. Those that were not reached stay in IPVS, which goes on with them: XDP
// passes what it has no flow of.
//
// # Limits
//
// While the daemon runs, a program on this machine could send it connections.
// The kernel starts no daemon while IPVS has servers of another address family
// than their service's; the error says so.
package carry
