package hb

import (
	"slices"
	"time"

	"systole/hb/wire"
)

// order puts the messages of one sender into the order of its numbers, for
// consumers that want it (Config.Ordered). The wire, and Delivered, know no
// such order (section 6.2): a message is there as soon as it comes.
//
// A message waits for those missing below it until they come or are given up.
// It holds no more than the window has numbers between the first missing one
// and the last, which is less than historySize.
type order struct {
	held []held // by number
	upto uint64 // what has left has numbers up to here
	// endAt is when the rest leaves, for a node that is held for dead and is
	// heard all the same: either it returns, and can be asked for what is
	// missing, or these were its last words. Zero: it lives or nothing is held.
	endAt time.Time
}

// held is a message, or the numbers that will not come.
type held struct {
	seq, last uint64 // the same for a message
	gap       bool
	message   wire.Message
}

// put adds h in its place. What comes for a place that has been left is left
// out.
func (o *order) put(h held) {
	h.seq = max(h.seq, min(o.upto+1, h.last))
	if h.last <= o.upto {
		return
	}
	i := len(o.held)
	for i > 0 && o.held[i-1].seq > h.seq {
		i--
	}
	o.held = slices.Insert(o.held, i, h)
}

// next removes and returns what is first, if its number is not above upto.
// Gaps that touch are one.
func (o *order) next(upto uint64) (h held, ok bool) {
	if len(o.held) == 0 || o.held[0].seq > upto {
		return held{}, false
	}
	h = o.held[0]
	n := 1
	for h.gap && n < len(o.held) && o.held[n].gap && o.held[n].seq == h.last+1 && o.held[n].seq <= upto {
		h.last = o.held[n].last
		n++
	}
	o.held = slices.Delete(o.held, 0, n)
	o.upto = h.last
	return h, true
}

// release hands on what has nothing missing below it.
func (c *Core) release(now time.Time, p *peer) {
	c.releaseUpTo(p, p.win.contiguous())
	switch {
	case p.status != Dead || len(p.order.held) == 0:
		p.order.endAt = time.Time{}
	case p.order.endAt.IsZero():
		p.order.endAt = now.Add(p.deadtime)
	}
}

func (c *Core) releaseUpTo(p *peer, upto uint64) {
	for {
		h, ok := p.order.next(upto)
		switch {
		case !ok:
			return
		case h.gap:
			c.event(Gap{Node: p.name, First: h.seq, Last: h.last})
		default:
			c.event(Ordered{Node: p.name, Message: h.message})
		}
	}
}

// releaseDead hands on what waits for a node that is dead: nobody can be asked
// for the rest, and it may never return.
func (c *Core) releaseDead(p *peer) {
	p.order.endAt = time.Time{}
	n := len(p.order.held)
	if n == 0 {
		return
	}
	last := p.order.held[n-1].last
	var missing []missing
	for _, m := range p.win.missing {
		if m.seq < last {
			missing = append(missing, m)
		}
	}
	for _, s := range spans(missing) {
		p.order.put(held{seq: s.first, last: s.last, gap: true})
	}
	c.releaseUpTo(p, last)
}
