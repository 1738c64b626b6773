package hbtest

import (
	"bytes"
	"container/heap"
	"encoding/binary"
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
	// Drop, if not nil, decides beyond Faults which packets are lost.
	Drop func(from, to, medium string, p hb.Packet) bool

	start, now time.Time
	rnd        *rand.Rand
	seed       uint64
	nodes      []*node
	flights    flights
	order      uint64
	cuts       map[path]bool
	Sent       uint64 // packets given to the network
	Lost       uint64 // packets times receivers that did not arrive
}

// path is one direction between two nodes on one medium.
type path struct{ from, to, medium string }

type node struct {
	cfg    hb.Config
	core   *hb.Core // nil: not running
	paused bool
	queue  []flight // arrived while paused, as in a socket's buffer
	starts uint64
}

// flight is a packet under way.
type flight struct {
	at     time.Time
	order  uint64
	to     *node
	medium string
	data   []byte
}

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
	n.nodes = append(n.nodes, &node{cfg: cfg})
}

// Keys are the keys of nodes that are given none.
func Keys() wire.Keys {
	return wire.Keys{Send: 1, Keys: []wire.Key{{Index: 1, Method: wire.CRC}}}
}

// Now is the virtual time; Since is how much of it has passed.
func (n *Network) Now() time.Time       { return n.now }
func (n *Network) Since() time.Duration { return n.now.Sub(n.start) }

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

// Start starts a node, each time with a generation one higher and with another
// nonce.
func (n *Network) Start(name string) error {
	nd := n.find(name)
	cfg := nd.cfg
	cfg.Generation += nd.starts + 1
	i := uint64(len(name))
	for _, c := range []byte(name) {
		i = i*31 + uint64(c)
	}
	binary.BigEndian.PutUint64(cfg.Nonce[:], rand.New(rand.NewPCG(n.seed, ^(i+nd.starts<<32))).Uint64()|1)
	core, err := hb.New(cfg, n.now, rand.New(rand.NewPCG(n.seed, i+nd.starts<<32)))
	if err != nil {
		return err
	}
	nd.starts++
	nd.core, nd.paused, nd.queue = core, false, nil
	n.drain(nd)
	return nil
}

// Crash stops a node without a word.
func (n *Network) Crash(name string) {
	nd := n.find(name)
	nd.core, nd.queue = nil, nil
}

// Pause stops a node as SIGSTOP does: its socket still takes packets, nobody
// reads them. Resume lets it go on.
func (n *Network) Pause(name string) { n.find(name).paused = true }

// Resume ends Pause. What waits in the socket is read first.
func (n *Network) Resume(name string) {
	nd := n.find(name)
	nd.paused = false
	queue := nd.queue
	nd.queue = nil
	for _, f := range queue {
		n.deliver(f)
	}
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
	n.deliver(flight{to: n.find(to), medium: medium, data: data})
}

// Cut lets no packet of from reach to, on one medium or, if that is "", on
// all. Heal ends it.
func (n *Network) Cut(from, to, medium string)  { n.eachMedium(from, to, medium, true) }
func (n *Network) Heal(from, to, medium string) { n.eachMedium(from, to, medium, false) }

func (n *Network) eachMedium(from, to, medium string, cut bool) {
	for _, m := range n.find(from).cfg.Media {
		if medium == "" || medium == m {
			n.cuts[path{from, to, m}] = cut
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
// reached.
func (n *Network) RunUntil(limit time.Duration, done func() bool) bool {
	end := n.now.Add(limit)
	for steps := 0; ; {
		if done() {
			return true
		}
		at, nd := n.next()
		if at.After(end) {
			n.now = end
			return done()
		}
		if at.After(n.now) {
			n.now, steps = at, 0
		}
		// A core whose deadline does not move on would stop time.
		if steps++; steps > 100_000 {
			panic(fmt.Sprintf("hbtest: time stands still at %v: %v", n.Since(), n.Names()))
		}
		if nd == nil {
			n.deliver(heap.Pop(&n.flights).(flight))
		} else {
			nd.core.Tick(n.now)
			n.drain(nd)
		}
	}
}

// next is when something happens next: a node's deadline, or if it is nil the
// arrival of a packet, which goes first.
func (n *Network) next() (time.Time, *node) {
	at, who := n.now.Add(1000*time.Hour), (*node)(nil)
	if len(n.flights) > 0 {
		at = n.flights[0].at
	}
	for _, nd := range n.nodes {
		if nd.core == nil || nd.paused {
			continue
		}
		if d := nd.core.Deadline(); d.Before(at) {
			at, who = d, nd
		}
	}
	if at.Before(n.now) { // the deadlines of a node that was paused
		at = n.now
	}
	return at, who
}

func (n *Network) deliver(f flight) {
	switch {
	case f.to.core == nil:
	case f.to.paused:
		if len(f.to.queue) < socketBuffer {
			f.to.queue = append(f.to.queue, f)
		}
	default:
		f.to.core.Receive(n.now, f.medium, f.data)
		n.drain(f.to)
	}
}

// drain sends what a core has to say and tells its events.
func (n *Network) drain(nd *node) {
	out := nd.core.Drain()
	for _, p := range out.Packets {
		n.send(nd, p)
	}
	if n.OnEvent == nil {
		return
	}
	// OnEvent may make the core drain again, which uses the memory again.
	for _, e := range append([]hb.Event(nil), out.Events...) {
		n.OnEvent(nd.cfg.Node, e)
	}
}

func (n *Network) send(from *node, p hb.Packet) {
	n.Sent++
	data := bytes.Clone(p.Data)
	var fates []Fate
	for _, to := range n.nodes {
		if to == from {
			continue
		}
		for _, medium := range from.cfg.Media {
			lost := n.cuts[path{from.cfg.Node, to.cfg.Node, medium}] || n.chance(n.Loss) ||
				n.Drop != nil && n.Drop(from.cfg.Node, to.cfg.Node, medium, p)
			fates = append(fates, Fate{to.cfg.Node, medium, lost})
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
	if n.OnPacket != nil {
		n.OnPacket(from.cfg.Node, p, fates)
	}
}

func (n *Network) chance(p float64) bool { return p > 0 && n.rnd.Float64() < p }

func (n *Network) fly(to *node, medium string, data []byte) {
	delay := n.MinDelay
	if n.MaxDelay > n.MinDelay {
		delay += time.Duration(n.rnd.Int64N(int64(n.MaxDelay - n.MinDelay)))
	}
	if n.chance(n.Reorder) {
		delay += n.MaxDelay + time.Duration(n.rnd.Int64N(int64(3*n.MaxDelay)+1))
	}
	n.order++
	heap.Push(&n.flights, flight{n.now.Add(delay), n.order, to, medium, data})
}

// flights is a heap by time, then by order of sending.
type flights []flight

func (f flights) Len() int      { return len(f) }
func (f flights) Swap(i, j int) { f[i], f[j] = f[j], f[i] }
func (f flights) Less(i, j int) bool {
	if !f[i].at.Equal(f[j].at) {
		return f[i].at.Before(f[j].at)
	}
	return f[i].order < f[j].order
}
func (f *flights) Push(x any) { *f = append(*f, x.(flight)) }
func (f *flights) Pop() any {
	old := *f
	last := old[len(old)-1]
	old[len(old)-1] = flight{}
	*f = old[:len(old)-1]
	return last
}
