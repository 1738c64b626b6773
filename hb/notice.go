package hb

import "time"

// NoticeKind says what was learnt of a peer or a medium without a packet of its daemon.
type NoticeKind uint8

const (
	HostAnswered NoticeKind = iota + 1 // the peer's machine answered an echo request
	PortRefused                        // the peer's machine says that nobody listens on the daemon's port
	CarrierLost                        // our own interface of the medium has no carrier, or is gone
	CarrierBack                        // it has one again
	Disconnected                       // the daemon's end of a connection without traffic was closed
	SendFailed                         // the medium cannot send at present
	SendWorks                          // it can again
)

// Notice is such a thing. Node is empty where it is about our own end of the
// medium: for CarrierLost, CarrierBack, SendFailed and SendWorks. None proves
// anything by itself, since anybody may forge an ICMP message; with the silence
// of a node that was asked many times they do (see suspicion in the package
// comment).
type Notice struct {
	Node, Medium string
	Kind         NoticeKind
}

// Notice takes a hint in. One about a node or a medium that is not known has
// no effect.
func (c *Core) Notice(now time.Time, n Notice) {
	now = c.enter(now)
	medium := c.medium(n.Medium)
	switch n.Kind {
	case HostAnswered:
		if p := c.byName[n.Node]; p != nil {
			c.hostAnswered(now, p)
		}
	case Disconnected:
		if p := c.byName[n.Node]; p != nil && c.heardThere(p, medium) {
			c.suspect(now, p, "a connection to its daemon was closed")
		}
	case PortRefused:
		if p := c.byName[n.Node]; p != nil {
			c.portRefused(now, p, medium)
		}
	case CarrierLost, SendFailed:
		if medium >= 0 {
			c.broken[medium] |= 1 << n.Kind
			c.pathBroken(now, medium, n.Kind)
		}
	case CarrierBack, SendWorks:
		if medium >= 0 {
			c.broken[medium] &^= 1 << (n.Kind - 1)
		}
	}
}

// medium is the index of a medium; -1 if it is none of ours.
func (c *Core) medium(name string) int {
	for i := range c.cfg.Media {
		if c.cfg.Media[i] == name {
			return i
		}
	}
	return -1
}

// pathBroken: one of our own interfaces does not work. It speeds the look at
// who was heard there. With the carrier its links are gone for certain.
func (c *Core) pathBroken(now time.Time, medium int, kind NoticeKind) {
	for _, p := range c.peers {
		l := &p.links[medium]
		if l.state == LinkDead {
			continue
		}
		if kind == CarrierLost {
			c.linkDied(now, p.name, p.links, medium, "our carrier is lost")
			c.suspect(now, p, "our carrier on "+c.cfg.Media[medium]+" is lost")
		}
	}
	if l := &c.links[medium]; kind == CarrierLost && l.state != LinkDead {
		c.linkDied(now, c.cfg.Node, c.links, medium, "our carrier is lost")
	}
}
