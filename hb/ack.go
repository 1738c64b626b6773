package hb

import "time"

// acknowledge sends an NS_ackmsg if one is due (section 6.4): for the highest
// number of the peer that is congruent to our trigger and has nothing missing
// below it. So about every tenth message is acknowledged, by different nodes
// at different numbers.
func (c *Core) acknowledge(now time.Time, p *peer) {
	if !c.flow {
		return
	}
	n := p.win.contiguous()
	over := (n%ackEvery + ackEvery - p.trigger) % ackEvery
	if n < over || n-over <= p.ackSent {
		return
	}
	p.ackSent = n - over
	b := c.begin("NS_ackmsg")
	b.text("dest", p.name)
	b.number("ackseq", p.ackSent, 16)
	c.finish(b, now, false, false, p.uuidOrNil())
}

// heardAck notes what a peer has got of ours.
func (c *Core) heardAck(now time.Time, p *peer, in *incoming) {
	seq, ok := in.GetUint("ackseq", 16)
	switch {
	case !ok:
		c.counters.Bad++
		c.report(now, reportMalformed, p.id, Warn, "node %s acknowledges without a number", p.name)
	case seq > c.history.newest:
		// Right after a restart of ours this is an acknowledgement of the
		// generation before.
		c.report(now, reportAck, p.id, Warn, "node %s acknowledges message %d, our newest is %d: ignored", p.name, seq, c.history.newest)
	case in.gen == p.gen:
		p.acked = max(p.acked, seq)
	}
}

// unacked is how many of our messages some live peer has not acknowledged.
// What was sent before a peer came does not count for it, so with no live
// peer it is 0.
func (c *Core) unacked() uint64 {
	low := c.history.newest
	for _, p := range c.peers {
		if p.live() {
			low = min(low, max(p.acked, p.ackBase))
		}
	}
	return c.history.newest - low
}

// Unacked is View.Unacked alone: above 250 Submit fails with ErrFlow.
func (c *Core) Unacked() uint64 { return c.unacked() }

// watchBacklog reports that the peers do not acknowledge; status messages go
// out regardless.
func (c *Core) watchBacklog(now time.Time) {
	if !c.flow || c.history.newest < flowWarn {
		return
	}
	switch n := c.unacked(); {
	case n > flowError:
		c.report(now, reportBacklogError, 0, Error, "%d of our messages are unacknowledged: does a node not receive us?", n)
	case n > flowWarn:
		c.report(now, reportBacklog, 0, Warn, "%d of our messages are unacknowledged", n)
	}
}
