package hbtest

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"systole/hb"
	"systole/hb/wire"
)

// node is a machine with a daemon, which may run.
type node struct {
	index  int
	cfg    hb.Config
	core   *hb.Core // nil: not running
	paused bool
	host   hostState
	frozen bool        // the machine
	told   []hb.Notice // while paused
	queue  []flight    // arrived while paused, as in a socket's buffer
	starts uint64
	clock  time.Duration // what its wall clock is ahead of the truth
	due    time.Duration // the core's deadline since the network's start

	beat    time.Duration // when it sent its last beat; noBeat: never
	mute    bool          // BeforeBeat's last answer
	woken   time.Duration
	arrived []beat // by sender: its newest beat that came, to the socket at least
	repeats []repeat
}

// repeat is a beat that came as a retransmission. If it overtook the original,
// that is a duplicate and no news (heartbeat-wire.md section 6.2).
type repeat struct {
	from int
	life uint64
	seq  string
}

// maxRepeats bounds those that are kept: an original is not under way for long.
const maxRepeats = 256

// beat is when one was sent and when it came.
type beat struct{ sent, came time.Duration }

// noBeat is long before anything.
const noBeat = -1000 * time.Hour

// BeatSent is when a node last sent a beat, since the start of the network; far
// in the past if it never did in its present life.
func (n *Network) BeatSent(name string) time.Duration { return n.find(name).beat }

// BeatArrived is when the newest beat of from's present life that has come to
// the machine of to, read or not, was sent and when it came; far in the past if
// none came in to's present life.
func (n *Network) BeatArrived(from, to string) (sent, came time.Duration) {
	b := n.find(to).arrived[n.find(from).index]
	return b.sent, b.came
}

// beatCame notes a beat, or one that is sent again.
func (n *Network) beatCame(nd *node, p *packet) {
	if p.again || len(nd.repeats) > 0 {
		r := repeat{p.from.index, p.life, n.number(p)}
		if p.again {
			if nd.repeats = append(nd.repeats, r); len(nd.repeats) > maxRepeats {
				nd.repeats = slices.Delete(nd.repeats, 0, maxRepeats/2)
			}
			return
		}
		if slices.Contains(nd.repeats, r) {
			return
		}
	}
	if b := &nd.arrived[p.from.index]; p.sent > b.sent {
		*b = beat{p.sent, n.since}
	}
}

// number is the packet's sequence number, as text.
func (n *Network) number(p *packet) string {
	if p.seq == "" {
		m, _ := n.decode(p.from, p.data)
		p.seq, _ = m.Get("seq")
	}
	return p.seq
}

// decode reads what a node has sent. The message is valid until the next call.
func (n *Network) decode(from *node, data []byte) (wire.Message, wire.Format) {
	m, f, err := n.decoder.Decode(data, from.cfg.Keys)
	if err != nil {
		panic(fmt.Sprintf("hbtest: %s sent what does not decode: %v", from.cfg.Node, err))
	}
	return m, f
}

// Woken is when a node last went on after a pause.
func (n *Network) Woken(name string) time.Duration { return n.find(name).woken }

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
	n.Crash(name)
	nd.starts++
	nd.core, nd.paused, nd.mute, nd.host = core, false, false, hostUp
	nd.frozen = false
	nd.repeats = nil
	nd.beat, nd.arrived = noBeat, make([]beat, len(n.nodes))
	for i, other := range n.nodes {
		nd.arrived[i] = beat{noBeat, noBeat}
		if nd.index < len(other.arrived) {
			other.arrived[nd.index] = beat{noBeat, noBeat}
		}
	}
	n.drain(nd)
	return nil
}

// Crash stops a node without a word, its machine included.
func (n *Network) Crash(name string) {
	n.Kill(name)
	nd := n.find(name)
	nd.host, nd.frozen = hostDown, false
}

// Kill ends a node's daemon only, as kill -9 does: its machine goes on.
func (n *Network) Kill(name string) {
	nd := n.find(name)
	for _, f := range nd.queue {
		n.unpack(f.p)
	}
	nd.core, nd.queue, nd.told = nil, nil, nil
}

// Pause stops a node as SIGSTOP does: its socket still takes packets, nobody
// reads them. Resume lets it go on.
func (n *Network) Pause(name string) { n.find(name).paused = true }

// Resume ends Pause, as the driver's loop does: what waits in the socket is
// read first, then what is due is done, and only then is anything sent or told.
func (n *Network) Resume(name string) { n.resume(name, false) }

// ResumeLate is Resume when the loop wakes before those who read its sockets:
// what is due is done before what waits is known.
func (n *Network) ResumeLate(name string) { n.resume(name, true) }

func (n *Network) resume(name string, late bool) {
	nd := n.find(name)
	nd.paused = false
	queue := nd.queue
	nd.queue, nd.woken = nil, n.Since()
	if nd.core == nil {
		return
	}
	if late {
		n.tick(nd)
		n.drain(nd)
	}
	for _, f := range queue {
		nd.core.Receive(n.now, f.medium, f.p.data)
		n.unpack(f.p)
	}
	for _, x := range nd.told {
		nd.core.Notice(n.now, x)
	}
	nd.told = nil
	n.tick(nd)
	n.drain(nd)
}

func (n *Network) tick(nd *node) {
	if !n.now.Before(nd.core.Deadline()) {
		nd.core.Tick(n.now)
	}
}

// SetClock sets a node's wall clock wrong: from now on its packets carry a time
// that is ahead of the truth, or behind it. Nothing else reads a wall clock.
func (n *Network) SetClock(name string, ahead time.Duration) { n.find(name).clock = ahead }

// wrongTime writes a packet anew with the time that the sender's clock shows.
// It is valid until the next call.
func (n *Network) wrongTime(nd *node, data []byte) []byte {
	m, f := n.decode(nd, data)
	m.Set("ts", strconv.FormatInt(max(1, n.now.Add(nd.clock).Unix()), 16))
	data, err := wire.Encode(n.rewritten[:0], m, f, nd.cfg.Keys)
	if err != nil {
		panic(fmt.Sprintf("hbtest: packet of %s with another time: %v", nd.cfg.Node, err))
	}
	n.rewritten = data
	return data
}
