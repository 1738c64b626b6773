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
	do   string // "ask", or what the kernel says: "is A", "asking", "failed", "gone"
	want string // "" nothing, "A", "B", or a part of the reason
	next time.Duration
}

func (s step) run(t *testing.T, tab *table, p path) {
	t.Helper()
	now := t0.Add(s.at)
	ev := event{place: place{p.ifindex, rs1}}
	var got []Update
	switch s.do {
	case "ask":
		if !slices.Contains(tab.due(now), rs1) {
			t.Errorf("%v: not due", s.at)
		}
		got = tab.asked(rs1, p, now)
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
	const s = time.Second
	for name, steps := range map[string][]step{
		"answers": {
			{0, "ask", "", 1 * s},
			{1e6, "is A", "A", 30*s + 1e6},
			{2e6, "is A", "", 30*s + 2e6},
			{40 * s, "ask", "", 70 * s},
		},
		"does not answer, then does": {
			{0, "ask", "", 1 * s},
			{1 * s, "ask", "", 2 * s},
			{3 * s, "failed", "no answer to ARP on eth0", 2 * s},
			{3 * s, "ask", "", 4 * s},
			{6 * s, "failed", "", 4 * s}, // said before
			{7 * s, "is A", "A", 37 * s},
		},
		"MAC address changes": {
			{0, "ask", "", 1 * s},
			{0, "is A", "A", 30 * s},
			{5 * s, "is B", "B", 35 * s},
		},
		"garbage collected, still there": {
			{0, "ask", "", 1 * s},
			{0, "is A", "A", 30 * s},
			{5 * s, "gone", "", 5 * s}, // asks at once
			{5 * s, "ask", "", 6 * s},
			{5*s + 1e6, "is A", "", 35*s + 1e6},
		},
		"garbage collected, dead": {
			{0, "ask", "", 1 * s},
			{0, "is A", "A", 30 * s},
			{5 * s, "gone", "", 5 * s},
			{5 * s, "ask", "", 6 * s},
			{8 * s, "failed", "no answer", 6 * s},
		},
		"confirmation fails, answers with another MAC address": {
			{0, "ask", "", 1 * s},
			{0, "is A", "A", 30 * s},
			{30 * s, "ask", "", 60 * s},
			{38 * s, "failed", "", 38 * s},
			{38 * s, "ask", "", 39 * s},
			{38*s + 1e6, "is B", "B", 68*s + 1e6},
		},
		"confirmation fails, dead": {
			{0, "ask", "", 1 * s},
			{0, "is A", "A", 30 * s},
			{8 * s, "failed", "", 8 * s},
			{8 * s, "ask", "", 9 * s},
			{8 * s, "asking", "", 9 * s},
			{11 * s, "failed", "no answer", 9 * s},
		},
		"the kernel says nothing more": {
			{0, "ask", "", 1 * s},
			{0, "is A", "A", 30 * s},
			{8 * s, "asking", "", 9 * s},
			{9 * s, "ask", "", 10 * s},
			{12 * s, "ask", "", 13 * s},
			{13 * s, "ask", "no answer", 14 * s},
		},
		"a loop of removals is not followed at its speed": {
			{0, "ask", "", 1 * s},
			{0, "is A", "A", 30 * s},
			{5 * s, "gone", "", 5 * s},
			{5 * s, "ask", "", 6 * s},
			{5 * s, "gone", "", 6 * s},
			{5 * s, "gone", "", 6 * s},
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
	step{2 * time.Second, "ask", "", 3 * time.Second}.run(t, tab, lan0)
	step{2 * time.Second, "is A", "A", 32 * time.Second}.run(t, tab, lan0)
	// And taken away.
	step{32 * time.Second, "ask", "not on a connected", 33 * time.Second}.run(t, tab, off)
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
	step{0, "ask", "", time.Second}.run(t, tab, lan0)
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
	step{0, "ask", "", time.Second}.run(t, tab, lan0)
	step{0, "is A", "A", 30 * time.Second}.run(t, tab, lan0)
	eth1 := path{ifindex: 3, iface: "eth1"}
	step{30 * time.Second, "ask", "", 31 * time.Second}.run(t, tab, eth1)
	step{33 * time.Second, "failed", "no answer to ARP on eth1", 31 * time.Second}.run(t, tab, eth1)
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
// reason or a MAC address always, and an address that is not known is asked
// for within a second.
func TestTableProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tab := newTable()
		tab.set([]netip.Addr{rs1}, t0)
		now, last := t0, ""
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(2*time.Second)).Draw(t, "dt")))
			var got []Update
			if rapid.Bool().Draw(t, "ask") {
				p := path{ifindex: rapid.IntRange(2, 3).Draw(t, "if")}
				p.iface = fmt.Sprint("eth", p.ifindex)
				if rapid.IntRange(0, 4).Draw(t, "off") == 0 {
					p = path{why: "is this host"}
				}
				got = tab.asked(rs1, p, now)
			} else {
				ev := event{place: place{rapid.IntRange(2, 3).Draw(t, "if"), rs1}}
				ev.fate = fate(rapid.IntRange(int(resolved), int(gone)).Draw(t, "fate"))
				if ev.fate == resolved {
					ev.mac = rapid.SampledFrom([]net.HardwareAddr{macA, macB}).Draw(t, "mac")
				}
				got = tab.hear(ev, now)
			}
			for _, u := range got {
				if (u.MAC == nil) != (u.Why != "") {
					t.Fatalf("neither or both: %+v", u)
				}
			}
			if text := updates(got); text != "" {
				if text == last || len(got) > 1 {
					t.Fatalf("says %q after %q", text, last)
				}
				last = text
			}
			e := tab.entries[rs1]
			limit := now.Add(refresh)
			if e.mac == nil || !e.doubt.IsZero() {
				limit = now.Add(retry)
			}
			if e.askAt.After(limit) {
				t.Fatalf("asks in %v", e.askAt.Sub(now))
			}
		}
	})
}
