package hb

import (
	"strings"
	"testing"
	"time"

	"systole/hb/wire"
)

// systole is a status of a Systole node with a keepalive of 1 s and a dead time
// of 5 s.
func (r remote) systole(seq uint64, more ...string) []byte {
	return r.packet(seq, "status", append([]string{"st", "active", "dt", "1388", "protocol", "1", "systole", "1", "ka", "3e8"}, more...)...)
}

// suspicious is a core that is active with b, a Systole node whose last beat
// came at the test's time, whose round trips are known and whose host answers.
func suspicious(t *testing.T, cfg Config, more ...string) *Core {
	t.Helper()
	c := joined(t, cfg)
	for _, m := range cfg.Media {
		c.Receive(testTime, m, nodeB(t).systole(6, more...))
		c.Receive(testTime, m, nodeB(t).packet(5, "resource"))
	}
	c.Tick(testTime)
	out := c.Drain()
	if len(out.Asks) != 1 || out.Asks[0] != "b" {
		t.Fatalf("asked %v, want b once", out.Asks)
	}
	now := at(time.Millisecond)
	c.Notice(now, Notice{Node: "b", Kind: HostAnswered})
	for _, m := range cfg.Media {
		c.Receive(now, m, alive(t, c, 0))
	}
	c.Drain()
	return c
}

// alive answers the core's last probe but back.
func alive(t *testing.T, c *Core, back uint64) []byte {
	m := wire.New("x")
	b := builder{}
	b.number("n", c.probes-back, 16)
	m.Fields = b.fields
	n, _ := m.Get("n")
	return nodeB(t).packet(0, "NS_alive", "dest", "a", "n", n)
}

// run lets time pass until end as a caller should who is late by so much at
// every call, and returns all lines.
func run(t *testing.T, c *Core, from, end, late time.Duration) string {
	t.Helper()
	var lines []string
	for n := 0; ; n++ {
		now := latest(c.Deadline(), at(from)).Add(late)
		if now.After(at(end)) {
			return strings.Join(lines, "\n")
		}
		if n > 10000 {
			t.Fatalf("time stands still at %v", now.Sub(testTime))
		}
		from = now.Sub(testTime)
		c.Tick(now)
		lines = append(lines, drained(t, c)...)
	}
}

const early = "active -> dead: no answer to"

// TestEarlyDeathNeeds: what must be so for an early death, one by one.
func TestEarlyDeathNeeds(t *testing.T) {
	one, two := testConfig(), testConfig()
	two.Media = []string{"eth0", "eth1"}
	patient := testConfig()
	patient.NoEarlyDeath = true
	for _, test := range []struct {
		name  string
		cfg   Config
		do    func(c *Core)
		early bool
	}{
		{"all is so", one, func(*Core) {}, true},
		{"two media", two, func(*Core) {}, true},
		{"not switched off", patient, func(*Core) {}, false},
		{"a Systole node", one, func(c *Core) { c.Receive(at(2*time.Millisecond), "eth0", nodeB(t).status(7, "active")) }, false},
		{"a usable keepalive", one, func(c *Core) {
			c.Receive(at(2*time.Millisecond), "eth0", nodeB(t).systole(7, "ka", "1000"))
		}, false},
		{"a silent host", one, func(c *Core) {
			run(t, c, 0, 1260*time.Millisecond, 0)
			c.Notice(at(1260*time.Millisecond), Notice{Node: "b", Kind: HostAnswered})
		}, false},
		{"no refusal", one, func(c *Core) {
			run(t, c, 0, 1260*time.Millisecond, 0)
			c.Notice(at(1260*time.Millisecond), Notice{Node: "b", Medium: "eth0", Kind: PortRefused})
		}, false},
		{"a host known to answer", one, func(c *Core) { c.peers[0].echo = echo{} }, false},
		{"a host that still answered of late", one, func(c *Core) {
			c.peers[0].echo.missed = echoMisses + 1
		}, false},
		{"a link that is known to answer", one, func(c *Core) { c.peers[0].links[0].trip = roundTrip{} }, false},
		{"every link known to answer", two, func(c *Core) {
			c.Receive(at(2*time.Millisecond), "eth1", nodeB(t).systole(7))
			c.peers[0].links[1].trip = roundTrip{}
		}, false},
		{"our own carrier", one, func(c *Core) {
			c.Notice(at(2*time.Millisecond), Notice{Medium: "eth0", Kind: CarrierLost})
		}, false},
		{"a medium that sends", one, func(c *Core) {
			c.Notice(at(2*time.Millisecond), Notice{Medium: "eth0", Kind: SendFailed})
		}, false},
		{"a medium that sends again", one, func(c *Core) {
			c.Notice(at(2*time.Millisecond), Notice{Medium: "eth0", Kind: SendFailed})
			c.Notice(at(2*time.Millisecond), Notice{Medium: "eth0", Kind: SendWorks})
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := suspicious(t, test.cfg)
			test.do(c)
			c.Drain()
			from := c.lastCall.Sub(testTime)
			got := run(t, c, from, 1600*time.Millisecond, 0)
			if strings.Contains(got, early) != test.early {
				t.Errorf("at 1.6 s, early death %v wanted:\n%s", test.early, got)
			}
			if !test.early {
				got = run(t, c, 1600*time.Millisecond, 5010*time.Millisecond, 0)
				if !strings.Contains(got, "active -> dead: silent for 5s") && !strings.Contains(got, "active -> dead: silent for 4.99") {
					t.Errorf("not dead after the dead time:\n%s", got)
				}
			}
		})
	}
}

// TestLook: what a view says is the time from a suspicion to the death, and
// nothing where there would be none.
func TestLook(t *testing.T) {
	one, two := testConfig(), testConfig()
	two.Media = []string{"eth0", "eth1"}
	patient := testConfig()
	patient.NoEarlyDeath = true
	for _, test := range []struct {
		name string
		cfg  Config
		do   func(c *Core)
		want time.Duration
	}{
		{"the window", one, func(*Core) {}, 250 * time.Millisecond},
		{"a slow host", one, func(c *Core) {
			c.peers[0].echo.trip = roundTrip{smooth: 200 * time.Millisecond, vary: 40 * time.Millisecond, known: true}
		}, 360 * time.Millisecond},
		{"a slow line", one, func(c *Core) {
			c.peers[0].links[0].trip = roundTrip{smooth: 10 * time.Millisecond, vary: 50 * time.Millisecond, known: true}
		}, -1},
		{"a second line that is slow", two, func(c *Core) {
			c.peers[0].links[1].trip = roundTrip{smooth: 100 * time.Millisecond, vary: 100 * time.Millisecond, known: true}
		}, 500 * time.Millisecond},
		{"switched off", patient, func(*Core) {}, 0},
		{"a link that never answered", one, func(c *Core) { c.peers[0].links[0].trip = roundTrip{} }, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := suspicious(t, test.cfg)
			test.do(c)
			look := c.Snapshot(at(0)).Peers[0].Look
			if test.want >= 0 && look.Round(time.Millisecond) != test.want {
				t.Errorf("%v, want %v", look, test.want)
			}
			run(t, c, c.lastCall.Sub(testTime), 1250*time.Millisecond+look-1, 0)
			if look > 0 && c.peers[0].status == Dead {
				t.Fatalf("dead before %v", look)
			}
			if got := run(t, c, c.lastCall.Sub(testTime), 1250*time.Millisecond+look, 0); strings.Contains(got, early) != (look > 0) {
				t.Errorf("after %v: %s", look, got)
			}
		})
	}
}

// TestAnswers: which answers end a suspicion.
func TestAnswers(t *testing.T) {
	for _, test := range []struct {
		name    string
		packet  func(c *Core) []byte
		cleared bool
	}{
		{"the answer to the newest probe", func(c *Core) []byte { return alive(t, c, 0) }, true},
		{"to the one before", func(c *Core) []byte { return alive(t, c, 1) }, true},
		{"to one of before the suspicion", func(c *Core) []byte { return alive(t, c, 2) }, false},
		{"to one never sent", func(c *Core) []byte { return alive(t, c, ^uint64(0)) }, false},
		{"of the generation to come", func(c *Core) []byte {
			r := nodeB(t)
			r.gen++
			return r.packet(0, "NS_alive", "dest", "a", "n", "1")
		}, false},
		{"for somebody else", func(c *Core) []byte { return nodeB(t).packet(0, "NS_alive", "dest", "c", "n", "1") }, false},
		{"without number", func(c *Core) []byte { return nodeB(t).packet(0, "NS_alive", "dest", "a") }, false},
		{"an old beat", func(c *Core) []byte { return nodeB(t).systole(6) }, false},
		{"a new beat", func(c *Core) []byte { return nodeB(t).systole(7) }, true},
		{"a new message", func(c *Core) []byte { return nodeB(t).packet(7, "resource") }, true},
		{"an acknowledgement, which could be a recorded one", func(c *Core) []byte {
			return nodeB(t).packet(0, "NS_ackmsg", "dest", "a", "ackseq", "1")
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := suspicious(t, testConfig())
			s := &c.peers[0].suspicion
			run(t, c, 2*time.Millisecond, 1249*time.Millisecond, 0)
			for s.sent < 2 {
				c.Tick(c.Deadline())
			}
			c.Receive(c.lastCall, "eth0", test.packet(c))
			if s.on == test.cleared {
				t.Errorf("cleared %v, want %v", !s.on, test.cleared)
			}
			if n := c.counters; n.Suspicions != 1 || (n.Cleared == 1) != test.cleared {
				t.Errorf("%+v", n)
			}
		})
	}
}

// TestAnswering: a probe is answered on its medium; a late one brings a beat,
// too, but no flood of them; and neither is a beat.
func TestAnswering(t *testing.T) {
	cfg := testConfig()
	cfg.Media = []string{"eth0", "eth1"}
	c := joined(t, cfg)
	now := at(300 * time.Millisecond)
	types := func() (s string) {
		for _, p := range c.Drain().Packets {
			m, _, _ := wire.Decode(p.Data, testKeys)
			n, _ := m.Get("n")
			s += m.Type() + n + "@" + p.Medium
			if p.Beat {
				s += " beat"
			}
			if p.Answer {
				s += " answer"
			}
			s += "; "
		}
		return s
	}
	probe := func(kv ...string) { c.Receive(now, "eth1", nodeB(t).packet(0, "NS_probe", kv...)) }
	probe("dest", "a", "n", "ab")
	if got := types(); got != "NS_aliveab@eth1 answer; " {
		t.Error(got)
	}
	probe("dest", "a", "n", "ac", "late", "1")
	probe("dest", "a", "n", "ad", "late", "1")
	if got := types(); got != "status@ beat; NS_aliveac@eth1 answer; NS_alivead@eth1 answer; " {
		t.Error(got)
	}
	probe("dest", "c", "n", "ab")
	probe("dest", "a", "n", "none")
	if got := types(); got != "" {
		t.Error(got)
	}
	if c.counters.Bad != 1 {
		t.Error(c.counters)
	}
}

// TestOwnLateness: who is called late asks once more instead of judging, for
// the answer may wait to be read; and a stall begins the suspicion anew.
func TestOwnLateness(t *testing.T) {
	c := suspicious(t, testConfig())
	got := run(t, c, 2*time.Millisecond, 4900*time.Millisecond, 200*time.Millisecond)
	if strings.Contains(got, "dead") || c.counters.Suspicions != 1 {
		t.Errorf("200 ms late at every call:\n%s", got)
	}
	c = suspicious(t, testConfig())
	run(t, c, 2*time.Millisecond, 1300*time.Millisecond, 0)
	now := c.Deadline().Add(1200 * time.Millisecond)
	c.Tick(now)
	got = strings.Join(drained(t, c), "\n")
	if s := c.peers[0].suspicion; !s.on || s.sent != 1 || !s.begun.Equal(now) || strings.Contains(got, "dead") {
		t.Errorf("%+v\n%s", s, got)
	}
}

// TestRefusals: how many it takes, and how long.
func TestRefusals(t *testing.T) {
	refuse := Notice{Node: "b", Medium: "eth0", Kind: PortRefused}
	for _, test := range []struct {
		name string
		ends bool
		n    int
		at   time.Duration // of the death, from the first refusal; 0: not early
	}{
		{"two, half a window", true, 2, 125 * time.Millisecond},
		{"one, the whole window", true, 1, 250 * time.Millisecond},
		{"its data plane may go on", false, 5, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			var more []string
			if test.ends {
				more = []string{"ends", "1"}
			}
			c := suspicious(t, testConfig(), more...)
			const first = 500 * time.Millisecond
			for range test.n {
				c.Notice(at(first), refuse)
			}
			got := run(t, c, first, first+test.at-time.Millisecond, 0)
			if strings.Contains(got, "-> dead") {
				t.Errorf("too early:\n%s", got)
			}
			got = run(t, c, c.lastCall.Sub(testTime), first+test.at+10*time.Millisecond, 0)
			if want := test.at != 0; strings.Contains(got, "-> dead: its host refused") != want {
				t.Errorf("dead %v wanted:\n%s", want, got)
			}
		})
	}
	// A refusal that meant nothing raises no suspicion again at once; nor does
	// one on a medium where the peer was not heard.
	c := suspicious(t, testConfig(), "ends", "1")
	c.Notice(at(500*time.Millisecond), refuse)
	c.Receive(at(501*time.Millisecond), "eth0", alive(t, c, 0))
	c.Notice(at(510*time.Millisecond), refuse)
	if c.counters.Suspicions != 1 || c.peers[0].suspicion.on {
		t.Errorf("%+v", c.counters)
	}
	cfg := testConfig()
	cfg.Media = []string{"eth0", "eth1"}
	c = joined(t, cfg)
	c.Receive(testTime, "eth0", nodeB(t).systole(6, "ends", "1"))
	c.Notice(testTime, Notice{Node: "b", Medium: "eth1", Kind: PortRefused})
	c.Notice(testTime, Notice{Node: "nobody", Medium: "nowhere", Kind: PortRefused})
	c.Notice(testTime, Notice{Node: "nobody", Medium: "nowhere", Kind: CarrierLost})
	if c.counters.Suspicions != 0 {
		t.Errorf("%+v", c.counters)
	}
	c.Notice(testTime, Notice{Node: "b", Medium: "eth0", Kind: Disconnected})
	if c.counters.Suspicions != 1 {
		t.Errorf("%+v", c.counters)
	}
}

// TestSlowLineMayStillAnswer: while a line whose round trip is longer than the
// window may answer, nobody is dead.
func TestSlowLineMayStillAnswer(t *testing.T) {
	cfg := testConfig()
	cfg.Media = []string{"eth0", "serial"}
	c := suspicious(t, cfg)
	l := &c.peers[0].links[1]
	l.trip = roundTrip{smooth: 400 * time.Millisecond, vary: 50 * time.Millisecond, known: true}
	got := run(t, c, 2*time.Millisecond, 1840*time.Millisecond, 0)
	if strings.Contains(got, "-> dead") {
		t.Errorf("not 600 ms after the first probe:\n%s", got)
	}
	if got = run(t, c, 1840*time.Millisecond, 1860*time.Millisecond, 0); !strings.Contains(got, early) {
		t.Errorf("600 ms after the first probe:\n%s", got)
	}
}

// TestBeat: a beat out of turn leaves the others at their times.
func TestBeat(t *testing.T) {
	c := joined(t, testConfig())
	c.Drain()
	next := c.Deadline()
	c.Beat(testTime)
	out := c.Drain().Packets
	if len(out) != 1 || !out[0].Beat || out[0].Again || !c.Deadline().Equal(next) {
		t.Errorf("%d packets, %+v; the next at %v, want %v", len(out), out, c.Deadline(), next)
	}
}

// TestSetEnds: the others are told at once, and once.
func TestSetEnds(t *testing.T) {
	c := joined(t, testConfig())
	ends := func() (s []bool) {
		for _, p := range c.Drain().Packets {
			m, _, _ := wire.Decode(p.Data, testKeys)
			_, ok := m.Get("ends")
			s = append(s, ok)
		}
		return s
	}
	c.SetEnds(testTime, true)
	c.SetEnds(testTime, true)
	if got := ends(); len(got) != 1 || !got[0] {
		t.Error(got)
	}
	c.SetEnds(testTime, false)
	if got := ends(); len(got) != 1 || got[0] {
		t.Error(got)
	}
	c.Receive(testTime, "eth0", nodeB(t).systole(6, "ends", "1"))
	if v, _ := c.Snapshot(testTime).Peer("b"); !v.Ends || !v.Systole || v.Keepalive != time.Second {
		t.Errorf("%+v", v)
	}
	c.Receive(testTime, "eth0", nodeB(t).status(7, "active"))
	if v, _ := c.Snapshot(testTime).Peer("b"); v.Ends || v.Systole || v.Keepalive != 0 {
		t.Errorf("%+v", v)
	}
}

// TestLoss: numbers that were not heard count, whatever is sent again does not,
// and the number of probes follows.
func TestLoss(t *testing.T) {
	cfg := testConfig()
	cfg.Media = []string{"eth0", "eth1"}
	c := joined(t, cfg)
	b := nodeB(t)
	for seq := uint64(5); seq < 405; seq++ {
		c.Receive(testTime, "eth0", b.systole(seq))
		if seq%4 != 0 {
			c.Receive(testTime, "eth1", b.systole(seq))
		}
	}
	v, _ := c.Snapshot(testTime).Peer("b")
	if l := v.Links[0]; l.Loss != 0 || l.Received != 404 || l.Missed != 0 {
		t.Errorf("%+v", l)
	}
	if l := v.Links[1]; l.Loss != 0.25 || l.Received != 300 || l.Missed != 100 {
		t.Errorf("%+v", l)
	}
	p := c.peers[0]
	p.links[0].answers, p.links[1].answers = answers{^uint32(0), 32}, answers{^uint32(0), 32}
	for i, want := range []int{8, 25} {
		if n, _, _ := c.pace(p, &p.links[i]); n != want {
			t.Errorf("%d probes on %s, want %d", n, cfg.Media[i], want)
		}
	}
}
