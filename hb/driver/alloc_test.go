package driver

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"systole/hb"
	"systole/hb/media"
)

// line is a medium to one other end that costs no memory of its own.
type line struct {
	peer   *line
	inbox  chan []byte
	free   chan []byte
	closed chan struct{}
	once   sync.Once
}

func newLine() (a, b *line) {
	end := func() *line {
		l := &line{inbox: make(chan []byte, 64), free: make(chan []byte, 64), closed: make(chan struct{})}
		for range cap(l.free) {
			l.free <- make([]byte, 0, 2048)
		}
		return l
	}
	a, b = end(), end()
	a.peer, b.peer = b, a
	return a, b
}

func (l *line) Name() string       { return "mem" }
func (l *line) Stats() media.Stats { return media.Stats{} }
func (l *line) Close() error       { l.once.Do(func() { close(l.closed) }); return nil }

func (l *line) Send(p []byte) error {
	select {
	case buf := <-l.peer.free:
		l.peer.inbox <- append(buf[:0], p...)
	default:
	}
	return nil
}

func (l *line) Receive(buf []byte) (int, error) {
	select {
	case p := <-l.inbox:
		n := copy(buf, p)
		l.free <- p
		return n, nil
	case <-l.closed:
		return 0, media.ErrClosed
	}
}

// TestSteadyStateAllocatesNothing runs two whole drivers: timers, readers,
// queues, cores and views. What is left over for one beat of each, received by
// the other, is no allocation.
func TestSteadyStateAllocatesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		la, lb := newLine()
		a := start(t, &cable{}, "a", func(c *Config, _ *running) { c.Media = []media.Medium{la} })
		b := start(t, &cable{}, "b", func(c *Config, _ *running) { c.Media = []media.Medium{lb} })
		time.Sleep(1100 * keepalive) // until every slot of the history has its memory
		const beats = 500
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		time.Sleep(beats * keepalive)
		runtime.ReadMemStats(&after)
		if n := float64(after.Mallocs-before.Mallocs) / beats; n > 0.2 {
			t.Errorf("%.2f allocations for a beat of either node, want none", n)
		}
		if v := a.View(); v.Peers[0].Status != hb.Active || v.Counters.Received < beats || b.Stats().Beats < beats {
			t.Errorf("that was not what it should be: %+v", v)
		}
	})
}

// TestViewsWhileReading: a view that is being read does not change, whatever
// the loop does meanwhile; the race detector watches.
func TestViewsWhileReading(t *testing.T) {
	core := newCore(t, "a", keepalive, deadtime, "mem")
	var s views
	now := time.Now()
	s.set(core, now)
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			var last time.Time
			for ctx.Err() == nil {
				v := s.get()
				if v.At.Before(last) || len(v.Peers) != 1 || v.Peers[0].Name != "b" || len(v.Peers[0].Links) != 1 {
					t.Errorf("%+v after %v", v, last)
					return
				}
				last = v.At
				runtime.Gosched()
			}
		})
	}
	for range 20_000 {
		now = now.Add(time.Millisecond)
		s.set(core, now)
	}
	cancel()
	readers.Wait()
	if v := s.get(); !v.At.Equal(now) {
		t.Errorf("the newest view is of %v, want %v", v.At, now)
	}
}
