package guest

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if os.Getenv("SYSTOLE_VM") != "1" {
		fmt.Println("these tests run in a virtual machine: go test systole/test/vm")
		return
	}
	os.Exit(m.Run())
}

// The cast: a director between a router and real servers.
var (
	own       = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	routerMAC = net.HardwareAddr{2, 0, 0, 0, 9, 9}
	director  = netip.MustParsePrefix("192.168.145.2/24")
	vip       = netip.MustParseAddr("192.168.145.101")
)

// serverAddr and serverMAC are the n-th real server's.
func serverAddr(n int) netip.Addr      { return netip.AddrFrom4([4]byte{192, 168, 145, byte(200 + n)}) }
func serverMAC(n int) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 1, 0, byte(n)} }

// namespace puts the test, and its thread, into a network namespace of their
// own, on the first CPU: what is sent there is received there, in order.
func namespace(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	var first unix.CPUSet
	first.Set(0)
	if err := unix.SchedSetaffinity(0, &first); err != nil {
		t.Fatal(err)
	}
	up(t, "lo")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func device(t *testing.T, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	return l
}

func up(t *testing.T, name string) {
	t.Helper()
	must(t, netlink.LinkSetUp(device(t, name)))
}

// cable lays a veth pair; own is the MAC address of the near end.
func cable(t *testing.T, near, far string) {
	t.Helper()
	must(t, netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: near, HardwareAddr: own}, PeerName: far, PeerHardwareAddr: routerMAC,
	}))
	up(t, near)
	up(t, far)
}

func addAddr(t *testing.T, dev string, p netip.Prefix) {
	t.Helper()
	a, err := netlink.ParseAddr(p.String())
	must(t, err)
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	must(t, netlink.AddrAdd(device(t, dev), a))
}

// neighbour tells the kernel where addr is, for good.
func neighbour(t *testing.T, dev string, addr netip.Addr, mac net.HardwareAddr) {
	t.Helper()
	must(t, netlink.NeighSet(&netlink.Neigh{
		LinkIndex: device(t, dev).Attrs().Index, State: netlink.NUD_PERMANENT, IP: addr.AsSlice(), HardwareAddr: mac,
	}))
}

// noIPv6 is for a namespace where only what the test sends may be seen.
func noIPv6(t *testing.T) {
	t.Helper()
	for _, conf := range []string{"all", "default"} {
		must(t, os.WriteFile("/proc/sys/net/ipv6/conf/"+conf+"/disable_ipv6", []byte("1"), 0))
	}
}
