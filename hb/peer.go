package hb

import (
	"time"
)

// peer is what we know of another node.
type peer struct {
	id      int // from 1, in configured order; 0 stands for ourselves or nobody
	name    string
	uuid    [16]byte
	hasUUID bool

	status     Status
	gen        uint64        // 0: never heard
	heard      bool          // a packet came since our start
	since      time.Time     // from when its silence counts
	statusAt   time.Time     // its last status message; zero if none
	statusSeq  uint64        // the newest one
	deadtime   time.Duration // as it announced; ours until then
	lateBeats  uint64
	lostNumber uint64 // messages given up

	win        window
	trigger    uint64    // which numbers we acknowledge, modulo ackEvery
	ackSent    uint64    // our last acknowledgement
	burstStart time.Time // requests are counted from here
	burst      int
	acked      uint64 // of our messages, by it
	ackBase    uint64 // our newest number when it came: it owes nothing below
	links      []link
	guard      peerGuard
	order      order
}

// live: heard and not dead.
func (p *peer) live() bool { return p.heard && p.status != Dead }

// link is a node on a medium (section 7).
type link struct {
	up    bool
	since time.Time // last packet, plus the time we were deaf
}

func shift(links []link, d time.Duration) {
	for i := range links {
		if links[i].up {
			links[i].since = links[i].since.Add(d)
		}
	}
}

// heardOn notes a packet of a node on a medium. Any packet counts, duplicates
// too: that is how each of several media is known to work.
func (c *Core) heardOn(now time.Time, node string, links []link, medium string) {
	for i, name := range c.cfg.Media {
		if name != medium {
			continue
		}
		links[i].since = now
		if !links[i].up {
			links[i].up = true
			c.event(LinkChanged{Node: node, Medium: medium, Up: true})
		}
		return
	}
}

// expireLinks declares links dead that were silent for the node's dead time.
func (c *Core) expireLinks(now time.Time, node string, links []link, deadtime time.Duration) {
	for i := range links {
		l := &links[i]
		if silence := now.Sub(l.since); l.up && silence >= deadtime {
			l.up = false
			c.event(LinkChanged{Node: node, Medium: c.cfg.Media[i], Silence: silence})
		}
	}
}
