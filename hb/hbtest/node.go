package hbtest

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"systole/hb"
	"systole/hb/wire"
)

// node is a machine with a daemon, which may run.
type node struct {
	cfg    hb.Config
	core   *hb.Core // nil: not running
	paused bool
	queue  []flight // arrived while paused, as in a socket's buffer
	starts uint64
	clock  time.Duration // what its wall clock is ahead of the truth
	due    time.Duration // the core's deadline since the network's start
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
	n.Crash(name)
	nd.starts++
	nd.core, nd.paused = core, false
	n.drain(nd)
	return nil
}

// Crash stops a node without a word.
func (n *Network) Crash(name string) {
	nd := n.find(name)
	for _, f := range nd.queue {
		n.unpack(f.p)
	}
	nd.core, nd.queue = nil, nil
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
	nd.queue = nil
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
func (nd *node) wrongTime(now time.Time, data []byte) []byte {
	m, f, err := wire.Decode(data, nd.cfg.Keys)
	if err != nil {
		panic(fmt.Sprintf("hbtest: %s sent what does not decode: %v", nd.cfg.Node, err))
	}
	m.Set("ts", strconv.FormatInt(max(1, now.Add(nd.clock).Unix()), 16))
	if data, err = wire.Encode(nil, m, f, nd.cfg.Keys); err != nil {
		panic(fmt.Sprintf("hbtest: packet of %s with another time: %v", nd.cfg.Node, err))
	}
	return data
}
