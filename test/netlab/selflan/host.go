package selflan

import (
	"errors"
	"net"
	"os"
	"runtime"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Host is another machine: a namespace of its own, with the netlink handle to
// configure it. It ends with the test.
type Host struct {
	*netlink.Handle
	ns netns.NsHandle
}

func newHost(t testing.TB) *Host {
	t.Helper()
	var ns netns.NsHandle
	Must(t, onThread(func() (err error) {
		ns, err = netns.New()
		return err
	}))
	h, err := netlink.NewHandleAt(ns, syscall.NETLINK_ROUTE)
	if err != nil {
		ns.Close()
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close(); ns.Close() })
	return &Host{h, ns}
}

// Do runs f in the host's namespace, on a thread of its own: a goroutine that f
// starts is in the director's. Sockets stay where they were opened. An error
// ends the test.
func (h *Host) Do(t testing.TB, f func() error) {
	t.Helper()
	Must(t, onThread(func() error {
		if err := netns.Set(h.ns); err != nil {
			return err
		}
		return f()
	}))
}

// onThread runs f, which may leave for another namespace, on a thread that is
// brought home afterwards; if that fails the thread ends with its goroutine.
func onThread(f func() error) error {
	result := make(chan error, 1)
	go func() {
		defer close(result)
		runtime.LockOSThread()
		home, err := netns.Get()
		if err != nil {
			result <- err
			return
		}
		defer home.Close()
		err = f()
		back := netns.Set(home)
		if back == nil {
			runtime.UnlockOSThread()
		}
		result <- errors.Join(err, back)
	}()
	return <-result
}

// Eth0 is the host's interface as it is now.
func (h *Host) Eth0(t testing.TB) netlink.Link {
	t.Helper()
	l, err := h.LinkByName("eth0")
	Must(t, err)
	return l
}

// MAC is the address of Eth0 as it is now.
func (h *Host) MAC(t testing.TB) net.HardwareAddr {
	t.Helper()
	return h.Eth0(t).Attrs().HardwareAddr
}

// Sysctl writes a /proc/sys file of the host's namespace, such as
// "net/ipv4/conf/eth0/arp_notify".
func (h *Host) Sysctl(t testing.TB, path, value string) {
	t.Helper()
	h.Do(t, func() error { return os.WriteFile("/proc/sys/"+path, []byte(value), 0) })
}

func (h *Host) up(t testing.TB, name string) {
	t.Helper()
	l, err := h.LinkByName(name)
	Must(t, err)
	Must(t, h.LinkSetUp(l))
}

func (h *Host) address(t testing.TB, cidr string) {
	t.Helper()
	a, err := netlink.ParseAddr(cidr)
	Must(t, err)
	Must(t, h.AddrAdd(h.Eth0(t), a))
}
