package ucast

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"systole/hb/media"
	"systole/hb/media/mediatest"
)

func openUcast(t *testing.T, device string, peers ...string) media.Medium {
	t.Helper()
	spec := media.Spec{Interface: device}
	for _, p := range peers {
		spec.Peers = append(spec.Peers, netip.AddrPortFrom(netip.MustParseAddr(p), 0))
	}
	m, err := media.Open("ucast", spec)
	if err != nil {
		t.Error(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// read receives one packet.
func read(t *testing.T, m media.Medium) string {
	t.Helper()
	got := make(chan string, 1)
	go func() {
		buf := make([]byte, 100)
		n, err := m.Receive(buf)
		if err != nil {
			got <- err.Error()
		}
		got <- string(buf[:n])
	}()
	select {
	case s := <-got:
		return s
	case <-time.After(5 * time.Second):
		t.Fatalf("%s: no packet", m.Name())
		return ""
	}
}

// One node with media of both families on one interface and port: each hears
// its own packets only. Link-local addresses are those of the interface.
func TestBothFamiliesAtOnce(t *testing.T) {
	if !mediatest.OwnNetns(t) {
		return
	}
	peer := mediatest.NewNetns(t)
	for _, c := range []struct{ near, far string }{{"hb0", "hb1"}, {"lan0", "lan1"}} {
		mediatest.Cable(t, c.near, "", c.far)
		mediatest.AddAddr(t, c.near, "fe80::a/64")
		mediatest.SetUp(t, c.near)
		peer.Take(t, c.far, "fe80::b/64")
	}
	mediatest.AddAddr(t, "hb0", "192.0.2.1/24")
	peer.Do(t, func() { mediatest.AddAddr(t, "hb1", "192.0.2.2/24") })
	ours := []media.Medium{openUcast(t, "hb0", "192.0.2.2"), openUcast(t, "hb0", "fe80::b"), openUcast(t, "lan0", "fe80::b%lan0")}
	var theirs []media.Medium
	peer.Do(t, func() {
		theirs = []media.Medium{openUcast(t, "hb1", "192.0.2.1"), openUcast(t, "hb1", "fe80::a%hb1"), openUcast(t, "lan1", "fe80::a")}
	})
	for i, name := range []string{"ucast hb0", "ucast6 hb0", "ucast6 lan0"} {
		if got := ours[i].Name(); got != name {
			t.Errorf("name %q, want %q", got, name)
		}
	}
	for round := range 3 {
		for i := range ours {
			for _, way := range []struct{ from, to media.Medium }{{ours[i], theirs[i]}, {theirs[i], ours[i]}} {
				if err := way.from.Send([]byte(way.from.Name())); err != nil {
					t.Fatalf("round %d: %v", round, err)
				}
			}
		}
		for i := range ours {
			for _, way := range []struct{ from, to media.Medium }{{ours[i], theirs[i]}, {theirs[i], ours[i]}} {
				if got := read(t, way.to); got != way.from.Name() {
					t.Errorf("round %d: %s: got %q, want %q", round, way.to.Name(), got, way.from.Name())
				}
			}
		}
	}
	if s := ours[1].Stats(); s != (media.Stats{Sent: 3, Received: 3}) {
		t.Errorf("%+v", s)
	}
}

// An address that is still being checked for duplicates cannot be sent from. The
// medium works as soon as the check is over.
func TestTentativeAddress(t *testing.T) {
	if !mediatest.OwnNetns(t) {
		return
	}
	peer := mediatest.NewNetns(t)
	link := mediatest.Cable(t, "hb0", "", "hb1")
	peer.Take(t, "hb1", "2001:db8::2/64")
	m := openUcast(t, "hb0", "2001:db8::2")
	var from media.Medium
	peer.Do(t, func() { from = openUcast(t, "hb1", "2001:db8::1") })
	mediatest.SetUp(t, "hb0")
	a, err := netlink.ParseAddr("2001:db8::1/64")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(link, a); err != nil {
		t.Fatal(err)
	}
	theirs, ours := mediatest.Listen(from), mediatest.Listen(m)
	start := time.Now()
	mediatest.Until(t, theirs, true, func() { m.Send([]byte("beat")) })
	mediatest.Until(t, ours, true, func() { from.Send([]byte("beat")) })
	t.Logf("works after %v", time.Since(start).Round(time.Millisecond))
	addrs, err := netlink.AddrList(link, netlink.FAMILY_V6)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if a.Flags&unix.IFA_F_TENTATIVE != 0 && a.IP.IsGlobalUnicast() {
			t.Errorf("%v is still being checked, and was sent from", a.IP)
		}
	}
}

// IPv6 addresses go when the interface is set down, the interface may go as
// well; all comes again.
func TestIPv6InterfaceGoesAndComes(t *testing.T) {
	if !mediatest.OwnNetns(t) {
		return
	}
	peer := mediatest.NewNetns(t)
	m := openUcast(t, "hb0", "2001:db8::2")
	got := mediatest.Listen(m)
	for round := range 3 {
		if err := mediatest.Until(t, got, false, func() {}); !strings.Contains(err.Error(), "ucast6 hb0") {
			t.Errorf("round %d: %v", round, err)
		}
		link := mediatest.Cable(t, "hb0", "", "hb1")
		mediatest.SetUp(t, "hb0")
		mediatest.AddAddr(t, "hb0", "2001:db8::1/64")
		peer.Take(t, "hb1", "2001:db8::2/64")
		var from media.Medium
		peer.Do(t, func() { from = openUcast(t, "hb1", "2001:db8::1") })
		beat := func() { from.Send([]byte("beat")) }
		mediatest.Until(t, got, true, beat)
		mediatest.SetDown(t, "hb0")
		if err := m.Send([]byte("beat")); err == nil {
			t.Errorf("round %d: sends on an interface that is down", round)
		}
		mediatest.SetUp(t, "hb0")
		mediatest.AddAddr(t, "hb0", "2001:db8::1/64")
		for len(got) > 0 {
			<-got
		}
		mediatest.Until(t, got, true, beat)
		if err := m.Send([]byte("beat")); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		from.Close()
		if err := netlink.LinkDel(link); err != nil {
			t.Fatal(err)
		}
	}
}
