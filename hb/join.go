package hb

import (
	"slices"
	"strings"
	"time"
)

// checkComplete starts the last step of joining as soon as every node was
// heard or declared dead (section 8). After that initdead is over for good.
func (c *Core) checkComplete(now time.Time) {
	if c.complete {
		return
	}
	for _, p := range c.peers {
		if !p.heard && p.status != Dead {
			return
		}
	}
	c.complete, c.asking = true, true
	c.ask(now)
}

// ask sends reqnodes to the next live node. Without one, or if the nodes do
// not speak protocol 1, there is nothing to ask.
func (c *Core) ask(now time.Time) {
	start := 0
	if c.asked != nil {
		start = c.asked.id // ids are indices from 1: this is the next one
	}
	for i := range c.peers {
		p := c.peers[(start+i)%len(c.peers)]
		if !p.live() || !c.flow {
			continue
		}
		// With short dead times a second is long for one lost packet.
		c.asked, c.nextAsk = p, now.Add(min(askPeriod, 2*c.cfg.Keepalive))
		b := c.begin("reqnodes")
		b.text("dest", p.name)
		c.finish(b, now, true, false, p.uuidOrNil())
		return
	}
	c.activate(now)
}

// activate is the end of joining.
func (c *Core) activate(now time.Time) {
	c.asking, c.status = false, Active
	c.sendStatus(now)
	c.event(Joined{})
}

// answerNodes answers reqnodes. The asker drops the nodes that are not in the
// list, so it is always complete.
func (c *Core) answerNodes(now time.Time, p *peer) {
	b := c.begin("repnodes")
	b.text("dest", p.name)
	b.text("nodelist", strings.Join(c.cfg.Nodes, " ")+" ")
	b.text("delnodelist", " ")
	c.finish(b, now, true, false, p.uuidOrNil())
}

// heardNodes takes the answer to our reqnodes. The original makes the list its
// own; ours is the configuration, so a difference is reported.
func (c *Core) heardNodes(now time.Time, p *peer, in *incoming) {
	if !c.asking {
		return
	}
	list, _ := in.Get("nodelist")
	theirs := strings.Fields(strings.ToLower(list))
	ours := slices.Clone(c.cfg.Nodes)
	slices.Sort(theirs)
	slices.Sort(ours)
	if !slices.Equal(theirs, ours) {
		c.report(now, reportNodes, p.id, Error, "node %s has the nodes %.400q, we have %q: make the configurations alike", p.name, strings.Join(theirs, " "), strings.Join(ours, " "))
	}
	c.activate(now)
}
