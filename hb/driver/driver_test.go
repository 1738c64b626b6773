package driver

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"systole/hb"
	"systole/hb/media"
	"systole/hb/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var keys = wire.Keys{Send: 1, Keys: []wire.Key{{Index: 1, Method: wire.SHA1, Secret: []byte("secret")}}}

const (
	keepalive = time.Second
	deadtime  = 3500 * time.Millisecond // no multiple of keepalive
)

// newCore returns the core of node a or b.
func newCore(tb testing.TB, node string, keepalive, deadtime time.Duration, media ...string) *hb.Core {
	tb.Helper()
	c, err := hb.New(hb.Config{
		Node: node, UUID: [16]byte{node[0]}, Generation: 1, Nodes: []string{"a", "b"},
		Keepalive: keepalive, Deadtime: deadtime, StartGrace: -1, Format: wire.Both, Keys: keys, Media: media,
	}, time.Now(), rand.New(rand.NewPCG(1, uint64(node[0]))))
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// running is a driver in its goroutine, and what it has told.
type running struct {
	*Driver
	cancel context.CancelFunc
	result chan error
	events chan hb.Event // all of them so far, unless nobody reads
}

type option func(*Config, *running)

// deaf: nobody reads the events.
func deaf(_ *Config, r *running) { r.events = nil }

// start runs a node on a cable until the test ends.
func start(t *testing.T, c *cable, node string, options ...option) *running {
	t.Helper()
	r := &running{result: make(chan error, 1), events: make(chan hb.Event, 100000)}
	cfg := Config{Core: newCore(t, node, keepalive, deadtime, "mem"), Media: []media.Medium{c.plug(node, "mem")}}
	for _, o := range options {
		o(&cfg, r)
	}
	r.run(t, cfg)
	return r
}

func (r *running) run(t *testing.T, cfg Config) {
	t.Helper()
	var err error
	if r.Driver, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(context.Background())
	collected := make(chan struct{})
	go func() { r.result <- r.Run(ctx) }()
	go func() {
		defer close(collected)
		for r.events != nil {
			e, ok := <-r.Events()
			if !ok {
				return
			}
			r.events <- e
		}
	}()
	t.Cleanup(func() {
		r.cancel()
		<-r.done
		<-collected
	})
}

// await returns the next event of a type.
func await[E hb.Event](t *testing.T, r *running) E {
	t.Helper()
	timeout := time.After(time.Minute)
	for {
		select {
		case e := <-r.events:
			if e, ok := e.(E); ok {
				return e
			}
		case <-timeout:
			t.Fatalf("no %T within a minute", *new(E))
		}
	}
}

// awaitDeath returns the next event that says a node is dead.
func awaitDeath(t *testing.T, r *running) hb.NodeChanged {
	t.Helper()
	for {
		if e := await[hb.NodeChanged](t, r); e.To == hb.Dead {
			return e
		}
	}
}

// none fails if there was an event of a type.
func none[E hb.Event](t *testing.T, r *running) {
	t.Helper()
	synctest.Wait()
	for len(r.events) > 0 {
		if e, ok := (<-r.events).(E); ok {
			t.Errorf("%T: %v", e, e)
		}
	}
}

// beatTimes are when a node sent a status.
func beatTimes(t *testing.T, c *cable, node string) (times []time.Time) {
	t.Helper()
	for _, s := range c.from(node) {
		m, _, err := wire.Decode(s.data, keys)
		if err != nil {
			t.Fatal(err)
		}
		if m.Type() == "status" {
			times = append(times, s.at)
		}
	}
	return times
}

func TestTwoNodesJoinAndSeeEachOtherDie(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cable{}
		a, b := start(t, c, "a"), start(t, c, "b")
		await[hb.Joined](t, a)
		await[hb.Joined](t, b)
		if v := a.View(); v.Status != hb.Active {
			t.Errorf("joined, but the view says %s", v.Status)
		}
		time.Sleep(10500 * time.Millisecond) // between two beats
		if p, _ := a.View().Peer("b"); p.Status != hb.Active || p.Age > keepalive {
			t.Errorf("a sees b as %+v", p)
		}

		if err := a.Submit(wire.New("hello", "dest", "b")); err != nil {
			t.Fatal(err)
		}
		if d := await[hb.Delivered](t, b); d.Message.Type() != "hello" || d.Node != "a" {
			t.Errorf("got %v", d)
		}

		none[hb.Report](t, a)
		none[hb.Report](t, b)
		last := slices.MaxFunc(beatTimes(t, c, "a"), time.Time.Compare) // and b's: both began at once
		c.setCut(true)
		for _, r := range []*running{a, b} {
			if d := awaitDeath(t, r); d.Silence != deadtime || time.Since(last) != deadtime {
				t.Errorf("%v, %v after the last beat, want %v", d, time.Since(last), deadtime)
			}
		}
	})
}

func TestBeatsDoNotDrift(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cable{}
		begin := time.Now()
		start(t, c, "a", func(cfg *Config, _ *running) {
			cfg.BeforeBeat = func(time.Time) bool { time.Sleep(7 * time.Millisecond); return true }
		})
		time.Sleep(60*keepalive + keepalive/2)
		beats := beatTimes(t, c, "a")
		for n := 1; n <= 60; n++ {
			want := begin.Add(time.Duration(n)*keepalive + 7*time.Millisecond)
			if !slices.ContainsFunc(beats, want.Equal) {
				t.Fatalf("no beat at %v; all: %v", want, beats)
			}
		}
	})
}

// The events of a are never read. Its beats keep their times all the same, and
// no event is lost.
func TestSlowConsumerDoesNotDelayBeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cable{}
		begin := time.Now()
		a, b := start(t, c, "a", deaf), start(t, c, "b")
		await[hb.Joined](t, b)
		const messages = 1000
		for i := range messages {
			time.Sleep(29 * time.Millisecond)
			if err := b.Submit(wire.New("hello", "number", fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
		beats := beatTimes(t, c, "a")
		for at := begin.Add(keepalive); at.Before(time.Now()); at = at.Add(keepalive) {
			if !slices.ContainsFunc(beats, at.Equal) {
				t.Fatalf("no beat at %v; all: %v", at, beats)
			}
		}
		// It wakes up: everything is there.
		for n := 0; n < messages; {
			if d, ok := (<-a.Events()).(hb.Delivered); ok {
				if got, _ := d.Message.Get("number"); got != fmt.Sprint(n) {
					t.Fatalf("message %s, want %d", got, n)
				}
				n++
			}
		}
	})
}

func TestConsumerThatNeverReadsEndsTheDriver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cable{}
		a := start(t, c, "a", deaf, func(cfg *Config, _ *running) { cfg.Queue = 100 })
		b := start(t, c, "b")
		await[hb.Joined](t, b)
		for range eventBuffer + 100 {
			if err := b.Submit(wire.New("hello")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if err := <-a.result; err != ErrOverflow {
			t.Fatalf("Run: %v, want %v", err, ErrOverflow)
		}
		awaitDeath(t, b)
	})
}

func TestRefusedBeatsMakeANodeDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cable{}
		var ok atomic.Bool
		ok.Store(true)
		a := start(t, c, "a", func(cfg *Config, _ *running) {
			cfg.BeforeBeat = func(now time.Time) bool {
				if !now.Equal(time.Now()) {
					t.Errorf("asked with %v, it is %v", now, time.Now())
				}
				return ok.Load()
			}
		})
		b := start(t, c, "b")
		await[hb.Joined](t, a)
		await[hb.Joined](t, b)
		time.Sleep(3 * keepalive)
		none[hb.Report](t, a)
		ok.Store(false)
		awaitDeath(t, b)
		if r := await[hb.Report](t, a); r.Level != hb.Warn || !strings.Contains(r.Text, "lease") {
			t.Errorf("a says %v", r)
		}
		before := a.Stats()
		if before.Refused == 0 {
			t.Error("no beat counted as refused")
		}
		// Everything else goes on: a hears b and talks to it.
		if p, _ := a.View().Peer("b"); p.Status != hb.Active {
			t.Errorf("a sees b as %s", p.Status)
		}
		if err := a.Submit(wire.New("hello")); err != nil {
			t.Error(err)
		}
		await[hb.Delivered](t, b)
		ok.Store(true)
		if d := await[hb.NodeChanged](t, b); !d.Returned {
			t.Errorf("b sees %v", d)
		}
		if r := await[hb.Report](t, a); !strings.Contains(r.Text, "works again") {
			t.Errorf("a says %v", r)
		}
		if s := a.Stats(); s.Beats <= before.Beats {
			t.Errorf("beats were %d and are %d", before.Beats, s.Beats)
		}
	})
}

// The loop of a hangs for longer than the dead time, while b goes on. That is
// a's fault: it must say so, once, and not hold b for dead.
func TestHangingLoopIsNotTheOthersSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cable{}
		var hang atomic.Bool
		a := start(t, c, "a", func(cfg *Config, _ *running) {
			cfg.BeforeBeat = func(time.Time) bool {
				if hang.Swap(false) {
					time.Sleep(2 * deadtime)
				}
				return true
			}
		})
		b := start(t, c, "b")
		await[hb.Joined](t, a)
		time.Sleep(3 * keepalive)
		none[hb.Stalled](t, a)
		hang.Store(true)
		if s := await[hb.Stalled](t, a); !s.Dead || s.For < 2*deadtime-2*keepalive || s.For > 2*deadtime {
			t.Errorf("stood still for %v, dead %v", s.For, s.Dead)
		}
		if got := a.Stats().MaxLate; got < 2*deadtime-2*keepalive || got > 2*deadtime {
			t.Errorf("late by %v", got)
		}
		time.Sleep(10 * keepalive)
		synctest.Wait()
		for len(a.events) > 0 {
			switch e := (<-a.events).(type) {
			case hb.Stalled:
				t.Errorf("once more: %v", e)
			case hb.NodeChanged:
				if e.To == hb.Dead {
					t.Errorf("a says %v", e)
				}
			}
		}
		for {
			if d := await[hb.NodeChanged](t, b); d.Returned {
				break
			}
		}
	})
}

// b's beat arrives before the dead time is over, but while the loop of a is
// busy until after it. It was in time.
func TestBeatInTheQueueCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cable{}
		var busy atomic.Bool
		a := start(t, c, "a", func(cfg *Config, _ *running) {
			cfg.BeforeBeat = func(time.Time) bool {
				if busy.Swap(false) {
					time.Sleep(keepalive * 8 / 10)
				}
				return true
			}
		})
		time.Sleep(keepalive * 2 / 10)
		b := start(t, c, "b") // beats at 0.2 after those of a
		await[hb.Joined](t, b)
		time.Sleep(keepalive * 5 / 10)
		c.setCut(true) // of b's beats, those at 1.2 and 2.2 are lost
		time.Sleep(keepalive * 2)
		c.setCut(false)
		busy.Store(true) // from 3.0 to 3.8: the beat is at 3.2, the dead time ends at 3.7
		time.Sleep(keepalive * 4 / 10)
		a.cfg.Media[0].(*end).inbox <- []byte("at 3.1: something before it in the queue")
		time.Sleep(keepalive * 2)
		synctest.Wait()
		for len(a.events) > 0 {
			if e, ok := (<-a.events).(hb.NodeChanged); ok && e.To == hb.Dead {
				t.Error(e)
			}
		}
	})
}

func TestTroubleWithAMediumIsReportedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cable{}
		a := start(t, c, "a")
		start(t, c, "b")
		await[hb.Joined](t, a)
		time.Sleep(keepalive / 2)
		none[hb.Report](t, a)
		m := a.cfg.Media[0].(*end)
		expect := func(level hb.Level, text string) {
			t.Helper()
			time.Sleep(2 * keepalive)
			synctest.Wait()
			var got []hb.Report
			for len(a.events) > 0 {
				if r, ok := (<-a.events).(hb.Report); ok {
					got = append(got, r)
				}
			}
			if want := []hb.Report{{Level: level, Text: text}}; !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		}
		m.setDown(errors.New("no carrier"))
		expect(hb.Warn, "mem: sending: no carrier")
		m.setDown(nil)
		expect(hb.Info, "mem: sending: works again")
		go func() {
			for range 5 { // before the next packet
				m.fault <- errors.New("no socket")
			}
		}()
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if r := await[hb.Report](t, a); r.Text != "mem: receiving: no socket" {
			t.Errorf("got %v", r)
		}
		expect(hb.Info, "mem: receiving: works again")
	})
}

func TestSubmitAndStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cable{}
		a, b := start(t, c, "a"), start(t, c, "b")
		await[hb.Joined](t, b)
		if err := a.Submit(wire.New("status")); !errors.Is(err, hb.ErrMessage) {
			t.Errorf("the core's error is %v", err)
		}
		if err := a.Submit(wire.New("shutdone", "st", "dead")); err != nil {
			t.Fatal(err)
		}
		if seq, err := a.Offer(wire.New("note")); err != nil || seq == 0 {
			t.Fatalf("offered as %d, %v", seq, err)
		}
		if err := a.Stop(); err != nil {
			t.Fatal(err)
		}
		if err := a.Submit(wire.New("hello")); !errors.Is(err, hb.ErrStopped) {
			t.Errorf("after Stop: %v", err)
		}
		before := a.Stats().Beats
		time.Sleep(2*keepalive + keepalive/2)
		if got := a.Stats().Beats; got < before+2 {
			t.Errorf("%d beats after Stop, want 2", got-before)
		}
		a.cancel()
		if err := <-a.result; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := a.Submit(wire.New("hello")); err != ErrStopped {
			t.Errorf("after Run: %v", err)
		}
		if _, err := a.Offer(wire.New("note")); err != ErrStopped {
			t.Errorf("Offer after Run: %v", err)
		}
		if err := a.Stop(); err != ErrStopped {
			t.Errorf("Stop after Run: %v", err)
		}
		if d := await[hb.Delivered](t, b); d.Message.Type() != "shutdone" {
			t.Errorf("b got %v", d)
		}
	})
}

// What Submit took goes out even if the context ends at the same moment.
func TestLastWordIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cable{}
		a, b := start(t, c, "a"), start(t, c, "b")
		await[hb.Joined](t, b)
		a.do(func(now time.Time) {
			if err := a.core.Submit(now, wire.New("last-word")); err != nil {
				t.Error(err)
			}
			a.cancel()
		})
		if d := await[hb.Delivered](t, b); d.Message.Type() != "last-word" {
			t.Errorf("b got %v", d)
		}
	})
}

func TestLoadIsSentAndReadOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cable{}
		var calls atomic.Int32
		start(t, c, "a", func(cfg *Config, _ *running) {
			cfg.Core = newCore(t, "a", keepalive/10, deadtime, "mem")
			cfg.Load = func() string { calls.Add(1); return "0.81 0.58 0.31 2/94 26" }
		})
		time.Sleep(10*time.Second + keepalive/20)
		if n := calls.Load(); n < 9 || n > 11 {
			t.Errorf("read %d times in 10 s", n)
		}
		list := c.from("a")
		m, _, err := wire.Decode(list[len(list)-1].data, keys)
		if err != nil {
			t.Fatal(err)
		}
		if ld, _ := m.Get("ld"); ld != "0.81 0.58 0.31 2/94 26" {
			t.Errorf("ld=%q", ld)
		}
	})
}

func TestLoadAverage(t *testing.T) {
	var one, five, fifteen float64
	var tasks string
	var pid int
	if n, err := fmt.Sscan(LoadAverage(), &one, &five, &fifteen, &tasks, &pid); n != 5 {
		t.Errorf("%q: %v", LoadAverage(), err)
	}
}

func TestNewRefuses(t *testing.T) {
	c := &cable{}
	core := newCore(t, "a", keepalive, deadtime, "mem")
	one := []media.Medium{c.plug("a", "mem")}
	for _, bad := range []struct {
		name string
		cfg  Config
		says string
	}{
		{"no core", Config{Media: one}, "no core"},
		{"no medium", Config{Core: core}, "no medium"},
		{"medium twice", Config{Core: core, Media: append(one, c.plug("a", "mem"))}, `"mem" is there twice`},
		{"queue", Config{Core: core, Media: one, Queue: -1}, "-1"},
	} {
		if _, err := New(bad.cfg); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), bad.says) {
			t.Errorf("%s: got %v, want %v and %q", bad.name, err, ErrConfig, bad.says)
		}
	}
}
