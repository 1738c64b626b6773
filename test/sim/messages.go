package sim

import (
	"systole/hb"
)

// messages is the book of who has to get what: a message that was submitted
// when its receiver knew this life of its sender arrives there exactly once, or
// is reported as lost.
type messages struct {
	nodes  int
	known  []uint64   // receiver x sender: the generation that is known there; 0: none
	owed   [][]uint64 // receiver x sender: numbers that have to come
	got    []receipts // receiver x sender
	starts []uint64   // generations
}

// receipts are the numbers of one generation that came or were reported lost.
type receipts struct {
	gen  uint64
	bits []uint64
}

func (m *messages) init(nodes int) {
	m.nodes = nodes
	m.known = make([]uint64, nodes*nodes)
	m.owed = make([][]uint64, nodes*nodes)
	m.got = make([]receipts, nodes*nodes)
	m.starts = make([]uint64, nodes)
}

// started: a new life owes nothing, and is owed nothing.
func (m *messages) started(n int) {
	m.starts[n]++
	for i := range m.nodes {
		for _, k := range [2]int{n*m.nodes + i, i*m.nodes + n} {
			m.known[k], m.owed[k] = 0, m.owed[k][:0]
		}
		m.got[n*m.nodes+i] = receipts{bits: m.got[n*m.nodes+i].bits[:0]}
	}
}

// take notes a number; false if it was noted before.
func (r *receipts) take(gen, seq uint64) bool {
	if gen != r.gen {
		r.gen, r.bits = gen, r.bits[:0]
	}
	for uint64(len(r.bits)) <= seq/64 {
		r.bits = append(r.bits, 0)
	}
	bit := uint64(1) << (seq % 64)
	if r.bits[seq/64]&bit != 0 {
		return false
	}
	r.bits[seq/64] |= bit
	return true
}

func (m *messages) settle(k int, first, last uint64) {
	kept := m.owed[k][:0]
	for _, seq := range m.owed[k] {
		if seq < first || seq > last {
			kept = append(kept, seq)
		}
	}
	m.owed[k] = kept
}

// owing is how many messages somebody has still to get.
func (m *messages) owing() (n int) {
	for _, o := range m.owed {
		n += len(o)
	}
	return n
}

func (c *cluster) delivered(to *member, e hb.Delivered) {
	m := &c.msgs
	seq, _ := e.Message.GetUint("seq", 16)
	gen, _ := e.Message.GetUint("hg", 16)
	from := c.byName[e.Node]
	if e.FromSelf {
		for i := range m.nodes {
			if k := i*m.nodes + from.index; i != from.index && m.known[k] == gen {
				m.owed[k] = append(m.owed[k], seq)
			}
		}
		return
	}
	c.stats.Delivered++
	k := to.index*m.nodes + from.index
	if r := &m.got[k]; gen < r.gen {
		c.fail("%s got message %d of %s's life %d after one of life %d", to.name, seq, from.name, gen, r.gen)
	} else if !r.take(gen, seq) {
		c.fail("%s got message %d of %s twice, or after it was reported lost", to.name, seq, from.name)
	}
	m.settle(k, seq, seq)
}

func (c *cluster) lost(at *member, e hb.Lost) {
	m := &c.msgs
	from := c.byName[e.Node]
	k := at.index*m.nodes + from.index
	// While no life is known, it is of one that is over.
	if e.Last-e.First < 1<<16 && m.known[k] != 0 && m.got[k].gen == m.known[k] {
		for seq := e.First; seq <= e.Last; seq++ {
			if !m.got[k].take(m.got[k].gen, seq) {
				c.fail("%s reports message %d of %s lost, but had it", at.name, seq, from.name)
			}
		}
	}
	m.settle(k, e.First, e.Last)
	c.stats.LostMessages += e.Last - e.First + 1
}

// known notes which life of a node another one knows.
func (c *cluster) nodeChanged(at *member, e hb.NodeChanged) {
	from := c.byName[e.Node]
	k := at.index*c.msgs.nodes + from.index
	if e.To == hb.Dead {
		c.declaredDead(at, from, e)
		return
	}
	if at.d != nil && from.d != nil {
		from.d.buried = false
	}
	if v, ok := c.net.Core(at.name).Snapshot(c.net.Now()).Peer(e.Node); ok && v.Heard {
		if v.Generation == c.msgs.starts[from.index] {
			c.msgs.known[k] = v.Generation
		}
		if e.Restarted {
			c.msgs.owed[k] = c.msgs.owed[k][:0]
		}
	}
}
