package control

import (
	"errors"
	"testing"
	"time"

	"systole/dataplane"
)

// planeLease is a data plane's lease in virtual time.
type planeLease struct {
	now   time.Time
	until time.Time
	err   error
}

func (p *planeLease) renew(d time.Duration) error {
	if p.err != nil {
		return p.err
	}
	if d == dataplane.Unlimited {
		p.until = p.now.Add(1000 * time.Hour)
	} else {
		p.until = p.now.Add(d)
	}
	return nil
}

const testDeadtime = 300 * time.Millisecond

func newTestLease() (*Lease, *planeLease, func(time.Duration) time.Time) {
	p := &planeLease{now: time.Unix(1000, 0)}
	l := NewLease(testDeadtime, p.renew)
	return l, p, func(d time.Duration) time.Time { p.now = p.now.Add(d); return p.now }
}

func TestLeaseEndsBeforeThePeersPatience(t *testing.T) {
	l, p, after := newTestLease()
	if err := l.Set(p.now, LeaseArmed); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		now := after(100 * time.Millisecond)
		l.Alive(now)
		if !l.BeforeBeat(now) {
			t.Fatal("beat refused while the loop turns")
		}
		if peer := now.Add(testDeadtime); !p.until.Before(peer) {
			t.Fatalf("lease ends at %v, not before the peer takes over at %v", p.until, peer)
		}
	}
}

func TestLeaseLapseIsNotRenewed(t *testing.T) {
	l, p, after := newTestLease()
	_ = l.Set(p.now, LeaseArmed)
	until := p.until
	now := after(l.Term())
	l.Alive(now)
	if !l.BeforeBeat(now) {
		t.Fatal("the beat must go out: the peer has to hear us to answer our claim")
	}
	if p.until != until {
		t.Fatal("a lapsed lease was renewed before the peer was asked")
	}
	select {
	case <-l.Lapsed():
	default:
		t.Fatal("lapse not signalled")
	}
	if m, _ := l.Mode(); m != LeaseSuspended {
		t.Fatalf("mode %v", m)
	}
	_ = l.Set(after(time.Millisecond), LeaseArmed)
	if !p.until.After(p.now) {
		t.Fatal("not granted again after the claim")
	}
}

func TestArmedLeaseCountsFromTheLastBeat(t *testing.T) {
	l, p, after := newTestLease()
	last := p.now
	l.BeforeBeat(last)
	if err := l.Set(after(100*time.Millisecond), LeaseArmed); err != nil {
		t.Fatal(err)
	}
	if want := last.Add(l.Term()); p.until != want {
		t.Fatalf("lease until %v, want %v: the peer counts from the last beat", p.until, want)
	}
	l, p, after = newTestLease()
	l.BeforeBeat(p.now)
	_ = l.Set(after(l.Term()), LeaseArmed)
	if m, _ := l.Mode(); m != LeaseSuspended || p.until.After(p.now) {
		t.Fatalf("armed a term after the last beat: mode %v, until %v", m, p.until)
	}
}

// A control loop that was stuck finds its beats refused and its lease lapsed.
// Armed again, with nothing to lose, it must not be told the same for ever.
func TestLeaseArmedAfterALapseWaitsForABeat(t *testing.T) {
	l, p, after := newTestLease()
	_ = l.Set(p.now, LeaseUnlimited)
	l.BeforeBeat(p.now)
	now := after(l.Term())
	_ = l.Set(now, LeaseEnded)
	_ = l.Set(now, LeaseArmed)
	select {
	case <-l.Lapsed():
	default:
		t.Fatal("armed a term after the last beat, and no lapse is signalled")
	}
	_ = l.Set(now, LeaseArmed)
	if len(l.Lapsed()) > 0 || p.until.After(now) {
		t.Fatalf("armed again: lapse signalled %d times, until %v: want to wait for a beat", len(l.Lapsed()), p.until)
	}
	now = after(10 * time.Millisecond)
	if !l.BeforeBeat(now) || p.until != now.Add(l.Term()) || len(l.Lapsed()) > 0 {
		t.Fatalf("the next beat does not renew it: until %v", p.until)
	}
	// But not any beat, however late.
	_ = l.Set(now, LeaseSuspended)
	now = after(l.Term())
	_ = l.Set(now, LeaseArmed)
	now = after(l.Term())
	l.Alive(now)
	l.BeforeBeat(now)
	if len(l.Lapsed()) == 0 || p.until.After(now) {
		t.Fatalf("stalled once more: until %v", p.until)
	}
}

// Who does not know of a lapse yet must not end it.
func TestLeaseLapseIsNotOverruled(t *testing.T) {
	for _, m := range []LeaseMode{LeaseArmed, LeaseUnlimited} {
		l, p, after := newTestLease()
		_ = l.Set(p.now, LeaseArmed)
		now := after(l.Term())
		l.Alive(now)
		l.BeforeBeat(now)
		if _ = l.Set(now, m); p.until.After(now) {
			t.Errorf("%s granted until %v before the lapse was looked at", m, p.until)
		}
		<-l.Lapsed()
		if _ = l.Set(now, m); !p.until.After(now) {
			t.Errorf("%s not granted after it", m)
		}
	}
}

func TestLeaseOfAStuckLoop(t *testing.T) {
	l, p, after := newTestLease()
	_ = l.Set(p.now, LeaseArmed)
	start := p.now
	for p.now.Sub(start) < testDeadtime-time.Millisecond {
		if !l.BeforeBeat(after(10 * time.Millisecond)) {
			break
		}
	}
	if l.BeforeBeat(after(10 * time.Millisecond)) {
		t.Fatal("a daemon whose control loop is stuck still beats")
	}
	if end := start.Add(2 * testDeadtime); p.until.After(end) {
		t.Fatalf("lease kept until %v", p.until)
	}
}

// TestLeaseAfterAStall: a daemon that stood still as a whole, for longer than its
// lease and not so long that it is dead, may beat at once.
func TestLeaseAfterAStall(t *testing.T) {
	l, p, after := newTestLease()
	_ = l.Set(p.now, LeaseArmed)
	l.Alive(after(0))
	if !l.BeforeBeat(after(100 * time.Millisecond)) {
		t.Fatal("beat refused while the loop turns")
	}
	until := p.until
	if !l.BeforeBeat(after(280*time.Millisecond)) || p.until != until {
		t.Errorf("after a stall: no beat, or the lease until %v, want %v", p.until, until)
	}
	if m, _ := l.Mode(); m != LeaseSuspended {
		t.Errorf("mode %v after a lapse", m)
	}
	if l.BeforeBeat(after(100 * time.Millisecond)) {
		t.Error("a loop that does not turn then either may beat")
	}
}

func TestLeaseTerm(t *testing.T) {
	for deadtime, want := range map[time.Duration]time.Duration{
		30 * time.Millisecond:  27 * time.Millisecond,
		300 * time.Millisecond: 270 * time.Millisecond,
		30 * time.Second:       29500 * time.Millisecond,
	} {
		if got := NewLease(deadtime, nil).Term(); got != want {
			t.Errorf("deadtime %v: a renewal lasts %v, want %v", deadtime, got, want)
		}
	}
}

func TestLeaseModes(t *testing.T) {
	l, p, after := newTestLease()
	if !l.BeforeBeat(p.now) {
		t.Fatal("a daemon that is starting must beat")
	}
	_ = l.Set(p.now, LeaseUnlimited)
	now := after(time.Hour)
	l.Alive(now)
	if !l.BeforeBeat(now) || !p.until.After(now) {
		t.Fatal("an unlimited lease ended")
	}
	_ = l.Set(now, LeaseEnded)
	if p.until.After(now) {
		t.Fatal("an ended lease goes on")
	}
	p.err = dataplane.ErrNoLease
	if err := l.Set(now, LeaseArmed); err != nil {
		t.Fatalf("a plane without a lease is no error: %v", err)
	}
	p.err = errors.New("boom")
	if err := l.Set(now, LeaseArmed); err == nil {
		t.Fatal("a failed grant went unnoticed")
	}
}
