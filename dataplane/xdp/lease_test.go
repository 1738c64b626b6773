package xdp

import (
	"testing"
	"time"

	"systole/dataplane"
)

// The lease never ends later than asked, and at most two ticks earlier.
func TestRenewRoundsDown(t *testing.T) {
	p := loaded(t, MinFlows)
	jiffy := p.kernel.jiffy
	for _, d := range []time.Duration{-time.Second, 0, 1, jiffy - 1, jiffy, jiffy + 1, 10 * jiffy, time.Second, 18 * time.Second, 1000 * time.Hour} {
		before, err := p.jiffies()
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Renew(d); err != nil {
			t.Fatal(err)
		}
		after, err := p.jiffies()
		if err != nil {
			t.Fatal(err)
		}
		ticks := uint64(max(d, 0) / jiffy)
		if until := p.kernel.state.elements[0].LeaseUntil; until < before+ticks || until > after+ticks {
			t.Errorf("Renew(%s) between jiffies %d and %d: until %d, want %d ticks more", d, before, after, until, ticks)
		}
	}
	if err := p.Renew(dataplane.Unlimited); err != nil {
		t.Fatal(err)
	}
	if until := p.kernel.state.elements[0].LeaseUntil; until != unlimitedTicks {
		t.Errorf("unlimited: until %d", until)
	}
}

func TestRenewDoesNotAllocate(t *testing.T) {
	p := loaded(t, MinFlows)
	if n := testing.AllocsPerRun(100, func() {
		if err := p.Renew(time.Second); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations per Renew", n)
	}
}

func BenchmarkRenew(b *testing.B) {
	p := loaded(b, MinFlows)
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Renew(time.Second); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkApply is the time until a change is visible to packets, with the
// grace period of the one before already over, as in life.
func BenchmarkApply(b *testing.B) {
	p := loaded(b, MinFlows)
	for b.Loop() {
		b.StopTimer()
		<-p.grace
		b.StartTimer()
		if _, err := p.Apply(twoServices(16)); err != nil {
			b.Fatal(err)
		}
	}
}
