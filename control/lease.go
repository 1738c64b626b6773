package control

import (
	"errors"
	"sync"
	"time"

	"systole/dataplane"
)

// Lease joins the beat and the data plane's right to answer for the virtual
// addresses: one is not given without the other. The heartbeat loop calls
// BeforeBeat right before each beat leaves; the director's loop sets the mode
// and says with Alive that it is not stuck.
//
// Why there are not two owners after a crash: the peer's patience runs from the
// moment a beat arrives, for the dead time; ours runs from before that beat was
// sent, for a tenth less (half a second at most). When we stop beating, for
// whatever reason, our data plane has stopped before the peer takes over. The
// margin is for a beat that leaves just before the lease ends: it must arrive
// before the peer's patience does.
type Lease struct {
	deadtime time.Duration
	renew    func(time.Duration) error // the data planes'

	mu     sync.Mutex
	mode   LeaseMode
	beat   time.Time // when the last beat was let out
	armed  time.Time // armed after a lapse, and no beat since; else zero
	alive  time.Time // last sign of life of the director's loop
	asked  time.Time // when BeforeBeat was last called
	err    error
	lapsed chan struct{}
}

// LeaseMode says how the data plane's lease is kept.
type LeaseMode uint8

const (
	// LeaseEnded: nothing granted yet, or everything taken back.
	LeaseEnded LeaseMode = iota
	// LeaseArmed: renewed with each beat, ends if beats do.
	LeaseArmed
	// LeaseUnlimited: no live peer could take over, so it does not end.
	LeaseUnlimited
	// LeaseSuspended: it ended while we were stalled; a peer may have taken
	// over, so it is not renewed before that is known.
	LeaseSuspended
	// LeaseFenced: ended for good, because an address could not be removed. As
	// with LeaseSuspended beats go on: the peer must not take us for dead.
	LeaseFenced
)

// String is the mode's word in status and log.
func (m LeaseMode) String() string {
	return [...]string{"ended", "armed", "unlimited", "suspended", "fenced"}[m]
}

// NewLease returns an ended lease for a director that announces the given dead
// time. renew grants the data planes a time; it must take microseconds.
func NewLease(deadtime time.Duration, renew func(time.Duration) error) *Lease {
	return &Lease{deadtime: deadtime, renew: renew, lapsed: make(chan struct{}, 1)}
}

// maxMargin bounds what is kept of the dead time for a late beat's way: half a
// second, by which an old heartbeat node may read it late
// (heartbeat-behaviour.md section 4.1). Clients wait that long after a crash.
const maxMargin = 500 * time.Millisecond

// Term is how long one renewal lasts.
func (l *Lease) Term() time.Duration { return l.deadtime - min(l.deadtime/10, maxMargin) }

// Lapsed is signalled when an armed lease turned out to have ended.
func (l *Lease) Lapsed() <-chan struct{} { return l.lapsed }

// Set changes the mode and tells the data planes at once. An armed lease counts
// from the last beat, not from now: that is what the peer counts from. If that
// is too long ago the lease has lapsed; who knows that already and arms it all
// the same gets it with the next beat.
//
// While a lapse is signalled and not taken notice of, nothing is granted: the
// caller decides without knowing it.
func (l *Lease) Set(now time.Time, m LeaseMode) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.alive = now
	if len(l.lapsed) > 0 && (m == LeaseArmed || m == LeaseUnlimited) {
		return l.err
	}
	was := l.mode
	l.mode, l.armed = m, time.Time{}
	switch m {
	case LeaseArmed:
		if l.beat.IsZero() {
			l.beat = now
		}
		switch left := l.Term() - now.Sub(l.beat); {
		case left > 0:
			l.err = l.grant(left)
		case was == LeaseSuspended:
			l.armed = now
		default:
			l.err = l.grant(0) // it may have been unlimited
			l.lapse()
		}
	case LeaseUnlimited:
		l.err = l.grant(dataplane.Unlimited)
	case LeaseEnded, LeaseFenced:
		l.err = l.grant(0)
	case LeaseSuspended: // it has ended by itself
	}
	return l.err
}

// lapse notes that an armed lease has run out.
func (l *Lease) lapse() {
	l.mode = LeaseSuspended
	select {
	case l.lapsed <- struct{}{}:
	default:
	}
}

// Mode returns the mode and the error of the last renewal.
func (l *Lease) Mode() (LeaseMode, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mode, l.err
}

// Alive is the director's loop saying that it turns; it is to be called before
// anything is decided, and then Lapsed to be looked at: what the loop has not
// heard of yet is as old as its own stall.
func (l *Lease) Alive(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.alive = now
	if l.over(now) {
		l.lapse()
	}
}

// over says whether an armed lease has run out.
func (l *Lease) over(now time.Time) bool {
	from := l.beat
	if !l.armed.IsZero() {
		from = l.armed
	}
	return l.mode == LeaseArmed && now.Sub(from) >= l.Term()
}

// BeforeBeat renews an armed lease. It answers whether the beat may be sent: a
// director whose loop is stuck must look dead, so that the peer takes over. When
// all of the daemon stood still, nothing is known of that loop: what is over is
// not renewed anyway, and the beat may spare us a death.
func (l *Lease) BeforeBeat(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	over := l.over(now)
	stalled := !l.asked.IsZero() && now.Sub(l.asked) >= l.deadtime/2
	l.asked = now
	if !l.alive.IsZero() && now.Sub(l.alive) >= l.deadtime && !(over && stalled) {
		return false
	}
	l.beat, l.armed = now, time.Time{}
	if l.mode != LeaseArmed {
		return true
	}
	if over {
		// The beat goes out all the same: the peer has to hear us to answer.
		l.lapse()
		return true
	}
	l.err = l.grant(l.Term())
	return true
}

// grant tells the planes; a plane without a lease is no error.
func (l *Lease) grant(d time.Duration) error {
	if err := l.renew(d); err != nil && !errors.Is(err, dataplane.ErrNoLease) {
		return err
	}
	return nil
}
