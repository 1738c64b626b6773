package hbtest

import (
	"slices"

	"systole/hb"
)

// SetPing says whether the ping node behind a medium answers. At first all do,
// to every node that has it.
func (n *Network) SetPing(medium string, answers bool) {
	if n.silent == nil {
		n.silent = make(map[string]bool)
	}
	n.silent[medium] = !answers
}

// pinged sends a packet for a ping node back, as the machine behind its medium
// does; it is false if the packet is not for one.
func (n *Network) pinged(from *node, p hb.Packet) bool {
	if !slices.ContainsFunc(from.cfg.Pings, func(q hb.PingNode) bool { return q.Medium == p.Medium }) {
		return false
	}
	if n.silent[p.Medium] || n.chance(n.Loss) {
		n.Lost++
		return true
	}
	data := n.pack(p.Data)
	data.users = 1
	n.fly(from, p.Medium, data)
	n.unpack(data)
	return true
}
