package demo

import (
	"context"
	"fmt"
	"slices"
	"time"

	"systole/test/netlab/probe"
)

// Spread of some durations, in milliseconds.
type Spread struct {
	Median float64   `json:"median"`
	Worst  float64   `json:"worst"`
	All    []float64 `json:"all"` // in the order measured
}

func spread(d []time.Duration) Spread {
	s := Spread{Median: millis(probe.Median(d))}
	for _, x := range d {
		s.All = append(s.All, millis(x))
	}
	if len(d) > 0 {
		s.Worst = millis(slices.Max(d))
	}
	return s
}

// Measure is what one kind of failover did to the client over some runs.
type Measure struct {
	Event string `json:"event"`
	Runs  int    `json:"runs"`
	// Gap is the longest time without an answer that a client asking every
	// millisecond saw; Stall the longest pause of that client itself.
	Gap       Spread `json:"gap_ms"`
	Stall     Spread `json:"stall_ms"`
	Takeover  Spread `json:"takeover_ms"` // event to the peer's status
	Lost      int    `json:"questions_lost"`
	Requests  *int   `json:"requests,omitempty"` // of planned hand-overs
	Failed    *int   `json:"requests_lost,omitempty"`
	Broken    *int   `json:"connections_broken,omitempty"`
	TwoOwners int    `json:"two_owner_ticks"` // planned: by ARP, as two may forward
	Ticks     int    `json:"ticks"`
}

func (m Measure) requests() string {
	if m.Failed == nil {
		return "-"
	}
	return fmt.Sprint(*m.Failed)
}

// measure does each failover n times, from whichever director is active.
func (d *demo) measure(ctx context.Context, n int, p *printer) ([]Measure, error) {
	d.settings.AutoFailback = false
	if err := d.writeConfigs(); err != nil {
		return nil, err
	}
	for _, x := range d.nodes() {
		if err := x.start(); err != nil {
			return nil, err
		}
	}
	var out []Measure
	for _, e := range []event{killed, cut, d.standby()} {
		m := Measure{Event: e.name, Runs: n}
		if e.planned {
			m.Requests, m.Failed, m.Broken = new(int), new(int), new(int)
		}
		var gaps, stalls, tooks []time.Duration
		for i := range n {
			p.doing("%s, run %d of %d", e.name, i+1, n)
			active, err := d.restore(ctx)
			if err != nil {
				return out, err
			}
			x, took, err := d.fail(ctx, e, active)
			if err != nil {
				return out, err
			}
			gaps, stalls, tooks = append(gaps, x.gap), append(stalls, x.stall), append(tooks, took)
			m.Lost += x.lost
			m.Ticks += x.owners.Ticks
			two := x.owners.Two
			if e.planned {
				two = x.owners.TwoARP
				*m.Requests += x.web.Requests
				*m.Failed += x.web.Failed
				*m.Broken += x.kept.Broken
			}
			m.TwoOwners += two
		}
		m.Gap, m.Stall, m.Takeover = spread(gaps), spread(stalls), spread(tooks)
		out = append(out, m)
	}
	return out, nil
}

// restore undoes the last event and returns who is active now.
func (d *demo) restore(ctx context.Context) (*node, error) {
	for _, n := range d.nodes() {
		if err := n.host.Plug(); err != nil { // nothing happens to one that is in
			return nil, err
		}
		if n.proc == nil {
			if err := n.start(); err != nil {
				return nil, err
			}
		}
	}
	got, err := d.until(ctx, 20*time.Second, "the pair is whole again", d.settled(nil))
	if err != nil {
		return nil, err
	}
	for n, s := range got {
		if s.Role == "active" {
			return n, nil
		}
	}
	return nil, errAborted // settled has seen one
}
