// Package mediatest is what the tests of the media have in common: a network
// namespace for the test, one for its peer, a cable between them, and an ear.
package mediatest

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"systole/hb/media"
)

// Missing ends a test that the machine cannot run: in CI nothing may be
// missing.
func Missing(t testing.TB, feature string) {
	t.Helper()
	if os.Getenv("SYSTOLE_CI") == "1" {
		t.Fatalf("missing: %s", feature)
	}
	t.Skipf("missing: %s", feature)
}

// OwnNetns runs the calling test in a process of its own with a network
// namespace of its own, which ends with it. It is true in that process.
func OwnNetns(t *testing.T) bool {
	t.Helper()
	const inside = "SYSTOLE_MEDIA_TEST_NETNS"
	if os.Getenv(inside) != "" {
		SetUp(t, "lo")
		return true
	}
	if os.Geteuid() != 0 {
		Missing(t, "root, for a network namespace")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, unix.EPERM) {
		Missing(t, "CAP_SYS_ADMIN, for a network namespace")
	}
	if err != nil {
		t.Fatalf("in its own namespace: %v\n%s", err, out)
	}
	if strings.Contains(string(out), "--- SKIP") {
		t.Skipf("%s", out)
	}
	return false
}

// Cable makes a veth pair, near with an address such as "192.0.2.1/24", or
// none, and not yet up; far without an address and up. near has a carrier when
// it is up.
func Cable(t *testing.T, near, addr, far string) netlink.Link {
	t.Helper()
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: near}, PeerName: far}
	if err := netlink.LinkAdd(link); err != nil {
		if errors.Is(err, unix.EOPNOTSUPP) {
			Missing(t, "veth interfaces")
		}
		t.Fatal(err)
	}
	if addr != "" {
		AddAddr(t, near, addr)
	}
	SetUp(t, far)
	return link
}

// AddAddr gives an interface an address, with the broadcast address of its
// network, or an IPv6 address that is usable at once: nobody has it already.
func AddAddr(t *testing.T, name, addr string) {
	t.Helper()
	a, err := netlink.ParseAddr(addr)
	if err != nil {
		t.Fatal(err)
	}
	if a.IP.To4() == nil {
		a.Flags = unix.IFA_F_NODAD
	}
	if err := netlink.AddrAdd(byName(t, name), a); err != nil {
		t.Fatal(err)
	}
}

// SetUp and SetDown set an interface up and down.
func SetUp(t *testing.T, name string) {
	t.Helper()
	if err := netlink.LinkSetUp(byName(t, name)); err != nil {
		t.Fatal(err)
	}
}

func SetDown(t *testing.T, name string) {
	t.Helper()
	if err := netlink.LinkSetDown(byName(t, name)); err != nil {
		t.Fatal(err)
	}
}

func byName(t *testing.T, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return l
}

// Netns is the network namespace of a peer.
type Netns struct{ handle netns.NsHandle }

// NewNetns makes a namespace without a name, which ends with the test.
func NewNetns(t *testing.T) Netns {
	t.Helper()
	var n Netns
	var err error
	onThread(func() { n.handle, err = netns.New() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.handle.Close() })
	return n
}

// Take moves an interface there, gives it an address, unless that is "", and
// sets it up.
func (n Netns) Take(t *testing.T, name, addr string) {
	t.Helper()
	if err := netlink.LinkSetNsFd(byName(t, name), int(n.handle)); err != nil {
		t.Fatal(err)
	}
	n.Do(t, func() {
		if addr != "" {
			AddAddr(t, name, addr)
		}
		SetUp(t, name)
	})
}

// Do runs f in the namespace. f must not end the test.
func (n Netns) Do(t *testing.T, f func()) {
	t.Helper()
	var err error
	onThread(func() {
		if err = netns.Set(n.handle); err == nil {
			f()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Without runs f on a thread that lacks a capability, such as
// unix.CAP_NET_RAW. f must not end the test.
func Without(t *testing.T, capability int, f func()) {
	t.Helper()
	var err error
	onThread(func() {
		h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var caps [2]unix.CapUserData
		if err = unix.Capget(&h, &caps[0]); err != nil {
			return
		}
		caps[capability/32].Effective &^= 1 << (capability % 32)
		if err = unix.Capset(&h, &caps[0]); err == nil {
			f()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// onThread runs f on a thread of its own, which ends with it.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread is not used again
		f()
	}()
	<-done
}

// Listen passes on what m receives, errors as well, until it is closed.
func Listen(m media.Medium) <-chan error {
	got := make(chan error, 1000)
	go func() {
		defer close(got)
		buf := make([]byte, 100)
		for {
			_, err := m.Receive(buf)
			if err == media.ErrClosed {
				return
			}
			got <- err
		}
	}()
	return got
}

// Until waits until got delivers a packet, or an error, as asked for, and
// returns it, while send is called all the time.
func Until(t *testing.T, got <-chan error, packet bool, send func()) (last error) {
	t.Helper()
	timeout := time.After(10 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-got:
			if (err == nil) == packet {
				return err
			}
		case <-tick.C:
			send()
		case <-timeout:
			t.Fatal("nothing for 10 s")
		}
	}
}
