package hb

import (
	"fmt"
	"time"
)

const (
	leastGrace   = time.Millisecond
	leastWindow  = 2 * time.Millisecond
	leastSpacing = 500 * time.Microsecond
	leastProbes  = 8

	refusalsNeeded = 2  // of the packets of one suspicion
	refusalsRest   = 10 // keepalives in which a refusal that meant nothing raises no suspicion again
)

// suspicion is one look at a node that may be dead.
type suspicion struct {
	on        bool
	begun     time.Time
	first     uint64 // numbers of its probes
	last      uint64
	sent      int // rounds of probes
	need      int
	spacing   time.Duration
	next      time.Time // the next round
	verdict   time.Time // end of the window; never until the last round is sent
	over      bool      // the window has passed without a death: the dead time decides
	echoes    int       // answers of its host
	asks      int
	refused   int
	refusedBy uint64    // media, by index: bit index mod 64
	refusedAt time.Time // the last refusal that was needed
	recheck   time.Time // we were late ourselves: no judgement before
}

// grace is by how much the peer's beat may be late.
func (c *Core) grace(p *peer) time.Duration {
	if c.cfg.Grace > 0 {
		return c.cfg.Grace
	}
	return max(p.expectedKeepalive()/4, leastGrace)
}

// window is how long a suspected node is asked, if that is enough for all
// probes.
func (c *Core) window(p *peer) time.Duration {
	if c.cfg.Window > 0 {
		return c.cfg.Window
	}
	return max(p.expectedKeepalive()/4, leastWindow)
}

// pace is how many probes the link needs, how far apart, and how long that
// takes. A line that is slow is not given more than it carries.
func (c *Core) pace(p *peer, l *link) (need int, spacing, took time.Duration) {
	need = probesFor(l.lossRoundTrip(p))
	spacing = max(c.window(p)/time.Duration(need), leastSpacing, l.trip.smooth/2)
	return need, spacing, time.Duration(need) * spacing
}

// usable: we can send on the medium, and the peer was heard there.
func (c *Core) usable(p *peer, medium int) bool {
	return c.broken[medium] == 0 && p.links[medium].state != LinkDead
}

// reference is the link whose probes make up the window: the one that needs the
// shortest. -1 if there is none that is known to answer.
func (c *Core) reference(p *peer) int {
	best, shortest := -1, time.Duration(0)
	for i := range p.links {
		if !c.usable(p, i) || !p.links[i].trip.known {
			continue
		}
		if _, _, took := c.pace(p, &p.links[i]); best < 0 || took < shortest {
			best, shortest = i, took
		}
	}
	return best
}

// watched: the peer answers probes, and its silence means something.
func (c *Core) watched(p *peer) bool { return c.complete && p.systole && p.live() }

// lateAt is when the peer's beat is late. After a look that found it alive
// there is another one soon, until a beat comes: each look asks for one.
func (c *Core) lateAt(p *peer) time.Time {
	return latest(p.since.Add(p.keepalive+c.grace(p)), p.lookAt)
}

// suspect begins a suspicion, with the first probe at once.
func (c *Core) suspect(now time.Time, p *peer, why string) {
	if !c.watched(p) || p.suspicion.on {
		return
	}
	c.counters.Suspicions++
	c.event(Suspected{Node: p.name, Why: why})
	for i := range p.links {
		p.links[i].calm = 0 // its answer would measure the trouble
	}
	p.echo.mixed = true
	c.look(now, p)
}

// look begins the window: also again, if we were deaf in it.
func (c *Core) look(now time.Time, p *peer) {
	s := &p.suspicion
	*s = suspicion{on: true, begun: now, first: c.probes + 1, verdict: never}
	if ref := c.reference(p); ref >= 0 {
		s.need, s.spacing, _ = c.pace(p, &p.links[ref])
	} else {
		s.need, s.spacing = leastProbes, max(c.window(p)/leastProbes, leastSpacing)
	}
	for i := range p.links {
		p.links[i].pressAt = now
	}
	c.press(now, p)
}

// press sends one round of probes on every medium, and asks the host. When the
// window is over the probes do not ask for beats: whoever cannot be heard for
// long would use up its history for them.
func (c *Core) press(now time.Time, p *peer) {
	s := &p.suspicion
	c.probes++
	s.last = c.probes
	for i := range p.links {
		l := &p.links[i]
		if now.Before(l.pressAt) {
			continue // a slow line still carries the one before
		}
		l.pressAt = now.Add(l.trip.smooth / 2)
		c.sendProbe(now, p, c.cfg.Media[i], !s.over)
	}
	c.out.asks = append(c.out.asks, p.name)
	s.asks++
	s.sent++
	if s.over {
		s.next = now.Add(onwards(p))
		return
	}
	s.next = now.Add(s.spacing)
	if s.sent >= s.need {
		s.next, s.verdict = never, latest(now.Add(s.spacing), c.patience(p, now))
	}
}

// onwards is how far apart probes are after the window. A dead time of very many
// keepalives is no reason to fill the socket of a daemon that hangs.
func onwards(p *peer) time.Duration { return max(p.keepalive/2, p.deadtime/32, leastSpacing) }

// patience is when the probes of a suspicion are unanswered: the last one on
// the reference link, the first one on the slower ones, and the first question
// to the host.
func (c *Core) patience(p *peer, lastSent time.Time) time.Time {
	s := &p.suspicion
	at := s.begun
	if ref := c.reference(p); ref >= 0 {
		at = latest(at, lastSent.Add(p.links[ref].trip.patience()))
	}
	for i := range p.links {
		if l := &p.links[i]; l.state != LinkDead && l.trip.known {
			at = latest(at, s.begun.Add(l.trip.patience()))
		}
	}
	if p.echo.trip.known {
		at = latest(at, s.begun.Add(p.echo.trip.patience()))
	}
	return at
}

// watch looks after a peer's beats, and after its suspicion if there is one.
func (c *Core) watch(now time.Time, p *peer) {
	if !c.watched(p) {
		return
	}
	s := &p.suspicion
	switch {
	case !s.on && !now.Before(c.lateAt(p)):
		c.suspect(now, p, fmt.Sprintf("its beat is late: the last one was %v ago, it promised one every %v", now.Sub(p.since), p.keepalive))
	case !s.on:
		c.calm(now, p)
	case !now.Before(s.next):
		c.press(now, p)
	}
	c.judge(now, p)
}

// judge ends a suspicion with a death if the evidence is complete.
func (c *Core) judge(now time.Time, p *peer) {
	s := &p.suspicion
	if !s.on {
		return
	}
	refusedAt := c.refusedAt(p)
	at := earliest(refusedAt, s.verdict)
	if s.over {
		at = refusedAt
	}
	if now.Before(at) {
		return
	}
	// Were we late ourselves, an answer may be waiting to be read: one more
	// round, which it has the time to overtake.
	if now.Sub(at) > c.grace(p)/2 {
		s.need, s.verdict = max(s.need, s.sent+1), never
		s.recheck = now.Add(s.spacing)
		c.press(now, p)
		return
	}
	took := now.Sub(s.begun).Round(100 * time.Microsecond)
	switch {
	case !now.Before(refusedAt):
		c.dieEarly(now, p, true, fmt.Sprintf("its host refused %d packets and it answered none of %d probes in %v: its daemon has ended, and its data plane with it", s.refused, s.sent, took))
	case c.silent(p):
		c.dieEarly(now, p, false, fmt.Sprintf("no answer to %d probes and %d echo requests in %v", s.sent, s.asks, took))
	default:
		s.over, s.verdict = true, never
		s.next = now.Add(onwards(p))
	}
}

// silent is the evidence that the peer's machine is gone, or cut off: nothing
// of it answers, and everything that could answer is known to do so. A refusal
// is an answer of the machine.
func (c *Core) silent(p *peer) bool {
	s := &p.suspicion
	return s.refused == 0 && s.echoes == 0 && c.silenceCounts(p)
}

// silenceCounts: all that could answer for the peer is known to do so.
func (c *Core) silenceCounts(p *peer) bool {
	if c.cfg.NoEarlyDeath || !p.echo.works() || c.reference(p) < 0 {
		return false
	}
	for i := range p.links {
		if c.usable(p, i) && !p.links[i].trip.known {
			return false // it may answer, but how fast is not known
		}
	}
	return true
}

// lookTime is how long a look at the peer that begins now lasts until its
// silence is a death; 0 if only the dead time would make it one.
func (c *Core) lookTime(p *peer) time.Duration {
	if !c.watched(p) || !c.silenceCounts(p) {
		return 0
	}
	ref := &p.links[c.reference(p)]
	need, spacing, took := c.pace(p, ref)
	took = max(took, time.Duration(need-1)*spacing+ref.trip.patience(), p.echo.trip.patience())
	for i := range p.links {
		if l := &p.links[i]; l.state != LinkDead && l.trip.known {
			took = max(took, l.trip.patience())
		}
	}
	return took
}

// refusedAt is when refusals are enough evidence that the peer's daemon has
// ended, and with it its data plane: two of them and half a window, or one
// and the whole window. A link that did not refuse must have had the time to
// answer. Never, if they prove nothing of the data plane.
func (c *Core) refusedAt(p *peer) time.Time {
	s := &p.suspicion
	if !p.ends || c.cfg.NoEarlyDeath || s.refused == 0 {
		return never
	}
	at := latest(s.refusedAt, s.begun.Add(c.window(p)/2))
	if s.refused < refusalsNeeded {
		at = s.verdict // never, if it has passed
	}
	for i := range p.links {
		l := &p.links[i]
		if s.refusedBy&(1<<(i%64)) != 0 || !c.usable(p, i) {
			continue
		}
		if !l.trip.known {
			return never
		}
		at = latest(at, s.begun.Add(l.trip.patience()))
	}
	return latest(at, s.recheck)
}

// dieEarly declares a node dead before its dead time. ended: its data plane is
// known to have ended, too.
func (c *Core) dieEarly(now time.Time, p *peer, ended bool, why string) {
	c.counters.EarlyDeaths++
	from := p.status
	p.status = Dead
	p.suspicion.on = false
	c.event(NodeChanged{Node: p.name, From: from, To: Dead, Why: why, Silence: now.Sub(p.since), Early: true, Ended: ended})
	for i := range p.links {
		if p.links[i].state != LinkDead {
			c.linkDied(now, p.name, p.links, i, "its node is dead")
		}
	}
	c.bury(now, p)
}

// trust ends a suspicion: the peer lives.
func (c *Core) trust(now time.Time, p *peer, by string) {
	s := &p.suspicion
	if !s.on {
		return
	}
	s.on = false
	c.counters.Cleared++
	p.lookAt = now.Add(max(p.keepalive/8, leastGrace))
	if s.refused > 0 {
		p.refusalsFrom = now.Add(refusalsRest * p.keepalive)
	}
	c.event(Cleared{Node: p.name, After: now.Sub(s.begun), By: by})
}

// hostAnswered: the peer's machine lives.
func (c *Core) hostAnswered(now time.Time, p *peer) {
	p.echo.answered(now, p.normal())
	if p.suspicion.on {
		p.suspicion.echoes++
	}
}

// portRefused: nobody has the peer's port open. If it was refused while the
// peer answered otherwise, as behind a packet filter that refuses, it does not
// raise suspicion again for a while.
func (c *Core) portRefused(now time.Time, p *peer, medium int) {
	if !c.watched(p) || !c.heardThere(p, medium) {
		return
	}
	if !p.suspicion.on {
		if now.Before(p.refusalsFrom) {
			return
		}
		c.suspect(now, p, "its host refuses our packets")
	}
	s := &p.suspicion
	if s.refused++; s.refused <= refusalsNeeded {
		s.refusedAt = now
	}
	if medium >= 0 {
		s.refusedBy |= 1 << (medium % 64)
	}
	c.judge(now, p)
}

// heardThere: the peer was heard on the medium of a hint, if it names one.
func (c *Core) heardThere(p *peer, medium int) bool {
	return medium < 0 || p.links[medium].state != LinkDead
}

// suspicionDeadline is when watch has something to do.
func (c *Core) suspicionDeadline(p *peer) time.Time {
	s := &p.suspicion
	switch {
	case !c.watched(p):
		return never
	case !s.on:
		return earliest(c.lateAt(p), p.calmAt)
	case s.over:
		return earliest(s.next, c.refusedAt(p))
	}
	return earliest(s.next, earliest(s.verdict, c.refusedAt(p)))
}
