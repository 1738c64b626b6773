package host

import (
	"bufio"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"systole/hb"
	"systole/hb/media"
	"systole/hb/media/mediatest"
	_ "systole/hb/media/ucast"
)

// open opens hosts and returns what they tell.
func open(t *testing.T, paths ...Path) (*Hosts, <-chan hb.Notice) {
	t.Helper()
	h, err := Open(Config{paths})
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan hb.Notice, 10000)
	go func() {
		defer close(got)
		for {
			n, err := h.Receive()
			if err != nil {
				if !errors.Is(err, ErrClosed) {
					t.Errorf("receive: %v", err)
				}
				return
			}
			got <- n
		}
	}()
	t.Cleanup(func() {
		h.Close()
		for range got {
		}
	})
	return h, got
}

// await waits for a notice, while again is called all the time, and returns
// how long it took.
func await(t *testing.T, got <-chan hb.Notice, want hb.Notice, again func()) time.Duration {
	t.Helper()
	start, timeout := time.Now(), time.After(10*time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case n := <-got:
			if n == want {
				return time.Since(start)
			}
		case <-tick.C:
			again()
		case <-timeout:
			t.Fatalf("not told of %+v", want)
		}
	}
}

// none fails on a notice within a while, but for what was under way before.
func none(t *testing.T, got <-chan hb.Notice, bad hb.Notice, while func()) {
	t.Helper()
	for settled := time.After(100 * time.Millisecond); settled != nil; {
		select {
		case <-got:
		case <-settled:
			settled = nil
		}
	}
	for range 20 {
		while()
		select {
		case n := <-got:
			if n == bad {
				t.Errorf("told of %+v", n)
			}
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// cable makes a cable with an address of each family at both ends.
func cable(t *testing.T) (peer mediatest.Netns) {
	t.Helper()
	peer = mediatest.NewNetns(t)
	mediatest.Cable(t, "hb0", "192.0.2.1/24", "hb1")
	mediatest.AddAddr(t, "hb0", "2001:db8::1/64")
	mediatest.SetUp(t, "hb0")
	peer.Take(t, "hb1", "192.0.2.2/24")
	peer.Do(t, func() {
		mediatest.SetUp(t, "lo") // the Go library looks there whether there is IPv6
		mediatest.AddAddr(t, "hb1", "2001:db8::2/64")
	})
	return peer
}

var families = []struct{ name, addr, own string }{{"IPv4", "192.0.2.2", "192.0.2.1"}, {"IPv6", "2001:db8::2", "2001:db8::1"}}

// daemon is a process of the peer's with a socket on port 694; see TestDaemon.
func daemon(t *testing.T, peer mediatest.Netns, own, us string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestDaemon$")
	cmd.Env = append(os.Environ(), "SYSTOLE_HOST_TEST_DAEMON="+own, "SYSTOLE_HOST_TEST_PEER="+us)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan error)
	go func() { // its thread outlives it, so that the signal at our death means ours
		peer.Do(t, func() { started <- cmd.Start(); <-t.Context().Done() })
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "listening\n" {
		t.Fatalf("the peer's daemon says %q, %v", line, err)
	}
	return cmd
}

// TestDaemon is no test but the process that daemon starts.
func TestDaemon(t *testing.T) {
	if os.Getenv("SYSTOLE_HOST_TEST_DAEMON") == "" {
		t.Skip("started by other tests")
	}
	c, err := net.ListenUDP("udp", &net.UDPAddr{Port: 694})
	if err != nil {
		t.Fatal(err)
	}
	own := netip.MustParseAddr(os.Getenv("SYSTOLE_HOST_TEST_DAEMON"))
	us := netip.MustParseAddr(os.Getenv("SYSTOLE_HOST_TEST_PEER"))
	if _, err := Open(Config{[]Path{{"us", "ucast hb1", "hb1", us, 694, own}}}); err != nil {
		t.Fatal(err)
	}
	os.Stdout.WriteString("listening\n")
	for buf := make([]byte, 100); ; {
		c.Read(buf)
	}
}

// The machine answers while its daemon lives, while it is frozen, and when it
// is killed; and then, only then, the beats are refused.
func TestDaemonFrozenAndKilled(t *testing.T) {
	if !mediatest.OwnNetns(t) {
		return
	}
	peer := cable(t)
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			addr := netip.MustParseAddr(f.addr)
			h, got := open(t, Path{"b", "ucast hb0", "hb0", addr, 694, netip.Addr{}})
			answered, refused := hb.Notice{Node: "b", Medium: "ucast hb0", Kind: hb.HostAnswered}, hb.Notice{Node: "b", Medium: "ucast hb0", Kind: hb.PortRefused}
			beats, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 694)))
			if err != nil {
				t.Fatal(err)
			}
			defer beats.Close()
			beat := func() { beats.Write([]byte("beat")) }
			ask := func() { h.Ask("b") }

			d := daemon(t, peer, f.addr, f.own)
			await(t, got, answered, ask)
			none(t, got, refused, beat)
			d.Process.Signal(syscall.SIGSTOP)
			await(t, got, answered, ask)
			none(t, got, refused, beat)
			d.Process.Kill()
			killed := time.Now()
			d.Wait()
			gone := time.Now()
			beat()
			await(t, got, refused, beat)
			t.Logf("killed, gone %v later; the next beat is refused after %v", gone.Sub(killed), time.Since(gone))
			if d := time.Since(gone); d > time.Second {
				t.Errorf("told of it after %v", d)
			}
			await(t, got, answered, ask)
			none(t, got, refused, func() {
				c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 53)))
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				c.Write([]byte("refused as well, but no beat"))
			})
		})
	}
}

// A tether tells of a killed daemon at once, without a beat; a frozen one, and
// a stranger who connects, break nothing.
func TestTether(t *testing.T) {
	if !mediatest.OwnNetns(t) {
		return
	}
	peer := cable(t)
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			addr, own := netip.MustParseAddr(f.addr), netip.MustParseAddr(f.own)
			h, got := open(t, Path{"b", "ucast hb0", "hb0", addr, 694, own})
			disconnected, refused := hb.Notice{Node: "b", Medium: "ucast hb0", Kind: hb.Disconnected}, hb.Notice{Node: "b", Medium: "ucast hb0", Kind: hb.PortRefused}
			d := daemon(t, peer, f.addr, f.own)
			tethered := func() bool {
				var there bool
				peer.Do(t, func() { there = established(t, 694) > 0 })
				return there
			}
			for end := time.Now().Add(10 * time.Second); !tethered(); time.Sleep(10 * time.Millisecond) {
				if h.Ask("b"); time.Now().After(end) {
					t.Fatal("no tether")
				}
			}
			d.Process.Signal(syscall.SIGSTOP)
			none(t, got, disconnected, func() { h.Ask("b") })
			d.Process.Signal(syscall.SIGCONT)
			none(t, got, disconnected, func() {})
			d.Process.Kill()
			killed := time.Now()
			await(t, got, disconnected, func() {})
			await(t, got, refused, func() {})
			t.Logf("told of the kill after %v", time.Since(killed))
			d.Wait()

			// It is made again when somebody asks and a daemon is there.
			d = daemon(t, peer, f.addr, f.own)
			for end := time.Now().Add(15 * time.Second); !tethered(); time.Sleep(10 * time.Millisecond) {
				if h.Ask("b"); time.Now().After(end) {
					t.Fatal("no new tether")
				}
			}
			d.Process.Kill()
			await(t, got, disconnected, func() {})
			d.Wait()
		})
	}
}

// established counts the TCP connections to a local port in the namespace of
// this thread.
func established(t *testing.T, port uint16) (n int) {
	t.Helper()
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		socks, err := netlink.SocketDiagTCP(family)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range socks {
			if s.State == netlink.TCP_ESTABLISHED && s.ID.SourcePort == port {
				n++
			}
		}
	}
	return n
}

// Each path is asked by itself, and the others do not matter.
func TestAskOnEveryPath(t *testing.T) {
	if !mediatest.OwnNetns(t) {
		return
	}
	peer := cable(t)
	mediatest.Cable(t, "lan0", "198.51.100.1/24", "lan1")
	mediatest.SetUp(t, "lan0")
	peer.Take(t, "lan1", "198.51.100.2/24")
	peer.Do(t, func() { // else it answers for all its addresses everywhere
		if err := os.WriteFile("/proc/sys/net/ipv4/conf/hb1/arp_ignore", []byte("1"), 0); err != nil {
			t.Error(err)
		}
	})
	var local netip.Addr // the peer's link-local address
	for end := time.Now().Add(10 * time.Second); !local.IsValid(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the peer has no link-local address")
		}
		peer.Do(t, func() {
			l, err := netlink.LinkByName("hb1")
			if err != nil {
				t.Error(err)
				return
			}
			addrs, _ := netlink.AddrList(l, netlink.FAMILY_V6)
			for _, a := range addrs {
				if a, _ := netip.AddrFromSlice(a.IP); a.IsLinkLocalUnicast() {
					local = a
				}
			}
		})
	}
	addr := netip.MustParseAddr
	h, got := open(t,
		Path{"b", "ucast hb0", "hb0", addr("192.0.2.2"), 694, netip.Addr{}}, Path{"b", "ucast6 hb0", "hb0", addr("2001:db8::2"), 694, netip.Addr{}},
		Path{"b", "link-local", "hb0", local.WithZone("hb0"), 694, netip.Addr{}}, Path{"b", "bcast lan0", "lan0", addr("198.51.100.2"), 0, netip.Addr{}},
		Path{"", "mcast lan0", "lan0", netip.Addr{}, 0, netip.Addr{}}, Path{"c", "ucast hb0", "hb0", addr("192.0.2.3"), 694, netip.Addr{}},
		Path{"d", "the wrong way", "hb0", addr("198.51.100.2"), 694, netip.Addr{}},
		Path{"b", "absent", "absent0", addr("192.0.2.2"), 694, netip.Addr{}})
	waiting := map[string]bool{"ucast hb0": true, "ucast6 hb0": true, "link-local": true, "bcast lan0": true}
	timeout, tick := time.After(10*time.Second), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for len(waiting) > 0 {
		select {
		case n := <-got:
			switch {
			case n == hb.Notice{Medium: "absent", Kind: hb.CarrierLost}:
			case n.Kind != hb.HostAnswered || n.Node != "b" || n.Medium == "absent":
				t.Errorf("told of %+v", n)
			}
			delete(waiting, n.Medium)
		case <-tick.C:
			h.Ask("b")
			h.Ask("c")
			h.Ask("nobody")
		case <-timeout:
			t.Fatalf("no answer on %v", waiting)
		}
	}
	if err := h.Trouble(); err == nil || !strings.Contains(err.Error(), "interface absent0 does not exist") {
		t.Errorf("trouble: %v", err)
	}
	// The machine has that address, but not there.
	none(t, got, hb.Notice{Node: "d", Medium: "the wrong way", Kind: hb.HostAnswered}, func() { h.Ask("d") })
}

func TestCarrierLostAndBack(t *testing.T) {
	if !mediatest.OwnNetns(t) {
		return
	}
	peer := cable(t)
	h, got := open(t, Path{"b", "ucast hb0", "hb0", netip.MustParseAddr("192.0.2.2"), 694, netip.Addr{}})
	lost, back := hb.Notice{Medium: "ucast hb0", Kind: hb.CarrierLost}, hb.Notice{Medium: "ucast hb0", Kind: hb.CarrierBack}
	answered := hb.Notice{Node: "b", Medium: "ucast hb0", Kind: hb.HostAnswered}
	wait := func() {}
	for round := range 3 {
		await(t, got, answered, func() { h.Ask("b") })
		peer.Do(t, func() { mediatest.SetDown(t, "hb1") })
		took := await(t, got, lost, wait)
		none(t, got, answered, func() { h.Ask("b") })
		peer.Do(t, func() { mediatest.SetUp(t, "hb1") })
		t.Logf("round %d: told of the cut after %v, of the cable after %v", round, took, await(t, got, back, wait))
	}
	// Away altogether, and another in its place.
	link, err := netlink.LinkByName("hb0")
	if err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		if err := netlink.LinkDel(link); err != nil {
			t.Fatal(err)
		}
		await(t, got, lost, wait)
		h.Ask("b")
		link = mediatest.Cable(t, "hb0", "192.0.2.1/24", "hb1")
		mediatest.SetUp(t, "hb0")
		peer.Take(t, "hb1", "192.0.2.2/24")
		await(t, got, back, wait)
		if d := await(t, got, answered, func() { h.Ask("b") }); d > media.MaxBackoff+time.Second {
			t.Errorf("round %d: answered after %v", round, d)
		}
	}
}

func TestCloseEndsReceive(t *testing.T) {
	if !mediatest.OwnNetns(t) {
		return
	}
	cable(t)
	h, err := Open(Config{[]Path{{"b", "ucast hb0", "hb0", netip.MustParseAddr("192.0.2.2"), 694, netip.Addr{}}, {"b", "absent", "absent0", netip.MustParseAddr("192.0.2.2"), 694, netip.Addr{}}}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		for {
			if _, err := h.Receive(); err != nil {
				done <- err
				return
			}
		}
	}()
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Errorf("receive: %v", err)
	}
	if err := h.Close(); !errors.Is(err, ErrClosed) {
		t.Errorf("closed again: %v", err)
	}
	h.Ask("b")
}

func TestWithoutTheCapability(t *testing.T) {
	if !mediatest.OwnNetns(t) {
		return
	}
	cable(t)
	mediatest.Without(t, unix.CAP_NET_RAW, func() {
		h, err := Open(Config{[]Path{{Node: "b", Medium: "ucast hb0", Interface: "hb0", Addr: netip.MustParseAddr("192.0.2.2"), Port: 694}}})
		if !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), "it needs CAP_NET_RAW") {
			t.Errorf("opened: %v", err)
		}
		if h != nil {
			h.Close()
		}
	})
}

func BenchmarkAsk(b *testing.B) {
	h, err := Open(Config{[]Path{{"b", "ucast lo", "lo", netip.MustParseAddr("127.0.0.1"), 694, netip.Addr{}}}})
	if err != nil {
		b.Skip(err)
	}
	defer h.Close()
	b.ReportAllocs()
	for b.Loop() {
		h.Ask("b")
	}
}
