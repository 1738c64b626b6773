package demo

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"systole/test/netlab/probe"
)

func webRequestAt(port uint16) netip.AddrPort { return netip.AddrPortFrom(vip, port) }

// gapLimit is the longest outage after a crash or a cut cable: the deadtime,
// and what it takes to notice that it is over and to answer. How long the
// probe itself stood still comes on top: nobody can see better than that.
const gapLimit = deadtime + 10*time.Millisecond

// watch is the set of probes that look at one event.
type watch struct {
	udp   *probe.UDP
	owner *probe.Ownership
	web   *probe.HTTP
	kept  *probe.Kept
}

// seen is what they saw.
type seen struct {
	gap, stall time.Duration
	questions  int
	lost       int
	owners     probe.Owners
	web        probe.Tally
	kept       probe.KeptResult
}

// watching starts the probes and returns when the service is seen to answer.
// planned events get the probes that must not see anything at all.
func (d *demo) watching(ctx context.Context, planned bool) (_ *watch, err error) {
	w := new(watch)
	defer func() {
		if err != nil {
			w.stop()
		}
	}()
	if w.udp, err = d.startUDP(); err != nil {
		return nil, err
	}
	if w.owner, err = d.startOwnership(); err != nil {
		return nil, err
	}
	if planned {
		if w.kept, err = probe.StartKept(ctx, d.client, webRequest(), 4); err != nil {
			return nil, err
		}
		w.web = probe.StartHTTP(d.client, webRequest(), 2)
	}
	return w, w.served(ctx, time.Now())
}

// served waits until a question sent after t is answered.
func (w *watch) served(ctx context.Context, t time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return w.udp.Served(ctx, t)
}

// stop ends the probes that run.
func (w *watch) stop() (s seen) {
	if w.web != nil {
		s.web = w.web.Stop()
	}
	if w.kept != nil {
		s.kept = w.kept.Stop()
	}
	if w.owner != nil {
		s.owners = w.owner.Stop()
	}
	if w.udp != nil {
		series := w.udp.Stop()
		s.gap, s.stall = series.Gap().Length(), series.Stall()
		s.lost, s.questions = series.Lost(), len(series.Shots)
	}
	return s
}

// event is a thing done to the active director, and how to tell that the pair
// has coped with it.
type event struct {
	name    string
	planned bool
	do      func(ctx context.Context, active *node) error
	coped   func(next *node) func(pair) string
}

var (
	killed = event{
		name: "kill -9",
		do: func(_ context.Context, n *node) error {
			n.kill()
			return nil
		},
		coped: owns,
	}
	cut = event{
		name:  "cable cut",
		do:    func(_ context.Context, n *node) error { return n.host.Cut() },
		coped: owns,
	}
)

// standby is the planned hand-over, asked of the one who has the address.
func (d *demo) standby() event {
	return event{
		name: "standby", planned: true,
		do:    func(ctx context.Context, n *node) error { return n.api.Standby(ctx, "all") },
		coped: d.alone,
	}
}

// takeover is the same, asked of the other.
func (d *demo) takeover() event {
	return event{
		name: "takeover", planned: true,
		do:    func(ctx context.Context, n *node) error { return d.other(n).api.Takeover(ctx, "all") },
		coped: d.alone,
	}
}

// fail does the event to the active director under the eyes of the probes. It
// returns what they saw and how long it took until the peer had taken over.
func (d *demo) fail(ctx context.Context, e event, active *node) (s seen, took time.Duration, err error) {
	w, err := d.watching(ctx, e.planned)
	if err != nil {
		return s, 0, err
	}
	defer func() { s = w.stop() }()
	begin := time.Now()
	if err := e.do(ctx, active); err != nil {
		return s, 0, fmt.Errorf("%s of %s: %w", e.name, active.name, err)
	}
	next := d.other(active)
	if _, err := d.until(ctx, 10*time.Second, next.name+" takes over", e.coped(next)); err != nil {
		return s, 0, err
	}
	took = time.Since(begin)
	if err := w.served(ctx, time.Now()); err != nil {
		return s, took, err
	}
	if e.planned {
		// The one that handed over goes on forwarding for a while.
		_, err = d.until(ctx, 10*time.Second, "the hand-over is complete", d.settled(next))
		return s, took, err
	}
	observe(ctx, deadtime)
	return s, took, nil
}

// outage puts what an unplanned event did to the client into a step.
func (s *Step) outage(x seen, took time.Duration) {
	s.figure("gap", x.gap)
	s.figure("probe_stall", x.stall)
	s.figure("takeover", took)
	s.figure("lost", x.lost)
	s.figure("two_owner_ticks", x.owners.Two)
	s.saw("gap %s, %d of %d questions at 1 ms lost (the probe's own longest pause: %s)", short(x.gap), x.lost, x.questions, short(x.stall))
	s.saw("owners: %s; two at once: %d", x.owners, x.owners.Two)
	s.require(x.gap <= gapLimit+x.stall, "gap %s, want at most %s", short(x.gap), short(gapLimit))
	s.require(x.owners.Two == 0, "two owners in %d ticks, first after %s", x.owners.Two, short(x.owners.First))
}

// handover puts what a planned event did to the client into a step.
func (s *Step) handover(x seen, took time.Duration) {
	s.figure("gap", x.gap)
	s.figure("probe_stall", x.stall)
	s.figure("takeover", took)
	s.figure("requests", x.web.Requests)
	s.figure("requests_lost", x.web.Failed)
	s.figure("connections_broken", x.kept.Broken)
	s.figure("two_arp_ticks", x.owners.TwoARP)
	s.figure("two_forward_ticks", x.owners.TwoForward)
	s.saw("done after %s; %d requests, %d lost; %d open connections, %d broken",
		short(took), x.web.Requests, x.web.Failed, x.kept.Connections, x.kept.Broken)
	s.saw("gap of the 1 ms probe %s (its own longest pause: %s)", short(x.gap), short(x.stall))
	s.require(x.web.Failed == 0, "%d of %d requests lost, the first: %v", x.web.Failed, x.web.Requests, x.web.First)
	s.require(x.kept.Broken == 0, "%d of %d open connections broken, the first: %v", x.kept.Broken, x.kept.Connections, x.kept.First)
}
