package sim

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"systole/control/takeover"
	"systole/hb"
	"systole/hb/hbtest"
)

// checks is what the invariants have to remember.
type checks struct {
	settled bool          // the cluster was at rest, and since then at most orders were given
	solo    Step          // the one failure since then
	alone   bool          // there was no other
	soon    time.Duration // within this its peer may declare the failed one dead; 0: not before the dead time

	served    [2]time.Duration // by class: when it last had an owner
	both      [2]bool          // two owners now
	bothSince [2]time.Duration
	excused   time.Duration    // the last moment that excuses two owners
	client    [2]*director     // whom the client sends to
	reached   [2]time.Duration // by class: when what it sent was last forwarded
	// What was so at the last check lasts until these times, unless an event
	// changes it, after which there is a check.
	servedTo, reachedTo [2]time.Duration
}

// began notes a failure.
func (k *checks) began(c *cluster, s Step, calm bool) {
	k.alone, k.solo, k.settled = calm, s, false
	k.soon = 0
	if calm && c.plan.Hosts && !c.plan.AtMostOne {
		if k.soon = c.soon(s); k.soon > 0 {
			c.stats.Prompt++
		}
	}
}

// calm: settled, and nothing but orders happens.
func (c *cluster) calm() bool { return c.checks.settled && c.faults == 0 }

// retransmit is the longest delay until a lost packet is asked for again
// (package hb's default).
const retransmit = 250 * time.Millisecond

// most is how long a packet takes at most when nothing slows it down.
func (c *cluster) most() time.Duration {
	if c.plan.Jumble > 0 {
		return 5 * c.plan.Delay
	}
	return c.plan.Delay
}

// patience is how long what a failure has left behind may last after it: a
// death, a beat, what was lost asked for twice, a claim and its answer.
func (c *cluster) patience() time.Duration {
	return c.plan.Deadtime + 2*c.plan.Keepalive + 2*retransmit + 8*(c.most()+maxOperation)
}

// check holds the present state against the promises; see doc.go.
func (c *cluster) check() {
	k, now := &c.checks, c.now()
	if c.faults > 0 {
		c.disturbed = now
	}
	if c.parted > 0 {
		k.excused = now
	}
	if c.parted > 0 || c.losses > 0 || c.slows > 0 {
		c.trouble = now
	}
	a, b := c.dirs[0], c.dirs[1]
	for _, d := range c.dirs {
		// Taken for dead while its machine stands still, it goes on serving when
		// that goes on, until it hears a beat.
		if d.n.frozen > 0 && d.buried {
			k.excused = now
		}
		// Alone, it had no reason to stop; and now it cannot learn that it is
		// not alone any more, or has not yet.
		if d.plane.until != unlimited {
			continue
		}
		if _, heard := c.net.BeatArrived(d.peer.n.name, d.n.name); !d.n.running || d.n.pauses > 0 || d.hung > 0 || heard < 0 {
			k.excused = now
		}
	}
	for i := range 2 {
		sa, sb := a.serves(i, now), b.serves(i, now)
		if sa && sb {
			c.twoOwners(i, now)
		} else {
			k.both[i] = false
		}
		c.owner(i, now, sa || sb)
		c.clientOf(i, now)
	}
}

// twoOwners: both answer ARP for the groups of node i.
func (c *cluster) twoOwners(i int, now time.Duration) {
	k := &c.checks
	if c.plan.AtMostOne {
		c.fail("two owners of the groups of %s, of which there is one at most", nodeName(i))
	}
	if !k.both[i] {
		k.both[i], k.bothSince[i] = true, now
		for _, d := range c.dirs {
			if c.beatsLost(d.n, d.peer.n) {
				k.excused = now
			}
		}
		c.stats.TwoOwners++
		if now-k.excused > c.patience() || k.excused == 0 {
			c.fail("two owners of the groups of %s without a reason", nodeName(i))
		}
	}
	if since := max(k.bothSince[i], k.excused, c.disturbed); now-since > c.patience() {
		c.fail("two owners of the groups of %s for %v, %v after the last failure", nodeName(i), now-k.bothSince[i], now-c.disturbed)
	}
}

// beatsLost: at least one of the newest beats of a node did not come, and is not
// just under way.
func (c *cluster) beatsLost(of, at *member) bool {
	last := c.net.BeatSent(of.name)
	came, _ := c.net.BeatArrived(of.name, at.name)
	return last-came > c.plan.Keepalive*3/2 || last > came && c.now()-last > 5*c.net.MaxDelay
}

// owner checks for how long the groups of node i had no owner.
func (c *cluster) owner(i int, now time.Duration, served bool) {
	k := &c.checks
	k.served[i] = max(k.served[i], min(now, k.servedTo[i]))
	k.servedTo[i] = 0
	if served {
		k.served[i] = now
		for _, d := range c.dirs {
			if d.serves(i, now) {
				k.servedTo[i] = max(k.servedTo[i], d.plane.until)
			}
		}
		return
	}
	able := false
	for _, d := range c.dirs {
		able = able || d.n.running && d.n.pauses == 0 && d.hung == 0 && d.joined && !d.ordered && d.quorate()
	}
	if !able {
		k.served[i] = now
		return
	}
	if none := now - max(k.served[i], c.disturbed); none > c.patience()+c.quorumPatience() {
		c.fail("no owner of the groups of %s for %v, %v after the last failure", nodeName(i), now-k.served[i], now-c.disturbed)
	}
}

// clientOf checks that what the client sends is forwarded.
func (c *cluster) clientOf(i int, now time.Duration) {
	k := &c.checks
	d := k.client[i]
	if d == nil {
		return
	}
	k.reached[i] = max(k.reached[i], min(now, k.reachedTo[i]))
	k.reachedTo[i] = 0
	if d.forwards(i, now) {
		k.reached[i], k.reachedTo[i] = now, d.plane.until
		return
	}
	missing := now - k.reached[i]
	switch {
	case k.settled && missing > 0:
		c.fail("what the client sends for the groups of %s is lost in a hand-over, for %v", nodeName(i), missing)
	case k.alone && missing > c.bound(k.solo):
		c.fail("what the client sends for the groups of %s is lost for %v after %s alone, at most %v are allowed",
			nodeName(i), missing, k.solo.Kind, c.bound(k.solo))
	}
}

// bound is how long what clients send may be lost after one failure of a
// cluster at rest.
func (c *cluster) bound(s Step) time.Duration {
	p := c.plan
	switch {
	case s.oneMedium() && p.Media > 1:
		return 0 // another one works
	case p.AtMostOne && s.Kind != Clock: // a minority owns nothing for as long as it lasts
		return s.For + c.patience() + c.quorumPatience()
	}
	// From the moment of the last beat: it may be under way for long, then the
	// peer is patient, and acquires two classes.
	patience := p.Deadtime
	if k := c.checks.soon; k > 0 {
		patience = min(patience, k)
	}
	takeover := patience + c.most() + 2*maxOperation
	late := p.Deadtime + c.most() + 2*maxOperation
	term := p.Deadtime - min(p.Deadtime/10, 500*time.Millisecond)
	// A daemon that is back sooner than that has let go of everything. The peer
	// takes it when both have heard each other's beats and words.
	// What overtakes the answer to reqnodes hides it, as numbers count from the
	// first that comes: it is asked for again after two keepalives.
	rejoin := p.Keepalive + min(time.Second, 2*p.Keepalive) + 8*c.most() + 3*maxOperation
	if s.For < patience && (s.Kind == Die || s.Kind == Crash) {
		return max(takeover, s.For+rejoin)
	}
	switch s.Kind {
	case Die, Freeze:
		return takeover
	case Crash:
		if p.Ends {
			return takeover
		}
		return max(late-term, rejoin)
	case Stall, Hang:
		// Who wakes right before the peer takes over beats, so that it does
		// not, and has to ask it who owns what: a question and its answer.
		return late - term + 2*c.most() + maxOperation
	case Part, Cut, Link, Unplug:
		// Both serve, until one lets go on hearing that the other is the later
		// owner, and as a rule that one announced itself last. But who hears at
		// the moment at which he takes over himself, that is when the heal and
		// the dead time coincide, has said that he let go, which made the other
		// announce itself again, and is the later owner all the same. Clients
		// lose what they send until that one hears that the other has let go in
		// turn, and announces itself again (promise 3 of package takeover): an
		// exchange of messages.
		return 4*c.most() + 2*maxOperation
	case Clock:
		return 0
	}
	return p.Deadtime + c.patience() // Loss, Slow
}

// soon is within what time after a failure of a cluster at rest the other
// director declares the one that failed dead, if it can do so before the dead
// time: its next beat is late, or its machine refuses ours, and then it is asked
// for. 0 if it cannot.
func (c *cluster) soon(s Step) time.Duration {
	if s.A > 1 {
		return 0
	}
	p := c.plan
	late := p.Keepalive + max(p.Keepalive/4, time.Millisecond) // hb.Config.Grace
	v, _ := c.net.Core(nodeName(1 - s.A)).Snapshot(c.net.Now()).Peer(nodeName(s.A))
	switch {
	case (s.Kind == Die || s.Kind == Freeze) && v.Look > 0:
		return late + v.Look + 2*c.most()
	case s.Kind == Crash && v.Ends:
		return late + max(p.Keepalive/8, time.Millisecond) + 2*c.most() // half of hb.Config.Window
	}
	return 0
}

// suspected: experience may have become worse since the failure, by a calm probe
// whose time was over.
func (c *cluster) suspected(at *member, e hb.Suspected) {
	k := &c.checks
	if k.alone && k.soon > 0 && at.index == 1-k.solo.A && e.Node == nodeName(k.solo.A) {
		if k.soon = max(k.soon, c.soon(k.solo)); c.soon(k.solo) == 0 {
			k.soon = 0
		}
	}
}

// earlyDeath checks the evidence: a node that is held for dead before its dead
// time is gone, or stands still with its machine, or has promised that its data
// plane ends with it; if not, packets were lost or slow just before.
func (c *cluster) earlyDeath(at, who *member, e hb.NodeChanged) {
	now := c.now()
	c.stats.EarlyDeaths++
	if at.d != nil && who.d != nil {
		who.d.buried = true
	}
	reached := who.up && who.frozen == 0
	switch {
	case !c.plan.Hosts:
		c.fail("%s declares %s dead early, without a machine that could be asked: %s", at.name, who.name, e.Why)
	case now-c.trouble <= c.plan.Deadtime:
		if reached && who.running {
			c.stats.Mistaken++
		}
	case !reached || now-who.changed <= c.plan.Deadtime: // or it is back since the last question
	case who.running:
		c.fail("%s declares %s dead early, which runs: %s", at.name, who.name, e.Why)
	case who.d == nil || !c.plan.Ends:
		c.fail("%s declares %s dead early, whose machine runs, and which did not promise to end with its daemon: %s", at.name, who.name, e.Why)
	}
}

// declaredDead checks that a node was silent for its dead time, and that the
// lease of a director that is declared dead has ended, unless what it said last
// did not arrive.
func (c *cluster) declaredDead(at, who *member, e hb.NodeChanged) {
	now := c.now()
	sent, came := c.net.BeatArrived(who.name, at.name)
	c.stats.Deaths++
	// In state init no status was accepted: some other packet began the count, and
	// may have overtaken a beat, which then says nothing.
	if e.Early {
		c.earlyDeath(at, who, e)
	}
	if came > 0 && now-came < c.plan.Deadtime && !e.Early && e.From != hb.Init && !c.justWoken(at) {
		c.fail("%s declares %s dead %v after a beat of it came: %s", at.name, who.name, now-came, e.Why)
	}
	if at.d == nil || who.d == nil {
		return
	}
	unheard := c.net.BeatSent(who.name) > sent || e.From == hb.Init
	if unheard {
		c.checks.excused = now
	}
	if d := who.d; d.serves(0, now) || d.serves(1, now) {
		c.stats.FalseDeaths++
		mistaken := e.Early && now-max(c.trouble, who.changed) <= c.plan.Deadtime
		if !unheard && !mistaken && d.plane.until != unlimited && !c.justWoken(at) {
			c.fail("%s declares %s dead, whose last beat of %v ago came, but whose lease lasts for %v yet",
				at.name, who.name, now-sent, d.plane.until-now)
		}
		c.checks.excused = now
	}
}

// justWoken: it wakes at this moment, and may not have read its socket.
func (c *cluster) justWoken(n *member) bool { return c.net.Woken(n.name) == c.now() }

// --- rest ---

// settleLimit is how long a cluster may take to settle: the longest patience of
// a protocol that got stuck half way (package takeover).
func (c *cluster) settleLimit() time.Duration { return 15*time.Second + 20*c.plan.Deadtime }

// rest waits until all is over and settled, and looks at it.
func (c *cluster) rest() {
	begin, why := c.now(), "?"
	for c.faults > 0 && c.failed == "" {
		if c.now()-begin > 2*c.settleLimit() {
			c.fail("a shutdown does not end: %+v, %+v", c.dirs[0].m.View(), c.dirs[1].m.View())
		}
		c.run(c.plan.Keepalive)
	}
	begin = c.now()
	// What was lost shows with the next beats. What is slow has to land, and who
	// is asked or refused by it to be answered: a probe that comes late demands a
	// beat, a refusal a look.
	c.run(max(2*c.plan.Keepalive+c.most(), c.net.Landed()-begin+2*c.most()))
	for c.failed == "" && why != "" {
		if why = c.unsettled(); why == "" && c.mayFailBack() {
			c.run(failbackPause)
			why = c.unsettled()
		}
		if why == "" {
			break
		}
		if c.now()-begin > c.settleLimit() {
			c.fail("not at rest %v after the last failure: %s", c.now()-begin, why)
		}
		c.run(c.plan.Keepalive / 2)
	}
	if c.failed != "" {
		return
	}
	c.stats.Rests++
	c.stats.Settling = max(c.stats.Settling, c.now()-begin)
	c.checks.settled, c.checks.alone, c.disturbed = true, false, c.now()
	c.logf("*** at rest")
	c.quiet()
	if why := c.unsettled(); why != "" && c.failed == "" {
		c.fail("not at rest any more though nothing happened: %s", why)
	}
}

// failbackPause is longer than that of package takeover between two attempts.
const failbackPause = 1600 * time.Millisecond

// mayFailBack: somebody may still be waiting to give groups back.
func (c *cluster) mayFailBack() bool {
	return c.plan.Failback && (!c.dirs[0].serves(0, c.now()) || !c.dirs[1].serves(1, c.now()))
}

// unsettled says what is not at rest yet: every node is active and knows every
// other to be, nothing is missing, each class has one owner, and both directors
// and the client know which.
func (c *cluster) unsettled() string {
	var views [2]takeover.View
	for i, d := range c.dirs {
		views[i] = d.m.View()
	}
	for i, d := range c.dirs {
		v, o := views[i], views[1-i]
		if v.State != "stable" || v.Standby != "idle" || v.Lease != takeover.LeaseArmed || v.Held != v.Active || v.Draining != takeover.None ||
			v.OtherHeld != o.Held || !v.OtherStable || d.busy || len(d.inputs) > 0 {
			return fmt.Sprintf("%s: takeover %+v, the other %+v", d.n.name, v, o)
		}
	}
	for i := range 2 {
		a, b := c.dirs[0].serves(i, c.now()), c.dirs[1].serves(i, c.now())
		if a == b {
			return fmt.Sprintf("the groups of %s: a serves %v, b serves %v", nodeName(i), a, b)
		}
		if d := c.checks.client[i]; d == nil || !d.serves(i, c.now()) {
			return fmt.Sprintf("the client does not know who serves the groups of %s", nodeName(i))
		}
	}
	if why := c.disagreement(); why != "" {
		return why
	}
	if n := c.msgs.owing(); n > 0 {
		return fmt.Sprintf("%d messages have neither come nor been reported lost: %v", n, c.msgs.owed)
	}
	for _, n := range c.members {
		v := c.net.Core(n.name).Snapshot(c.net.Now())
		if v.Status != hb.Active {
			return fmt.Sprintf("%s is %s", n.name, v.Status)
		}
		for _, p := range v.Peers {
			if p.Status != hb.Active || p.Missing > 0 {
				return fmt.Sprintf("%s holds %s for %s, and misses %d messages of it", n.name, p.Name, p.Status, p.Missing)
			}
			if p.Suspected {
				return fmt.Sprintf("%s asks %s whether it lives", n.name, p.Name)
			}
			if d := c.byName[p.Name].d; d != nil && p.Ends != c.plan.Ends {
				return fmt.Sprintf("%s believes of %s that its data plane ends with it: %v", n.name, p.Name, p.Ends)
			}
			if c.plan.Hosts && p.Look == 0 {
				return fmt.Sprintf("%s would declare %s dead after the dead time only", n.name, p.Name)
			}
			for _, l := range p.Links {
				if !l.Up {
					return fmt.Sprintf("%s holds the link to %s on %s for dead", n.name, p.Name, l.Medium)
				}
			}
		}
	}
	return ""
}

// quiet watches a cluster at rest for some keepalives: nothing but beats,
// acknowledgements, and now and then a calm probe of each link with its answer.
func (c *cluster) quiet() {
	const periods = 5
	beats, acks, probes, answers := 0, 0, 0, 0
	warm := 0 // probes of links that came up just now
	for _, n := range c.members {
		for _, p := range c.net.Core(n.name).Snapshot(c.net.Now()).Peers {
			warm += min(p.Warm, periods+1)
		}
	}
	is := func(p hb.Packet, typ string) bool {
		return bytes.Contains(p.Data[:min(len(p.Data), 40)], []byte("t="+typ))
	}
	c.net.OnPacket = func(from string, p hb.Packet, _ []hbtest.Fate) {
		switch {
		case p.Beat:
			beats++
		case is(p, "NS_ackmsg"):
			acks++
		case is(p, "NS_probe"):
			probes++
		case is(p, "NS_alive"):
			answers++
		default:
			c.fail("%s sends at rest: %.60q", from, p.Data)
		}
	}
	c.run(periods * c.plan.Keepalive)
	c.net.OnPacket = nil
	n := len(c.members)
	if c.failed == "" && (beats < (periods-1)*n || beats > (periods+1)*n || acks > n*n) {
		c.fail("%d beats and %d acknowledgements of %d nodes in %d keepalives of rest", beats, acks, n, periods)
	}
	// Another calm probe comes once in ten keepalives; what was asked before may
	// be answered now. What the network doubles is answered twice.
	most := (2*n*(n-1) + warm) * c.plan.Media
	mostAnswers := most
	if c.plan.Jumble > 0 {
		mostAnswers *= 2
	}
	if c.failed == "" && (probes > most || answers > mostAnswers) {
		c.fail("%d probes and %d answers in %d keepalives of rest, at most %d and %d are allowed", probes, answers, periods, most, mostAnswers)
	}
}

func typeName(x any) string {
	return strings.TrimPrefix(fmt.Sprintf("%T%+v", x, x), "takeover.")
}
