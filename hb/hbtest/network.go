package hbtest

import (
	"fmt"
	"math/rand/v2"
	"time"

	"systole/hb"
	"systole/hb/wire"
)

// Faults is what the network does to packets.
type Faults struct {
	Loss      float64       // probability that a packet is lost
	Duplicate float64       // probability that it arrives twice
	Reorder   float64       // probability that it takes 1 to 4 times MaxDelay longer
	MinDelay  time.Duration // every packet takes a random time from here
	MaxDelay  time.Duration // to here
}

// Fate is what happened to one packet on its way.
type Fate struct {
	To, Medium string
	Lost       bool
}

// Network is a number of nodes that are connected by media on which each
// packet goes to all. It is not safe for concurrent use.
type Network struct {
	Faults
	// OnEvent and OnPacket, if not nil, are told everything that happens.
	// OnEvent may call Submit and the like.
	OnEvent  func(node string, e hb.Event)
	OnPacket func(from string, p hb.Packet, fates []Fate)
	// Hosts lets the machines of the nodes answer echo requests and refuse
	// packets for a daemon that was killed, on all media but serial lines. If
	// false, nobody can be declared dead early.
	Hosts bool
	// Drop, if not nil, decides beyond Faults which packets are lost.
	Drop func(from, to, medium string, p hb.Packet) bool
	// BeforeBeat, if not nil, is asked before a beat is sent, as the driver
	// asks: may it go out? For one that is sent again its last answer holds.
	BeforeBeat func(node string) bool

	start, now time.Time
	since      time.Duration // from start to now
	rnd        *rand.Rand
	seed       uint64
	decoder    wire.Decoder
	rewritten  []byte // the last packet that was sent with a wrong time
	nodes      []*node
	flights    flights
	free       []*packet
	order      uint64
	cuts       map[path]bool
	silent     map[string]bool // media of ping nodes that do not answer
	Steps      uint64          // packets that arrived, deadlines and what After was told
	Sent       uint64          // packets given to the network
	Lost       uint64          // packets times receivers that did not arrive
}

// path is one direction between two nodes on one medium.
type path struct{ from, to, medium string }

// socketBuffer is how many packets wait for a node that is paused.
const socketBuffer = 512

// New returns a network without nodes and without faults, where packets take
// 0.1 ms. Time begins at a fixed date.
func New(seed uint64) *Network {
	start := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	return &Network{
		Faults: Faults{MinDelay: 100 * time.Microsecond, MaxDelay: 100 * time.Microsecond},
		start:  start,
		now:    start,
		rnd:    rand.New(rand.NewPCG(seed, 1)),
		seed:   seed,
		cuts:   make(map[path]bool),
	}
}

// Add makes a node, which does not run yet. Node, Nodes, UUID and Keys of the
// configuration may be left out; then Nodes are for the caller to set for all
// before Start.
func (n *Network) Add(cfg hb.Config) {
	if cfg.UUID == ([16]byte{}) {
		copy(cfg.UUID[:], "uuid of "+cfg.Node)
	}
	if cfg.Keys.Keys == nil {
		cfg.Keys = Keys()
	}
	n.nodes = append(n.nodes, &node{index: len(n.nodes), cfg: cfg, beat: noBeat})
}

// Keys are the keys of nodes that are given none.
func Keys() wire.Keys {
	return wire.Keys{Send: 1, Keys: []wire.Key{{Index: 1, Method: wire.CRC}}}
}

// Now is the virtual time; Since is how much of it has passed.
func (n *Network) Now() time.Time       { return n.now }
func (n *Network) Since() time.Duration { return n.since }

func (n *Network) passTo(at time.Duration) { n.now, n.since = n.start.Add(at), at }

func (n *Network) find(name string) *node {
	for _, nd := range n.nodes {
		if nd.cfg.Node == name {
			return nd
		}
	}
	panic(fmt.Sprintf("hbtest: no node %q", name))
}

// Core returns the core of a running node, else nil.
func (n *Network) Core(name string) *hb.Core { return n.find(name).core }

// Names are the nodes in the order in which they were added.
func (n *Network) Names() []string {
	names := make([]string, len(n.nodes))
	for i, nd := range n.nodes {
		names[i] = nd.cfg.Node
	}
	return names
}

// Submit sends a message of a running node.
func (n *Network) Submit(name string, m wire.Message) error {
	nd := n.find(name)
	err := nd.core.Submit(n.now, m)
	n.drain(nd)
	return err
}

// SetKeys gives a node other keys: those it runs with, and those it will start
// with. An error changes nothing.
func (n *Network) SetKeys(name string, keys wire.Keys) error {
	nd := n.find(name)
	if nd.core != nil {
		if err := nd.core.SetKeys(n.now, keys); err != nil {
			return err
		}
		n.drain(nd)
	}
	nd.cfg.Keys = keys
	return nil
}

// Inject gives a node a packet as if it came from a medium now.
func (n *Network) Inject(to, medium string, data []byte) {
	p := n.pack(data)
	p.users = 1
	n.deliver(flight{to: n.find(to), medium: medium, p: p})
}

// Cut lets no packet of from reach to, on one medium or, if that is "", on
// all. Heal ends it.
func (n *Network) Cut(from, to, medium string)  { n.eachMedium(from, to, medium, true) }
func (n *Network) Heal(from, to, medium string) { n.eachMedium(from, to, medium, false) }

func (n *Network) eachMedium(from, to, medium string, cut bool) {
	for _, m := range n.find(from).cfg.Media {
		if medium == "" || medium == m {
			if cut {
				n.cuts[path{from, to, m}] = true
			} else {
				delete(n.cuts, path{from, to, m})
			}
		}
	}
}

// Partition parts the named nodes from all others; HealAll ends every cut.
func (n *Network) Partition(names ...string) {
	side := make(map[string]bool)
	for _, name := range names {
		side[name] = true
	}
	for _, a := range n.Names() {
		for _, b := range n.Names() {
			if side[a] != side[b] {
				n.Cut(a, b, "")
			}
		}
	}
}

// HealAll ends every cut.
func (n *Network) HealAll() { clear(n.cuts) }

// Run lets time pass.
func (n *Network) Run(d time.Duration) { n.RunUntil(d, func() bool { return false }) }

// RunUntil lets time pass until done, at most limit. It says whether done was
// reached. done is asked at the beginning and after every step.
func (n *Network) RunUntil(limit time.Duration, done func() bool) bool {
	end := n.Since() + limit
	for steps := 0; ; {
		if done() {
			return true
		}
		at, nd := n.next()
		if at > end {
			n.passTo(end)
			return done()
		}
		if at > n.Since() {
			n.passTo(at)
			steps = 0
		}
		// A core whose deadline does not move on would stop time.
		if steps++; steps > 100_000 {
			panic(fmt.Sprintf("hbtest: time stands still at %v: %v", n.Since(), n.Names()))
		}
		n.Steps++
		if nd != nil {
			nd.core.Tick(n.now)
			n.drain(nd)
			continue
		}
		if f := n.flights.pop(); f.do != nil {
			f.do()
		} else {
			n.deliver(f)
		}
	}
}

// next is when something happens next: a node's deadline, or if it is nil the
// arrival of a packet, which goes first.
func (n *Network) next() (at time.Duration, who *node) {
	now := n.Since()
	at = now + 1000*time.Hour
	if len(n.flights) > 0 {
		at = n.flights[0].at
	}
	for _, nd := range n.nodes {
		if nd.core != nil && !nd.paused && nd.due < at {
			at, who = nd.due, nd
		}
	}
	return max(at, now), who // a node that was paused has deadlines in the past
}

func (n *Network) deliver(f flight) {
	to := f.to
	if to.paused && len(to.queue) >= socketBuffer {
		n.Lost++
		n.unpack(f.p)
		return
	}
	if p := f.p; (p.beat || p.again) && to.core != nil && p.life == p.from.starts {
		n.beatCame(to, p)
	}
	switch {
	case to.core == nil:
		n.refuse(f)
	case to.paused:
		to.queue = append(to.queue, f)
		return
	default:
		to.core.Receive(n.now, f.medium, f.p.data)
		n.drain(to)
	}
	n.unpack(f.p)
}

// drain sends what a core has to say and tells its events.
func (n *Network) drain(nd *node) {
	out := nd.core.Drain()
	nd.due = nd.core.Deadline().Sub(n.start)
	for _, p := range out.Packets {
		if p.Beat && n.BeforeBeat != nil {
			if !p.Again {
				nd.mute = !n.BeforeBeat(nd.cfg.Node)
			}
			if nd.mute {
				continue
			}
		}
		if p.Answer && nd.mute {
			continue
		}
		n.send(nd, p)
	}
	for _, name := range out.Asks {
		n.ask(nd, n.find(name))
	}
	if n.OnEvent == nil || len(out.Events) == 0 {
		return
	}
	// OnEvent may make the core drain again, which uses the memory again.
	for _, e := range append([]hb.Event(nil), out.Events...) {
		n.OnEvent(nd.cfg.Node, e)
	}
}

func (n *Network) send(from *node, p hb.Packet) {
	n.Sent++
	if n.pinged(from, p) {
		return
	}
	if from.clock != 0 {
		p.Data = n.wrongTime(from, p.Data)
	}
	data := n.pack(p.Data)
	data.users, data.from, data.life = 1, from, from.starts
	data.again = p.Beat && p.Again
	if p.Beat && !p.Again {
		from.beat = n.Since()
		data.beat, data.sent = true, from.beat
	}
	var fates []Fate
	for _, to := range n.nodes {
		if to == from {
			continue
		}
		for _, medium := range from.cfg.Media {
			if p.Medium != "" && p.Medium != medium {
				continue
			}
			lost := len(n.cuts) > 0 && n.cuts[path{from.cfg.Node, to.cfg.Node, medium}] || n.chance(n.Loss) ||
				n.Drop != nil && n.Drop(from.cfg.Node, to.cfg.Node, medium, p)
			if n.OnPacket != nil {
				fates = append(fates, Fate{to.cfg.Node, medium, lost})
			}
			if lost {
				n.Lost++
				continue
			}
			n.fly(to, medium, data)
			if n.chance(n.Duplicate) {
				n.fly(to, medium, data)
			}
		}
	}
	n.unpack(data)
	if n.OnPacket != nil {
		n.OnPacket(from.cfg.Node, p, fates)
	}
}

func (n *Network) chance(p float64) bool { return p > 0 && n.rnd.Float64() < p }

func (n *Network) fly(to *node, medium string, p *packet) {
	delay := n.delay()
	n.order++
	p.users++
	n.flights.push(flight{at: n.Since() + delay, order: n.order, to: to, medium: medium, p: p})
}

// delay is how long a packet takes.
func (n *Network) delay() time.Duration {
	delay := n.MinDelay
	if n.MaxDelay > n.MinDelay {
		delay += time.Duration(n.rnd.Int64N(int64(n.MaxDelay - n.MinDelay)))
	}
	if n.chance(n.Reorder) {
		delay += n.MaxDelay + time.Duration(n.rnd.Int64N(int64(3*n.MaxDelay)+1))
	}
	return delay
}
