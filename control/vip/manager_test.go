package vip

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"systole/test/netlab/selflan"
)

func TestMain(m *testing.M) { selflan.Main(m) }

var must = selflan.Must

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestAddDel(t *testing.T) {
	selflan.New(t)
	var log bytes.Buffer
	m := New(slog.New(slog.NewTextHandler(&log, nil)), 0)
	defer m.Close()
	has := func(want bool) {
		t.Helper()
		got, err := m.Present(vip1)
		must(t, err)
		if got != want {
			t.Fatalf("present: %v, want %v", got, want)
		}
	}
	has(false)
	must(t, m.Del(vip1)) // nothing there
	must(t, m.Add(vip1))
	has(true)
	if strings.Contains(log.String(), "already") {
		t.Errorf("log: %s", &log)
	}
	must(t, m.Add(vip1))
	if !strings.Contains(log.String(), "address was there already") {
		t.Errorf("the second Add says nothing:\n%s", &log)
	}
	must(t, m.Del(vip1))
	has(false)
	must(t, m.Del(vip1))
}

// A VIP with the LAN's own prefix must not bring a second route for the LAN,
// nor a broadcast address.
func TestAddMakesNoRoute(t *testing.T) {
	selflan.New(t)
	m := New(quiet(), 0)
	defer m.Close()
	a := vip1
	a.PrefixLen = 24
	must(t, m.Add(a))
	l, err := netlink.LinkByName("eth0")
	must(t, err)
	routes, err := netlink.RouteList(l, netlink.FAMILY_V4)
	must(t, err)
	for _, r := range routes {
		if r.Src.Equal(a.IP.AsSlice()) {
			t.Errorf("a route for it: %v", r)
		}
	}
	addrs, err := netlink.AddrList(l, netlink.FAMILY_V4)
	must(t, err)
	for _, got := range addrs {
		if got.IP.Equal(a.IP.AsSlice()) && (got.Scope != unix.RT_SCOPE_UNIVERSE || got.Broadcast != nil) {
			t.Errorf("scope %d, broadcast %v", got.Scope, got.Broadcast)
		}
	}
}

// The address is there with another prefix length, say by a start script.
func TestOtherPrefixLength(t *testing.T) {
	selflan.New(t)
	m := New(quiet(), 0)
	defer m.Close()
	l, err := netlink.LinkByName("eth0")
	must(t, err)
	foreign, err := netlink.ParseAddr(vip1.IP.String() + "/24")
	must(t, err)
	must(t, netlink.AddrAdd(l, foreign))
	if ok, err := m.Present(vip1); err != nil || !ok {
		t.Fatalf("present: %v, %v", ok, err)
	}
	must(t, m.Add(vip1))
	must(t, m.Del(vip1))
	if ok, err := m.Present(vip1); err != nil || ok {
		t.Fatalf("after Del present: %v, %v", ok, err)
	}
	// The director's own address on the same LAN is not touched.
	own, err := netlink.AddrList(l, netlink.FAMILY_V4)
	must(t, err)
	if len(own) != 1 || own[0].IP.String() != "192.168.145.2" {
		t.Errorf("left: %v", own)
	}
}

func TestErrors(t *testing.T) {
	selflan.Need(t)
	m := New(quiet(), 0)
	nowhere := Addr{vip1.IP, 32, "nosuch0"}
	if err := m.Add(nowhere); err == nil || !strings.Contains(err.Error(), "nosuch0") {
		t.Errorf("Add without interface: %v", err)
	}
	if err := m.Del(nowhere); err != nil {
		t.Errorf("Del without interface: %v", err)
	}
	if ok, err := m.Present(nowhere); ok || err != nil {
		t.Errorf("Present without interface: %v, %v", ok, err)
	}
	m.Announce(nowhere) // logs, and must not hang or crash
	six := Addr{netip.MustParseAddr("fe80::1"), 128, "lo"}
	if err := m.Add(six); !errors.Is(err, ErrInvalid) {
		t.Errorf("IPv6 link-local: %v", err)
	}
	if err := m.Add(Addr{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("zero: %v", err)
	}
	must(t, m.Close())
	must(t, m.Close())
	if err := m.Add(vip1); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	m.Announce(vip1)
}

// sniffer hears the ARP frames that reach a host.
type sniffer struct{ *packet.Conn }

func sniff(t *testing.T, h *selflan.Host) sniffer {
	t.Helper()
	eth0 := h.Eth0(t).Attrs()
	var c *packet.Conn
	h.Do(t, func() (err error) {
		c, err = packet.Listen(&net.Interface{Index: eth0.Index}, packet.Raw, unix.ETH_P_ARP, nil)
		return err
	})
	t.Cleanup(func() { c.Close() })
	s := sniffer{c}
	s.ready(t)
	return s
}

// ready waits until frames get through: an interface that has just come up
// swallows them for up to a second.
func (s sniffer) ready(t *testing.T) {
	t.Helper()
	eth0, err := netlink.LinkByName("eth0")
	must(t, err)
	marker := netip.MustParseAddr("192.168.145.254")
	p, err := gratuitous(eth0.Attrs().HardwareAddr, marker)
	must(t, err)
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		transmit(t, eth0, p.request)
		if s.next(t, marker, 20*time.Millisecond) != nil {
			return
		}
	}
	t.Fatal("no frame gets through")
}

// next is the next frame that announces ip, if one comes within d.
func (s sniffer) next(t *testing.T, ip netip.Addr, d time.Duration) []byte {
	t.Helper()
	must(t, s.SetReadDeadline(time.Now().Add(d)))
	for {
		b := make([]byte, 1514)
		n, _, err := s.ReadFrom(b)
		if err != nil {
			return nil
		}
		if n >= 42 && string(b[28:32]) == string(ip.AsSlice()) {
			return b[:n]
		}
	}
}

// From Add to the announcement on a client's wire, the standby's last steps
// in a takeover, ought to cost well under a millisecond.
func TestTakeoverLatency(t *testing.T) {
	l := selflan.New(t)
	client := l.Host(t, "port1", "192.168.145.10/24")
	s := sniff(t, client)
	m := New(quiet(), 0)
	defer m.Close()
	_, err := m.Present(vip1) // as a director does when it starts
	must(t, err)
	best := time.Hour
	for range 5 {
		t0 := time.Now()
		must(t, m.Add(vip1))
		added := time.Since(t0)
		m.Announce(vip1)
		left := time.Since(t0)
		request := s.next(t, vip1.IP, time.Second)
		seen := time.Since(t0)
		reply := s.next(t, vip1.IP, time.Second)
		t.Logf("added after %v, announced after %v, seen by the client after %v", added, left, seen)
		best = min(best, left)
		if request == nil || reply == nil {
			t.Fatal("no announcement")
		}
		if request[21] != 1 || reply[21] != 2 {
			t.Errorf("operations %d and %d, want request and reply", request[21], reply[21])
		}
		must(t, m.Del(vip1))
		for s.next(t, vip1.IP, 20*time.Millisecond) != nil {
		}
	}
	// A machine under load may take longer once; every time is a fault.
	if best > 10*time.Millisecond {
		t.Errorf("announced after %v at best", best)
	}
}

func TestNothingAfterDel(t *testing.T) {
	l := selflan.New(t)
	s := sniff(t, l.Host(t, "port1", "192.168.145.10/24"))
	m := New(quiet(), 0)
	defer m.Close()
	must(t, m.Add(vip1))
	m.Announce(vip1)
	if s.next(t, vip1.IP, time.Second) == nil {
		t.Fatal("no announcement")
	}
	must(t, m.Del(vip1))
	for s.next(t, vip1.IP, 10*time.Millisecond) != nil {
	}
	if s.next(t, vip1.IP, 150*time.Millisecond) != nil {
		t.Error("announced after Del")
	}
}

// A client that has just learnt the old owner's address keeps to it for the
// locktime, unless the frame is a gratuitous one. Each form alone must do.
func TestClientLearnsWithinLocktime(t *testing.T) {
	l := selflan.New(t)
	client := l.Host(t, "port1", "192.168.145.10/24")
	old := net.HardwareAddr{2, 0, 0, 0, 0, 0xaa}
	client.Sysctl(t, "net/ipv4/neigh/eth0/locktime", "360000") // an hour
	link, err := netlink.LinkByName("eth0")
	must(t, err)
	mac := link.Attrs().HardwareAddr
	p, err := gratuitous(mac, vip1.IP)
	must(t, err)
	plain := bytes.Clone(p.reply)
	copy(plain[32:38], make([]byte, 6)) // not gratuitous: the target is not the sender
	m := New(quiet(), 0)
	defer m.Close()
	must(t, m.Add(vip1))
	for _, c := range []struct {
		name string
		send func()
		want net.HardwareAddr
	}{
		{"a reply that is not gratuitous", func() { transmit(t, link, plain) }, old},
		{"request form alone", func() { transmit(t, link, p.request) }, mac},
		{"reply form alone", func() { transmit(t, link, p.reply) }, mac},
		{"Announce", func() { m.Announce(vip1) }, mac},
	} {
		must(t, client.NeighSet(&netlink.Neigh{
			LinkIndex: client.Eth0(t).Attrs().Index, State: netlink.NUD_REACHABLE,
			IP: vip1.IP.AsSlice(), HardwareAddr: old,
		}))
		s := sniff(t, client)
		c.send()
		if s.next(t, vip1.IP, time.Second) == nil {
			t.Fatalf("%s: not received", c.name)
		}
		// The sniffer and the ARP code are fed by the same call in the
		// kernel, one after the other; give it a moment on another CPU.
		got := neighbour(t, client, vip1.IP)
		for end := time.Now().Add(100 * time.Millisecond); !bytes.Equal(got, c.want) && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
			got = neighbour(t, client, vip1.IP)
		}
		if !bytes.Equal(got, c.want) {
			t.Errorf("%s: the client has %v, want %v", c.name, got, c.want)
		}
	}
}

func transmit(t *testing.T, l netlink.Link, frame []byte) {
	t.Helper()
	c, err := packet.Listen(&net.Interface{Index: l.Attrs().Index}, packet.Raw, 0, nil)
	must(t, err)
	defer c.Close()
	_, err = c.WriteTo(frame, &packet.Addr{HardwareAddr: frame[:6]})
	must(t, err)
}

func neighbour(t *testing.T, h *selflan.Host, ip netip.Addr) net.HardwareAddr {
	t.Helper()
	all, err := h.NeighList(h.Eth0(t).Attrs().Index, netlink.FAMILY_V4)
	must(t, err)
	for _, n := range all {
		if n.IP.Equal(ip.AsSlice()) {
			return n.HardwareAddr
		}
	}
	return nil
}

// The cable is pulled and put back after the schedule's burst.
func TestLinkUpAnnouncesAgain(t *testing.T) {
	l := selflan.New(t)
	s := sniff(t, l.Host(t, "port1", "192.168.145.10/24"))
	m := New(quiet(), 0)
	defer m.Close()
	must(t, m.Add(vip1))
	m.Announce(vip1)
	if s.next(t, vip1.IP, time.Second) == nil {
		t.Fatal("no announcement")
	}
	port, err := l.Switch.LinkByName("port0")
	must(t, err)
	must(t, l.Switch.LinkSetDown(port))
	for s.next(t, vip1.IP, 600*time.Millisecond) != nil { // let the burst end
	}
	up := time.Now()
	must(t, l.Switch.LinkSetUp(port))
	if s.next(t, vip1.IP, 2*time.Second) == nil {
		t.Fatal("not announced after link-up")
	}
	t.Logf("announced %v after link-up", time.Since(up))
}

// Bonding, or an operator, gives the interface another hardware address.
func TestNewHardwareAddress(t *testing.T) {
	l := selflan.New(t)
	s := sniff(t, l.Host(t, "port1", "192.168.145.10/24"))
	m := New(quiet(), 0)
	defer m.Close()
	must(t, m.Add(vip1))
	m.Announce(vip1)
	link, err := netlink.LinkByName("eth0")
	must(t, err)
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 0xbb}
	must(t, netlink.LinkSetHardwareAddr(link, mac))
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		if f := s.next(t, vip1.IP, time.Second); f != nil && bytes.Equal(f[22:28], mac) && bytes.Equal(f[6:12], mac) {
			return
		}
	}
	t.Error("not announced with the new address")
}
