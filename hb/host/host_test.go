package host

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"systole/hb"
	"systole/hb/internal/icmp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOpenRefuses(t *testing.T) {
	a := netip.MustParseAddr
	for _, c := range []struct {
		name  string
		paths []Path
		says  string
	}{
		{"no interface", []Path{{Node: "b", Medium: "mcast eth0"}}, `b on mcast eth0: "" is no name of an interface`},
		{"long interface", []Path{{Node: "b", Interface: "a234567890123456"}}, "no name of an interface"},
		{"any address", []Path{{Node: "b", Interface: "lo", Addr: a("0.0.0.0")}}, "0.0.0.0 is not the address of one machine"},
		{"group", []Path{{Node: "b", Interface: "lo", Addr: a("ff02::1")}}, "ff02::1 is not the address of one machine"},
		{"everybody", []Path{{Node: "b", Interface: "lo", Addr: a("255.255.255.255")}}, "not the address of one machine"},
		{"another zone", []Path{{Node: "b", Interface: "lo", Addr: a("fe80::1%eth0")}}, "fe80::1%eth0 is not on interface lo"},
		{"nobody's", []Path{{Interface: "lo", Addr: a("192.0.2.1")}}, "nobody is known to have the address 192.0.2.1"},
		{"two nodes", []Path{{Node: "b", Interface: "lo", Addr: a("192.0.2.1")}, {Node: "c", Interface: "lo", Addr: a("::ffff:192.0.2.1")}}, "192.0.2.1 is the address of b already"},
	} {
		h, err := Open(Config{c.paths})
		if !errors.Is(err, ErrPath) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %v and %q", c.name, err, ErrPath, c.says)
		}
		if h != nil {
			h.Close()
		}
	}
}

// all is what waits in p.
func (p *pending) all() (all []hb.Notice) {
	for n, ok := p.take(); ok; n, ok = p.take() {
		all = append(all, n)
	}
	return all
}

func TestPending(t *testing.T) {
	answered, refused := hb.Notice{Node: "b", Medium: "m", Kind: hb.HostAnswered}, hb.Notice{Node: "b", Medium: "m", Kind: hb.PortRefused}
	lost, back, other := hb.Notice{Medium: "m", Kind: hb.CarrierLost}, hb.Notice{Medium: "m", Kind: hb.CarrierBack}, hb.Notice{Medium: "n", Kind: hb.CarrierBack}
	for _, c := range []struct {
		name      string
		add, want []hb.Notice
	}{
		{"in order", []hb.Notice{answered, lost, refused}, []hb.Notice{answered, lost, refused}},
		{"once each", []hb.Notice{answered, refused, answered, answered, refused}, []hb.Notice{answered, refused}},
		{"a cable that is back before anybody looked", []hb.Notice{lost, other, back}, []hb.Notice{other}},
		{"lost in the end", []hb.Notice{lost, back, lost}, []hb.Notice{lost}},
	} {
		p := pending{ready: make(chan struct{}, 1)}
		for _, n := range c.add {
			p.add(n)
		}
		if got := p.all(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// Of all that a socket receives only answers to us and refusals of our port
// count.
func TestHeard(t *testing.T) {
	h := &Hosts{targets: make(map[string][]*target), start: time.Now().Add(-10 * time.Second), secret: [8]byte{1, 2, 3}}
	h.pending.ready = make(chan struct{}, 1)
	b, c := netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")
	for _, p := range []Path{
		{"b", "ucast eth0", "eth0", b, 694, netip.Addr{}}, {"b", "ucast eth0:695", "eth0", b, 695, netip.Addr{}}, {"b", "bcast eth0", "eth0", b, 0, netip.Addr{}},
		{"c", "ucast eth0", "eth0", c, 694, netip.Addr{}}, {"", "mcast eth0", "eth0", netip.Addr{}, 0, netip.Addr{}},
	} {
		if err := h.add(p, 1); err != nil {
			t.Fatal(err)
		}
	}
	if len(h.conns) != 1 || !slices.Equal(h.conns[0].cfg.Ports, []uint16{694, 695}) || len(h.targets["b"]) != 1 {
		t.Fatalf("%d sockets, %+v, %d addresses of b", len(h.conns), h.conns[0].cfg, len(h.targets["b"]))
	}
	payload := func(secret byte, age time.Duration) []byte {
		now := uint64(time.Since(h.start) - age)
		p := []byte{secret, 2, 3, 0, 0, 0, 0, 0}
		for s := 56; s >= 0; s -= 8 {
			p = append(p, byte(now>>s))
		}
		return p
	}
	echo := func(from netip.Addr, payload []byte) icmp.Message {
		return icmp.Message{From: from, Echo: icmp.Echo{Payload: payload}}
	}
	refused := func(from netip.Addr, to string) icmp.Message {
		return icmp.Message{From: from, Refused: netip.MustParseAddrPort(to)}
	}
	for _, k := range []struct {
		name string
		m    icmp.Message
		want string
	}{
		{"answer", echo(b, payload(1, 0)), "b:ucast eth0:1 b:ucast eth0:695:1 b:bcast eth0:1"},
		{"answer of the other", echo(c, payload(1, 900*time.Millisecond)), "c:ucast eth0:1"},
		{"late answer", echo(b, payload(1, stale)), ""},
		{"answer from the future", echo(b, payload(1, -time.Minute)), ""},
		{"answer to another", echo(b, payload(7, 0)), ""},
		{"short answer", echo(b, payload(1, 0)[:15]), ""},
		{"shorter answer", echo(b, []byte{1}), ""},
		{"long answer", echo(b, append(payload(1, 0), 0)), ""},
		{"answer of a stranger", echo(netip.MustParseAddr("192.0.2.4"), payload(1, 0)), ""},
		{"refused", refused(b, "192.0.2.2:695"), "b:ucast eth0:695:2"},
		{"refused on another port", refused(b, "192.0.2.2:53"), ""},
		{"refused by another, in between", refused(c, "192.0.2.2:694"), ""},
		{"refused by a stranger", refused(netip.MustParseAddr("192.0.2.4"), "192.0.2.2:694"), ""},
	} {
		h.heard(h.conns[0], k.m)
		var got []string
		for _, n := range h.pending.all() {
			got = append(got, n.Node+":"+n.Medium+":"+string(rune('0'+n.Kind)))
		}
		if g := strings.Join(got, " "); g != k.want {
			t.Errorf("%s: %q, want %q", k.name, g, k.want)
		}
	}
}

// update is the kernel's message about an interface.
func update(typ uint16, family uint8, index int32, name string, flags uint32) netlink.LinkUpdate {
	u := netlink.LinkUpdate{Link: &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: name}}}
	u.Header.Type, u.Family, u.Index, u.Flags = typ, family, index, flags
	return u
}

func TestCarriers(t *testing.T) {
	const up, new, del = unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_LOWER_UP, unix.RTM_NEWLINK, unix.RTM_DELLINK
	p := &pending{ready: make(chan struct{}, 1)}
	w := newWatch([]Path{{Medium: "mcast eth0", Interface: "eth0"}, {Node: "b", Medium: "ucast eth0", Interface: "eth0"}, {Node: "c", Medium: "ucast eth0", Interface: "eth0"}, {Medium: "mcast eth1", Interface: "eth1"}}, nil, p)
	for _, c := range []struct {
		name string
		u    netlink.LinkUpdate
		want string
	}{
		{"as expected", update(new, 0, 2, "eth0", up), ""},
		{"another interface", update(new, 0, 3, "eth2", 0), ""},
		{"no carrier", update(new, 0, 2, "eth0", unix.IFF_UP|unix.IFF_RUNNING), "-mcast eth0 -ucast eth0"},
		{"down, too", update(new, 0, 2, "eth0", 0), ""},
		{"up, not yet running", update(new, 0, 2, "eth0", unix.IFF_UP|unix.IFF_LOWER_UP), ""},
		{"a bridge about its port", update(new, unix.AF_BRIDGE, 2, "eth0", up), ""},
		{"back", update(new, 0, 2, "eth0", up), "+mcast eth0 +ucast eth0"},
		{"the bridge takes it out", update(del, unix.AF_BRIDGE, 2, "eth0", up), ""},
		{"another is removed", update(del, 0, 3, "eth2", up), ""},
		{"renamed", update(new, 0, 2, "wan", up), "-mcast eth0 -ucast eth0"},
		{"under its new name", update(del, 0, 2, "wan", up), ""},
		{"another has the name", update(new, 0, 4, "eth0", up), "+mcast eth0 +ucast eth0"},
		{"the other one", update(new, 0, 5, "eth1", 0), "-mcast eth1"},
		{"removed", update(del, 0, 4, "eth0", up), "-mcast eth0 -ucast eth0"},
	} {
		if l, ok := linkOf(c.u); ok {
			w.note(l)
		}
		var got []string
		for _, n := range p.all() {
			got = append(got, map[hb.NoticeKind]string{hb.CarrierLost: "-", hb.CarrierBack: "+"}[n.Kind]+n.Medium)
			if n.Node != "" {
				t.Errorf("%s: %+v has a node", c.name, n)
			}
		}
		if g := strings.Join(got, " "); g != c.want {
			t.Errorf("%s: %q, want %q", c.name, g, c.want)
		}
	}
}
