package hb

import (
	"time"

	"systole/hb/wire"
)

// schedule sets when to ask for the last n missing numbers of a peer: after a
// random delay, so that not all nodes ask at once and packets that merely
// overtook each other are not asked for at all (section 6.3).
func (c *Core) schedule(now time.Time, p *peer, n int) {
	ms := p.win.missing
	for i := len(ms) - n; i < len(ms); i++ {
		low := firstRexmitDelay
		if c.cfg.MaxRexmitDelay < smallRexmitDelay {
			low = 0
		}
		ms[i].due = now.Add(low + time.Duration(c.rnd.Int64N(int64(c.cfg.MaxRexmitDelay-low)+1)))
	}
}

// requestMissing asks a live peer for what is due, one number a request as the
// original does, and at most rexmitBurst requests per MaxRexmitDelay: the peer
// would not answer more (section 6.3).
func (c *Core) requestMissing(now time.Time, p *peer) {
	if !p.live() {
		return
	}
	if now.Sub(p.burstStart) >= c.cfg.MaxRexmitDelay {
		p.burstStart, p.burst = now, 0
	}
	for i := range p.win.missing {
		m := &p.win.missing[i]
		if now.Before(m.due) {
			continue
		}
		if p.burst == rexmitBurst {
			m.due = p.burstStart.Add(c.cfg.MaxRexmitDelay)
			continue
		}
		p.burst++
		m.due, m.asked = now.Add(c.cfg.MaxRexmitDelay), true
		c.counters.Requests++
		b := c.begin("NS_rexmit")
		b.text("dest", p.name)
		b.number("firstseq", m.seq, 10) // decimal, unlike all else
		b.number("lastseq", m.seq, 10)
		c.finish(b, now, false, false, p.uuidOrNil())
	}
}

func (p *peer) uuidOrNil() []byte {
	if p.hasUUID {
		return p.uuid[:]
	}
	return nil
}

// retransmit answers NS_rexmit (section 6.3). The original ignores requests for
// what the asker has acknowledged. But acknowledgements name no generation: one
// for our life before, from a node that has not heard of our restart yet, would
// let it ask in vain for ever.
func (c *Core) retransmit(now time.Time, p *peer, in *incoming) {
	first, ok1 := in.GetUint("firstseq", 10)
	last, ok2 := in.GetUint("lastseq", 10)
	if !ok1 || !ok2 || first == 0 || last < first {
		c.counters.Bad++
		c.report(now, reportMalformed, p.id, Warn, "node %s asks for messages without a proper range", p.name)
		return
	}
	if last > c.history.newest {
		c.report(now, reportRexmit, p.id, Warn, "node %s asks for message %d, our newest is %d", p.name, last, c.history.newest)
		last = c.history.newest
	}
	for budget := rexmitBurst; first <= last && budget > 0; first++ {
		if first < c.history.oldest() {
			c.counters.Naks++
			budget--
			b := c.begin("NS_nak_rexmit")
			b.number("firstseq", first, 16)
			b.text("dest", p.name)
			b.text("info", "seqno too low")
			c.finish(b, now, false, false, p.uuidOrNil())
			continue
		}
		s := c.history.get(first)
		if !s.resent.IsZero() && now.Sub(s.resent) < c.cfg.MaxRexmitDelay-rexmitSlack {
			continue // another node has asked for it just now
		}
		s.resent = now
		budget--
		c.counters.Retransmitted++
		c.signAnew(s)
		mark := len(c.out.arena)
		c.out.arena = append(c.out.arena, s.data...)
		end := len(c.out.arena)
		c.out.packets = append(c.out.packets, Packet{Data: c.out.arena[mark:end:end], Beat: s.beat, Again: true})
		c.sentAgain(p, s)
	}
}

// sentAgain tells what an old node will hear late. Systole nodes know the order.
func (c *Core) sentAgain(p *peer, s *sent) {
	if s.beat || p.systole {
		return
	}
	if m, _, err := wire.Decode(s.data, c.cfg.Keys); err == nil && !ofProtocol(m.Type()) {
		c.event(Repeated{Node: p.name, Message: m})
	}
}

// signAnew brings a packet of the history up to date, if keys or nonces have
// changed since it was sent; else it stays the same byte for byte. If that
// makes it too long it stays as it was.
func (c *Core) signAnew(s *sent) {
	if s.epoch == c.guard.epoch {
		return
	}
	s.epoch = c.guard.epoch
	var replace []wire.Field
	if c.guard.on {
		replace = []wire.Field{
			{Name: "nonce", Type: wire.Binary, Value: c.cfg.Nonce[:]},
			{Name: "seen", Type: wire.Binary, Value: c.appendSeen(nil)},
		}
	}
	if data, err := wire.Resign(nil, s.data, c.cfg.Keys, replace...); err == nil && len(data) <= maxPacket {
		s.data = data
	}
}

// heardNak: the sender does not have the message any more. That holds for
// everybody, whoever asked.
func (c *Core) heardNak(now time.Time, p *peer, in *incoming) {
	seq, ok := in.GetUint("firstseq", 16)
	if !ok || seq == 0 {
		c.counters.Bad++
		c.report(now, reportMalformed, p.id, Warn, "node %s refuses a message without its number", p.name)
		return
	}
	if in.gen == p.gen && p.win.drop(seq) {
		c.lost(p, []span{{seq, seq}})
		c.release(now, p)
		c.acknowledge(now, p)
	}
}

// lost tells that messages will not arrive.
func (c *Core) lost(p *peer, spans []span) {
	for _, s := range spans {
		p.lostNumber += s.last - s.first + 1
		c.event(Lost{Node: p.name, First: s.first, Last: s.last})
		if c.cfg.Ordered {
			p.order.put(held{seq: s.first, last: s.last, gap: true})
		}
	}
}
