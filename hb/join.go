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
	c.stir()
	c.ask(now)
}

// ask sends reqnodes to the next live node. Without one, or if the nodes do
// not speak protocol 1, there is nothing to ask.
func (c *Core) ask(now time.Time) {
	start := slices.Index(c.peers, c.asked) + 1 // the next one; the first if nobody was asked
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
	b.text("nodelist", nodeList(c.cfg.Nodes))
	b.text("delnodelist", nodeList(c.deleted))
	c.finish(b, now, true, false, p.uuidOrNil())
}

// heardNodes takes the answer to our reqnodes. The original makes the list its
// own. We learn from it which nodes were added and removed while we were down;
// a node of our configuration that it lacks without a word is a mistake to
// report, not a node to forget.
func (c *Core) heardNodes(now time.Time, p *peer, in *incoming) {
	if !c.asking {
		return
	}
	list, _ := in.Get("nodelist")
	gone, _ := in.Get("delnodelist")
	theirs := strings.Fields(strings.ToLower(list))
	deleted := strings.Fields(strings.ToLower(gone))
	var added, removed, missing []string
	for _, name := range theirs {
		if c.byName[name] == nil && name != c.cfg.Node {
			added = append(added, name)
		}
	}
	for _, q := range c.peers {
		switch {
		case slices.Contains(theirs, q.name):
		case slices.Contains(deleted, q.name) && !q.live():
			removed = append(removed, q.name)
		default:
			missing = append(missing, q.name)
		}
	}
	if !slices.Contains(theirs, c.cfg.Node) {
		missing = append(missing, c.cfg.Node)
	}
	if len(missing) > 0 {
		c.report(now, reportNodes, p.id, Error, "node %s does not know %s: make the configurations alike, or add the node there", p.name, strings.Join(missing, " "))
	}
	if len(added) > 0 {
		if names, err := c.newNames(added); err != nil {
			c.report(now, reportNodes, p.id, Error, "node %s has nodes that we cannot add: %v", p.name, err)
		} else {
			c.add(now, names, p.name)
		}
	}
	if len(removed) > 0 {
		c.remove(now, removed, p.name)
	}
	for _, name := range deleted {
		if goodName(name) == nil && !slices.Contains(c.cfg.Nodes, name) && !slices.Contains(c.deleted, name) && len(c.deleted) < maxNodes {
			c.deleted = append(c.deleted, name)
		}
	}
	c.activate(now)
}
