package hbtest

import (
	"slices"
	"testing"
	"time"

	"systole/hb"
	"systole/hb/wire"
)

func pair(t testing.TB) *Network {
	n := New(1)
	for _, name := range []string{"a", "b"} {
		n.Add(hb.Config{
			Node: name, Nodes: []string{"a", "b"}, Media: []string{"eth0"}, Format: wire.Netstring,
			Keepalive: 100 * time.Millisecond, Deadtime: 300 * time.Millisecond, StartGrace: -1,
		})
	}
	for _, name := range n.Names() {
		if err := n.Start(name); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// TestAfter: what is to be done at one time is done in the order of asking.
func TestAfter(t *testing.T) {
	n := New(1)
	var got []string
	note := func(s string) func() {
		return func() { got = append(got, s+" "+n.Since().String()) }
	}
	n.After(2*time.Second, note("c"))
	n.After(time.Second, note("a"))
	n.After(time.Second, func() {
		note("b")()
		n.After(-time.Hour, note("at once"))
	})
	n.Run(90 * time.Minute)
	if want := []string{"a 1s", "b 1s", "at once 1s", "c 2s"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestLanded: packets, echoes and refusals are under way until they arrive, what
// somebody means to do is not.
func TestLanded(t *testing.T) {
	const slow = 5 * time.Millisecond
	n := pair(t)
	n.Hosts = true
	n.Run(3*time.Second + 50*time.Millisecond)
	n.After(time.Hour, func() {})
	if at := n.Landed(); at > n.Since() {
		t.Errorf("between two beats something is under way until %v, now is %v", at, n.Since())
	}
	a, b := n.find("a"), n.find("b")
	n.MinDelay, n.MaxDelay = slow, slow
	for _, test := range []struct {
		name string
		do   func()
		trip time.Duration
	}{
		{"packet", func() { n.fly(b, "eth0", n.pack(nil)) }, slow},
		{"refusal", func() { n.refuse(flight{to: b, medium: "eth0", p: &packet{from: a}}) }, slow},
		{"echo", func() { n.ask(a, b) }, 2 * slow},
	} {
		test.do()
		if got, want := n.Landed(), n.Since()+test.trip; got != want {
			t.Errorf("%s: landed at %v, want %v", test.name, got, want)
		}
		n.Run(3 * slow)
	}
}

// TestBeforeBeat: a beat that is not allowed does not go out, and the node is
// held for dead though it runs.
func TestBeforeBeat(t *testing.T) {
	n := pair(t)
	n.Run(time.Second)
	n.BeforeBeat = func(node string) bool { return node != "a" }
	dead := ""
	n.OnEvent = func(node string, e hb.Event) {
		if c, ok := e.(hb.NodeChanged); ok && c.To == hb.Dead {
			dead += node + " lost " + c.Node + "; "
		}
	}
	n.Run(time.Second)
	if dead != "b lost a; " {
		t.Errorf("got %q", dead)
	}
}

// TestSetClock: a wall clock that is years off shows on the wire and matters to
// nobody.
func TestSetClock(t *testing.T) {
	n := pair(t)
	n.Run(time.Second)
	n.SetClock("a", -100*365*24*time.Hour)
	seen := uint64(0)
	n.OnEvent = func(node string, e hb.Event) {
		switch e := e.(type) {
		case hb.Delivered:
			if node == "b" {
				seen, _ = e.Message.GetUint("ts", 16)
			}
		default:
			t.Errorf("%s: %v", node, e)
		}
	}
	if err := n.Submit("a", wire.New("test")); err != nil {
		t.Fatal(err)
	}
	n.Run(10 * time.Second)
	if seen != 1 {
		t.Errorf("b saw the time %d, want the earliest that is not zero", seen)
	}
}

// TestResumeLate: who wakes and looks at the clock before the socket does not
// take what it slept through for silence.
func TestResumeLate(t *testing.T) {
	for _, resume := range []func(*Network, string){(*Network).Resume, (*Network).ResumeLate} {
		n := pair(t)
		n.Run(time.Second)
		var events []hb.Event
		n.OnEvent = func(node string, e hb.Event) {
			if _, report := e.(hb.Report); node == "b" && !report {
				events = append(events, e)
			}
		}
		n.Pause("b")
		n.Run(250 * time.Millisecond)
		resume(n, "b")
		n.Run(time.Second)
		if len(events) != 1 {
			t.Errorf("events %v, want only the stall", events)
		} else if _, ok := events[0].(hb.Stalled); !ok {
			t.Errorf("event %v, want the stall", events[0])
		}
	}
}

// BenchmarkPair is a second of a pair at rest: 20 beats.
func BenchmarkPair(b *testing.B) {
	n := pair(b)
	n.Run(time.Minute)
	b.ReportAllocs()
	for b.Loop() {
		n.Run(time.Second)
	}
}

// TestFullSocket: what finds the socket of a paused node full does not arrive.
func TestFullSocket(t *testing.T) {
	n := pair(t)
	n.Run(time.Second)
	n.Pause("b")
	for range socketBuffer {
		n.Inject("b", "eth0", []byte("x"))
	}
	sent, came := n.BeatArrived("a", "b")
	lost := n.Lost
	n.Run(time.Second)
	if s, c := n.BeatArrived("a", "b"); s != sent || c != came || n.Lost-lost < 10 {
		t.Errorf("a beat of %v came at %v, though the socket was full since %v; %d packets lost", s, c, came, n.Lost-lost)
	}
	n.Resume("b")
	n.Run(time.Second)
	if s, _ := n.BeatArrived("a", "b"); s <= sent {
		t.Errorf("no beat came after the socket was read")
	}
}

// TestFreeze: a machine that stands still answers no echo and refuses nothing,
// and does both again when it goes on.
func TestFreeze(t *testing.T) {
	n := pair(t)
	n.Hosts = true
	n.Run(3 * time.Second)
	a, b := n.find("a"), n.find("b")
	look := func() (echoes, refusals int) {
		n.Run(time.Millisecond) // for the answers to what was asked before
		n.ask(a, b)
		n.refuse(flight{to: b, medium: "eth0", p: &packet{from: a}})
		n.Pause("a") // what it is told waits
		n.Run(time.Millisecond)
		for _, x := range a.told {
			switch x.Kind {
			case hb.HostAnswered:
				echoes++
			case hb.PortRefused:
				refusals++
			}
		}
		n.Resume("a")
		return echoes, refusals
	}
	for i, do := range []func(string){nil, n.Freeze, n.Thaw, n.Freeze, n.Crash} {
		if do != nil {
			do("b")
		}
		stands := i == 1 || i >= 3
		if echoes, refusals := look(); (echoes == 0) != stands || (refusals == 0) != stands {
			t.Errorf("step %d: %d echoes and %d refusals, stands still: %v", i, echoes, refusals, stands)
		}
	}
	if err := n.Start("b"); err != nil {
		t.Fatal(err)
	}
	if echoes, _ := look(); echoes == 0 {
		t.Error("a machine that was started stands still")
	}
}
