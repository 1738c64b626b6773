package ping

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"systole/hb/media"
	"systole/hb/media/mediatest"
	"systole/hb/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func hosts(addrs ...string) (h []netip.AddrPort) {
	for _, a := range addrs {
		h = append(h, netip.AddrPortFrom(netip.MustParseAddr(a), 0))
	}
	return h
}

func TestOpenRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		spec media.Spec
		says string
	}{
		{"no host", media.Spec{Name: "routers"}, "ping routers: no host to ask"},
		{"group without a name", media.Spec{Peers: hosts("192.0.2.1", "192.0.2.2")}, "2 hosts are a group, which needs a name"},
		{"twice", media.Spec{Name: "g", Peers: hosts("192.0.2.1", "::ffff:192.0.2.1")}, "192.0.2.1 is there twice"},
		{"two families", media.Spec{Name: "g", Peers: hosts("192.0.2.1", "2001:db8::1")}, "2001:db8::1 is of another family"},
		{"port", media.Spec{Peers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:694")}}, "192.0.2.1:694 has a port"},
		{"invalid", media.Spec{Peers: make([]netip.AddrPort, 1)}, "a host has no address"},
		{"any", media.Spec{Peers: hosts("0.0.0.0")}, "not the address of one machine"},
		{"group address", media.Spec{Peers: hosts("ff02::1")}, "not the address of one machine"},
		{"everybody", media.Spec{Peers: hosts("255.255.255.255")}, "not the address of one machine"},
		{"link-local", media.Spec{Peers: hosts("fe80::1")}, "host fe80::1 is on one interface: say which"},
		{"two zones", media.Spec{Name: "g", Peers: hosts("fe80::1%eth0", "fe80::2%eth1")}, "fe80::2%eth1 is on another interface than the rest"},
		{"a zone and another interface", media.Spec{Interface: "eth1", Peers: hosts("fe80::1%eth0")}, "fe80::1%eth0 is on another interface"},
		{"long interface", media.Spec{Interface: "a234567890123456", Peers: hosts("192.0.2.1")}, "no name of an interface"},
		{"ttl", media.Spec{Peers: hosts("192.0.2.1"), TTL: 1}, "ping 192.0.2.1: ttl means nothing to it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := media.Open("ping", c.spec)
			if !errors.Is(err, media.ErrSpec) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %v and %q", err, media.ErrSpec, c.says)
			}
			if m != nil {
				m.Close()
			}
		})
	}
}

func openPing(t *testing.T, s media.Spec) media.Medium {
	t.Helper()
	m, err := media.Open("ping", s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// answers collects what a medium receives, for a while after the last.
func answers(m media.Medium) <-chan string {
	got := make(chan string, 1000)
	go func() {
		defer close(got)
		buf := make([]byte, 64<<10)
		for {
			n, err := m.Receive(buf)
			if err == media.ErrClosed {
				return
			}
			if err != nil {
				got <- "error: " + err.Error()
				continue
			}
			got <- string(buf[:n])
		}
	}()
	return got
}

func next(t *testing.T, got <-chan string) string {
	t.Helper()
	select {
	case s := <-got:
		return s
	case <-time.After(5 * time.Second):
		t.Fatal("no answer")
		return ""
	}
}

// routers is a machine behind a cable with two addresses of each family.
func routers(t *testing.T) mediatest.Netns {
	t.Helper()
	peer := mediatest.NewNetns(t)
	mediatest.Cable(t, "hb0", "192.0.2.1/24", "hb1")
	mediatest.AddAddr(t, "hb0", "2001:db8::1/64")
	mediatest.AddAddr(t, "hb0", "fe80::a/64")
	mediatest.SetUp(t, "hb0")
	peer.Take(t, "hb1", "192.0.2.2/24")
	peer.Do(t, func() {
		for _, a := range []string{"192.0.2.3/24", "2001:db8::2/64", "2001:db8::3/64", "fe80::b/64"} {
			mediatest.AddAddr(t, "hb1", a)
		}
	})
	return peer
}

// What is sent comes back from each host that answers, unchanged, to the medium
// that asked and to no other.
func TestEcho(t *testing.T) {
	if !mediatest.OwnNetns(t) {
		return
	}
	peer := routers(t)
	var ms []media.Medium
	var gots []<-chan string
	for _, c := range []struct {
		name string
		spec media.Spec
	}{
		{"ping 192.0.2.2", media.Spec{Peers: hosts("192.0.2.2")}},
		{"ping 2001:db8::2", media.Spec{Peers: hosts("2001:db8::2"), Interface: "hb0"}},
		{"ping fe80::b%hb0", media.Spec{Peers: hosts("fe80::b%hb0")}},
		{"ping routers", media.Spec{Name: "routers", Peers: hosts("192.0.2.2", "192.0.2.3", "192.0.2.99")}},
		{"ping routers6", media.Spec{Name: "routers6", Peers: hosts("2001:db8::2", "2001:db8::99", "2001:db8::3")}},
	} {
		m := openPing(t, c.spec)
		if m.Name() != c.name {
			t.Errorf("name %q, want %q", m.Name(), c.name)
		}
		ms, gots = append(ms, m), append(gots, answers(m))
	}
	keys := wire.Keys{Send: 1, Keys: []wire.Key{{Index: 1, Method: wire.SHA1, Secret: []byte("secret")}}}
	for round := range 5 {
		for i, m := range ms {
			msg := wire.New("NS_st", "st", "ping", "info", "ping", "src", fmt.Sprint(i), "ts", fmt.Sprintf("%x", round), "pad", strings.Repeat("x", round*700))
			packet, err := wire.Encode(nil, msg, wire.Both, keys)
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Send(packet); err != nil {
				t.Fatalf("%s: %v", m.Name(), err)
			}
			for range []int{1, 1, 1, 2, 2}[i] {
				got := next(t, gots[i])
				if got != string(packet) {
					t.Fatalf("%s: got %q, want %q", m.Name(), got, packet)
				}
				if m, _, err := wire.Decode([]byte(got), keys); err != nil || m.Type() != "NS_st" {
					t.Errorf("%v, %v", m, err)
				}
			}
		}
	}
	if s := ms[3].Stats(); s != (media.Stats{Sent: 15, Received: 10}) {
		t.Errorf("%+v", s)
	}
	// Not echoed any more: not received, and no error, as of a daemon that is
	// gone.
	peer.Do(t, func() {
		if err := os.WriteFile("/proc/sys/net/ipv4/icmp_echo_ignore_all", []byte("1"), 0); err != nil {
			t.Error(err)
		}
	})
	for range 10 {
		if err := ms[0].Send([]byte("beat")); err != nil {
			t.Error(err)
		}
	}
	time.Sleep(50 * time.Millisecond) // an answer took less than one so far
	for i, got := range gots {
		for len(got) > 0 {
			t.Errorf("%s: %q", ms[i].Name(), <-got)
		}
	}
}

// Without an interface the routing table decides, and no way is an error.
func TestNoRouteAndBack(t *testing.T) {
	if !mediatest.OwnNetns(t) {
		return
	}
	m := openPing(t, media.Spec{Peers: hosts("192.0.2.2")})
	got := answers(m)
	if err := m.Send([]byte("beat")); err == nil || !strings.HasPrefix(err.Error(), "ping 192.0.2.2: ask 192.0.2.2: network is unreachable") {
		t.Errorf("no route: %v", err)
	}
	routers(t)
	if err := m.Send([]byte("beat")); err != nil {
		t.Error(err)
	}
	if s := next(t, got); s != "beat" {
		t.Errorf("%q", s)
	}
	if err := m.Send(bytes.Repeat([]byte("x"), 70000)); err == nil {
		t.Error("a packet longer than IP allows is sent")
	}
}

func TestInterfaceGoesAndComes(t *testing.T) {
	if !mediatest.OwnNetns(t) {
		return
	}
	m := openPing(t, media.Spec{Interface: "hb0", Peers: hosts("192.0.2.2")})
	got := mediatest.Listen(m)
	for round := range 3 {
		if err := mediatest.Until(t, got, false, func() {}); !strings.Contains(err.Error(), "ping 192.0.2.2: ") {
			t.Errorf("round %d: %v", round, err)
		}
		if err := m.Send([]byte("beat")); err == nil {
			t.Errorf("round %d: sends without an interface", round)
		}
		routers(t)
		start := time.Now()
		mediatest.Until(t, got, true, func() { m.Send([]byte("beat")) })
		if d := time.Since(start); d > media.MaxBackoff+time.Second {
			t.Errorf("round %d: back after %v", round, d)
		}
		link, err := netlink.LinkByName("hb0")
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkDel(link); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWithoutTheCapability(t *testing.T) {
	if !mediatest.OwnNetns(t) {
		return
	}
	routers(t)
	mediatest.Without(t, unix.CAP_NET_RAW, func() {
		m, err := media.Open("ping", media.Spec{Peers: hosts("192.0.2.2")})
		if err != nil {
			t.Error(err)
			return
		}
		defer m.Close()
		if err := m.Send([]byte("beat")); !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), "ping 192.0.2.2: raw ICMP socket: operation not permitted: it needs CAP_NET_RAW") {
			t.Errorf("send: %v", err)
		}
	})
}

func TestCloseEndsReceive(t *testing.T) {
	if !mediatest.OwnNetns(t) {
		return
	}
	routers(t)
	for _, device := range []string{"hb0", "absent0"} {
		m := openPing(t, media.Spec{Interface: device, Peers: hosts("192.0.2.2")})
		got := mediatest.Listen(m)
		time.Sleep(20 * time.Millisecond) // likely, but not needed: it waits by now
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		timeout := time.After(5 * time.Second)
		for open := true; open; {
			select {
			case _, open = <-got:
			case <-timeout:
				t.Fatalf("%s: Receive does not return", device)
			}
		}
		for _, err := range []error{m.Close(), m.Send(nil)} {
			if err != media.ErrClosed {
				t.Errorf("afterwards: %v", err)
			}
		}
	}
}
