package sim

import (
	"slices"
	"time"

	"systole/control/takeover"
	"systole/hb"
	"systole/hb/membership"
)

// agreement is a node's part in the views (package membership), which only plans
// with AtMostOne have. A director's control loop does it, as in package control,
// and is late with it when that is stuck; another member, a witness, at once.
type agreement struct {
	machine *membership.Machine
	told    membership.View
	armed   time.Duration // the timer that is set for the machine's deadline
}

// joinViews begins a life of it, alone.
func (c *cluster) joinViews(n *member) {
	if !c.plan.AtMostOne {
		return
	}
	var names []string
	for _, other := range c.members {
		names = append(names, other.name)
	}
	m, err := membership.New(membership.Config{
		Node: n.name, Generation: c.msgs.starts[n.index], Nodes: names,
		Rule: membership.Rule{Kind: membership.Majority}, Deadtime: c.plan.Deadtime,
	}, n.now(c))
	if err != nil {
		panic(err)
	}
	n.views = agreement{machine: m}
}

// now is the time as the node's process has it.
func (n *member) now(c *cluster) time.Time {
	if n.d != nil {
		return n.d.machineNow()
	}
	return c.net.Now()
}

// hear gives the agreement what heartbeat tells.
func (c *cluster) hear(n *member, ev hb.Event) {
	now, m := n.now(c), n.views.machine
	switch e := ev.(type) {
	case hb.NodeChanged:
		p, _ := c.net.Core(n.name).Snapshot(c.net.Now()).Peer(e.Node)
		m.Node(now, e.Node, membership.Seen{Alive: e.To != hb.Dead, Restarted: e.Restarted, Systole: p.Systole, Unknown: e.To == hb.Init})
	case hb.Delivered:
		if e.FromSelf || e.Message.Type() != membership.Type {
			return
		}
		if err := m.Receive(now, e.Node, e.Message); err != nil {
			c.fail("%s: %v", n.name, err)
		}
	case hb.Lost:
		m.Lost(now, e.Node)
	case hb.Stalled:
		m.Stalled(now)
	default:
		return
	}
	c.agreed(n)
}

// agreed does what the agreement wants done.
func (c *cluster) agreed(n *member) {
	out := n.views.machine.Drain()
	for _, msg := range out.Messages {
		if c.net.Core(n.name).Unacked() > membership.MaxUnacked {
			c.logf("%s: a report on the view waits for acknowledgements", n.name)
			n.views.machine.Unsent(n.now(c))
		} else if err := c.net.Submit(n.name, msg); err != nil {
			c.logf("%s: a report on the view was not sent: %v", n.name, err)
			n.views.machine.Unsent(n.now(c))
		}
	}
	if len(out.Views) > 0 {
		v, was := out.Views[len(out.Views)-1], n.views.told
		c.logf("%s %v", n.name, v)
		n.views.told = v
		c.checkView(n, was, v)
		if n.d != nil && (was.Number == 0 || v.Quorum != was.Quorum) {
			n.d.quorum = true
			c.dirty = true
		}
	}
	if n.d == nil {
		c.tickViews(n)
	}
}

// tickViews sets a witness's timer.
func (c *cluster) tickViews(n *member) {
	at, ok := c.viewsDeadline(n)
	if a := n.views.armed; !ok || a > c.now() && a <= at {
		return
	}
	n.views.armed = at
	life := n.life
	var tick func()
	tick = func() {
		switch {
		case n.life != life || !n.running:
		case n.pauses > 0: // it stands still
			c.net.After(c.plan.Keepalive/4, tick)
		default:
			n.views.machine.Tick(c.net.Now())
			c.agreed(n)
		}
	}
	c.net.After(at-c.now(), tick)
}

// viewsDeadline is when the agreement has something to do.
func (c *cluster) viewsDeadline(n *member) (time.Duration, bool) {
	if n.views.machine == nil {
		return 0, false
	}
	at := n.views.machine.Deadline()
	if at.IsZero() {
		return 0, false
	}
	return at.Sub(n.now(c)) + c.now(), true
}

// checkView holds a view that was installed against the promises of package
// membership: one ID, one list; numbers grow; where a quorum is settled no node
// that the view lacks has one, of those that can know, but in a later view, and
// that is not settled, unless it is of both.
func (c *cluster) checkView(n *member, was, v membership.View) {
	if v.Number < was.Number {
		c.fail("%s installs %v after view %d", n.name, v, was.Number)
	}
	for _, other := range c.members {
		o := other.views.told
		if other == n || !other.running || o.Number == 0 {
			continue
		}
		if o.ID == v.ID && !slices.Equal(o.Members, v.Members) {
			c.fail("%s and %s have views of one name: %v; %v", n.name, other.name, v, o)
		}
		knows := other.pauses == 0 && (other.d == nil || other.d.turns() && len(other.d.inputs) == 0)
		if !knows || v.Has(other.name) || !v.Quorum || !v.Settled || !o.Quorum {
			continue
		}
		if o.Number <= v.Number || o.Settled && !o.Has(n.name) {
			c.fail("%s has a settled quorum without %s, which has one, too: %v; %v", n.name, other.name, v, o)
		}
	}
}

// disagreement says who does not have the view of all, with a quorum, for good;
// "" if all do.
func (c *cluster) disagreement() string {
	if !c.plan.AtMostOne {
		return ""
	}
	for _, n := range c.members {
		v := n.views.machine.View()
		if v.ID != c.members[0].views.machine.View().ID || len(v.Members) != len(c.members) || !v.Quorum || !v.Settled {
			return n.name + ": " + v.String()
		}
		if _, due := c.viewsDeadline(n); due {
			return n.name + " has something to say on " + v.String()
		}
	}
	return ""
}

// quorumPatience is how much longer than patience it takes until there is an
// owner again, if somebody has the quorum: a view comes three dead times after a
// death (package membership, promise 3), or what a message may take, and who has
// the quorum waits until the other's lease has surely ended (package takeover).
func (c *cluster) quorumPatience() time.Duration {
	if !c.plan.AtMostOne {
		return 0
	}
	return 3*c.plan.Deadtime + 500*time.Millisecond + 2*c.plan.Deadtime + 2*c.plan.Keepalive
}

// quorate: the director may own something.
func (d *director) quorate() bool { return !d.c.plan.AtMostOne || d.m.View().Quorum }

// quorumNews is what the machine is told, as it is when it is told.
func (d *director) quorumNews() takeover.Quorum {
	d.quorum = false
	return takeover.Quorum{Have: d.n.views.told.Quorum}
}
