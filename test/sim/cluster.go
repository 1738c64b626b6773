package sim

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"time"

	"systole/control/takeover"
	"systole/hb"
	"systole/hb/hbtest"
	"systole/hb/wire"
)

// minDelay is the least that a packet takes.
const minDelay = 100 * time.Microsecond

// member is a node: its host, and the daemon on it.
type member struct {
	index   int
	name    string
	up      bool          // the host
	running bool          // the daemon
	life    int           // of the daemon, so that old timers do nothing
	pauses  int           // reasons for which the daemon stands still
	frozen  int           // of these: the whole host does
	changed time.Duration // when it was last started, or its host thawed
	clock   time.Duration
	d       *director // nil: only a member
	views   agreement
}

// cluster is a run under way.
type cluster struct {
	plan    Plan
	net     *hbtest.Network
	rnd     *rand.Rand
	members []*member
	byName  map[string]*member
	dirs    [2]*director
	dirty   bool // some control loop has something to do

	faults    int           // under way
	disturbed time.Duration // the last moment with a fault, or a start
	losses    int           // of these: packets are lost
	slows     int
	cuts      map[path]int
	unplugged map[[2]int]int // node and medium: cables that are out
	parted    int            // pairs of nodes between which no medium works both ways
	trouble   time.Duration  // the last moment at which packets were lost or slow

	checks checks
	msgs   messages
	stats  Stats
	failed string
	trace  io.Writer
}

// path is one direction between two nodes on one medium.
type path struct{ from, to, medium int }

func newCluster(p Plan, trace io.Writer) *cluster {
	c := &cluster{
		plan: p, net: hbtest.New(p.Seed), rnd: rand.New(rand.NewPCG(p.Seed, 3)),
		byName: map[string]*member{}, cuts: map[path]int{}, unplugged: map[[2]int]int{}, trace: trace,
	}
	c.stats.Kinds = map[string]uint64{}
	c.msgs.init(p.Nodes)
	c.net.Faults, c.net.Hosts = c.normal(), p.Hosts
	c.net.OnEvent = c.event
	c.net.BeforeBeat = c.beforeBeat
	var names []string
	for i := range p.Nodes {
		names = append(names, nodeName(i))
	}
	for i, name := range names {
		n := &member{index: i, name: name, up: true}
		if i < 2 {
			n.d = &director{c: c, n: n}
			c.dirs[i] = n.d
		}
		c.members = append(c.members, n)
		c.byName[name] = n
		c.net.Add(hb.Config{
			Node: name, Nodes: names, Media: mediaNames[:p.Media], Format: wire.Netstring,
			Keepalive: p.Keepalive, Deadtime: p.Deadtime, Initdead: c.initdead(), StartGrace: -1,
		})
	}
	c.dirs[0].peer, c.dirs[1].peer = c.dirs[1], c.dirs[0]
	return c
}

func (c *cluster) initdead() time.Duration { return 3 * c.plan.Deadtime }

// drainGrace is shorter than the real one, to be sooner at rest.
func (c *cluster) drainGrace() time.Duration { return c.plan.Deadtime }

func (c *cluster) normal() hbtest.Faults {
	return hbtest.Faults{Reorder: c.plan.Jumble, Duplicate: c.plan.Jumble / 2, MinDelay: minDelay, MaxDelay: c.plan.Delay}
}

func (c *cluster) now() time.Duration { return c.net.Since() }

func (c *cluster) logf(format string, args ...any) {
	if c.trace != nil {
		fmt.Fprintf(c.trace, "%10.4f %s\n", c.now().Seconds(), fmt.Sprintf(format, args...))
	}
}

func (c *cluster) fail(format string, args ...any) {
	if c.failed == "" {
		c.failed = fmt.Sprintf("at %.4f s: ", c.now().Seconds()) + fmt.Sprintf(format, args...)
		c.logf("BROKEN: %s", c.failed)
	}
}

// run lets time pass: at each step of it the control loops do what there is to
// do, and then the invariants are checked.
func (c *cluster) run(d time.Duration) {
	if c.failed == "" {
		c.net.RunUntil(d, c.after)
	}
}

// after is called after each step of the network; true ends the run.
func (c *cluster) after() bool {
	if c.dirty {
		c.dirty = false
		for _, d := range c.dirs {
			if d.n.running {
				d.pump()
			}
		}
	}
	c.check()
	return c.failed != ""
}

func (c *cluster) beforeBeat(name string) bool {
	n := c.byName[name]
	return n.d == nil || n.d.beforeBeat()
}

func (c *cluster) event(name string, e hb.Event) {
	n := c.byName[name]
	if c.trace != nil {
		if d, ok := e.(hb.Delivered); !ok || !d.FromSelf {
			c.logf("%s hb %v", name, e)
		}
	}
	switch e := e.(type) {
	case hb.Delivered:
		c.delivered(n, e)
	case hb.Lost:
		c.lost(n, e)
	case hb.NodeChanged:
		c.nodeChanged(n, e)
	case hb.Suspected:
		c.suspected(n, e)
	case hb.Report:
		if e.Level == hb.Error && c.calm() {
			c.fail("%s reports an error: %s", name, e.Text)
		}
	}
	switch {
	case n.d != nil:
		n.d.event(e)
	case c.plan.AtMostOne:
		c.hear(n, e)
	}
}

// --- what befalls the cluster ---

// begin notes a fault, end that it is over.
func (c *cluster) begin(k Kind) {
	c.faults++
	c.disturbed = c.now()
	if k.failure() {
		c.stats.Failures++
		c.stats.Kinds[k.String()]++
	}
}

func (c *cluster) end() {
	c.faults--
	c.disturbed = c.now()
}

// later is a fault's end.
func (c *cluster) later(d time.Duration, do func()) {
	c.net.After(d, func() {
		do()
		c.end()
	})
}

func (c *cluster) start(n *member) {
	c.logf("*** start %s", n.name)
	c.disturbed = c.now()
	n.life++
	n.up, n.running, n.pauses, n.frozen, n.changed = true, true, 0, 0, c.now()
	if n.d != nil {
		n.d.start()
	}
	c.msgs.started(n.index)
	c.joinViews(n)
	c.net.SetClock(n.name, n.clock)
	if err := c.net.Start(n.name); err != nil {
		panic(err)
	}
	for medium := range c.plan.Media {
		if c.unplugged[[2]int{n.index, medium}] > 0 { // missing from the beginning
			c.carrier(n, medium, hb.CarrierLost)
		}
	}
	if c.plan.AtMostOne {
		c.agreed(n)
	}
}

// kill ends the daemon without a word. The kernel keeps what the data plane
// does; with the exit hook an armed lease ends.
func (c *cluster) kill(n *member) {
	n.life++
	n.running, n.pauses = false, 0
	c.net.Kill(n.name)
	if d := n.d; d != nil && c.plan.Ends && d.plane.until != unlimited {
		d.plane.until = min(d.plane.until, c.now())
	}
}

// linger: the director has stopped, its heartbeat goes on for a while to send
// again what was lost; then the process ends, in good order.
func (c *cluster) linger(n *member) {
	life := n.life
	c.net.Core(n.name).Stop(c.net.Now())
	c.net.After(6*c.plan.Keepalive, func() {
		if n.life == life {
			c.kill(n)
			n.d.plane = plane{}
		}
	})
}

// restart starts the daemon after d, if nobody did before.
func (c *cluster) restart(n *member, d time.Duration) {
	life := n.life
	c.later(d, func() {
		if n.life == life {
			c.start(n)
		}
	})
}

// pause stops a daemon, and with freeze its host, for d.
func (c *cluster) pause(n *member, d time.Duration, freeze bool) {
	life := n.life
	n.pauses++
	if freeze {
		n.frozen++
		c.net.Freeze(n.name)
	}
	c.net.Pause(n.name)
	c.later(d, func() {
		if n.life != life {
			return
		}
		if freeze {
			if n.frozen--; n.frozen == 0 {
				n.changed = c.now()
				c.net.Thaw(n.name)
			}
		}
		if n.pauses--; n.pauses > 0 {
			return
		}
		c.logf("*** %s goes on", n.name)
		c.disturbed = c.now()
		// Which of its loops runs first is chance.
		if n.d != nil {
			n.d.asleep = true
			if c.rnd.IntN(2) == 0 {
				n.d.pump()
			}
		}
		c.dirty = true
		if c.rnd.IntN(4) == 0 {
			c.net.ResumeLate(n.name)
		} else {
			c.net.Resume(n.name)
		}
	})
}

// cut begins one more cut from a to b on one medium, or with by -1 ends one.
func (c *cluster) cut(a, b, medium, by int) {
	before := c.apart(a, b)
	key := path{a, b, medium}
	switch c.cuts[key] += by; {
	case by > 0:
		c.net.Cut(nodeName(a), nodeName(b), mediaNames[medium])
	case c.cuts[key] == 0:
		c.net.Heal(nodeName(a), nodeName(b), mediaNames[medium])
		delete(c.cuts, key)
	}
	if after := c.apart(a, b); after != before {
		c.parted += by
	}
}

// apart: on no medium a question of one is answered by the other.
func (c *cluster) apart(a, b int) bool {
	for medium := range c.plan.Media {
		if c.cuts[path{a, b, medium}]+c.cuts[path{b, a, medium}] == 0 {
			return false
		}
	}
	return true
}

// cutOff is cut on every medium.
func (c *cluster) cutOff(a, b, by int) {
	for medium := range c.plan.Media {
		c.cut(a, b, medium, by)
	}
}

// isolate cuts node a from all others, both ways, on one medium.
func (c *cluster) isolate(a, medium, by int) {
	for i := range c.members {
		if i != a {
			c.cut(a, i, medium, by)
			c.cut(i, a, medium, by)
		}
	}
}

// unplug pulls a cable, or with by -1 puts it back.
func (c *cluster) unplug(n *member, medium, by int) {
	c.isolate(n.index, medium, by)
	key := [2]int{n.index, medium}
	switch c.unplugged[key] += by; {
	case by > 0 && c.unplugged[key] == 1:
		c.carrier(n, medium, hb.CarrierLost)
	case c.unplugged[key] == 0:
		c.carrier(n, medium, hb.CarrierBack)
	}
}

func (c *cluster) carrier(n *member, medium int, kind hb.NoticeKind) {
	c.net.Notice(n.name, hb.Notice{Medium: mediaNames[medium], Kind: kind})
}

// do begins a step.
func (c *cluster) do(s Step) {
	n := c.members[s.A]
	c.logf("*** %v", s)
	switch s.Kind {
	case Crash, Die, Stall, Freeze, Hang, Standby, Takeover, Shutdown, Say:
		if !n.running || n.d != nil && n.d.ordered && s.Kind > Hang {
			return
		}
	}
	calm := c.calm()
	if !calm {
		c.checks.alone = false
	}
	if s.Kind.failure() {
		c.begin(s.Kind)
		c.checks.began(c, s, calm)
	}
	switch s.Kind {
	case Crash:
		c.kill(n)
		c.restart(n, s.For)
	case Die:
		n.up = false
		c.kill(n)
		c.net.Crash(n.name)
		if n.d != nil {
			n.d.plane = plane{}
		}
		c.restart(n, s.For)
	case Stall, Freeze:
		c.pause(n, s.For, s.Kind == Freeze)
	case Hang:
		life := n.life
		n.d.hung++
		c.later(s.For, func() {
			if n.life == life {
				n.d.hung--
				c.dirty = true
			}
		})
	case Cut:
		c.cutOff(s.A, s.B, 1)
		c.later(s.For, func() { c.heal(func() { c.cutOff(s.A, s.B, -1) }) })
	case Part:
		all := func(by int) {
			for medium := range c.plan.Media {
				c.isolate(s.A, medium, by)
			}
		}
		all(1)
		c.later(s.For, func() { c.heal(func() { all(-1) }) })
	case Link:
		c.cut(s.A, s.B, s.Medium, 1)
		c.later(s.For, func() { c.heal(func() { c.cut(s.A, s.B, s.Medium, -1) }) })
	case Unplug:
		c.unplug(n, s.Medium, 1)
		c.later(s.For, func() { c.heal(func() { c.unplug(n, s.Medium, -1) }) })
	case Loss:
		c.losses++
		c.net.Loss = min(s.P, 0.95)
		c.later(s.For, func() {
			if c.losses--; c.losses == 0 {
				c.net.Loss = 0
			}
		})
	case Slow:
		c.slows++
		c.net.MaxDelay = time.Duration(s.P * float64(c.plan.Delay))
		c.later(s.For, func() {
			if c.slows--; c.slows == 0 {
				c.net.MaxDelay = c.plan.Delay
			}
		})
	case Clock:
		// What the clock shows matters to a process when it starts, too.
		n.clock = s.For
		c.net.SetClock(n.name, s.For)
		c.end()
	case Standby:
		n.d.input(takeover.Standby{Class: s.Class})
	case Takeover:
		n.d.input(takeover.Takeover{Class: s.Class})
	case Shutdown:
		n.d.ordered = true
		c.begin(s.Kind)
		if p := n.d.peer; !p.n.running || p.ordered || p.m.View().State != "stable" || c.plan.AtMostOne && c.plan.Nodes == 2 {
			c.checks.settled = false // nobody to hand over to, or without a majority then
		}
		n.d.input(takeover.Shutdown{})
		c.afterShutdown(n, n.life, s.For)
	case Say:
		c.begin(s.Kind)
		c.say(n, n.life, 10, s.For/10)
	}
}

func (c *cluster) heal(do func()) {
	do()
	c.logf("*** healed")
	c.stats.Failures++
	c.stats.Kinds["heal"]++
}

// afterShutdown starts a daemon d after it has stopped in good order.
func (c *cluster) afterShutdown(n *member, life int, d time.Duration) {
	c.net.After(c.plan.Keepalive, func() {
		switch {
		case n.life == life:
			c.afterShutdown(n, life, d)
		case !n.running && n.life == life+1:
			c.restart(n, d)
		default:
			c.end()
		}
	})
}

// say sends messages, one each pause.
func (c *cluster) say(n *member, life, count int, pause time.Duration) {
	if count == 0 || n.life != life || n.d != nil && n.d.stopped {
		c.end()
		return
	}
	if n.pauses == 0 {
		if err := c.net.Submit(n.name, wire.New("test", "info", strconv.Itoa(count))); err != nil {
			c.logf("%s: not sent: %v", n.name, err)
		}
	}
	c.net.After(pause, func() { c.say(n, life, count-1, pause) })
}
