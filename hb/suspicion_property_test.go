package hb_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"systole/hb"
	"systole/hb/hbtest"
)

// trial is a pair of nodes that have settled, with what happens to b's view of
// a from then on.
type trial struct {
	*hbtest.Network
	cfg    hb.Config
	deaths []hb.NodeChanged // of a, as b sees it
	at     []time.Time
}

// deadlines: what each core remembers of when something is due is what it is.
func (tr *trial) deadlines(t *rapid.T) {
	for _, n := range tr.cfg.Nodes {
		if c := tr.Core(n); c != nil {
			if at, want := c.Deadline(), c.FreshDeadline(); !at.Equal(want) {
				t.Fatalf("%v %s: deadline %v, found anew %v", tr.Since(), n, at, want)
			}
		}
	}
}

func newTrial(t *rapid.T, faults hbtest.Faults) *trial {
	ka := time.Duration(rapid.SampledFrom([]int{10, 20, 100, 1000}).Draw(t, "keepalive")) * time.Millisecond
	cfg := hb.Config{
		Nodes: []string{"a", "b"}, Keepalive: ka, Deadtime: ka * time.Duration(rapid.IntRange(3, 10).Draw(t, "beats")), StartGrace: -1,
		Media: [][]string{{"eth0"}, {"eth0", "eth1"}, {"eth0", "serial"}}[rapid.IntRange(0, 2).Draw(t, "media")],
	}
	cfg.Initdead = max(cfg.Deadtime, 10*time.Second)
	tr := &trial{Network: hbtest.New(rapid.Uint64().Draw(t, "seed")), cfg: cfg}
	tr.Hosts, tr.Faults = true, faults
	for _, cfg.Node = range cfg.Nodes {
		tr.Add(cfg)
	}
	for _, n := range cfg.Nodes {
		if err := tr.Start(n); err != nil {
			t.Fatal(err)
		}
	}
	active := func() bool {
		for _, n := range cfg.Nodes {
			if tr.Core(n).Snapshot(tr.Now()).Status != hb.Active {
				return false
			}
		}
		return true
	}
	if !tr.RunUntil(time.Minute, active) {
		t.Fatal("not active")
	}
	phase := time.Duration(rapid.IntRange(0, 1000).Draw(t, "phase")) * ka / 1000
	tr.RunUntil(max(20*ka, 3*time.Second)+phase, func() bool { tr.deadlines(t); return false })
	tr.OnEvent = func(node string, e hb.Event) {
		if c, ok := e.(hb.NodeChanged); ok && node == "b" && c.To == hb.Dead {
			tr.deaths, tr.at = append(tr.deaths, c), append(tr.at, tr.Now())
		}
	}
	return tr
}

// TestEarlyDeathIsDeath: whatever happens to a, b declares it dead at the dead
// time at the latest; before it only if a's daemon was killed and its data
// plane with it, or its machine is gone or cut off. And where that is so and
// nothing is lost, after one and a half keepalives and the time of an answer.
func TestEarlyDeathIsDeath(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		loss := float64(rapid.IntRange(0, 25).Draw(t, "loss")) / 100
		tr := newTrial(t, hbtest.Faults{Loss: loss, MinDelay: 50 * time.Microsecond, MaxDelay: time.Duration(rapid.IntRange(51, 1500).Draw(t, "delay")) * time.Microsecond})
		if rapid.Bool().Draw(t, "ends") {
			tr.SetEnds("a", true)
			tr.Run(3 * tr.cfg.Keepalive)
		}
		ends, _ := tr.Core("b").Snapshot(tr.Now()).Peer("a")
		what := rapid.SampledFrom([]string{"crash", "kill", "pause", "cut", "filter and pause", "nothing"}).Draw(t, "what")
		switch what {
		case "crash":
			tr.Crash("a")
		case "kill":
			tr.Kill("a")
		case "cut":
			tr.Partition("a")
		case "filter and pause":
			// The machine does not answer any more, which b has to find out
			// before the daemon hangs.
			tr.Filter("a")
			tr.Run(max(25*tr.cfg.Keepalive, 4*time.Second))
			tr.Pause("a")
		case "pause":
			tr.Pause("a")
		}
		begun := tr.Now()
		if what == "nothing" {
			tr.Run(100 * tr.cfg.Keepalive)
			if len(tr.deaths) > 0 {
				t.Fatalf("%v", tr.deaths)
			}
			return
		}
		tr.RunUntil(tr.cfg.Deadtime+tr.cfg.Keepalive+10*time.Millisecond, func() bool { tr.deadlines(t); return false })
		if len(tr.deaths) != 1 {
			t.Fatalf("%s: %d deaths: %v", what, len(tr.deaths), tr.deaths)
		}
		d, took := tr.deaths[0], tr.at[0].Sub(begun)
		if d.Silence > tr.cfg.Deadtime || !d.Early && d.Silence != tr.cfg.Deadtime || d.Early && d.Silence >= tr.cfg.Deadtime {
			t.Fatalf("%s: %+v", what, d)
		}
		gone := what == "crash" || what == "cut" || what == "kill" && ends.Ends
		if d.Early && !gone {
			t.Fatalf("%s: %+v", what, d)
		}
		if loss == 0 && gone {
			soon := tr.cfg.Keepalive*3/2 + 20*time.Millisecond
			if (!d.Early || d.Silence > soon) && soon < tr.cfg.Deadtime {
				t.Fatalf("%s: after %v: %+v", what, took, d)
			}
			if !strings.Contains(d.Why, "probes") {
				t.Errorf("no evidence: %s", d.Why)
			}
		}
	})
}

// TestStallBlamesNobody: a node that stood still, however often and long, holds
// nobody for dead, and nobody holds it for dead before its dead time.
func TestStallBlamesNobody(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tr := newTrial(t, hbtest.Faults{MinDelay: 50 * time.Microsecond, MaxDelay: 300 * time.Microsecond})
		var wrong []string
		tr.OnEvent = func(node string, e hb.Event) {
			if c, ok := e.(hb.NodeChanged); ok && c.To == hb.Dead && (node == "b" || c.Early) {
				wrong = append(wrong, fmt.Sprint(tr.Since(), " ", node, ": ", c))
			}
		}
		for range rapid.IntRange(1, 8).Draw(t, "stalls") {
			tr.Pause("b")
			tr.Run(time.Duration(rapid.IntRange(0, 4000).Draw(t, "for")) * tr.cfg.Keepalive / 1000)
			tr.Resume("b")
			tr.Run(time.Duration(rapid.IntRange(0, 2000).Draw(t, "then")) * tr.cfg.Keepalive / 1000)
		}
		if len(wrong) > 0 {
			t.Fatal(strings.Join(wrong, "\n"))
		}
	})
}
