package neighbour

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// The tests that need a kernel run in a network namespace of their own, which
// is the whole process's: TestMain starts the test binary again in a new one.
// Nothing has a name outside, and all of it ends with the process.
const inside = "SYSTOLE_TEST_NETNS"

func TestMain(m *testing.M) {
	if os.Getenv(inside) != "" || os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	runtime.LockOSThread() // Pdeathsig follows the thread
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		fmt.Fprintln(os.Stderr, "cannot make a network namespace:", err)
	}
	os.Exit(max(cmd.ProcessState.ExitCode(), boolInt(err != nil)))
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func needNamespace(t *testing.T) {
	t.Helper()
	if os.Getenv(inside) != "" {
		return
	}
	if os.Getenv("SYSTOLE_CI") == "1" {
		t.Fatal("needs root: network namespaces")
	}
	t.Skip("needs root: network namespaces")
}

// host is another machine: a namespace of its own.
type host struct {
	*netlink.Handle
	ns netns.NsHandle
}

func newHost(t *testing.T) *host {
	t.Helper()
	var ns netns.NsHandle
	var err error
	onThread(func() {
		var orig netns.NsHandle
		if orig, err = netns.Get(); err != nil {
			return
		}
		defer orig.Close()
		if ns, err = netns.New(); err != nil {
			return
		}
		err = netns.Set(orig)
	})
	must(t, err)
	h, err := netlink.NewHandleAt(ns, syscall.NETLINK_ROUTE)
	must(t, err)
	t.Cleanup(func() { h.Close(); ns.Close() })
	return &host{h, ns}
}

// do runs f in the host's namespace.
func (h *host) do(t *testing.T, f func() error) {
	t.Helper()
	var err error
	onThread(func() {
		orig, e := netns.Get()
		if err = e; err != nil {
			return
		}
		defer orig.Close()
		if err = netns.Set(h.ns); err != nil {
			return
		}
		err = errors.Join(f(), netns.Set(orig))
	})
	must(t, err)
}

// onThread runs f on a thread of its own, so that a namespace set by mistake
// stays with a thread that ends.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		f()
		runtime.UnlockOSThread()
	}()
	<-done
}

// lan is a switch with the director (this process, interface "eth0") and other
// hosts plugged in.
type lan struct {
	sw *host
}

func newLAN(t *testing.T) *lan {
	t.Helper()
	needNamespace(t)
	l := &lan{newHost(t)}
	must(t, l.sw.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}))
	l.sw.up(t, "br0")
	self, err := netns.Get()
	must(t, err)
	defer self.Close()
	here, err := netlink.NewHandle(syscall.NETLINK_ROUTE)
	must(t, err)
	h := &host{here, self}
	l.plug(t, h, "port0", "192.168.145.2/24")
	t.Cleanup(func() {
		if eth0, err := here.LinkByName("eth0"); err == nil {
			must(t, here.LinkDel(eth0))
		}
		here.Close()
	})
	return l
}

// plug gives h an interface eth0 with an address, on a port of the switch.
func (l *lan) plug(t *testing.T, h *host, port, cidr string) {
	t.Helper()
	must(t, l.sw.LinkAdd(&netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: port},
		PeerName:      "eth0",
		PeerNamespace: netlink.NsFd(h.ns),
	}))
	br, err := l.sw.LinkByName("br0")
	must(t, err)
	p, err := l.sw.LinkByName(port)
	must(t, err)
	must(t, l.sw.LinkSetMaster(p, br))
	l.sw.up(t, port)
	h.up(t, "eth0")
	if cidr != "" {
		h.address(t, cidr)
	}
}

func (l *lan) host(t *testing.T, port, cidr string) *host {
	t.Helper()
	h := newHost(t)
	l.plug(t, h, port, cidr)
	return h
}

func (h *host) up(t *testing.T, name string) {
	t.Helper()
	l, err := h.LinkByName(name)
	must(t, err)
	must(t, h.LinkSetUp(l))
}

func (h *host) eth0(t *testing.T) netlink.Link {
	t.Helper()
	l, err := h.LinkByName("eth0")
	must(t, err)
	return l
}

func (h *host) mac(t *testing.T) net.HardwareAddr {
	t.Helper()
	return h.eth0(t).Attrs().HardwareAddr
}

func (h *host) address(t *testing.T, cidr string) {
	t.Helper()
	a, err := netlink.ParseAddr(cidr)
	must(t, err)
	must(t, h.AddrAdd(h.eth0(t), a))
}

// sysctl writes a /proc/sys file of the host's namespace.
func (h *host) sysctl(t *testing.T, path, value string) {
	t.Helper()
	h.do(t, func() error { return os.WriteFile("/proc/sys/"+path, []byte(value), 0) })
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }
