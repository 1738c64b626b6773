package hbtest

import (
	"strings"

	"systole/hb"
)

// hostState is what a node's machine does, as opposed to its daemon.
type hostState uint8

const (
	hostDown     hostState = iota // off, or not switched on yet
	hostUp                        // answers echo requests, refuses packets for a closed port
	hostFiltered                  // runs, but drops echo requests and refuses nothing
)

// answers: the machine answers echo requests and refuses packets.
func (nd *node) answers() bool { return nd.host == hostUp && !nd.frozen }

// Freeze lets a node's machine stand still as a whole, Thaw lets it go on: it
// says nothing of itself, and what comes for it waits. What becomes of the
// daemon is for Pause and Resume to say. Start and Crash end it, too.
func (n *Network) Freeze(name string) { n.find(name).frozen = true }
func (n *Network) Thaw(name string)   { n.find(name).frozen = false }

// Filter lets a node's machine drop echo requests and refuse nothing, until the
// node is started again.
func (n *Network) Filter(name string) { n.find(name).host = hostFiltered }

// Carrier takes the carrier from a node's own interface, or gives it back.
func (n *Network) Carrier(name, medium string, there bool) {
	for _, other := range n.Names() {
		if other != name {
			n.cuts[path{name, other, medium}] = !there
			n.cuts[path{other, name, medium}] = !there
		}
	}
	kind := hb.CarrierLost
	if there {
		kind = hb.CarrierBack
	}
	n.tell(n.find(name), hb.Notice{Medium: medium, Kind: kind})
}

// Notice tells a running node something of a peer's machine or of its own media,
// as package hb/host does.
func (n *Network) Notice(name string, x hb.Notice) { n.tell(n.find(name), x) }

// SetEnds lets a running node say whether its data plane ends with its daemon.
func (n *Network) SetEnds(name string, ends bool) {
	nd := n.find(name)
	nd.core.SetEnds(n.now, ends)
	n.drain(nd)
}

// Beat has a running node send a beat now.
func (n *Network) Beat(name string) {
	nd := n.find(name)
	nd.core.Beat(n.now)
	n.drain(nd)
}

// ip: the medium carries IP, so that there are hosts on it.
func ip(medium string) bool { return !strings.HasPrefix(medium, "serial") }

// lostBetween decides over one more packet that is no heartbeat's.
func (n *Network) lostBetween(from, to, medium string) bool {
	return len(n.cuts) > 0 && n.cuts[path{from, to, medium}] || n.chance(n.Loss)
}

// ask carries an echo request to a machine, and its answer back, on each
// medium.
func (n *Network) ask(from, to *node) {
	if !n.Hosts {
		return
	}
	for _, medium := range from.cfg.Media {
		if !ip(medium) || !to.answers() ||
			n.lostBetween(from.cfg.Node, to.cfg.Node, medium) || n.lostBetween(to.cfg.Node, from.cfg.Node, medium) {
			continue
		}
		n.bring(from, n.delay()+n.delay(), func() {
			n.tell(from, hb.Notice{Node: to.cfg.Node, Medium: medium, Kind: hb.HostAnswered})
		})
	}
}

// refuse tells the sender of a packet that nobody has the port open.
func (n *Network) refuse(f flight) {
	from, to := f.p.from, f.to
	if !n.Hosts || from == nil || !to.answers() || !ip(f.medium) || n.lostBetween(to.cfg.Node, from.cfg.Node, f.medium) {
		return
	}
	n.bring(from, n.delay(), func() {
		n.tell(from, hb.Notice{Node: to.cfg.Node, Medium: f.medium, Kind: hb.PortRefused})
	})
}

// tell gives a node a notice; while it is paused it waits like a packet.
func (n *Network) tell(nd *node, x hb.Notice) {
	switch {
	case nd.core == nil:
	case !nd.paused:
		nd.core.Notice(n.now, x)
		n.drain(nd)
	case len(nd.told) < socketBuffer:
		nd.told = append(nd.told, x)
	}
}
