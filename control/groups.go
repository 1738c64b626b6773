package control

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"systole/control/config"
	"systole/control/takeover"
	"systole/control/vip"
	"systole/dataplane"
	"systole/hb"
	"systole/hb/membership"
)

// handoverMemory is how long connections that the peer began are sent back to
// it after a planned hand-over: as long as its flow table remembers them.
const handoverMemory = 15 * time.Minute

// afterlife is how long they are sent to a peer that is silent. Its data plane
// goes on for us while its daemon stands still, or is started again by init; of a
// machine that is gone nothing comes, and a reset is better than silence for ever.
const afterlife = 5 * time.Second

// heartbeat takes an event of the heartbeat.
func (d *Director) heartbeat(ev hb.Event) {
	d.failures.note(ev)
	d.membersHear(ev)
	switch e := ev.(type) {
	case hb.Joined:
		d.event("cluster", slog.LevelInfo, "the cluster is complete: active")
		// A peer may have been heard, and made the cluster complete, before
		// its first status; it must not be taken for absent.
		for _, p := range d.Cluster.View().Peers {
			if p.Heard && p.Status != hb.Dead && d.isPeer(p.Name) {
				d.step(takeover.Peer{Alive: true, Joining: p.Status == hb.Up, Systole: p.Systole, Deadtime: p.Deadtime, Why: "heard"})
			}
		}
		d.step(takeover.Joined{})
	case hb.NodeChanged:
		if e.Ping {
			d.pingChanged(e)
		} else {
			d.nodeChanged(e)
		}
	case hb.Removed:
		d.removed(e)
	case hb.LinkChanged:
		d.linkChanged(e)
	case hb.Suspected, hb.Cleared:
		// A lossy network has many; what matters in the end is a NodeChanged.
		d.Log.Debug(e.String(), "kind", "cluster")
	case hb.Delivered:
		if !e.FromSelf && !d.isPeer(e.Node) || e.Message.Type() == membership.Type {
			break // takeover is between the two directors
		}
		d.step(takeover.Message{Msg: e.Message, FromSelf: e.FromSelf})
	case hb.Repeated:
		if d.isPeer(e.Node) {
			d.step(takeover.Repeated{Msg: e.Message})
		}
	case hb.Lost:
		d.event("cluster", slog.LevelError, "%s", e)
	case hb.Stalled:
		d.event("cluster", slog.LevelWarn, "%s", e)
	case hb.Report:
		d.event("cluster", slog.Level(e.Level), "%s", e.Text)
	}
}

// isPeer: the node is the other director of the config, not one that was added
// or has joined by itself.
func (d *Director) isPeer(node string) bool {
	return node != d.cfg.Node && slices.Contains(d.cfg.Cluster.Nodes, node)
}

func (d *Director) nodeChanged(e hb.NodeChanged) {
	level := slog.LevelInfo
	if e.To == hb.Dead {
		level = slog.LevelWarn
	}
	d.event("cluster", level, "%s", e)
	if !d.isPeer(e.Node) {
		return
	}
	d.silent = time.Time{}
	if e.To == hb.Dead {
		d.silent = d.Now()
		if d.takeover.View().PeerLeft {
			d.handedBy = time.Time{} // its data plane went with it
		}
	}
	d.secondChance()
	if d.Sync != nil && (e.To == hb.Dead || e.Restarted) {
		d.Sync.PeerLost()
	}
	p := takeover.Peer{Alive: e.To != hb.Dead, Returned: e.Returned, Restarted: e.Restarted, Joining: e.To == hb.Up, Systole: e.Systole, Ended: e.Ended, Why: e.Why}
	if v, ok := d.Cluster.View().Peer(e.Node); ok {
		p.Deadtime = v.Deadtime
	}
	d.step(p)
}

func (d *Director) linkChanged(e hb.LinkChanged) {
	if e.Up {
		if d.isPeer(e.Node) && d.takeover.View().Kept != takeover.None {
			d.step(takeover.Heard{})
		}
		d.event("cluster", slog.LevelInfo, "link %s to %s is up", e.Medium, e.Node)
		return
	}
	why := ""
	if e.Why != "" {
		why = ": " + e.Why
	}
	d.event("cluster", slog.LevelWarn, "link %s to %s is %v: silent for %v%s", e.Medium, e.Node, e.State, e.Silence.Round(time.Millisecond), why)
}

// step gives the ownership machine an input and does what it answers, and what
// it answers to the outcome of that, until there is nothing left to do. It
// returns the refusal, if the input was a command and was refused.
func (d *Director) step(in takeover.Input) error {
	if d.cfg.Witness() {
		return d.witness(in)
	}
	var refused error
	// Before any news of the peer: what we know of it may be as old as our own
	// stall.
	if d.Lease.Alive(d.Now()); len(d.Lease.Lapsed()) > 0 {
		<-d.Lease.Lapsed()
		d.leaseLapsed()
		if _, ok := in.(takeover.Quorum); ok {
			in = d.quorum() // it may have been lost just now
		}
	}
	queue := []takeover.Input{in}
	for len(queue) > 0 {
		d.takeover.PeerLives(d.peerLives())
		outs := d.takeover.Step(d.Now(), queue[0])
		queue = queue[1:]
		for _, out := range outs {
			switch o := out.(type) {
			case takeover.Refused:
				refused = o.Err
			case takeover.Acquire:
				err := d.acquire(o)
				queue = append(queue, takeover.Done{Op: o.Op, Err: err})
			case takeover.Release:
				err := d.release(o)
				queue = append(queue, takeover.Done{Op: o.Op, Err: err})
			case takeover.Fence:
				queue = append(queue, takeover.Done{Op: o.Op, Err: d.fence()})
			default:
				d.perform(out)
			}
		}
	}
	return refused
}

// peerLives tells what the heartbeat holds of the other director at this moment,
// whatever waits to be heard of it.
func (d *Director) peerLives() bool {
	for _, p := range d.Cluster.View().Peers {
		if d.isPeer(p.Name) {
			return p.Heard && p.Status != hb.Dead
		}
	}
	return false
}

// leaseLapsed tells of a stall that was longer than the lease.
func (d *Director) leaseLapsed() {
	d.event("takeover", slog.LevelWarn, "stalled longer than the lease: asking the peer who owns what")
	d.step(takeover.LeaseLapsed{})
	d.members.machine.Stalled(d.Now())
	d.membersDone()
}

// perform does what has no outcome to wait for.
func (d *Director) perform(out takeover.Output) {
	switch o := out.(type) {
	case takeover.Send:
		if err := d.Cluster.Submit(o.Msg); err != nil {
			d.event("cluster", slog.LevelError, "message %s not sent: %v", o.Msg.Type(), err)
		}
	case takeover.Withdraw:
		d.setRole(o.Class, dataplane.Draining, dataplane.Standby)
		d.apply()
	case takeover.Announce:
		d.eachVIP(o.Class, func(a vip.Addr) error { d.Addresses.Announce(a); return nil })
	case takeover.Lease:
		d.lease(o)
	case takeover.Report:
		d.event("takeover", o.Level, "%s", o.Text)
	case takeover.Stopped:
		d.stopped = true
	}
}

// acquire makes us the owner: the data plane first, so that no packet finds
// the address without a forwarder, then the address, then the announcement.
func (d *Director) acquire(o takeover.Acquire) error {
	begin := d.Now()
	d.handedBy = time.Time{}
	if o.Planned {
		d.handedBy = begin
	}
	d.setRoleAll(o.Class, dataplane.Active)
	d.secondChance()
	d.dirty, d.kept = false, false
	d.snapshot, d.why = Plan(d.cfg, d.facts)
	var errs []error
	for i, p := range d.Planes {
		if err := d.applyTo(i, p); err != nil {
			errs = append(errs, err)
		}
	}
	d.noteCarriers()
	// One plane that follows is enough to serve.
	if len(errs) == len(d.Planes) && len(errs) > 0 {
		return fmt.Errorf("no data plane follows: %w", errors.Join(errs...))
	}
	err := d.eachVIP(o.Class, func(a vip.Addr) error {
		if err := d.Addresses.Add(a); err != nil {
			return err
		}
		d.Addresses.Announce(a)
		return nil
	})
	if err != nil {
		return err
	}
	d.event("takeover", slog.LevelInfo, "acquired %s in %v: %s", o.Class, d.Now().Sub(begin).Round(time.Microsecond), o.Why)
	return nil
}

// release lets go: the address first, so that ARP is not answered any more.
// With Drain, packets that still come are forwarded until Withdraw.
func (d *Director) release(o takeover.Release) error {
	err := d.eachVIP(o.Class, d.Addresses.Del)
	d.kept = false
	role := dataplane.Standby
	if o.Drain {
		role = dataplane.Draining
	}
	d.setRoleAll(o.Class, role)
	d.secondChance()
	d.apply()
	d.event("takeover", slog.LevelInfo, "released %s: %s", o.Class, o.Why)
	return err
}

func (d *Director) lease(o takeover.Lease) {
	mode := map[takeover.LeaseMode]LeaseMode{
		takeover.LeaseNone:      LeaseEnded,
		takeover.LeaseArmed:     LeaseArmed,
		takeover.LeaseUnlimited: LeaseUnlimited,
		takeover.LeaseSuspended: LeaseSuspended,
	}[o.Mode]
	if mode == LeaseUnlimited {
		d.tellEnds(mode)
	}
	was, _ := d.Lease.Mode()
	if err := d.Lease.Set(d.Now(), mode); err != nil {
		d.event("dataplane", slog.LevelError, "lease not granted: %v", err)
		return
	}
	d.tellEnds(mode)
	// A lease that has lapsed begins with the next beat (Lease.Set), and clients
	// wait for it.
	if was == LeaseSuspended && mode == LeaseArmed {
		if err := d.Cluster.Beat(); err != nil {
			d.event("cluster", slog.LevelError, "beat not sent: %v", err)
		}
	}
}

// classOf is the class of a group from our point of view.
func (d *Director) classOf(g *config.Group) takeover.Class {
	if g.Preferred == d.cfg.Node {
		return takeover.Local
	}
	return takeover.Foreign
}

// setRole changes the role of the class's groups that have role from.
func (d *Director) setRole(c takeover.Class, from, to dataplane.Role) {
	for i := range d.cfg.Groups {
		g := &d.cfg.Groups[i]
		if d.classOf(g)&c != 0 && d.facts.Roles[g.Name] == from {
			d.facts.Roles[g.Name] = to
		}
	}
}

func (d *Director) setRoleAll(c takeover.Class, to dataplane.Role) {
	for _, from := range []dataplane.Role{dataplane.Standby, dataplane.Active, dataplane.Draining} {
		d.setRole(c, from, to)
	}
}

// eachVIP calls do for every address of the class's groups, all of them even
// if one fails.
func (d *Director) eachVIP(c takeover.Class, do func(vip.Addr) error) error {
	var errs []error
	for i := range d.cfg.Groups {
		g := &d.cfg.Groups[i]
		if d.classOf(g)&c == 0 {
			continue
		}
		for _, v := range g.VIPs {
			if err := do(vipAddr(v)); err != nil {
				errs = append(errs, fmt.Errorf("group %s: %w", g.Name, err))
			}
		}
	}
	return errors.Join(errs...)
}

func vipAddr(v config.VIP) vip.Addr {
	return vip.Addr{IP: v.Addr, PrefixLen: v.PrefixLen, Interface: v.Interface}
}

// secondChance is on while connections that the peer began, and handed over,
// may still be running.
func (d *Director) secondChance() {
	now := d.Now()
	if now.Sub(d.handedBy) >= handoverMemory || !d.silent.IsZero() && now.Sub(d.silent) >= afterlife {
		d.handedBy = time.Time{}
	}
	on := !d.handedBy.IsZero()
	if on != d.facts.SecondChance {
		d.facts.SecondChance, d.dirty = on, true
	}
}

// housekeepingPeriod is how often the planes are looked after.
const housekeepingPeriod = time.Second

// housekeeping is what is not urgent.
func (d *Director) housekeeping() {
	now := d.Now()
	if now.Sub(d.cleaned) < housekeepingPeriod {
		return
	}
	d.cleaned = now
	d.secondChance()
	mode, _ := d.Lease.Mode()
	d.tellEnds(mode) // a plane may have lost its interface, or have it back
	d.tendCarriers()
	for i, p := range d.Planes {
		s := &d.planes[i]
		was := s.Info
		before := was.Mode
		s.Info = p.Info()
		d.interfacesChanged(was, s.Info)
		if s.Mode != before && len(s.Interfaces) < 2 {
			d.event("dataplane", slog.LevelWarn, "%s on %s: %s -> %s %s", s.Name, s.Interface, before, s.Mode, s.Reason)
		}
		// A plane that refused a snapshot, or whose interface has gone, is
		// asked again.
		if s.Error != "" || s.Mode == dataplane.Detached {
			d.dirty = true
		}
	}
}
