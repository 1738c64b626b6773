package failover

import (
	"flag"
	"slices"
	"testing"
	"time"

	"systole/test/netlab/probe"
)

// contender is a pair of directors of one kind. Nodes are 0 and 1.
type contender interface {
	start(i int)
	running(i int) bool
	kill(i int)    // kill -9 of all its processes at once
	reboot(i int)  // what a reboot would take away after a kill
	standby(i int) // the planned hand-over it has; begins it
	owner() int    // who serves, -1 while that is not settled
}

var only = flag.String("only", "", "measure this `contender` alone")

// kinds are the contenders, at a beat each 100 ms and a dead time of three.
var kinds = []struct {
	name string
	make func(*lab) contender
}{
	{"systole", func(l *lab) contender {
		return newSystole(l, timing{100 * time.Millisecond, 300 * time.Millisecond}, "")
	}},
	{"systole-10ms", func(l *lab) contender {
		return newSystole(l, timing{10 * time.Millisecond, 30 * time.Millisecond}, realtime)
	}},
	{"keepalived", func(l *lab) contender { return newKeepalived(l, timing{keepalive: 100 * time.Millisecond}) }},
	{"keepalived-10ms", func(l *lab) contender { return newKeepalived(l, timing{keepalive: 10 * time.Millisecond}) }},
	{"heartbeat", func(l *lab) contender {
		return newHeartbeat(l, timing{100 * time.Millisecond, 300 * time.Millisecond})
	}},
}

// realtime is how a director keeps a beat each 10 ms on a busy machine.
const realtime = "  realtime: true\n"

// BenchmarkFailover does each event to the active director, -benchtime times,
// and reports what the client saw, in milliseconds, as median and worst:
// garp, the time to the first announcement of the other director; gap, the
// longest time without an answer; lost, questions without one, in all runs.
func BenchmarkFailover(b *testing.B) {
	for _, k := range kinds {
		if *only != "" && *only != k.name {
			continue
		}
		b.Run(k.name, func(b *testing.B) {
			l := newLab(b, "fo-"+k.name)
			c := k.make(l)
			l.cold(c) // warm-up of the lab itself
			for _, e := range []struct {
				name string
				run  func(contender) result
			}{
				{"cable-cut", l.cut}, {"partition-heal", l.heal}, {"kill-9", l.killed}, {"standby", l.planned}, {"cold-start", l.cold},
			} {
				b.Run(e.name, func(b *testing.B) {
					l.TB = b
					defer func() { l.TB = nil }()
					var all results
					for range b.N {
						all = append(all, e.run(c))
					}
					all.report(b)
					b.ReportMetric(float64(l.stuck), "stuck")
					l.stuck = 0
				})
				l.TB = b
			}
		})
	}
}

// result is what one event did; negative is "not measured".
type result struct {
	garp, gap time.Duration
	lost      int
	stall     time.Duration // the probe's own
}

type results []result

func (r results) report(b *testing.B) {
	of := func(f func(result) time.Duration) (out []time.Duration) {
		for _, x := range r {
			if d := f(x); d >= 0 {
				out = append(out, d)
			}
		}
		return out
	}
	put := func(name string, d []time.Duration) {
		if len(d) == 0 {
			return
		}
		ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
		b.ReportMetric(ms(probe.Median(d)), name+"-median-ms")
		b.ReportMetric(ms(slices.Max(d)), name+"-worst-ms")
	}
	b.ReportMetric(0, "ns/op") // of no interest: it is the time to set the stage
	put("garp", of(func(x result) time.Duration { return x.garp }))
	put("gap", of(func(x result) time.Duration { return x.gap }))
	put("stall", of(func(x result) time.Duration { return x.stall }))
	lost := 0
	for _, x := range r {
		lost += x.lost
	}
	b.ReportMetric(float64(lost), "lost")
}

// patience is for a pair to find its owner: real heartbeats that were parted both
// restart, and wait for each other as long as heartbeat-wire.md section 9 says;
// twenty seconds on an idle machine.
const patience = 2 * time.Minute

// outage is how long nobody may serve after an event.
const outage = 30 * time.Second

// whole restores the pair: cables in, daemons up, one owner. It returns who. A
// pair that does not find together is counted, and started anew.
func (l *lab) whole(c contender) (owner int) {
	l.Helper()
	for {
		owner, ok := l.settle(c)
		if ok {
			return owner
		}
		if l.stuck++; l.stuck > 5 {
			l.Fatalf("not within %v, again and again: one owner for half a second", patience)
		}
		for i := range l.nodes {
			c.kill(i)
		}
	}
}

// settle waits for one owner for half a second.
func (l *lab) settle(c contender) (owner int, ok bool) {
	l.Helper()
	for i, h := range l.nodes {
		l.must(h.Plug())
		if !c.running(i) {
			c.reboot(i)
			c.start(i)
		}
	}
	steady := time.Now()
	for end := steady.Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		was := owner
		if owner = c.owner(); owner < 0 || owner != was {
			steady = time.Now()
		}
		if owner >= 0 && time.Since(steady) > 500*time.Millisecond {
			return owner, true
		}
	}
	return -1, false
}

// watched does an event under the eyes of the client, and waits until node
// next has announced itself and the client is served.
func (l *lab) watched(next int, event func()) result {
	l.Helper()
	u := l.probe()
	at := time.Now()
	event()
	r := result{garp: l.announced(at, next, outage)}
	l.served(u, time.Now(), outage)
	time.Sleep(200 * time.Millisecond) // for what comes after the announcement
	return r.with(u.Stop())
}

// with adds what the probe saw.
func (r result) with(s probe.Series) result {
	r.gap, r.stall, r.lost = s.Gap().Length(), s.Stall(), s.Lost()
	return r
}

func (l *lab) cut(c contender) result {
	a := l.whole(c)
	return l.watched(1-a, func() { l.must(l.nodes[a].Cut()) })
}

// heal cuts the active one's cable until the other serves, and watches what
// happens when it is back: the gap is the time without owner.
func (l *lab) heal(c contender) result {
	a := l.whole(c)
	at := time.Now()
	l.must(l.nodes[a].Cut())
	l.announced(at, 1-a, outage)
	time.Sleep(time.Second)
	u := l.probe()
	l.must(l.nodes[a].Plug())
	l.whole(c)
	r := result{garp: -1}
	return r.with(u.Stop())
}

func (l *lab) killed(c contender) result {
	a := l.whole(c)
	return l.watched(1-a, func() { c.kill(a) })
}

func (l *lab) planned(c contender) result {
	a := l.whole(c)
	return l.watched(1-a, func() { c.standby(a) })
}

// cold starts both at once.
func (l *lab) cold(c contender) result {
	for i := range l.nodes {
		if c.running(i) {
			c.kill(i)
		}
		c.reboot(i)
		l.must(l.nodes[i].Plug())
	}
	at := time.Now()
	for i := range l.nodes {
		c.start(i)
	}
	r := result{gap: -1, stall: -1}
	l.until("the first announcement", patience, func() bool {
		first, ok := l.arp.first(at, "")
		r.garp = first.Sub(at)
		return ok
	})
	l.whole(c)
	return r
}
