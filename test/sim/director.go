package sim

import (
	"log/slog"
	"strings"
	"time"

	"systole/control"
	"systole/control/takeover"
	"systole/dataplane"
	"systole/hb"
)

// role is what the data plane does with a class of groups. An active one has
// the addresses, too: it answers ARP.
type role uint8

const (
	standby role = iota
	active
	draining
)

// director is one process: control loop, takeover and lease around the core
// that the network runs. The loop is that of package control: lapsed lease
// first, then one input at a time, operations done while it waits.
type director struct {
	c    *cluster
	n    *member
	peer *director

	m       *takeover.Machine
	lease   *control.Lease
	inputs  []input
	answers []takeover.Input  // to operations: go before inputs
	outs    []takeover.Output // of the last step, to be done
	busy    bool              // an operation is under way
	asleep  bool              // woken, but has not run yet
	hung    int
	stopped bool
	joined  bool
	ordered bool          // to shut down
	armed   time.Duration // the timer that is set for the machine's deadline
	clock   time.Duration // of this life: what its wall clock is ahead
	quorum  bool          // the machine is to be told of it
	lapse   bool          // a lease that lapsed is to be told to the agreement
	buried  bool          // the peer has declared this life dead early, and not heard it since

	plane plane
}

// input waits for the control loop: for the takeover machine, or for the
// agreement on who is in.
type input struct {
	takeover.Input
	event hb.Event
}

// plane is the data plane and the addresses: they are the kernel's, and outlive
// a daemon that is killed. Classes are named as on node a.
type plane struct {
	roles [2]role
	until time.Duration // the lease; unlimited: far away
}

const unlimited = 1 << 62

// start is a new process, on what the old one has left.
func (d *director) start() {
	// cmd/systole: addresses go, the planes begin as standby, before any beat.
	d.plane = plane{}
	*d = director{c: d.c, n: d.n, peer: d.peer, clock: d.n.clock}
	p := d.c.plan
	d.m = takeover.New(takeover.Config{
		Node: d.n.name, Peer: d.peer.n.name, AutoFailback: p.Failback, Keepalive: p.Keepalive, DrainGrace: d.c.drainGrace(),
		AtMostOne: p.AtMostOne, Deadtime: p.Deadtime,
	})
	d.lease = control.NewLease(p.Deadtime, d.renew)
}

// renew is the data plane's part of a lease.
func (d *director) renew(t time.Duration) error {
	if t == dataplane.Unlimited {
		d.plane.until = unlimited
	} else {
		d.plane.until = d.c.now() + t
	}
	return nil
}

// beforeBeat is the heartbeat loop's question. The control loop says that it
// turns whenever nothing keeps it from turning.
func (d *director) beforeBeat() bool {
	now := d.c.net.Now()
	if !d.asleep && d.hung == 0 && !d.stopped {
		d.lease.Alive(now)
	}
	ok := d.lease.BeforeBeat(now)
	if len(d.lease.Lapsed()) > 0 {
		d.c.dirty = true
	}
	return ok
}

// event is what package control makes of an event of the heartbeat.
func (d *director) event(e hb.Event) {
	if d.c.plan.AtMostOne {
		d.wait(input{event: e}) // goes before what takeover makes of it
	}
	switch e := e.(type) {
	case hb.Joined:
		if v, ok := d.c.net.Core(d.n.name).Snapshot(d.c.net.Now()).Peer(d.peer.n.name); ok && v.Heard && v.Status != hb.Dead {
			d.input(takeover.Peer{Alive: true, Joining: v.Status == hb.Up, Systole: v.Systole, Deadtime: v.Deadtime, Why: "heard"})
		}
		d.input(takeover.Joined{})
	case hb.NodeChanged:
		if e.Node == d.peer.n.name {
			d.input(takeover.Peer{
				Alive: e.To != hb.Dead, Returned: e.Returned, Restarted: e.Restarted,
				Joining: e.To == hb.Up, Systole: e.Systole, Ended: e.Ended, Deadtime: d.c.plan.Deadtime, Why: e.Why,
			})
		}
	case hb.Delivered:
		if e.FromSelf || e.Node == d.peer.n.name {
			d.input(takeover.Message{Msg: e.Message, FromSelf: e.FromSelf})
		}
	}
}

func (d *director) input(in takeover.Input) { d.wait(input{Input: in}) }

func (d *director) wait(in input) {
	d.inputs = append(d.inputs, in)
	d.c.dirty = true
	if len(d.inputs) > maxInputs {
		d.c.fail("%s: %d inputs wait", d.n.name, len(d.inputs))
	}
}

// maxInputs is what may wait for a control loop: the driver's queue.
const maxInputs = 4096

// turns says whether the control loop can do something now.
func (d *director) turns() bool {
	return d.n.running && d.n.pauses == 0 && d.hung == 0 && !d.busy && !d.stopped
}

// pump lets the control loop do what there is to do.
func (d *director) pump() {
	for d.turns() {
		d.asleep = false
		switch {
		case len(d.outs) > 0:
			o := d.outs[0]
			d.outs = d.outs[1:]
			d.perform(o)
		case len(d.answers) > 0:
			in := d.answers[0]
			d.answers = d.answers[1:]
			d.step(in)
		case d.lapse:
			d.lapse = false
			d.n.views.machine.Stalled(d.machineNow())
			d.c.agreed(d.n)
		case d.lapsed():
			d.lapse = d.c.plan.AtMostOne
			d.step(takeover.LeaseLapsed{})
		case d.quorum:
			d.step(d.quorumNews())
		case d.due() && (len(d.inputs) == 0 || d.c.rnd.IntN(2) == 0):
			d.step(takeover.Tick{})
		case len(d.inputs) > 0:
			in := d.inputs[0]
			d.inputs = d.inputs[1:]
			if in.event != nil {
				d.c.hear(d.n, in.event)
			} else {
				d.step(in.Input)
			}
		case d.viewsDue():
			d.n.views.machine.Tick(d.machineNow())
			d.c.agreed(d.n)
		default:
			d.inputs, d.answers, d.outs = nil, nil, nil
			d.setTimer()
			return
		}
	}
}

// lapsed is asked before each input.
func (d *director) lapsed() bool {
	d.lease.Alive(d.c.net.Now())
	if len(d.lease.Lapsed()) == 0 {
		return false
	}
	<-d.lease.Lapsed()
	return true
}

// machineNow is the time as this process's clock has it.
func (d *director) machineNow() time.Time { return d.c.net.Now().Add(d.clock) }

func (d *director) deadline() (time.Duration, bool) {
	at := d.m.Deadline()
	if at.IsZero() {
		return 0, false
	}
	return at.Sub(d.machineNow()) + d.c.now(), true
}

func (d *director) due() bool {
	at, ok := d.deadline()
	return ok && at <= d.c.now()
}

// viewsDue: the agreement has something to do.
func (d *director) viewsDue() bool {
	at, ok := d.c.viewsDeadline(d.n)
	return ok && at <= d.c.now()
}

func (d *director) setTimer() {
	at, ok := d.deadline()
	if views, due := d.c.viewsDeadline(d.n); due && (!ok || views < at) {
		at, ok = views, true
	}
	if !ok || d.armed > d.c.now() && d.armed <= at {
		return
	}
	d.armed = at
	life := d.n.life
	d.c.net.After(at-d.c.now(), func() {
		if d.n.life == life {
			d.c.dirty = true
		}
	})
}

func (d *director) step(in takeover.Input) {
	if d.c.trace != nil {
		d.c.logf("%s <- %s", d.n.name, show(in))
	}
	d.joined = d.joined || in == takeover.Joined{}
	v, ok := d.c.net.Core(d.n.name).Snapshot(d.c.net.Now()).Peer(d.peer.n.name)
	d.m.PeerLives(ok && v.Heard && v.Status != hb.Dead)
	d.outs = d.m.Step(d.machineNow(), in)
}

func show(x any) string {
	switch x := x.(type) {
	case takeover.Message:
		return x.Msg.String()
	case takeover.Send:
		return "send " + x.Msg.String()
	case takeover.Report:
		return "report " + strings.ToLower(x.Level.String()) + " " + x.Text
	}
	return typeName(x)
}

func (d *director) perform(out takeover.Output) {
	c := d.c
	if c.trace != nil {
		c.logf("%s ->   %s", d.n.name, show(out))
	}
	switch o := out.(type) {
	case takeover.Send:
		if err := c.net.Submit(d.n.name, o.Msg); err != nil {
			c.fail("%s: message %s not sent: %v", d.n.name, o.Msg.Type(), err)
		}
	case takeover.Acquire:
		d.operate(func() {
			d.setRoles(o.Class, active)
			d.announce(o.Class)
			d.answers = append(d.answers, takeover.Done{Op: o.Op})
		})
	case takeover.Release:
		to := standby
		if o.Drain {
			to = draining
		}
		d.operate(func() {
			d.setRoles(o.Class, to)
			d.answers = append(d.answers, takeover.Done{Op: o.Op})
		})
	case takeover.Withdraw:
		for i := range d.plane.roles {
			if d.holds(o.Class, i) && d.plane.roles[i] == draining {
				d.plane.roles[i] = standby
			}
		}
	case takeover.Announce:
		d.announce(o.Class)
	case takeover.Lease:
		// Ends is a promise: said after it has become true, taken back before
		// it ceases to be.
		armed := o.Mode == takeover.LeaseArmed
		if !armed {
			c.net.SetEnds(d.n.name, false)
		}
		was, _ := d.lease.Mode()
		_ = d.lease.Set(c.net.Now(), leaseModes[o.Mode])
		if armed {
			c.net.SetEnds(d.n.name, c.plan.Ends)
		}
		if armed && was == control.LeaseSuspended {
			c.net.Beat(d.n.name)
		}
	case takeover.Report:
		if o.Level == slog.LevelError && c.calm() {
			c.fail("%s reports an error: %s", d.n.name, o.Text)
		}
	case takeover.Stopped:
		d.stopped = true
		c.linger(d.n)
	}
}

var leaseModes = map[takeover.LeaseMode]control.LeaseMode{
	takeover.LeaseNone:      control.LeaseEnded,
	takeover.LeaseArmed:     control.LeaseArmed,
	takeover.LeaseUnlimited: control.LeaseUnlimited,
	takeover.LeaseSuspended: control.LeaseSuspended,
}

// maxOperation is the longest that system calls take.
const maxOperation = time.Millisecond

// operate lets the control loop do system calls, after which it goes on.
func (d *director) operate(do func()) {
	d.busy = true
	d.runOperation(time.Duration(d.c.rnd.Int64N(int64(maxOperation))), do)
}

func (d *director) runOperation(after time.Duration, do func()) {
	life := d.n.life
	d.c.net.After(after, func() {
		switch {
		case d.n.life != life:
		case d.n.pauses > 0: // it stands still, too
			d.runOperation(d.c.plan.Keepalive/4, do)
		default:
			do()
			d.busy, d.c.dirty = false, true
		}
	})
}

// holds: class c, in this director's words, contains the groups of node i.
func (d *director) holds(c takeover.Class, i int) bool {
	return c&(takeover.Local<<(i^d.n.index)) != 0
}

func (d *director) setRoles(c takeover.Class, r role) {
	for i := range d.plane.roles {
		if d.holds(c, i) {
			d.plane.roles[i] = r
		}
	}
}

// announce is gratuitous ARP: the client believes who spoke last. The daemon
// sends it, whatever the lease.
func (d *director) announce(c takeover.Class) {
	for i := range d.plane.roles {
		if d.holds(c, i) && d.plane.roles[i] == active {
			d.c.checks.client[i] = d
		}
	}
}

// leased: the data plane answers and forwards.
func (d *director) leased(now time.Duration) bool {
	return d.n.up && d.n.frozen == 0 && now < d.plane.until
}

// serves: it answers ARP for the groups of node i; forwards: what comes for
// them is forwarded.
func (d *director) serves(i int, now time.Duration) bool {
	return d.plane.roles[i] == active && d.leased(now)
}

func (d *director) forwards(i int, now time.Duration) bool {
	return d.plane.roles[i] != standby && d.leased(now)
}
