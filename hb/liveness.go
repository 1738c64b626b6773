package hb

import (
	"fmt"
	"time"
)

// ownDeadtime is the dead time we announce (section 7).
func (c *Core) ownDeadtime() time.Duration {
	if c.graceEnds.IsZero() {
		return c.cfg.Deadtime
	}
	return c.cfg.Deadtime + c.cfg.StartGrace
}

// silenceLimit is how long the peer may be silent now. Initdead is for nodes that
// begin later than we, on networks that do, and for old ones as the original has
// it (section 7). A Systole node that was heard is held to its word at once: for
// who waits for others so much longer, a part of the cluster that has long given
// us up would go on to be with us (package membership, promise 4).
func (c *Core) silenceLimit(p *peer) time.Duration {
	if !c.complete && !p.systole {
		return max(c.cfg.Initdead, p.deadtime)
	}
	return p.deadtime
}

// Tick does everything that is due.
func (c *Core) Tick(now time.Time) {
	now = c.enter(now)
	if !c.graceEnds.IsZero() && !now.Before(c.graceEnds) {
		c.graceEnds = time.Time{}
		// A new dead time is announced at once, unless the beat does it.
		if now.Before(c.nextBeat) {
			c.sendStatus(now)
		}
	}
	if !now.Before(c.nextBeat) {
		c.beat(now)
	}
	// The last death can complete the membership, and then shorter limits
	// hold for the others.
	for again := true; again; {
		again = false
		for _, p := range c.peers {
			if p.status != Dead && !now.Before(p.since.Add(c.silenceLimit(p))) {
				c.die(now, p)
				again = true
			}
		}
	}
	c.expirePings(now)
	for _, p := range c.peers {
		if at := p.order.endAt; !at.IsZero() && !now.Before(at) {
			c.releaseDead(p)
		}
		c.watch(now, p)
		c.expireLinks(now, p.name, p.links, p.deadtime)
		c.watchLinks(now, p)
		c.requestMissing(now, p)
	}
	c.expireLinks(now, c.cfg.Node, c.links, c.cfg.Deadtime)
	if c.asking && !now.Before(c.nextAsk) {
		c.ask(now)
	}
	if at := c.guard.answerAt; !at.IsZero() && !now.Before(at) {
		c.answerNow(now)
	}
}

// Deadline is when Tick is to be called next; it may be past.
func (c *Core) Deadline() time.Time {
	if c.deadline.IsZero() {
		c.deadline = c.earliestDeadline()
	}
	return c.deadline
}

func (c *Core) earliestDeadline() time.Time {
	at := c.nextBeat
	earlier := func(t time.Time) {
		if t.Before(at) {
			at = t
		}
	}
	if !c.graceEnds.IsZero() {
		earlier(c.graceEnds)
	}
	if c.asking {
		earlier(c.nextAsk)
	}
	if !c.guard.answerAt.IsZero() {
		earlier(c.guard.answerAt)
	}
	for _, p := range c.peers {
		if p.due.IsZero() {
			p.due = c.peerDeadline(p)
		}
		earlier(p.due)
	}
	for i := range c.pings {
		if c.pings[i].status != Dead {
			earlier(c.pings[i].since.Add(c.pingLimit()))
		}
	}
	for i := range c.links {
		if c.links[i].state != LinkDead {
			earlier(c.links[i].since.Add(c.cfg.Deadtime))
		}
	}
	return at
}

// peerDeadline is when there is something to do about a peer. It depends on that
// peer, on the media that work and on whether the membership is complete.
func (c *Core) peerDeadline(p *peer) time.Time {
	at := c.linksDeadline(p)
	if !p.order.endAt.IsZero() {
		at = earliest(at, p.order.endAt)
	}
	if p.status == Dead {
		return at
	}
	for i := range p.win.missing {
		at = earliest(at, p.win.missing[i].due)
	}
	return earliest(earliest(at, p.since.Add(c.silenceLimit(p))), c.suspicionDeadline(p))
}

// beat sends the periodic status. The schedule is absolute, so a late beat
// does not delay those after it; beats that were missed altogether are not
// made up for.
func (c *Core) beat(now time.Time) {
	c.sendStatus(now)
	c.nextBeat = c.nextBeat.Add(c.cfg.Keepalive)
	if behind := now.Sub(c.nextBeat); behind >= 0 {
		c.nextBeat = c.nextBeat.Add((behind/c.cfg.Keepalive + 1) * c.cfg.Keepalive)
	}
}

// die declares a node dead. What is missing from it stays on the list: if it
// returns with the same generation it can still be asked.
func (c *Core) die(now time.Time, p *peer) {
	silence, limit := now.Sub(p.since), c.silenceLimit(p)
	why := fmt.Sprintf("silent for %v, its dead time is %v", silence, limit)
	switch {
	case !p.heard:
		why = fmt.Sprintf("not heard within initdead %v", limit)
	case limit > p.deadtime:
		why = fmt.Sprintf("silent for initdead %v", limit)
	}
	if s := &p.suspicion; s.on && s.echoes > 0 {
		why += fmt.Sprintf("; its host runs: it answered %d of %d echo requests", s.echoes, s.asks)
	}
	from := p.status
	p.status, p.suspicion.on = Dead, false
	c.event(NodeChanged{Node: p.name, From: from, To: Dead, Why: why, Silence: silence})
	c.bury(now, p)
}

// bury does what any death has as a consequence.
func (c *Core) bury(now time.Time, p *peer) {
	c.releaseDead(p)
	if c.asking && c.asked == p {
		c.nextAsk = now
	}
	c.checkComplete(now)
}

// restarted notes a higher generation (section 6.2). The original learns
// generations from status messages only; here any numbered message will do,
// because the numbers of the new generation say nothing in the old one: a
// message that overtook its status would be dropped as a duplicate.
func (c *Core) restarted(now time.Time, p *peer, gen uint64) {
	from, old := p.status, p.gen
	c.trust(now, p, "its restart")
	c.lost(p, p.win.abandon())
	c.releaseUpTo(p, p.win.last)
	p.win, p.order = window{}, order{}
	for i := range p.links {
		p.links[i].numbers.restart(p.newest)
	}
	p.newest, p.systole, p.ends = 0, false, false
	if from != Dead {
		p.win.fromOne()
		p.guard.first = 0
	}
	p.gen, p.status, p.since = gen, Init, now
	p.statusAt, p.statusSeq, p.deadtime = time.Time{}, 0, c.cfg.Deadtime
	p.ackSent, p.acked, p.ackBase = 0, 0, c.history.newest
	c.event(NodeChanged{
		Node: p.name, From: from, To: Init, Restarted: true,
		Why: fmt.Sprintf("generation %d after %d", gen, old),
	})
}

// heardStatus takes a status message in that is new (section 7). Only these
// prove life.
func (c *Core) heardStatus(now time.Time, p *peer, m *incoming) {
	before, from := p.statusAt, p.status
	if interval := now.Sub(p.since); !before.IsZero() && from != Dead && interval > c.cfg.Warntime {
		p.lateBeats++
		c.report(now, reportLate, p.id, Warn, "late heartbeat: node %s: interval %v", p.name, interval)
	}
	p.since, p.statusAt = now, now
	if m.seq < p.statusSeq {
		return // retransmitted: it is alive, but this is old news
	}
	p.statusSeq = m.seq
	if p.quiet {
		// Whoever joins by itself is shown from its second status on.
		p.quiet = false
		if m.hasDeadtime {
			p.deadtime = m.deadtime
		}
		return
	}
	c.heardSystole(now, p, m)
	if !m.protocol && c.flow {
		c.flow = false
		c.event(Report{Info, fmt.Sprintf("node %s does not speak protocol 1: no acknowledgements and no flow control from now on", p.name)})
	}
	if m.hasDeadtime {
		p.deadtime = m.deadtime
	} else {
		c.report(now, reportMalformed, p.id, Warn, "status of node %s has no usable dead time (dt=%.40q): keeping %v", p.name, m.deadtimeText, p.deadtime)
	}
	to := m.status
	if to == "" {
		c.report(now, reportMalformed, p.id, Warn, "status of node %s has an unknown status word (st=%.40q)", p.name, m.statusText)
		if to = from; to == Dead {
			to = Init
		}
	}
	p.status = to
	if from == Dead {
		p.ackBase = c.history.newest
		c.schedule(now, p, len(p.win.missing))
	}
	switch {
	case from == Dead && !before.IsZero():
		c.event(NodeChanged{Node: p.name, From: from, To: to, Returned: true, Systole: p.systole, Why: "heard again with the same generation"})
	case from == Dead:
		c.event(NodeChanged{Node: p.name, From: from, To: to, Systole: p.systole, Why: "heard for the first time"})
	case from != to:
		c.event(NodeChanged{Node: p.name, From: from, To: to, Systole: p.systole, Why: "it says so"})
	}
}

// heardSystole takes what only a Systole node says of itself in its status.
func (c *Core) heardSystole(now time.Time, p *peer, m *incoming) {
	deadtime := p.deadtime
	if m.hasDeadtime {
		deadtime = m.deadtime
	}
	p.systole = m.systole && m.keepalive > 0 && deadtime > 2*m.keepalive
	if !p.systole {
		p.ends = false
		if m.systole {
			c.report(now, reportMalformed, p.id, Warn, "status of node %s has no usable keepalive (%v, dead time %v): it is judged by its dead time alone", p.name, m.keepalive, deadtime)
		}
		c.trust(now, p, "status")
		return
	}
	p.keepalive, p.ends = m.keepalive, m.ends
	c.checkEcho(now, p)
}
