package neighbour

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var (
	rs1  = netip.MustParseAddr("192.168.145.11")
	rs2  = netip.MustParseAddr("192.168.145.12")
	macA = net.HardwareAddr{2, 0, 0, 0, 0, 0xa}
	macB = net.HardwareAddr{2, 0, 0, 0, 0, 0xb}
	lan0 = path{ifindex: 2, iface: "eth0"}
	t0   = time.Unix(1000, 0)
)

// step is one thing that happens to a table, at a time, and what it must say.
type step struct {
	at   time.Duration
	do   string // "ask", or "insist": with a request of our own, or what the kernel says: "is A", "asking", "failed", "gone", "up", "down"
	want string // "" nothing, "A", "B", or a part of the reason
	next time.Duration
}

func (s step) run(t *testing.T, tab *table, p path) {
	t.Helper()
	now := t0.Add(s.at)
	ev := event{place: place{p.ifindex, rs1}}
	var got []Update
	switch s.do {
	case "ask", "insist":
		if !slices.Contains(tab.due(now), rs1) {
			t.Errorf("%v: not due", s.at)
		}
		if own := tab.insist(rs1, p, now); own != (s.do == "insist") {
			t.Errorf("%v %s: a request of our own: %v", s.at, s.do, own)
		}
		got = tab.asked(rs1, p, now)
	case "up", "down":
		tab.carrier(p.ifindex, s.do == "up", now)
	case "is A":
		ev.mac = macA
		got = tab.hear(ev, now)
	case "is B":
		ev.mac = macB
		got = tab.hear(ev, now)
	case "asking":
		ev.fate = resolving
		got = tab.hear(ev, now)
	case "failed":
		ev.fate = failed
		got = tab.hear(ev, now)
	case "gone":
		ev.fate = gone
		got = tab.hear(ev, now)
	default:
		t.Fatal(s.do)
	}
	if text := updates(got); (s.want == "") != (text == "") || !strings.Contains(text, s.want) {
		t.Errorf("%v %s: says %q, want %q", s.at, s.do, text, s.want)
	}
	if next := tab.next().Sub(t0); next != s.next {
		t.Errorf("%v %s: asks next at %v, want %v", s.at, s.do, next, s.next)
	}
}

func updates(us []Update) string {
	var out []string
	for _, u := range us {
		switch {
		case u.MAC == nil:
			out = append(out, "unknown: "+u.Why)
		case u.Why != "":
			out = append(out, "both a MAC address and a reason")
		case slices.Equal(u.MAC, macA):
			out = append(out, "A")
		case slices.Equal(u.MAC, macB):
			out = append(out, "B")
		default:
			out = append(out, u.MAC.String())
		}
	}
	return strings.Join(out, ", ")
}

func TestTable(t *testing.T) {
	const s, ms = time.Second, time.Millisecond
	for name, steps := range map[string][]step{
		"answers": {
			{0, "ask", "", 50 * ms},
			{1 * ms, "is A", "A", 30*s + 1*ms},
			{2 * ms, "is A", "", 30*s + 2*ms},
			{40 * s, "ask", "", 70 * s},
		},
		"does not answer, then does": {
			{0, "ask", "", 50 * ms},
			{50 * ms, "insist", "", 100 * ms},
			{3 * s, "failed", "no answer to ARP on eth0", 100 * ms},
			{3 * s, "insist", "", 3*s + 50*ms},
			{4990 * ms, "insist", "", 5040 * ms},
			{5040 * ms, "ask", "", 6040 * ms}, // often no more
			{6 * s, "failed", "", 6040 * ms},  // said before
			{7 * s, "is A", "A", 37 * s},
		},
		"MAC address changes": {
			{0, "ask", "", 50 * ms},
			{0, "is A", "A", 30 * s},
			{5 * s, "is B", "B", 35 * s},
		},
		"garbage collected, still there": {
			{0, "ask", "", 50 * ms},
			{0, "is A", "A", 30 * s},
			{5 * s, "gone", "", 5 * s}, // asks at once
			{5 * s, "ask", "", 5050 * ms},
			{5001 * ms, "is A", "", 35001 * ms},
		},
		"garbage collected, dead": {
			{0, "ask", "", 50 * ms},
			{0, "is A", "A", 30 * s},
			{5 * s, "gone", "", 5 * s},
			{5 * s, "ask", "", 5050 * ms},
			{8 * s, "failed", "no answer", 5050 * ms},
		},
		"confirmation fails, answers with another MAC address": {
			{0, "ask", "", 50 * ms},
			{0, "is A", "A", 30 * s},
			{30 * s, "ask", "", 60 * s},
			{38 * s, "failed", "", 38 * s},
			{38 * s, "ask", "", 38050 * ms},
			{38001 * ms, "is B", "B", 68001 * ms},
		},
		"confirmation fails, dead": {
			{0, "ask", "", 50 * ms},
			{0, "is A", "A", 30 * s},
			{8 * s, "failed", "", 8 * s},
			{8 * s, "ask", "", 8050 * ms},
			{8 * s, "asking", "", 8050 * ms},
			{11 * s, "failed", "no answer", 8050 * ms},
		},
		"the kernel says nothing more": {
			{0, "ask", "", 50 * ms},
			{0, "is A", "A", 30 * s},
			{8 * s, "asking", "", 8050 * ms},
			{9 * s, "insist", "", 9050 * ms},
			{12 * s, "insist", "", 12050 * ms},
			{13 * s, "ask", "no answer", 14 * s},
		},
		"a loop of removals is not followed at its speed": {
			{0, "ask", "", 50 * ms},
			{0, "is A", "A", 30 * s},
			{5 * s, "gone", "", 5 * s},
			{5 * s, "ask", "", 5050 * ms},
			{5 * s, "gone", "", 5050 * ms},
			{5 * s, "is A", "", 35 * s},
			{5 * s, "gone", "", 5050 * ms},
		},
		"the cable is cut and plugged": {
			{0, "up", "", 0},
			{0, "ask", "", 50 * ms},
			{1 * ms, "is A", "A", 30*s + 1*ms},
			{10 * s, "gone", "", 10 * s}, // the kernel's table first, as it happens
			{10 * s, "down", "", 10 * s},
			{10 * s, "ask", "", 11 * s}, // into the void: not often
			{10300 * ms, "up", "", 10300 * ms},
			{10300 * ms, "insist", "", 10350 * ms},
			{10350 * ms, "insist", "", 10400 * ms},
			{10400 * ms, "is A", "", 40400 * ms},
		},
		"cut for long": {
			{0, "up", "", 0},
			{0, "ask", "", 50 * ms},
			{1 * ms, "is A", "A", 30*s + 1*ms},
			{10 * s, "down", "", 30*s + 1*ms},
			{10 * s, "gone", "", 10 * s},
			{10 * s, "ask", "", 11 * s},
			{13 * s, "failed", "no answer", 11 * s},
			{60 * s, "ask", "", 61 * s},
			{60500 * ms, "up", "", 60500 * ms},
			{60500 * ms, "insist", "", 60550 * ms},
			{65499 * ms, "insist", "", 65549 * ms},
			{65549 * ms, "ask", "", 66549 * ms},
		},
		"a flapping cable does not hurry more": {
			{0, "ask", "", 50 * ms},
			{10 * ms, "up", "", 50 * ms},
			{20 * ms, "down", "", 50 * ms},
			{30 * ms, "up", "", 50 * ms},
			{50 * ms, "insist", "", 100 * ms},
			{60 * ms, "down", "", 100 * ms},
			{70 * ms, "up", "", 100 * ms},
		},
		"the cable returns, and the kernel forgot nothing": {
			{0, "ask", "", 50 * ms},
			{0, "is A", "A", 30 * s},
			{1 * s, "down", "", 30 * s},
			{2 * s, "up", "", 30 * s},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tab := newTable()
			tab.set([]netip.Addr{rs1}, t0)
			for _, st := range steps {
				st.run(t, tab, lan0)
			}
		})
	}
}

func TestNoNeighbour(t *testing.T) {
	tab := newTable()
	tab.set([]netip.Addr{rs1}, t0)
	off := path{why: "not on a connected network"}
	step{0, "ask", "not on a connected", time.Second}.run(t, tab, off)
	step{time.Second, "ask", "", 2 * time.Second}.run(t, tab, off)
	// The network is configured meanwhile.
	step{2 * time.Second, "ask", "", 2050 * time.Millisecond}.run(t, tab, lan0)
	step{2 * time.Second, "is A", "A", 32 * time.Second}.run(t, tab, lan0)
	// And taken away.
	step{32 * time.Second, "ask", "not on a connected", 33 * time.Second}.run(t, tab, off)
	// An interface that comes up may bring it.
	step{32100 * time.Millisecond, "up", "", 32100 * time.Millisecond}.run(t, tab, lan0)
	step{32100 * time.Millisecond, "ask", "", 32150 * time.Millisecond}.run(t, tab, off)
	step{32150 * time.Millisecond, "gone", "", 32150 * time.Millisecond}.run(t, tab, lan0)
	step{32150 * time.Millisecond, "insist", "", 32200 * time.Millisecond}.run(t, tab, lan0)
}

// What the kernel knew before anybody wanted it brings no message later.
func TestKnownBefore(t *testing.T) {
	tab := newTable()
	tab.hear(event{place{2, rs1}, resolved, macA}, t0)
	tab.set([]netip.Addr{rs1}, t0)
	step{0, "ask", "A", 30 * time.Second}.run(t, tab, lan0)
}

func TestOtherInterfaceDoesNotCount(t *testing.T) {
	tab := newTable()
	tab.set([]netip.Addr{rs1}, t0)
	step{0, "ask", "", 50 * time.Millisecond}.run(t, tab, lan0)
	if got := tab.hear(event{place{3, rs1}, resolved, macB}, t0); got != nil {
		t.Errorf("believed another interface: %v", got)
	}
	step{0, "is A", "A", 30 * time.Second}.run(t, tab, lan0)
	// The route moves to the other interface, where it is known already.
	step{30 * time.Second, "ask", "B", 60 * time.Second}.run(t, tab, path{ifindex: 3, iface: "eth1"})
}

// The route moves to an interface where nobody answers.
func TestRouteMovesAway(t *testing.T) {
	tab := newTable()
	tab.set([]netip.Addr{rs1}, t0)
	step{0, "ask", "", 50 * time.Millisecond}.run(t, tab, lan0)
	step{0, "is A", "A", 30 * time.Second}.run(t, tab, lan0)
	eth1 := path{ifindex: 3, iface: "eth1"}
	step{30 * time.Second, "ask", "", 30050 * time.Millisecond}.run(t, tab, eth1)
	step{33 * time.Second, "failed", "no answer to ARP on eth1", 30050 * time.Millisecond}.run(t, tab, eth1)
	// What happens on the interface it left is no hurry.
	step{40 * time.Second, "ask", "", 41 * time.Second}.run(t, tab, eth1)
	step{40 * time.Second, "up", "", 41 * time.Second}.run(t, tab, lan0)
}

func TestNoEthernetAddress(t *testing.T) {
	for _, mac := range []net.HardwareAddr{nil, {0, 0, 0, 0, 0, 0}, make(net.HardwareAddr, 20)} {
		tab := newTable()
		tab.set([]netip.Addr{rs1}, t0)
		tab.asked(rs1, lan0, t0)
		got := updates(tab.hear(event{place{2, rs1}, resolved, mac}, t0))
		if !strings.Contains(got, "no Ethernet addresses") {
			t.Errorf("%v: says %q", mac, got)
		}
	}
}

func TestSet(t *testing.T) {
	tab := newTable()
	tab.set([]netip.Addr{rs1, netip.MustParseAddr("::ffff:192.168.145.12"), rs1}, t0)
	if got := tab.due(t0); !slices.Equal(got, []netip.Addr{rs1, rs2}) {
		t.Fatalf("due: %v", got)
	}
	tab.asked(rs1, lan0, t0)
	tab.hear(event{place{2, rs1}, resolved, macA}, t0)
	tab.set([]netip.Addr{rs1}, t0)
	if got := tab.due(t0); len(got) != 0 {
		t.Errorf("one that stays is asked again: %v", got)
	}
	tab.set(nil, t0)
	if !tab.next().IsZero() {
		t.Error("nothing wanted, but something is due")
	}
	if got := tab.asked(rs1, lan0, t0); got != nil {
		t.Errorf("not wanted any more: %v", got)
	}
	if got := tab.hear(event{place{2, rs1}, resolved, macB}, t0); got != nil {
		t.Errorf("not wanted any more: %v", got)
	}
	tab.set([]netip.Addr{rs1}, t0)
	if got := updates(tab.asked(rs1, lan0, t0)); got != "B" {
		t.Errorf("wanted again: says %q, want B", got)
	}
}

// Messages were lost: the mirror must not give what may be old.
func TestForget(t *testing.T) {
	tab := newTable()
	tab.set([]netip.Addr{rs1}, t0)
	tab.asked(rs1, lan0, t0)
	tab.hear(event{place{2, rs1}, resolved, macA}, t0)
	tab.hear(event{place{2, rs2}, resolved, macB}, t0)
	tab.forget(t0.Add(time.Second))
	tab.set([]netip.Addr{rs1, rs2}, t0.Add(time.Second))
	if got := tab.asked(rs2, lan0, t0.Add(time.Second)); got != nil {
		t.Errorf("believed what may be old: %v", got)
	}
	tab.set([]netip.Addr{rs1}, t0.Add(time.Second))
	step{time.Second, "ask", "", 31 * time.Second}.run(t, tab, lan0)
	step{time.Second, "is B", "B", 31 * time.Second}.run(t, tab, lan0)
}

// Whatever the kernel says in whatever order: nothing is reported twice, a
// reason or a MAC address always; an address that is not known is asked for
// within a second, but never twice within a pace, and only such a one with a
// request of our own.
func TestTableProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tab := newTable()
		tab.set([]netip.Addr{rs1}, t0)
		now, last := t0, ""
		asked := t0.Add(-time.Hour)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(rapid.OneOf(
				rapid.Just(time.Duration(0)),
				rapid.Map(rapid.Int64Range(0, 100), func(ms int64) time.Duration { return time.Duration(ms) * time.Millisecond }),
				rapid.Map(rapid.Int64Range(0, 2000), func(ms int64) time.Duration { return time.Duration(ms) * time.Millisecond }),
			).Draw(t, "dt"))
			var got []Update
			ifindex := rapid.IntRange(2, 3).Draw(t, "if")
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0:
				tab.carrier(ifindex, rapid.Bool().Draw(t, "up"), now)
			case 1:
				if rapid.Bool().Draw(t, "link") {
					tab.remove(ifindex)
				} else {
					tab.forget(now)
				}
			case 2:
				ev := event{place: place{ifindex, rs1}}
				ev.fate = fate(rapid.IntRange(int(resolved), int(gone)).Draw(t, "fate"))
				if ev.fate == resolved {
					ev.mac = rapid.SampledFrom([]net.HardwareAddr{macA, macB}).Draw(t, "mac")
				}
				got = tab.hear(ev, now)
			default:
				if len(tab.due(now)) == 0 {
					break
				}
				if now.Sub(asked) < pace {
					t.Fatalf("asks again after %v", now.Sub(asked))
				}
				asked = now
				p := path{ifindex: ifindex, iface: fmt.Sprint("eth", ifindex)}
				if rapid.IntRange(0, 4).Draw(t, "off") == 0 {
					p = path{why: "is this host"}
				}
				_, known := tab.seen[place{ifindex, rs1}]
				if tab.insist(rs1, p, now) && (known || tab.entries[rs1].sure() || p.why != "" || tab.down(ifindex)) {
					t.Fatalf("a request of our own by %+v", p)
				}
				got = tab.asked(rs1, p, now)
			}
			for _, u := range got {
				if (u.MAC == nil) != (u.Why != "") {
					t.Fatalf("neither or both: %+v", u)
				}
			}
			text := updates(got)
			if text != "" {
				text += fmt.Sprint(got[0].Interfaces)
			}
			if text != "" {
				if text == last || len(got) > 1 {
					t.Fatalf("says %q after %q", text, last)
				}
				last = text
			}
			e := tab.entries[rs1]
			limit := now.Add(refresh)
			if !e.sure() {
				limit = now.Add(retry)
			}
			if e.askAt.After(limit) {
				t.Fatalf("asks in %v", e.askAt.Sub(now))
			}
		}
	})
}

// The whole LAN is silent, and cables flap: all together we send about 250
// requests in a second and no more, whatever their number, and none when the
// first seconds have passed.
func TestRequestRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 300).Draw(t, "addresses")
		tab := newTable()
		var all []netip.Addr
		for i := range n {
			all = append(all, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}))
		}
		tab.set(all, t0)
		var sent []time.Time
		run := func(now, end time.Time) {
			for ; now.Before(end); now = now.Add(wait(tab.next(), now)) {
				for _, a := range tab.due(now) {
					if tab.insist(a, lan0, now) {
						sent = append(sent, now)
					}
					tab.asked(a, lan0, now)
				}
			}
		}
		now := t0
		for range rapid.IntRange(0, 5).Draw(t, "events") {
			dt := time.Duration(rapid.IntRange(0, 700).Draw(t, "ms")) * time.Millisecond
			run(now, now.Add(dt))
			now = now.Add(dt)
			switch rapid.IntRange(0, 2).Draw(t, "what") {
			case 0:
				tab.carrier(2, false, now)
				tab.carrier(2, true, now)
			case 1:
				for _, a := range all {
					tab.hear(event{place{2, a}, fate(rapid.IntRange(int(resolving), int(gone)).Draw(t, "fate")), nil}, now)
				}
			case 2:
				tab.forget(now)
			}
		}
		run(now, now.Add(3*rush))
		// Each has its first two without knowing how many there will be.
		limit := max(int(time.Second/share), n) + 2*n
		for i, first := range sent {
			in := slices.IndexFunc(sent[i:], func(at time.Time) bool { return at.Sub(first) >= time.Second })
			if in < 0 {
				in = len(sent) - i
			}
			if in > limit {
				t.Fatalf("%d addresses: %d requests in a second from %v, more than %d", n, in, first.Sub(t0), limit)
			}
		}
		if late := sent[len(sent)-1].Sub(now); late > rush {
			t.Fatalf("still sends %v after the last event", late)
		}
	})
}

// Who tunnels must hear of another source address or MTU of the way, by the same
// neighbour.
func TestWayChanges(t *testing.T) {
	tab := newTable()
	tab.set([]netip.Addr{rs1}, t0)
	tab.hear(event{place{2, rs1}, resolved, macA}, t0)
	for i, tt := range []struct {
		way  Way
		told bool
	}{
		{Way{netip.MustParseAddr("192.168.145.2"), 1500}, true},
		{Way{netip.MustParseAddr("192.168.145.2"), 1500}, false},
		{Way{netip.MustParseAddr("192.168.145.2"), 1400}, true},
		{Way{netip.MustParseAddr("192.168.145.3"), 1400}, true},
	} {
		p := lan0
		p.way = tt.way
		us := tab.asked(rs1, p, t0.Add(time.Duration(i)*30*time.Second))
		if (len(us) == 1) != tt.told || tt.told && (us[0].Way != tt.way || us[0].MAC.String() != macA.String()) {
			t.Errorf("%+v: told %+v", tt.way, us)
		}
	}
}
