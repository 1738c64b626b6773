package hbtest

import (
	"time"

	"systole/hb"
)

// AddNodes changes the list of nodes at a running node, and RemoveNodes does.
func (n *Network) AddNodes(at string, names []string) error {
	return n.change(at, names, (*hb.Core).AddNodes)
}

// RemoveNodes: see AddNodes.
func (n *Network) RemoveNodes(at string, names []string) error {
	return n.change(at, names, (*hb.Core).RemoveNodes)
}

func (n *Network) change(at string, names []string, do func(*hb.Core, time.Time, []string) error) error {
	nd := n.find(at)
	err := do(nd.core, n.now, names)
	n.drain(nd)
	return err
}
