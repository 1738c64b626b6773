package driver

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"systole/hb"
	"systole/hb/media"
	"systole/hb/wire"
)

// machines is a Hosts whose machines answer at once, until they are off.
type machines struct {
	notices chan hb.Notice
	failed  chan error
	closed  chan struct{}
	off     atomic.Bool
	asked   atomic.Int64
}

func newMachines() *machines {
	return &machines{notices: make(chan hb.Notice, 1000), failed: make(chan error, 1), closed: make(chan struct{})}
}

func (m *machines) Ask(node string) {
	m.asked.Add(1)
	if !m.off.Load() {
		m.notices <- hb.Notice{Node: node, Kind: hb.HostAnswered}
	}
}

func (m *machines) Receive() (hb.Notice, error) {
	select {
	case n := <-m.notices:
		return n, nil
	case err := <-m.failed:
		return hb.Notice{}, err
	case <-m.closed:
		return hb.Notice{}, errors.New("closed")
	}
}

func (m *machines) Close() error { close(m.closed); return nil }

func with(m *machines) option { return func(cfg *Config, _ *running) { cfg.Hosts = m } }

// types counts what a node has sent since a time.
func (c *cable) types(node string, since time.Time) map[string]int {
	n := make(map[string]int)
	for _, s := range c.from(node) {
		if m, _, err := wire.Decode(s.data, keys); err == nil && !s.at.Before(since) {
			n[m.Type()]++
		}
	}
	return n
}

// TestMachinesAreAsked: a node that is cut off with its machine is dead after
// one and a half keepalives; one whose machine answers, at the dead time.
func TestMachinesAreAsked(t *testing.T) {
	for _, off := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			c, hosts := &cable{}, newMachines()
			a := start(t, c, "a", with(hosts))
			start(t, c, "b")
			await[hb.Joined](t, a)
			time.Sleep(20*keepalive + keepalive/2)
			last := time.Now().Add(-keepalive / 2)
			hosts.off.Store(off)
			calm := hosts.asked.Load()
			c.setCut(true)
			d := awaitDeath(t, a)
			took := time.Since(last)
			if d.Early != off || off && took.Round(time.Microsecond) != keepalive*3/2 || !off && took != deadtime {
				t.Errorf("machine off %v: dead after %v: %v", off, took, d)
			}
			if n := hosts.asked.Load() - calm; n < 8 || calm > 10 {
				t.Errorf("asked %d times before and %d in the suspicion", calm, n)
			}
		})
	}
}

// TestNoticesReachTheCore: a daemon that has said that its data plane ends with
// it is dead as soon as its machine refuses.
func TestNoticesReachTheCore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, hosts := &cable{}, newMachines()
		a, b := start(t, c, "a", with(hosts)), start(t, c, "b")
		await[hb.Joined](t, a)
		if err := b.SetEnds(true); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3*keepalive + keepalive/2)
		c.setCut(true)
		begun := time.Now()
		for range 2 {
			hosts.notices <- hb.Notice{Node: "b", Medium: "mem", Kind: hb.PortRefused}
		}
		if d := awaitDeath(t, a); !d.Early || time.Since(begun) != keepalive/8 {
			t.Errorf("dead after %v: %v", time.Since(begun), d)
		}
	})
}

// TestNoAnswerWithoutBeat: who may not beat does not answer probes either.
func TestNoAnswerWithoutBeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, hosts := &cable{}, newMachines()
		var stuck atomic.Bool
		a := start(t, c, "a", with(hosts))
		start(t, c, "b", func(cfg *Config, _ *running) {
			cfg.BeforeBeat = func(time.Time) bool { return !stuck.Load() }
		})
		await[hb.Joined](t, a)
		time.Sleep(3*keepalive + keepalive/2)
		stuck.Store(true)
		begun := time.Now().Add(keepalive / 2) // b's next beat, the first that is refused
		if d := awaitDeath(t, a); d.Early || d.Silence != deadtime {
			t.Errorf("%v", d)
		}
		if asked, said := c.types("a", begun)["NS_probe"], c.types("b", begun)["NS_alive"]; asked < 8 || said != 0 {
			t.Errorf("%d probes, %d answers", asked, said)
		}
	})
}

// TestPacketForOneMedium: an answer goes out where the probe came in.
func TestPacketForOneMedium(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := &cable{}, &cable{}
		both := func(cfg *Config, _ *running) {
			node := cfg.Media[0].(*end).node
			cfg.Core = newCore(t, node, keepalive, deadtime, "mem", "other")
			cfg.Media = []media.Medium{cfg.Media[0], second.plug(node, "other")}
		}
		a := start(t, first, "a", both)
		start(t, first, "b", both)
		await[hb.Joined](t, a)
		time.Sleep(3 * keepalive)
		second.setCut(true)
		begun := time.Now()
		time.Sleep(20 * keepalive)
		if here, there := first.types("b", begun)["NS_alive"], second.types("b", begun)["NS_alive"]; here == 0 || there != 0 {
			t.Errorf("%d answers on the medium that works, %d on the other one", here, there)
		}
	})
}

// TestHostsThatEnd: it is told, and the beats go on.
func TestHostsThatEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, hosts := &cable{}, newMachines()
		a := start(t, c, "a", with(hosts))
		start(t, c, "b")
		await[hb.Joined](t, a)
		hosts.failed <- errors.New("no more")
		if r := await[hb.Report](t, a); !strings.Contains(r.Text, "no more") || r.Level != hb.Warn {
			t.Errorf("%v", r)
		}
		begun := time.Now()
		time.Sleep(5*keepalive + keepalive/2)
		if n := c.types("a", begun)["status"]; n < 5 {
			t.Errorf("%d beats", n)
		}
	})
}
