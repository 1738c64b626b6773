package ucast

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"systole/hb/media"
)

// missing ends a test that the machine cannot run: in CI nothing may be
// missing.
func missing(t *testing.T, feature string) {
	t.Helper()
	if os.Getenv("SYSTOLE_CI") == "1" {
		t.Fatalf("missing: %s", feature)
	}
	t.Skipf("missing: %s", feature)
}

// ownNetns runs the calling test in a process of its own with a network
// namespace of its own, which ends with it. It is true in that process.
func ownNetns(t *testing.T) bool {
	t.Helper()
	const inside = "SYSTOLE_UCAST_TEST_NETNS"
	if os.Getenv(inside) != "" {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(lo); err != nil {
			t.Fatal(err)
		}
		return true
	}
	if os.Geteuid() != 0 {
		missing(t, "root, for a network namespace")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, unix.EPERM) {
		missing(t, "CAP_SYS_ADMIN, for a network namespace")
	}
	if err != nil {
		t.Fatalf("in its own namespace: %v\n%s", err, out)
	}
	if strings.Contains(string(out), "--- SKIP") {
		t.Skipf("%s", out)
	}
	return false
}

// addInterface makes hb0 with address 192.0.2.1/24, not yet up. It has a
// carrier, but nobody is at the other end.
func addInterface(t *testing.T) netlink.Link {
	t.Helper()
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "hb0"}, PeerName: "hb1"}
	if err := netlink.LinkAdd(link); err != nil {
		if errors.Is(err, unix.EOPNOTSUPP) {
			missing(t, "veth interfaces")
		}
		t.Fatal(err)
	}
	addr, err := netlink.ParseAddr("192.0.2.1/24")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(link, addr); err != nil {
		t.Fatal(err)
	}
	end, err := netlink.LinkByName("hb1")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(end); err != nil {
		t.Fatal(err)
	}
	return link
}

// listen passes on what m receives, errors as well.
func listen(m media.Medium) <-chan error {
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

// until returns what got delivers until it delivers a packet or an error as
// asked for, while send is called all the time.
func until(t *testing.T, got <-chan error, packet bool, send func()) (last error) {
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

func TestInterfaceGoesAndComes(t *testing.T) {
	if !ownNetns(t) {
		return
	}
	// To ourselves: the kernel keeps the interface for the receiving socket.
	m, err := media.Open("ucast", media.Spec{Interface: "hb0", Peers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:0")}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	got := listen(m)
	send := func() { m.Send([]byte("beat")) }

	for round := range 3 {
		if err := until(t, got, false, send); !strings.Contains(err.Error(), "hb0") {
			t.Errorf("round %d: %v", round, err)
		}
		if err := m.Send([]byte("beat")); err == nil {
			t.Errorf("round %d: sends without an interface", round)
		}
		link := addInterface(t)
		if err := netlink.LinkSetUp(link); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		until(t, got, true, send)
		if d := time.Since(start); d > media.MaxBackoff+time.Second {
			t.Errorf("round %d: back after %v", round, d)
		}
		if round < 2 {
			if err := netlink.LinkDel(link); err != nil {
				t.Fatal(err)
			}
			continue
		}
		// Replaced so fast that no attempt fails in between.
		if err := netlink.LinkDel(link); err != nil {
			t.Fatal(err)
		}
		if link = addInterface(t); netlink.LinkSetUp(link) != nil {
			t.Fatal("cannot set the interface up")
		}
		until(t, got, true, func() {
			for len(got) > 0 && <-got == nil { // what came before
			}
			send()
		})
	}
}

func TestInterfaceDownAndUp(t *testing.T) {
	if !ownNetns(t) {
		return
	}
	link := addInterface(t)
	m, err := media.Open("ucast", media.Spec{Interface: "hb0", Peers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:0"), netip.MustParseAddrPort("192.0.2.2:0")}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	got := listen(m)
	for range 3 {
		if err := netlink.LinkSetUp(link); err != nil {
			t.Fatal(err)
		}
		until(t, got, true, func() {
			if err := m.Send([]byte("beat")); err != nil {
				t.Fatalf("interface is up: %v", err)
			}
		})
		for len(got) > 0 {
			<-got
		}
		if err := netlink.LinkSetDown(link); err != nil {
			t.Fatal(err)
		}
		err := m.Send([]byte("beat"))
		if err == nil || !strings.HasPrefix(err.Error(), "ucast hb0: send to 192.0.2.") {
			t.Errorf("interface is down: %v", err)
		}
	}
	m.Close()
	for err := range got {
		if err != nil {
			t.Errorf("receive: %v", err)
		}
	}
}

// Packets for a neighbour that does not answer ARP stay in the socket's
// account: when it is used up, Send must not wait for room.
func TestFullSocketDropsInsteadOfWaiting(t *testing.T) {
	if !ownNetns(t) {
		return
	}
	if err := netlink.LinkSetUp(addInterface(t)); err != nil {
		t.Fatal(err)
	}
	m, err := media.Open("ucast", media.Spec{Interface: "hb0", Peers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:0")}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := unix.SetsockoptInt(m.(*medium).s.out, unix.SOL_SOCKET, unix.SO_SNDBUF, 8192); err != nil {
		t.Fatal(err)
	}
	const n = 200
	packet, start := make([]byte, 1400), time.Now()
	for range n {
		if err := m.Send(packet); err != nil {
			t.Fatal(err)
		}
	}
	// ARP is given up after 3 s; who waits for room waits that long.
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("took %v", d)
	}
	if s := m.Stats(); s.Dropped == 0 || s.Sent == 0 || s.Sent+s.Dropped != n {
		t.Errorf("got %+v of %d packets", s, n)
	}
}
