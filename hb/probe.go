package hb

import "time"

// calmPeriod is the least time between calm probes and questions to a host;
// calmBeats is the same in keepalives. When a link is new or has returned there
// is one in each keepalive until one is answered, for warmTries at most, so that
// there is something to go by. The peer is given a dead time then to deal with
// what its return means, and warmProbes more tell what is normal.
const (
	calmPeriod = time.Second
	calmBeats  = 10
	warmTries  = 16
	warmProbes = 8
)

// sendProbe sends NS_probe with the number c.probes. late: the peer is
// suspected and shall send a beat besides the answer.
func (c *Core) sendProbe(now time.Time, p *peer, medium string, late bool) {
	b := c.begin("NS_probe")
	b.text("dest", p.name)
	b.number("n", c.probes, 16)
	if late {
		b.text("late", "1")
	}
	c.finish(b, now, false, false, nil)
	c.out.packets[len(c.out.packets)-1].Medium = medium
}

// probe sends one probe with a number of its own.
func (c *Core) probe(now time.Time, p *peer, medium string, late bool) {
	c.probes++
	c.sendProbe(now, p, medium, late)
}

// calm measures, now and then, the round trip on every link and whether the
// peer's host answers, so that a suspicion knows what to expect.
func (c *Core) calm(now time.Time, p *peer) {
	if now.Before(p.calmAt) {
		return
	}
	wait := max(calmPeriod, calmBeats*p.keepalive)
	if p.warm > 0 {
		p.warm--
		wait = p.keepalive
	}
	p.calmAt = now.Add(wait)
	c.probe(now, p, "", false)
	for i := range p.links {
		l := &p.links[i]
		if l.state != LinkUp {
			continue
		}
		if l.calm != 0 {
			l.answers.take(false)
		}
		l.calm, l.calmAt = c.probes, now
	}
	c.askHost(now, p)
}

// returned begins anew to learn what is normal on a link.
func (c *Core) returned(now time.Time, p *peer, medium int) {
	p.calmAt, p.warm = now, warmProbes+warmTries
	p.links[medium].trip.stale, p.echo.trip.stale = true, true
}

// normal: answers that come now are not the first after a return.
func (p *peer) normal() bool { return p.warm < warmProbes }

func (c *Core) askHost(now time.Time, p *peer) {
	p.echo.asked, p.echo.open, p.echo.mixed = now, true, false
	c.out.asks = append(c.out.asks, p.name)
}

// heardProbe answers NS_probe on the medium on which it came. Who is held for
// late sends a beat as well, for the beats before may have been lost: only a
// beat renews its lease and the peer's patience, both at once. Beats on demand
// are limited to sixteen in a keepalive.
func (c *Core) heardProbe(now time.Time, p *peer, medium string, in *incoming) {
	n, ok := in.GetUint("n", 16)
	if !ok {
		c.counters.Bad++
		c.report(now, reportMalformed, p.id, Warn, "node %s sends a probe without a number", p.name)
		return
	}
	if _, late := in.Get("late"); late && now.Sub(c.lastBeat) >= c.cfg.Keepalive/16 {
		c.sendStatus(now)
	}
	b := c.begin("NS_alive")
	b.text("dest", p.name)
	b.number("n", n, 16)
	c.finish(b, now, false, false, nil)
	answer := &c.out.packets[len(c.out.packets)-1]
	answer.Medium, answer.Answer = medium, true
}

// heardAlive takes the answer to one of our probes. Numbers never recur, not
// even after a restart, so an answer that somebody has recorded proves nothing.
func (c *Core) heardAlive(now time.Time, p *peer, medium int, in *incoming) {
	n, ok := in.GetUint("n", 16)
	if !ok {
		c.counters.Bad++
		c.report(now, reportMalformed, p.id, Warn, "node %s answers a probe without its number", p.name)
		return
	}
	if in.gen != p.gen {
		return
	}
	if medium >= 0 {
		if l := &p.links[medium]; l.calm == n {
			l.calm = 0
			l.answers.take(true)
			if p.normal() || !l.trip.known {
				l.trip.sample(now.Sub(l.calmAt))
			}
			if !p.normal() {
				p.warm, p.calmAt = warmProbes, now.Add(p.deadtime)
			}
		}
	}
	if s := &p.suspicion; s.on && n >= s.first && n <= s.last {
		by := "an answer"
		if medium >= 0 {
			by = "an answer on " + c.cfg.Media[medium]
		}
		c.trust(now, p, by)
	}
}

// echo is what we know of a peer's host by asking it.
type echo struct {
	trip   roundTrip
	asked  time.Time
	open   bool // no answer since
	mixed  bool // an answer may be to another question: its time says nothing
	missed int  // questions without an answer in a row, while the peer beat
}

// echoMisses is how many questions in a row may be lost.
const echoMisses = 2

// works: silence of the host would mean something. It has answered, and did so
// lately.
func (e *echo) works() bool { return e.trip.known && e.missed <= echoMisses }

func (e *echo) answered(now time.Time, normal bool) {
	if e.open && !e.mixed && (normal || !e.trip.known) {
		e.trip.sample(now.Sub(e.asked))
	}
	e.open, e.missed = false, 0
}

// checkEcho, at a beat of the peer: a question that was asked well before it
// and has no answer yet will have none. Asked again until that can be no
// accident: the host may have begun to drop such questions.
func (c *Core) checkEcho(now time.Time, p *peer) {
	e := &p.echo
	if !e.open || now.Sub(e.asked) < max(p.keepalive/2, e.trip.patience()) {
		return
	}
	e.open = false
	if e.trip.known {
		if e.missed++; e.missed <= echoMisses {
			c.askHost(now, p)
		}
	}
}
