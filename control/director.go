package control

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"systole/control/config"
	"systole/control/health"
	"systole/control/neighbour"
	"systole/control/takeover"
	"systole/control/vip"
	"systole/dataplane"
	"systole/hb"
	"systole/hb/membership"
	"systole/hb/wire"
)

// ErrHeartbeat ends a director whose heartbeat has ended: it would be blind.
var ErrHeartbeat = errors.New("the heartbeat has ended")

// Cluster is the heartbeat: hb/driver on real media, or a test's stand-in.
type Cluster interface {
	Submit(wire.Message) error
	Events() <-chan hb.Event
	View() hb.View
	SetKeys(wire.Keys) error
	SetEnds(bool) error
	Beat() error
	AddNodes(names []string) error
	RemoveNodes(names []string) error
}

// Addresses puts virtual addresses on this machine and announces them.
type Addresses interface {
	Add(vip.Addr) error
	Del(vip.Addr) error
	Present(vip.Addr) (bool, error)
	Announce(vip.Addr)
}

// Neighbours follows MAC addresses; it reports to Director.NeighbourChanged.
type Neighbours interface {
	Set([]netip.Addr)
}

// Checks runs health checks; it reports to Director.HealthChanged.
type Checks interface {
	Set(map[health.ID]health.Check)
}

// Options are a director's parts. All are required but Absent, Carriers, Sync,
// SaveNodes and ViewChanged; a witness has no Planes.
type Options struct {
	Config  *config.Config
	Load    func() (*config.Config, error) // reads the config again, for Reload
	Keys    func() (wire.Keys, error)      // reads the authkeys again, for Reload
	Version string

	Planes []dataplane.Plane // the one that forwards first
	Absent []PlaneState      // planes this machine cannot have, and why
	// Carriers are the parts of the one plane there is, if it has parts.
	Carriers Carriers

	Cluster    Cluster
	Addresses  Addresses
	Neighbours Neighbours
	Checks     Checks
	Lease      *Lease
	// Sync carries our flows to the peer; nil: nobody does.
	Sync FlowSync
	// SaveNodes keeps the list of nodes over a restart when it has changed at
	// run time; nil: it is not kept.
	SaveNodes func(nodes, deleted []string) error
	// ViewChanged is told each view that comes into force, and every change of
	// its quorum; it must not wait. Nil: nobody is told.
	ViewChanged func(membership.View)
	Log         *slog.Logger
	Now         func() time.Time
}

// Director owns a director's state. Make one with New, then call Run.
type Director struct {
	Options
	cfg     *config.Config
	started time.Time

	takeover   *takeover.Machine
	members    members
	facts      Facts
	why        Explanation
	snapshot   dataplane.Snapshot
	planes     []PlaneState
	carried    carried
	health     map[dataplane.ServerKey]health.Result
	conf       ConfigState
	events     eventLog
	failures   linkFailures
	handedBy   time.Time // when the peer handed us groups in a planned way; zero: it did not
	silent     time.Time // since when the peer is dead; zero: it is not
	ends       bool      // the others know that our data plane ends with this process
	dirty      bool      // facts changed since the last Apply
	flowsThere bool      // the peer has our flow table
	cleaned    time.Time // when housekeeping was last done
	stopped    bool
	kept       bool // a predecessor's generation is in force, see keep

	inputs chan func()    // everything that is not a heartbeat event
	saves  chan nodeLists // see keepNodes
	done   chan struct{}
}

// New returns a director in the state "standby, nothing known".
func New(o Options) *Director {
	now := o.Now()
	o.Config = o.Config.Own()
	d := &Director{
		Options: o,
		cfg:     o.Config,
		started: now,
		health:  make(map[dataplane.ServerKey]health.Result),
		conf:    ConfigState{File: o.Config.File, Loaded: now, ReloadOK: true},
		inputs:  make(chan func(), 256),
		saves:   make(chan nodeLists, 1),
		done:    make(chan struct{}),
		dirty:   true,
	}
	d.facts = Facts{
		Roles:      make(map[string]dataplane.Role),
		Health:     make(map[dataplane.ServerKey]bool),
		Quiesced:   make(map[dataplane.ServerKey]bool),
		Neighbours: make(map[netip.Addr]Neighbour),
		Peers:      peerAddrs(d.cfg),
	}
	d.failures = make(linkFailures)
	for _, p := range o.Planes {
		d.planes = append(d.planes, PlaneState{Info: p.Info()})
	}
	t := takeoverConfig(d.cfg)
	t.AwaitFlows = o.Sync != nil
	d.takeover = takeover.New(t) // a witness's is never stepped
	return d
}

// Run is the director's loop. It ends when a shutdown is complete: cancel ctx
// to ask for one (groups are handed to the peer first), twice via Kill to skip
// that. Run may be called once.
func (d *Director) Run(ctx context.Context) error {
	var saving sync.WaitGroup
	saving.Go(d.saveNodes)
	defer saving.Wait()
	defer close(d.saves)
	defer close(d.done)
	d.keep()
	if err := d.joinMembers(d.Now()); err != nil {
		return err
	}
	if names := d.cfg.WithoutAddr(); len(names) > 0 {
		d.event("config", slog.LevelWarn, "the address of %s on the LAN of the real servers is not known: connections that are open when a group moves are reset (no second chance); write cluster.addresses",
			strings.Join(names, " and "))
	}
	d.Checks.Set(checkTargets(d.cfg))
	d.Neighbours.Set(neighbourTargets(d.cfg))
	// The loop wakes at least this often to say that it is not stuck.
	pulse := time.NewTicker(max(d.cfg.Cluster.Keepalive, 10*time.Millisecond))
	defer pulse.Stop()
	due := time.NewTimer(time.Hour)
	defer due.Stop()
	asked := ctx.Done()
	for !d.stopped {
		d.takeWaiting()
		if d.dirty {
			d.apply()
		}
		now := d.Now()
		d.Lease.Alive(now)
		wait := time.Hour
		if at := d.nextDeadline(); !at.IsZero() {
			wait = max(0, at.Sub(now))
		}
		due.Reset(wait)
		select {
		case ev, ok := <-d.Cluster.Events():
			if !ok {
				return ErrHeartbeat
			}
			d.heartbeat(ev)
		case in := <-d.inputs:
			in()
		case <-d.Lease.Lapsed():
			d.leaseLapsed()
		case <-due.C:
			d.step(takeover.Tick{})
			d.membersTick()
		case <-pulse.C:
			d.housekeeping()
		case <-asked:
			asked = nil
			d.event("operator", slog.LevelInfo, "stopping: handing over first")
			d.step(takeover.Shutdown{})
		}
	}
	return nil
}

// takeWaiting takes the inputs that are there already, so that many changes at
// once (all checks of a dead host) are one new generation.
func (d *Director) takeWaiting() {
	for range cap(d.inputs) {
		select {
		case in := <-d.inputs:
			in()
		default:
			return
		}
	}
}

// Kill ends a shutdown that is waiting for the peer.
func (d *Director) Kill() {
	d.send(func() { d.step(takeover.Shutdown{}) })
}

// HealthChanged takes a check's result; for health.New.
func (d *Director) HealthChanged(r health.Result) {
	d.send(func() { d.healthResult(r) })
}

// NeighbourChanged takes a MAC address learnt or lost; for neighbour.New.
func (d *Director) NeighbourChanged(u neighbour.Update) {
	d.send(func() {
		old, known := d.facts.Neighbours[u.Addr]
		d.facts.Neighbours[u.Addr] = Neighbour{MAC: u.MAC, Via: u.Via, Way: u.Way, Interfaces: u.Interfaces, Why: u.Why}
		same := known && old.MAC.String() == u.MAC.String() && old.Via == u.Via && slices.Equal(old.Interfaces, u.Interfaces)
		if same && old.Way == u.Way {
			return
		}
		d.dirty = true
		if same {
			return // of the way to it people need not hear
		}
		if u.MAC == nil {
			d.event("dataplane", slog.LevelWarn, "%s: MAC address unknown: %s", u.Addr, u.Why)
		} else if u.Via.IsValid() {
			d.event("dataplane", slog.LevelInfo, "%s is behind the router %s at %s", u.Addr, u.Via, u.MAC)
		} else {
			d.event("dataplane", slog.LevelInfo, "%s is at %s", u.Addr, u.MAC)
		}
	})
}

// send hands the loop an input, unless the loop has ended.
func (d *Director) send(in func()) {
	select {
	case d.inputs <- in:
	case <-d.done:
	}
}

func (d *Director) healthResult(r health.Result) {
	key, ok := serverKey(d.cfg, r.ID)
	if !ok {
		return // its service left with a reload while the check ran
	}
	d.health[key] = r
	before, known := d.facts.Health[key]
	d.facts.Health[key] = r.Up
	if known && before == r.Up {
		return
	}
	d.dirty = true
	if r.Up {
		d.event("health", slog.LevelInfo, "%s: real server %s is up", key.Service, key.Server)
	} else {
		d.event("health", slog.LevelWarn, "%s: real server %s is down: %v", key.Service, key.Server, r.Err)
	}
}

// apply makes the planes follow the facts. A plane that fails keeps its old
// generation; the next change, or the next retry, tries again.
func (d *Director) apply() {
	d.dirty = false
	d.snapshot, d.why = Plan(d.cfg, d.facts)
	if d.kept && !d.ready() {
		return
	}
	d.kept = false
	for i, p := range d.Planes {
		_ = d.applyTo(i, p)
	}
	d.noteCarriers()
}

func (d *Director) applyTo(i int, p dataplane.Plane) error {
	s := &d.planes[i]
	begin := d.Now()
	gen, err := p.Apply(d.snapshot)
	if err != nil {
		if s.Error != err.Error() {
			d.event("dataplane", slog.LevelError, "%s: generation %d stays in force: %v", s.Name, s.Generation, err)
		}
		s.Error = err.Error()
		return err
	}
	if s.Error != "" {
		d.event("dataplane", slog.LevelInfo, "%s: follows again with generation %d", s.Name, gen)
	}
	s.Generation, s.Applied, s.ApplyTook, s.Error = gen, begin, d.Now().Sub(begin), ""
	return nil
}

// drainGrace is how long we forward for an address after the peer has announced
// it: twice as long as the burst of its announcements (package vip).
const drainGrace = time.Second

func takeoverConfig(c *config.Config) takeover.Config {
	t := takeover.Config{
		Node: c.Node, AutoFailback: c.Cluster.AutoFailback, Legacy: c.Cluster.Legacy,
		AtMostOne: c.Cluster.Partition == config.AtMostOne,
		Keepalive: c.Cluster.Keepalive, Deadtime: c.Cluster.Deadtime, DrainGrace: drainGrace,
	}
	t.Keys, t.PeerKeys = groupKeys(c)
	for _, ck := range checkTargets(c) {
		t.FailbackDelay = max(t.FailbackDelay, ck.Interval+ck.Timeout)
	}
	for _, n := range c.Cluster.Nodes {
		if n != c.Node {
			t.Peer = n
		}
	}
	return t
}

// peerAddrs are the other directors' addresses on the LAN that the real servers
// share, as far as they are known.
func peerAddrs(c *config.Config) []netip.Addr {
	var out []netip.Addr
	for _, n := range c.Cluster.Nodes {
		if a, ok := c.DirectorAddr(n); ok && n != c.Node {
			out = append(out, a)
		}
	}
	return out
}

// neighbourTargets are the addresses whose MAC the data plane needs.
func neighbourTargets(c *config.Config) []netip.Addr {
	seen := make(map[netip.Addr]bool)
	var out []netip.Addr
	add := func(a netip.Addr) {
		if !seen[a] {
			seen[a] = true
			out = append(out, a)
		}
	}
	for i := range c.Services {
		for _, s := range c.Services[i].Servers {
			add(s.Addr)
		}
		if f := c.Services[i].Fallback; f != nil {
			add(f.Addr)
		}
	}
	for _, a := range peerAddrs(c) {
		add(a)
	}
	return out
}
