package hb

import (
	"fmt"
	"math"
	"time"
)

// LinkState is how a node is heard on a medium (section 7).
type LinkState uint8

const (
	// LinkDead: not heard on it yet, or not for the dead time, or it did not
	// answer a window of probes after it was late, or our carrier is lost.
	LinkDead LinkState = iota
	// LinkLate: beats came on other media and not on this one.
	LinkLate
	// LinkUp: heard on it.
	LinkUp
)

// String is the state's word in events and logs.
func (s LinkState) String() string { return [...]string{"dead", "late", "up"}[s] }

// link is a node on a medium.
type link struct {
	state   LinkState
	since   time.Time // last packet, plus the time we were deaf
	numbers numbers
	answers answers
	trip    roundTrip

	calm   uint64    // number of the calm probe that is not answered yet; 0: none
	calmAt time.Time // when it was sent

	// Of a suspicion of the node.
	pressAt time.Time // not before then the next probe

	// Of a late link.
	sent, need int
	spacing    time.Duration
	next       time.Time // the next probe, or after the last one the end
}

// shift moves what is known by a time in which we were deaf.
func shift(links []link, d time.Duration) {
	for i := range links {
		l := &links[i]
		l.calm = 0
		if l.state != LinkDead {
			l.since = l.since.Add(d)
			l.sent, l.next = 0, l.next.Add(d)
		}
	}
}

// heardOn notes a packet of a node on a medium, -1 for none that is listed.
// Any packet counts, duplicates too: that is how each of several media is known
// to work. newest is the node's newest number. It says whether the link was
// dead.
func (c *Core) heardOn(now time.Time, node string, links []link, medium int, newest uint64) (returned bool) {
	if medium < 0 {
		return false
	}
	l := &links[medium]
	l.since = now
	if l.state != LinkUp {
		if returned = l.state == LinkDead; returned {
			l.numbers.restart(newest)
			l.answers = answers{}
		}
		l.state = LinkUp
		c.event(LinkChanged{Node: node, Medium: c.cfg.Media[medium], State: LinkUp, Up: true})
	}
	return returned
}

// linkDied ends a link.
func (c *Core) linkDied(now time.Time, node string, links []link, medium int, why string) {
	l := &links[medium]
	l.state, l.calm = LinkDead, 0
	c.event(LinkChanged{Node: node, Medium: c.cfg.Media[medium], State: LinkDead, Silence: now.Sub(l.since), Why: why})
}

// expireLinks declares links dead that were silent for the node's dead time.
func (c *Core) expireLinks(now time.Time, node string, links []link, deadtime time.Duration) {
	for i := range links {
		if l := &links[i]; l.state != LinkDead && now.Sub(l.since) >= deadtime {
			c.linkDied(now, node, links, i, "")
		}
	}
}

// watchLinks judges each link of the peer by the others.
func (c *Core) watchLinks(now time.Time, p *peer) {
	for i := range p.links {
		l := &p.links[i]
		if l.state == LinkUp && !now.Before(c.linkLateAt(p, l)) {
			l.state = LinkLate
			l.sent, l.next = 0, now
			l.need, l.spacing, _ = c.pace(p, l)
			c.event(LinkChanged{
				Node: p.name, Medium: c.cfg.Media[i], State: LinkLate, Silence: now.Sub(l.since),
				Why: fmt.Sprintf("%d messages came on other media only", p.newest-l.numbers.last),
			})
		}
		if l.state == LinkLate && c.watched(p) && !now.Before(l.next) {
			c.probeLink(now, p, i)
		}
	}
}

// probeLink sends a late link its next probe. After the last one it waits as
// long as an answer may take, and then the link is dead. Any packet on the
// link, an answer above all, has made it up before.
func (c *Core) probeLink(now time.Time, p *peer, medium int) {
	l := &p.links[medium]
	if l.sent == l.need {
		c.linkDied(now, p.name, p.links, medium, fmt.Sprintf("no answer to %d probes", l.sent))
		return
	}
	c.probe(now, p, c.cfg.Media[medium], false)
	l.sent++
	l.next = now.Add(l.spacing)
	if l.sent == l.need {
		l.next = now.Add(max(l.spacing, l.trip.patience()))
		if !l.trip.known {
			l.next = never // the dead time decides
		}
	}
}

// expectedKeepalive is how often the peer beats. An old node does not say.
func (p *peer) expectedKeepalive() time.Duration {
	if p.systole {
		return p.keepalive
	}
	return p.deadtime / 4
}

// settles is by how much a packet on this link may come after its copy on
// another one: a serial line is slow.
func (c *Core) settles(p *peer, l *link) time.Duration {
	if !l.trip.known {
		return p.deadtime / 4
	}
	return max(c.grace(p), l.trip.patience())
}

// lateMistake is how likely it may be that mere loss makes a link late.
const lateMistake = 0.01

// linkLateAt is when the link will be late: when beats were expected twice, on
// a lossy link more often, and came on other media only. Never, if there was
// nothing on others.
func (c *Core) linkLateAt(p *peer, l *link) time.Time {
	behind := p.newest - l.numbers.last
	if l.numbers.last == 0 || behind < 2 || p.newest < l.numbers.last {
		return never
	}
	missed := uint64(2)
	if loss := l.lossOneWay(p); loss > 0.1 {
		missed = uint64(math.Ceil(math.Log(lateMistake) / math.Log(loss)))
	}
	if behind < missed {
		return never
	}
	return l.since.Add(time.Duration(missed)*p.expectedKeepalive() + c.settles(p, l))
}

// linksDeadline is when the state of one of the peer's links may change.
func (c *Core) linksDeadline(p *peer) time.Time {
	at := never
	for i := range p.links {
		l := &p.links[i]
		if l.state == LinkDead {
			continue
		}
		at = earliest(at, l.since.Add(p.deadtime))
		switch {
		case l.state == LinkUp:
			at = earliest(at, c.linkLateAt(p, l))
		case c.watched(p):
			at = earliest(at, l.next)
		}
	}
	return at
}

// never is later than all else.
var never = time.Unix(1<<40, 0)

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
