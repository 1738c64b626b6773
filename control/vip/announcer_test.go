package vip

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

var vip1 = Addr{netip.MustParseAddr("192.168.145.101"), 32, "eth0"}

// bench is an announcer whose pairs are written down.
type bench struct {
	*announcer
	start time.Time
	sent  []time.Duration // when pairs went out, since start
	here  bool
	err   error
}

func newBench() *bench {
	b := &bench{start: time.Now(), here: true}
	b.announcer = newAnnouncer(quiet(),
		func(Addr) error { b.sent = append(b.sent, time.Since(b.start)); return b.err },
		func(Addr) (bool, error) { return b.here, b.err })
	return b
}

func (b *bench) want(t *testing.T, ms ...int64) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	var got []int64
	for _, d := range b.sent {
		got = append(got, d.Milliseconds())
	}
	if !slices.Equal(got, ms) {
		t.Errorf("pairs at %v ms, want %v", got, ms)
	}
}

func (b *bench) forgetSent() {
	b.mu.Lock()
	b.sent = nil
	b.mu.Unlock()
}

// removed is somebody taking the address off the interface.
func (b *bench) removed() {
	b.mu.Lock()
	b.here = false
	b.mu.Unlock()
}

func TestAnnounceSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.announce(vip1)
		b.want(t, 0) // in the caller
		pass(time.Hour)
		b.want(t, 0, 100, 200, 300, 400, 500, 1000, 5000, 30000)
	})
}

func TestAnnounceRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.announce(vip1)
		pass(250 * time.Millisecond)
		b.announce(vip1)
		pass(time.Hour)
		b.want(t, 0, 100, 200, 250, 350, 450, 550, 650, 750, 1250, 5250, 30250)
	})
}

func TestAnnounceGoesOnAfterErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.err = errors.New("network is down")
		b.announce(vip1)
		pass(150 * time.Millisecond)
		b.want(t, 0, 100)
	})
}

func TestStopIsFinal(t *testing.T) {
	for name, end := range map[string]func(*bench){
		"stop":  func(b *bench) { b.stop(vip1) },
		"close": func(b *bench) { b.close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench()
				b.announce(vip1)
				pass(150 * time.Millisecond)
				end(b)
				b.again("eth0", "link up")
				pass(time.Hour)
				b.want(t, 0, 100)
			})
		})
	}
}

// A timer that has fired but waits for the mutex while stop is called must
// not send: stop's promise is that nothing comes after it.
func TestStopBeatsALateTimer(t *testing.T) {
	b := newBench()
	b.announce(vip1)
	an := b.ours[vip1.key()]
	round := an.round
	b.stop(vip1)
	b.due(an, round)
	if len(b.sent) != 1 {
		t.Errorf("%d pairs, want the first alone", len(b.sent))
	}
}

func TestAnnounceAfterCloseDoesNothing(t *testing.T) {
	b := newBench()
	b.close()
	b.announce(vip1)
	if len(b.sent) != 0 {
		t.Error("announced after close")
	}
}

func TestAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.announce(vip1)
		pass(time.Minute) // the schedule is through
		b.forgetSent()
		b.again("eth1", "link up")
		b.want(t)
		b.again("eth0", "link up")
		b.want(t, 60000)
		b.again("", "link messages were lost")
		pass(150 * time.Millisecond)
		b.want(t, 60000, 60000, 60100)
		b.close()
	})
}

func TestRemovedAddressIsNotAnnounced(t *testing.T) {
	t.Run("repeat", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench()
			b.announce(vip1)
			pass(150 * time.Millisecond)
			b.removed()
			pass(time.Hour)
			b.want(t, 0, 100)
		})
	})
	t.Run("link up", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench()
			b.announce(vip1)
			pass(time.Hour)
			b.removed()
			b.forgetSent()
			b.again("eth0", "link up")
			b.here = true // too late: the next owner announces it
			b.again("eth0", "link up")
			b.want(t)
		})
	})
}

// pass lets time go by, and everything that is due in it happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// A director that comes back from a partition learns within a few keepalives
// that the address is another's now; it must not have announced it by then.
func TestAnnounceAgainAfterSettling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.settle = 300 * time.Millisecond
		b.announce(vip1)
		pass(time.Hour)
		b.forgetSent()
		b.start = time.Now()
		b.again("eth0", "link is up")
		pass(299 * time.Millisecond)
		b.want(t)
		pass(time.Hour)
		b.want(t, 300, 400, 500, 600, 700, 800, 1300, 5300, 30300)
	})
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.settle = 300 * time.Millisecond
		b.announce(vip1)
		pass(time.Hour)
		b.forgetSent()
		b.again("eth0", "link is up")
		pass(100 * time.Millisecond)
		b.stop(vip1) // let go of
		pass(time.Hour)
		b.want(t)
	})
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.settle = 300 * time.Millisecond
		b.announce(vip1)
		pass(time.Hour)
		b.forgetSent()
		b.again("eth0", "link is up")
		b.removed()
		pass(time.Hour)
		b.want(t)
	})
}
