package fallback

import (
	"time"

	"systole/dataplane"
)

// lookPeriod is how often Tend counts connections, and tries to open a plane
// that is not there.
const lookPeriod = 5 * time.Second

// Tend looks after the planes; it is to be called every second or so, and does
// not wait. It tells whether the last snapshot should be applied again: a plane
// has come, can be attached again or refused it, has done with what was leaving
// it, or its interfaces have changed.
func (p *Plane) Tend() (again bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	for _, m := range p.members {
		again = p.welcome(m) || again
		again = again || m.err != nil || m.Plane != nil && m.Plane.Info().Mode == dataplane.Detached
	}
	if x := p.members[0].Plane; x != nil && p.stale != nil && !again {
		again = p.stale(x)
	}
	for i, m := range p.members {
		again = p.hear(i, m) || again
	}
	again = p.tendCarrier() || again
	now := p.now()
	if now.Sub(p.looked) < lookPeriod {
		return again
	}
	p.looked = now
	for i, m := range p.members {
		p.open(m)
		if m.Plane != nil && (len(m.leaving) > 0 || i == 1 && p.strayed) {
			p.count(m)
		}
	}
	return again
}

// count begins to count a plane's connections, beside the caller: a table of
// sixteen million flows is a quarter of a gigabyte to read.
func (p *Plane) count(m *member) {
	if m.counts != nil {
		return
	}
	done := make(chan counted, 1)
	m.counts = done
	go func(pl dataplane.Plane, at dataplane.Generation) {
		st, err := pl.Stats()
		done <- counted{st, err, at}
	}(m.Plane, p.generation)
}

// hear takes what was counted, unless there has been an Apply since: what began
// to leave with that may have had connections that were not counted.
func (p *Plane) hear(i int, m *member) (again bool) {
	var c counted
	select {
	case c = <-m.counts:
	default: // a nil channel, too
		return false
	}
	m.counts = nil
	switch {
	case c.err != nil:
		p.log.Warn("cannot tell whether connections are left", "plane", m.Name, "error", c.err)
		return false
	case c.at != p.generation:
		return false
	}
	again = m.forget(c.stats)
	if i == 1 && p.strayed && !p.ipvsBusy(c.stats) {
		p.strayed, again = false, true
	}
	return again
}

// ipvsBusy tells whether IPVS has open connections of services that XDP holds,
// or carries such a service.
func (p *Plane) ipvsBusy(st dataplane.Stats) bool {
	carriages, err := p.decide(p.services, p.choice)
	if err != nil {
		return true
	}
	shared := make(map[dataplane.ServiceKey]bool)
	for i, c := range carriages {
		if c.Plane != p.members[0].Name && p.members[0].Carries(p.declared(p.services[i])) == nil {
			return true
		}
		shared[c.Service] = c.Holds[0]
	}
	for k, c := range st.Conns {
		if c.Active > 0 && shared[k.Service] {
			return true
		}
	}
	return false
}

// open begins to open a plane that is not there, beside the caller: to load a
// program takes a part of a second.
func (p *Plane) open(m *member) {
	if m.Plane != nil || m.Open == nil || m.opened != nil {
		return
	}
	done := make(chan opened, 1)
	m.opened = done
	go func() {
		pl, err := m.Open()
		done <- opened{pl, err}
	}()
}

// welcome takes a plane that has been opened, and grants it the lease.
func (p *Plane) welcome(m *member) bool {
	var o opened
	select {
	case o = <-m.opened:
	default: // a nil channel, too
		return false
	}
	m.opened = nil
	if o.err != nil {
		m.Why = o.err.Error()
		return false
	}
	p.leaseMu.Lock()
	defer p.leaseMu.Unlock()
	m.Plane, m.Why = o.plane, ""
	if m == p.members[0] {
		p.away = true // IPVS has connections that it has not
	}
	left := p.granted
	if left != dataplane.Unlimited {
		left = max(0, left-p.now().Sub(p.grantAt))
	}
	if err := m.Plane.Renew(left); err != nil {
		p.log.Warn("lease not granted to a plane that has come", "plane", m.Name, "error", err)
	}
	p.log.Info("data plane is there now", "plane", m.Name)
	return true
}
