package mcast

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

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
		{"unicast group", media.Spec{Interface: "lo", Group: netip.MustParseAddr("192.0.2.1")}, "192.0.2.1 is not a multicast address"},
		{"IPv6 unicast group", media.Spec{Interface: "lo", Group: netip.MustParseAddr("2001:db8::1")}, "mcast6 lo: group 2001:db8::1 is not a multicast address"},
		{"all IPv6 hosts", media.Spec{Interface: "lo", Group: netip.MustParseAddr("ff02::1")}, "belongs to hosts, routers and the like (RFC 2375)"},
		{"all IPv6 routers of the site", media.Spec{Interface: "lo", Group: netip.MustParseAddr("ff05::2")}, "belongs to hosts, routers and the like (RFC 2375)"},
		{"within the machine", media.Spec{Interface: "lo", Group: netip.MustParseAddr("ff01::694")}, "ff01::694 does not leave the machine"},
		{"another interface", media.Spec{Interface: "lo", Group: netip.MustParseAddr("ff02::694%eth0")}, "ff02::694%eth0 is an address on interface eth0, not on lo"},
		{"routers' group", media.Spec{Interface: "lo", Group: netip.MustParseAddr("224.0.0.5")}, "belongs to routers"},
		{"ttl", media.Spec{Interface: "lo", TTL: 256}, "ttl 256 is not within 1 to 255"},
		{"negative ttl", media.Spec{Interface: "lo", TTL: -1}, "ttl -1 is not within 1 to 255"},
		{"baud", media.Spec{Interface: "lo", Baud: 9600}, "baud means nothing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := media.Open("mcast", c.spec)
			if !errors.Is(err, media.ErrSpec) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %v and %q", err, media.ErrSpec, c.says)
			}
			if m != nil {
				m.Close()
			}
		})
	}
}

func openMcast(t *testing.T, s media.Spec) media.Medium {
	t.Helper()
	m, err := media.Open("mcast", s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func beat(m media.Medium) func() { return func() { m.Send([]byte("beat")) } }

// quiet fails if there was a packet.
func quiet(t *testing.T, who string, got <-chan error) {
	t.Helper()
	for len(got) > 0 {
		if err := <-got; err == nil {
			t.Errorf("%s: heard a packet that is not for it", who)
		}
	}
}

// pair is a cable to a peer, and no route to the group on either side.
func pair(t *testing.T) (peer mediatest.Netns, link netlink.Link) {
	t.Helper()
	peer = mediatest.NewNetns(t)
	link = mediatest.Cable(t, "hb0", "192.0.2.1/24", "hb1")
	mediatest.SetUp(t, "hb0")
	peer.Take(t, "hb1", "192.0.2.2/24")
	mediatest.AddAddr(t, "hb0", "fe80::a/64")
	peer.Do(t, func() { mediatest.AddAddr(t, "hb1", "fe80::b/64") })
	return peer, link
}

func TestPeerHearsAndWeDoNot(t *testing.T) {
	if !mediatest.OwnNetns(t) {
		return
	}
	peer, _ := pair(t)
	for _, c := range []struct{ group, other, name string }{
		{"", "225.0.0.2", "mcast"}, {"ff02::694", "ff02::695", "mcast6"}, {"ff15::694%hb0", "ff02::694", "mcast6"},
	} {
		hearsAndNot(t, peer, c.group, c.other, c.name)
	}
}

func hearsAndNot(t *testing.T, peer mediatest.Netns, group, otherGroup, name string) {
	var g netip.Addr
	if group != "" {
		g = netip.MustParseAddr(group)
	}
	a := openMcast(t, media.Spec{Interface: "hb0", Group: g})
	var b, other, port media.Medium
	peer.Do(t, func() {
		b = openMcast(t, media.Spec{Interface: "hb1", Group: g.WithZone("")})
		other = openMcast(t, media.Spec{Interface: "hb1", Group: netip.MustParseAddr(otherGroup)})
		port = openMcast(t, media.Spec{Interface: "hb1", Group: g.WithZone(""), Port: 695, TTL: 7})
	})
	if a.Name() != name+" hb0" || port.Name() != name+" hb1:695" {
		t.Errorf("names %q, %q", a.Name(), port.Name())
	}
	own, hears, deaf := mediatest.Listen(a), mediatest.Listen(b), mediatest.Listen(other)
	for range 10 {
		mediatest.Until(t, hears, true, beat(a))
	}
	mediatest.Until(t, own, true, beat(b))
	for len(own) > 0 {
		<-own
	}
	for range 10 {
		mediatest.Until(t, hears, true, beat(a))
	}
	quiet(t, "ourselves", own)
	quiet(t, "another group", deaf)
	for _, m := range []media.Medium{a, b, other, port} {
		m.Close()
	}
}

// Section 1: ttl 1 unless told otherwise.
func TestTTL(t *testing.T) {
	if !mediatest.OwnNetns(t) {
		return
	}
	pair(t)
	for _, ttl := range []int{0, 1, 7} {
		sniffer := sniff(t, "hb0")
		m := openMcast(t, media.Spec{Interface: "hb0", TTL: ttl})
		if err := m.Send([]byte("beat")); err != nil {
			t.Fatal(err)
		}
		p := sniffer.next(t, isUDP, 5*time.Second)
		if want := byte(max(1, ttl)); p[8] != want || netip.AddrFrom4([4]byte(p[16:20])) != DefaultGroup {
			t.Errorf("ttl %d: sent with %d to %v", ttl, p[8], p[16:20])
		}
		m.Close()
	}
}

// The kinds of packets that are looked for: UDP, and what tells a switch of the
// groups somebody is in, as Linux sends it to one that says nothing itself.
func isUDP(p []byte) bool  { return len(p) >= 20 && p[0]>>4 == 4 && p[9] == unix.IPPROTO_UDP }
func isIGMP(p []byte) bool { return len(p) >= 20 && p[0]>>4 == 4 && p[9] == unix.IPPROTO_IGMP }
func isMLD(p []byte) bool { // version 2, RFC 3810 section 5.2: after a hop-by-hop header of 8 bytes
	return len(p) > 48 && p[0]>>4 == 6 && p[6] == unix.IPPROTO_HOPOPTS && p[40] == unix.IPPROTO_ICMPV6 && p[48] == 143
}

// sniffer is a socket that sees the packets of an interface.
type sniffer int

func sniff(t *testing.T, device string) sniffer {
	t.Helper()
	link, err := netlink.LinkByName(device)
	if err != nil {
		t.Fatal(err)
	}
	all := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL}) // in network order; only this sees what we send
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(all))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Attrs().Index}); err != nil {
		t.Fatal(err)
	}
	return sniffer(fd)
}

// next returns the next IP packet of a kind, or nil if there is none for so
// long.
func (s sniffer) next(t *testing.T, kind func([]byte) bool, wait time.Duration) []byte {
	t.Helper()
	buf := make([]byte, 2000)
	for end := time.Now().Add(wait); time.Now().Before(end); {
		tv := unix.NsecToTimeval(max(int64(time.Until(end)), int64(time.Millisecond)))
		if err := unix.SetsockoptTimeval(int(s), unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
			t.Fatal(err)
		}
		n, _, err := unix.Recvfrom(int(s), buf, 0)
		if err != nil {
			continue
		}
		if kind(buf[:n]) {
			return buf[:n]
		}
	}
	return nil
}

// A switch that was told by IGMP or MLD who is in the group has forgotten it with
// the carrier: it must be told again. By IGMP the kernel does so only for an
// interface that is set up, not for one whose cable is back.
func TestJoinsAgainWhenTheCarrierIsBack(t *testing.T) {
	if !mediatest.OwnNetns(t) {
		return
	}
	mediatest.Cable(t, "hb0", "192.0.2.1/24", "hb1")
	mediatest.SetUp(t, "hb0")
	mediatest.AddAddr(t, "hb0", "fe80::a/64")
	v6 := netip.MustParseAddr("ff02::694")
	m, m6 := openMcast(t, media.Spec{Interface: "hb0"}), openMcast(t, media.Spec{Interface: "hb0", Group: v6})
	mediatest.Listen(m)
	mediatest.Listen(m6)
	wire := sniff(t, "hb0")
	report := func(p []byte) bool { return isIGMP(p) || isMLD(p) }
	for wire.next(t, report, 2500*time.Millisecond) != nil {
		// The first reports, which the kernel repeats.
	}
	mediatest.SetDown(t, "hb1")
	waitCarrier(t, m, false)
	mediatest.SetUp(t, "hb1")
	group := DefaultGroup.As4()
	missing := map[string]string{"IGMP": string(group[:]), "MLD": string(v6.AsSlice())}
	for end := time.Now().Add(5 * time.Second); len(missing) > 0; {
		p := wire.next(t, report, time.Until(end))
		if p == nil {
			t.Fatalf("no report to the switch: %d of 2 missing", len(missing))
		}
		for protocol, group := range missing {
			if strings.Contains(string(p), group) {
				delete(missing, protocol)
			}
		}
	}
}

// waitCarrier waits until the medium must have seen what it looks for once a
// second.
func waitCarrier(t *testing.T, m media.Medium, want bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		l, err := netlink.LinkByName("hb0")
		if err != nil {
			t.Fatal(err)
		}
		if (l.Attrs().OperState == netlink.OperUp) == want {
			time.Sleep(1500 * time.Millisecond) // more than a check's interval
			return
		}
	}
	t.Fatal("the carrier does not change")
}

func TestInterfaceGoesAndComes(t *testing.T) {
	if !mediatest.OwnNetns(t) {
		return
	}
	for name, group := range map[string]netip.Addr{"mcast hb0": {}, "mcast6 hb0": netip.MustParseAddr("ff02::694")} {
		goesAndComes(t, name, group)
	}
}

func goesAndComes(t *testing.T, name string, group netip.Addr) {
	m := openMcast(t, media.Spec{Interface: "hb0", Group: group})
	got := mediatest.Listen(m)
	for round := range 3 {
		if err := mediatest.Until(t, got, false, func() {}); !strings.Contains(err.Error(), name) {
			t.Errorf("round %d: %v", round, err)
		}
		if err := m.Send([]byte("beat")); err == nil {
			t.Errorf("round %d: sends without an interface", round)
		}
		peer, link := pair(t)
		var from media.Medium
		peer.Do(t, func() { from = openMcast(t, media.Spec{Interface: "hb1", Group: group}) })
		mediatest.Until(t, got, true, beat(from))
		if err := m.Send([]byte("beat")); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		if err := netlink.LinkDel(link); err != nil {
			t.Fatal(err)
		}
		from.Close()
	}
}
