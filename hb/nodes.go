package hb

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"systole/hb/wire"
)

// ErrNodes is wrapped by the errors of AddNodes and RemoveNodes, which have
// then changed nothing; the text says why.
var ErrNodes = errors.New("nodes cannot be changed")

// Autojoin says who may join without being in Config.Nodes (section 13).
type Autojoin uint8

const (
	// NobodyJoins: packets of others are refused.
	NobodyJoins Autojoin = iota
	// OthersJoin: an authenticated packet of an unknown node adds it; with keys
	// of method sha256, too, before it has proved to be no replay, but then the
	// node is not heard.
	OthersJoin
	// AnyJoins: and our own name need not be in Config.Nodes either.
	AnyJoins
)

// NodesChanged: the list of nodes is another now.
type NodesChanged struct {
	Added, Removed []string
	Nodes          []string // all there are, ourselves included
	Deleted        []string // all that were removed and may not join by themselves
	By             string   // the node where it was asked for; "" if a node joined by itself
}

// Removed: another node has taken us off the list of nodes. Whoever gets this
// hands over and stops (section 13).
type Removed struct{ By string }

func (NodesChanged) isEvent() {}
func (Removed) isEvent()      {}

func (e NodesChanged) String() string {
	var s []string
	if len(e.Added) > 0 {
		s = append(s, "added "+strings.Join(e.Added, " "))
	}
	if len(e.Removed) > 0 {
		s = append(s, "removed "+strings.Join(e.Removed, " "))
	}
	if e.By == "" {
		s = append(s, "joined by itself")
	} else {
		s = append(s, "by "+e.By)
	}
	return "nodes: " + strings.Join(s, ", ")
}

func (e Removed) String() string { return "this node was removed from the cluster by " + e.By }

// addPeer makes a node known.
func (c *Core) addPeer(now time.Time, name string) *peer {
	c.lastID++
	p := &peer{
		id:       c.lastID,
		name:     name,
		status:   Init,
		since:    now,
		deadtime: c.cfg.Deadtime,
		trigger:  c.rnd.Uint64N(ackEvery),
		ackBase:  c.history.newest,
		links:    make([]link, len(c.cfg.Media)),
	}
	c.peers = append(c.peers, p)
	c.byName[name] = p
	return p
}

// dropPeer takes a node off the list. What was heard of it is kept as long as
// its name is among the deleted: if it is added again, its old packets must not
// count as new.
func (c *Core) dropPeer(now time.Time, p *peer, by string) {
	if p.status != Dead {
		from := p.status
		p.status, p.suspicion.on = Dead, false
		c.event(NodeChanged{Node: p.name, From: from, To: Dead, Silence: now.Sub(p.since), Why: "removed by " + by})
	}
	for i := range p.links {
		if p.links[i].state != LinkDead {
			c.linkDied(now, p.name, p.links, i, "its node was removed")
		}
	}
	c.releaseDead(p)
	c.peers = slices.DeleteFunc(c.peers, func(q *peer) bool { return q == p })
	delete(c.byName, p.name)
	if p.heard {
		c.former[p.name] = p
	}
	for key := range c.limits {
		if key.peer == p.id {
			delete(c.limits, key)
		}
	}
	if c.asked == p {
		c.asked, c.nextAsk = nil, now
	}
}

// AddNodes adds nodes here and at every live node (section 13).
func (c *Core) AddNodes(now time.Time, names []string) error {
	now = c.enter(now)
	names, err := c.newNames(names)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNodes, err)
	}
	if err := c.tellNodes(now, "addnode", names); err != nil {
		return err
	}
	c.add(now, names, c.cfg.Node)
	return nil
}

// RemoveNodes removes nodes here and at every live node. Only nodes that are
// dead can be removed, and only while all others live: else one of them would
// go on with the old list (section 13).
func (c *Core) RemoveNodes(now time.Time, names []string) error {
	now = c.enter(now)
	names, err := c.deadNames(names)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNodes, err)
	}
	if err := c.tellNodes(now, "delnode", names); err != nil {
		return err
	}
	c.remove(now, names, c.cfg.Node)
	return nil
}

// tellNodes sends addnode or delnode.
func (c *Core) tellNodes(now time.Time, t string, names []string) error {
	if c.stopped {
		return ErrStopped
	}
	if c.flow && c.unacked() > flowLimit {
		return ErrFlow
	}
	b := c.begin(t)
	b.text("nodelist", nodeList(names))
	c.finish(b, now, true, false, nil)
	return nil
}

// nodeList is a list of names as on the wire: a blank after each, and one for
// none (section 5).
func nodeList(names []string) string { return strings.Join(names, " ") + " " }

// goodName says what is wrong with a node's name.
func goodName(name string) error {
	bad := strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' })
	if name == "" || len(name) > maxNameLen || bad {
		return fmt.Errorf("name %q: want 1 to %d printable ASCII characters without blanks", name, maxNameLen)
	}
	return nil
}

// newNames folds and checks the names of nodes to add; those that are there
// already are left out.
func (c *Core) newNames(names []string) ([]string, error) {
	var list []string
	for _, name := range names {
		name = strings.ToLower(name)
		if err := goodName(name); err != nil {
			return nil, err
		}
		if slices.ContainsFunc(c.pings, func(p pingNode) bool { return p.Name == name }) {
			return nil, fmt.Errorf("%s is the name of a ping node", name)
		}
		if !slices.Contains(c.cfg.Nodes, name) && !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	switch {
	case len(list) == 0:
		return nil, fmt.Errorf("%q: no new node among them; there are %s", strings.Join(names, " "), strings.Join(c.cfg.Nodes, " "))
	case len(list)+len(c.cfg.Nodes) > maxNodes:
		return nil, fmt.Errorf("there are %d nodes, %d more are above the limit of %d", len(c.cfg.Nodes), len(list), maxNodes)
	}
	return list, nil
}

// deadNames folds and checks the names of nodes to remove.
func (c *Core) deadNames(names []string) ([]string, error) {
	var list []string
	for _, name := range names {
		name = strings.ToLower(name)
		p := c.byName[name]
		switch {
		case name == c.cfg.Node:
			return nil, fmt.Errorf("%s is this node: stop it, and remove it at another one", name)
		case p == nil:
			return nil, fmt.Errorf("%s is no node; there are %s", name, strings.Join(c.cfg.Nodes, " "))
		case p.status != Dead:
			return nil, fmt.Errorf("node %s is %s: stop its heartbeat and wait until it is dead", name, p.status)
		case !slices.Contains(list, name):
			list = append(list, name)
		}
	}
	if len(list) == 0 {
		return nil, errors.New("no node is named")
	}
	for _, p := range c.peers {
		if !p.live() && !slices.Contains(list, p.name) {
			return nil, fmt.Errorf("node %s is not alive, and would keep the old list: start it, or remove it, too", p.name)
		}
	}
	return list, nil
}

// add makes the nodes part of the cluster.
func (c *Core) add(now time.Time, names []string, by string) {
	for _, name := range names {
		c.cfg.Nodes = append(c.cfg.Nodes, name)
		if p := c.former[name]; p != nil {
			// Dead until it is heard, as if it had never been away.
			delete(c.former, name)
			c.peers = append(c.peers, p)
			c.byName[name] = p
			continue
		}
		c.addPeer(now, name)
	}
	c.deleted = slices.DeleteFunc(c.deleted, func(n string) bool { return slices.Contains(names, n) })
	c.nodesChanged(NodesChanged{Added: names, By: by})
}

// remove takes the nodes out of the cluster.
func (c *Core) remove(now time.Time, names []string, by string) {
	for _, name := range names {
		c.cfg.Nodes = slices.DeleteFunc(c.cfg.Nodes, func(n string) bool { return n == name })
		c.dropPeer(now, c.byName[name], by)
		c.deleted = append(c.deleted, name)
	}
	for ; len(c.deleted) > maxNodes; c.deleted = c.deleted[1:] {
		delete(c.former, c.deleted[0])
	}
	c.nodesChanged(NodesChanged{Removed: names, By: by})
	c.checkComplete(now)
}

func (c *Core) nodesChanged(e NodesChanged) {
	e.Nodes, e.Deleted = slices.Clone(c.cfg.Nodes), slices.Clone(c.deleted)
	c.event(e)
}

// heardAddNode takes addnode of another node.
func (c *Core) heardAddNode(now time.Time, p *peer, m wire.Message) {
	list, _ := m.Get("nodelist")
	names, err := c.newNames(strings.Fields(list))
	if err != nil {
		c.report(now, reportNodes, p.id, Warn, "node %s adds nodes: nothing done: %v", p.name, err)
		return
	}
	c.add(now, names, p.name)
}

// heardDelNode takes delnode of another node. It has made sure that the nodes
// are dead; here they may be so a little later. One that was heard just now
// stays: the two of us do not see the same cluster.
func (c *Core) heardDelNode(now time.Time, p *peer, m wire.Message) {
	list, _ := m.Get("nodelist")
	var names []string
	for _, name := range strings.Fields(strings.ToLower(list)) {
		q := c.byName[name]
		switch {
		case name == c.cfg.Node:
			c.event(Removed{By: p.name})
			return
		case q == nil:
			continue
		case q == p || q.status != Dead && now.Sub(q.since) < c.silenceLimit(q)/2:
			c.report(now, reportNodes, p.id, Error, "node %s removes node %s, which is alive here: not removed; see whether the two hear each other, and remove it again", p.name, name)
			return
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		c.report(now, reportNodes, p.id, Warn, "node %s removes nodes (%.400q): none of them is here", p.name, list)
		return
	}
	c.remove(now, names, p.name)
}

// join adds the unknown node whose packet this is, if it may join by itself. A
// packet without uuid or number proves too little.
func (c *Core) join(now time.Time, name string, in *incoming) *peer {
	if c.cfg.Autojoin == NobodyJoins || !in.numbered || in.srcUUID == nil || slices.Contains(c.deleted, name) {
		return nil
	}
	names, err := c.newNames([]string{name})
	if err != nil {
		c.report(now, reportNodes, 0, Error, "a node cannot join by itself: %v", err)
		return nil
	}
	c.add(now, names, "")
	p := c.byName[name]
	p.quiet = true
	return p
}
