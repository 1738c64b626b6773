package hb

import (
	"fmt"
	"time"
)

// Ping is the status of a ping node that answers.
const Ping Status = "ping"

// PingNode is a machine that runs no heartbeat but answers echo requests, or a
// group of such machines, which lives as long as one of them answers
// (section 12). It tells whether the network reaches so far. It is no member:
// it has no part in joining, acknowledgement and flow control.
type PingNode struct {
	Name   string // folded to lower case; none of Config.Nodes
	Medium string // the medium that leads to it alone; none of Config.Media
}

// PingView is a ping node.
type PingView struct {
	Name   string
	Medium string
	Status Status        // Init, Ping or Dead
	Age    time.Duration // of its last answer; negative if none came yet
}

// pingNode is what we know of a ping node.
type pingNode struct {
	PingNode
	id       int // for reports: below 0, as peers have those above
	status   Status
	since    time.Time // from when its silence counts
	answered time.Time // zero: never
}

// pingLimit is how long a ping node may be silent now.
func (c *Core) pingLimit() time.Duration {
	if !c.complete {
		return max(c.cfg.Initdead, c.cfg.DeadPing)
	}
	return c.cfg.DeadPing
}

// askPings sends each ping node the message that it shall send back. The
// medium makes an echo request of it.
func (c *Core) askPings(now time.Time) {
	for i := range c.pings {
		p := &c.pings[i]
		b := c.begin("NS_st")
		b.text("st", string(Ping))
		b.text("info", "ping")
		b.text("src", p.Name)
		b.number("ts", uint64(max(1, now.Unix())), 16)
		if c.guard.on {
			b.binary("nonce", c.cfg.Nonce[:])
		}
		mark := len(c.out.packets)
		if err := c.emit(b.message(), 0, false); err != nil {
			c.report(now, reportEncode, p.id, Error, "echo request to %s could not be written: %v", p.Name, err)
			continue
		}
		c.out.packets[mark].Medium = p.Medium
	}
}

// heardPing takes what came on the medium of a ping node. It is true if there
// is such a node. What we sent comes back: nobody else has to say anything on
// this medium, and what is older than the dead time proves nothing.
func (c *Core) heardPing(now time.Time, medium string, in *incoming) bool {
	for i := range c.pings {
		p := &c.pings[i]
		if p.Medium != medium {
			continue
		}
		age := time.Duration(now.Unix()-in.ts) * time.Second
		switch {
		case string(in.typ) != "NS_st" || string(in.statusText) != string(Ping) || string(in.src) != p.Name:
			c.counters.Bad++
			c.report(now, reportMalformed, p.id, Warn, "answer of ping node %s on %s is none of our questions: %.40q from %.40q", p.Name, medium, in.typ, in.src)
		case c.guard.on && string(in.nonce) != string(c.cfg.Nonce[:]):
			c.counters.Stale++ // asked by another life of ours, or by somebody else
		case age.Abs() > c.cfg.DeadPing+2*time.Second: // ts is in whole seconds
			c.counters.Bad++
			c.report(now, reportReplay, p.id, Warn, "answer of ping node %s on %s was asked for %v ago: ignored", p.Name, medium, age)
		default:
			from := p.status
			p.status, p.since, p.answered = Ping, now, now
			if from != Ping {
				c.event(NodeChanged{Node: p.Name, Ping: true, From: from, To: Ping, Why: "it answers"})
			}
		}
		return true
	}
	return false
}

// expirePings declares ping nodes dead.
func (c *Core) expirePings(now time.Time) {
	for i := range c.pings {
		p := &c.pings[i]
		silence, limit := now.Sub(p.since), c.pingLimit()
		if p.status == Dead || silence < limit {
			continue
		}
		from := p.status
		p.status = Dead
		c.event(NodeChanged{Node: p.Name, Ping: true, From: from, To: Dead, Silence: silence, Why: fmt.Sprintf("no answer for %v", limit)})
	}
}

func (c *Core) pingViews(now time.Time, views []PingView) []PingView {
	views = views[:0]
	for i := range c.pings {
		p := &c.pings[i]
		views = append(views, PingView{Name: p.Name, Medium: p.Medium, Status: p.status, Age: age(now, p.answered)})
	}
	return views
}
