package bcast

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"

	"systole/hb/media"
	"systole/hb/media/mediatest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOpenRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		spec media.Spec
		says string
	}{
		{"no interface", media.Spec{}, "interface name"},
		{"long interface", media.Spec{Interface: "a234567890123456"}, "interface name"},
		{"peers", media.Spec{Interface: "lo", Peers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:694")}}, "peers means nothing"},
		{"ttl", media.Spec{Interface: "lo", TTL: 1}, "ttl means nothing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := media.Open("bcast", c.spec)
			if !errors.Is(err, media.ErrSpec) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %v and %q", err, media.ErrSpec, c.says)
			}
			if m != nil {
				m.Close()
			}
		})
	}
}

func open694(t *testing.T, device string) media.Medium {
	t.Helper()
	m, err := media.Open("bcast", media.Spec{Interface: device})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func beat(m media.Medium) func() { return func() { m.Send([]byte("beat")) } }

// The peer hears us, and we hear ourselves (section 1).
func TestPeerAndWeHear(t *testing.T) {
	if !mediatest.OwnNetns(t) {
		return
	}
	peer := mediatest.NewNetns(t)
	mediatest.Cable(t, "hb0", "192.0.2.1/24", "hb1")
	mediatest.SetUp(t, "hb0")
	peer.Take(t, "hb1", "192.0.2.2/24")
	a := open694(t, "hb0")
	var b media.Medium
	peer.Do(t, func() { b = open694(t, "hb1") })
	if a.Name() != "bcast hb0" {
		t.Errorf("name %q", a.Name())
	}
	ownEar, peerEar := mediatest.Listen(a), mediatest.Listen(b)
	mediatest.Until(t, peerEar, true, beat(a))
	mediatest.Until(t, ownEar, true, beat(a))
	if s := a.Stats(); s.Sent == 0 || s.Received == 0 || s.Failed != 0 {
		t.Errorf("%+v", s)
	}
}

func TestBroadcastAddress(t *testing.T) {
	if !mediatest.OwnNetns(t) {
		return
	}
	for _, c := range []struct{ addr, brd, wrong string }{
		{"192.0.2.1/24", "192.0.2.255", ""},
		{"192.0.2.129/25", "192.0.2.255", ""},
		{"10.1.2.3/8", "10.7.7.7", ""},
		{"10.1.2.3/8", "0.0.0.0", ""}, // as by "ip addr add" without brd
		{"192.0.2.1/31", "", "too small for a broadcast address: use ucast or mcast"},
		{"192.0.2.1/32", "", "too small for a broadcast address: use ucast or mcast"},
		{"", "", "interface hb0 has no IPv4 address, which bcast needs: IPv6 has no broadcast, use mcast with an IPv6 group"},
	} {
		link := mediatest.Cable(t, "hb0", "", "hb1")
		mediatest.SetUp(t, "hb0")
		if c.addr != "" {
			a, err := netlink.ParseAddr(c.addr)
			if err != nil {
				t.Fatal(err)
			}
			if c.brd != "" {
				a.Broadcast = netip.MustParseAddr(c.brd).AsSlice()
			}
			if err := netlink.AddrAdd(link, a); err != nil {
				t.Fatal(err)
			}
		}
		m := open694(t, "hb0")
		err := m.Send([]byte("beat"))
		switch {
		case c.wrong == "" && err != nil:
			t.Errorf("%s: %v", c.addr, err)
		case c.wrong != "" && (err == nil || !strings.HasSuffix(err.Error(), c.wrong)):
			t.Errorf("%s: %v, want %s", c.addr, err, c.wrong)
		case c.wrong == "": // broadcast means that it comes back
			mediatest.Until(t, mediatest.Listen(m), true, beat(m))
		}
		m.Close()
		if err := netlink.LinkDel(link); err != nil {
			t.Fatal(err)
		}
	}
}

func TestInterfaceGoesComesAndMoves(t *testing.T) {
	if !mediatest.OwnNetns(t) {
		return
	}
	m := open694(t, "hb0")
	got := mediatest.Listen(m)
	for round := range 2 {
		if err := mediatest.Until(t, got, false, beat(m)); !strings.Contains(err.Error(), "bcast hb0: interface hb0 does not exist") {
			t.Errorf("round %d: %v", round, err)
		}
		link := mediatest.Cable(t, "hb0", "192.0.2.1/24", "hb1")
		mediatest.SetUp(t, "hb0")
		start := time.Now()
		mediatest.Until(t, got, true, beat(m))
		if d := time.Since(start); d > media.MaxBackoff+time.Second {
			t.Errorf("round %d: back after %v", round, d)
		}
		if round == 0 {
			if err := netlink.LinkDel(link); err != nil {
				t.Fatal(err)
			}
			continue
		}
		// To another network while it is up: its broadcast address is another.
		old, err := netlink.ParseAddr("192.0.2.1/24")
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.AddrDel(link, old); err != nil {
			t.Fatal(err)
		}
		mediatest.AddAddr(t, "hb0", "198.51.100.1/24")
		mediatest.Until(t, got, false, beat(m))
		mediatest.Until(t, got, true, beat(m))
	}
}
