package health

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"sync"
	"time"
)

// maxInFlight bounds the sockets that checks have open at a time.
const maxInFlight = 256

// ID names a target: a server within a service.
type ID struct {
	Service string // "192.0.2.101:80/tcp"
	Server  netip.Addr
}

// Result is what one check found and what follows from it.
type Result struct {
	ID ID
	// Up is the state after this check: the first check decides by itself, then
	// Rise successes in a row lead up and Fall failures in a row lead down.
	Up      bool
	Changed bool // Up is another than before, or this was the first check
	Err     error
	Took    time.Duration
	At      time.Time // the end of the check
	Checks  uint64    // so far, this one included
	// Failures of those, whether or not they led to down.
	Failures uint64
}

// Monitor checks targets for as long as Run runs.
type Monitor struct {
	log    *slog.Logger
	report func(Result)
	probe  func(context.Context, Check) error

	mu      sync.Mutex
	wanted  map[ID]Check  // what Set said last; nil if Run knows already
	changed chan struct{} // wanted is set

	// What follows belongs to Run's goroutine.
	targets  map[ID]*target
	waiting  schedule
	inFlight int
	done     chan outcome
}

// outcome is the end of one check.
type outcome struct {
	t     *target
	err   error
	start time.Time
	end   time.Time
}

// New makes a Monitor that tells report the result of each check and logs
// changes. Calls of report follow one another, from one goroutine; report
// should return soon, as no check begins meanwhile.
func New(log *slog.Logger, report func(Result)) *Monitor {
	return &Monitor{
		log: log, report: report, probe: Probe,
		changed: make(chan struct{}, 1),
		targets: make(map[ID]*target),
		done:    make(chan outcome, maxInFlight),
	}
}

// Set says which targets there are, all of them. New ones are checked at once;
// those whose Check is the same go on as if nothing had happened; those whose
// Check has changed keep their state and counts and are checked at once; the
// others are dropped.
//
// Set does not wait, and may be called before Run, during it, from several
// goroutines and from report. A report that had begun when Set was called may
// still be of a target that is gone.
func (m *Monitor) Set(targets map[ID]Check) {
	wanted := maps.Clone(targets)
	if wanted == nil {
		wanted = make(map[ID]Check)
	}
	m.mu.Lock()
	m.wanted = wanted
	m.mu.Unlock()
	select {
	case m.changed <- struct{}{}:
	default: // Run will see this one when it looks for the last
	}
}

// Run checks until ctx ends, and returns when the last check has. It can be
// called once.
func (m *Monitor) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		for m.inFlight < maxInFlight {
			t := m.waiting.take(time.Now())
			if t == nil {
				break
			}
			m.start(ctx, &wg, t)
		}
		if len(m.waiting) > 0 && m.inFlight < maxInFlight {
			timer.Reset(time.Until(m.waiting[0].due))
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return
		case <-m.changed:
			m.update(time.Now())
		case o := <-m.done:
			m.inFlight--
			o.t.stop()
			// Also when both were ready: nothing is reported after the end.
			if ctx.Err() != nil {
				return
			}
			m.finish(o)
		case <-timer.C:
		}
	}
}

// update makes targets what Set wanted.
func (m *Monitor) update(now time.Time) {
	m.mu.Lock()
	wanted := m.wanted
	m.wanted = nil
	m.mu.Unlock()
	if wanted == nil {
		return
	}
	drop := func(t *target) {
		t.gone = true
		m.waiting.remove(t)
		if t.stop != nil {
			t.stop()
		}
		delete(m.targets, t.id)
	}
	for id, t := range m.targets {
		if _, ok := wanted[id]; !ok {
			drop(t)
		}
	}
	for id, c := range wanted {
		c = c.withDefaults()
		t := &target{id: id, check: c, due: now, index: -1}
		if old := m.targets[id]; old != nil {
			if old.check.equal(c) {
				continue
			}
			drop(old)
			t.state, t.checks, t.failures = old.state, old.checks, old.failures
			t.state.against = 0
		}
		t.state.rise, t.state.fall = c.Rise, c.Fall
		m.targets[id] = t
		m.waiting.add(t)
	}
}

// start begins a check.
func (m *Monitor) start(ctx context.Context, wg *sync.WaitGroup, t *target) {
	ctx, t.stop = context.WithCancel(ctx)
	m.inFlight++
	check := t.check
	wg.Go(func() {
		start := time.Now()
		err := m.probe(ctx, check)
		// Never blocks: there is room for all that are in flight.
		m.done <- outcome{t, err, start, time.Now()}
	})
}

// finish takes the result of a check in.
func (m *Monitor) finish(o outcome) {
	t := o.t
	if t.gone {
		return
	}
	t.stop = nil
	t.due = t.next(o.end)
	m.waiting.add(t)

	t.checks++
	if o.err != nil {
		t.failures++
	}
	r := Result{
		ID: t.id, Changed: t.state.observe(o.err == nil), Up: t.state.up, Err: o.err,
		Took: o.end.Sub(o.start), At: o.end, Checks: t.checks, Failures: t.failures,
	}
	// What changes a verdict is the caller's to tell; this is not in a verdict.
	if r.Err != nil && r.Up {
		m.log.Info("check failed, real server is still up", "service", t.id.Service, "real_server", t.id.Server,
			"took", r.Took, "err", r.Err, "failed", t.state.against, "fall", t.check.Fall)
	}
	m.report(r)
}
