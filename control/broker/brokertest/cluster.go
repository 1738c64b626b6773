// Package brokertest is a heartbeat for tests of what is above it: its peer
// acknowledges, refuses and says what a test wants.
package brokertest

import (
	"fmt"
	"sync"

	"systole/hb"
	"systole/hb/wire"
)

// Cluster is node1 of a cluster of two, as seen by a broker. Change its fields
// by Set once a broker has it.
type Cluster struct {
	Refuse int   // so many offers to come get hb.ErrFlow
	Err    error // what all offers get
	Mute   bool  // own messages do not come back
	Sent   []wire.Message
	State  hb.View

	mu     sync.Mutex
	events chan hb.Event
}

// New returns a cluster that works: node2 is active and heard on the first of
// three media.
func New() *Cluster {
	return &Cluster{events: make(chan hb.Event, 64), State: hb.View{
		Node: "node1", Status: hb.Active, Generation: 7,
		Peers: []hb.PeerView{{Name: "node2", Status: hb.Active, Heard: true, Generation: 11, Links: []hb.LinkView{
			{Medium: "ucast eth0", Up: true, State: hb.LinkUp}, {Medium: "serial ttyS0"}, {Medium: "ucast eth9", Age: -1},
		}}},
	}}
}

// Set changes the cluster while a broker uses it.
func (c *Cluster) Set(f func(*Cluster)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(c)
}

// Offer takes a message and lets it come back, as hb.Core does.
func (c *Cluster) Offer(m wire.Message) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Refuse > 0 {
		c.Refuse--
		return 0, hb.ErrFlow
	}
	if c.Err != nil {
		return 0, c.Err
	}
	c.State.Seq++
	c.Sent = append(c.Sent, m)
	if dest, ok := m.Get("dest"); !c.Mute && (!ok || dest == "node1") {
		c.events <- Own(c.State.Seq, m)
	}
	return c.State.Seq, nil
}

// Events are what Offer and Tell made.
func (c *Cluster) Events() <-chan hb.Event { return c.events }

// View is State.
func (c *Cluster) View() hb.View {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.State
}

// Tell lets the heartbeat say something; it waits for room.
func (c *Cluster) Tell(evs ...hb.Event) {
	for _, ev := range evs {
		c.events <- ev
	}
}

// End ends the heartbeat.
func (c *Cluster) End() { close(c.events) }

// Own is a message of node1 as it comes back to it.
func Own(seq uint64, m wire.Message) hb.Event {
	return hb.Ordered{Node: "node1", Message: common(m.Clone(), "node1", 7, seq), FromSelf: true}
}

// Peer is a message of node2 with pairs of field and value.
func Peer(seq uint64, messageType string, kv ...string) hb.Event {
	return hb.Ordered{Node: "node2", Message: common(wire.New(messageType, kv...), "node2", 11, seq)}
}

// common adds the common fields of heartbeat-wire.md section 4.
func common(m wire.Message, src string, generation, seq uint64) wire.Message {
	m.Set("src", src)
	m.SetBinary("srcuuid", make([]byte, 16))
	m.Set("seq", fmt.Sprintf("%x", seq))
	m.Set("hg", fmt.Sprintf("%x", generation))
	m.Set("ts", "1")
	m.Set("ld", "0.1 0.2 0.3 1/2 3")
	m.Set("ttl", "3")
	return m
}
