package control

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"systole/control/config"
	"systole/control/takeover"
	"systole/hb"
	"systole/hb/membership"
)

// members is the director's part in the agreement on who is in the cluster.
type members struct {
	machine *membership.Machine
	told    membership.View // the last one in the log
}

// quorumRule is the configured rule.
func quorumRule(q config.Quorum) membership.Rule {
	kinds := map[string]membership.Kind{"majority": membership.Majority, "weight": membership.Weight, "tie_breaker": membership.TieBreaker}
	return membership.Rule{Kind: kinds[q.Kind], Weights: q.Weights, TieBreaker: q.TieBreaker}
}

// joinMembers begins with what heartbeat knows.
func (d *Director) joinMembers(now time.Time) error {
	v := d.Cluster.View()
	nodes := v.Nodes
	if len(nodes) == 0 {
		nodes = d.cfg.Cluster.Members()
	}
	m, err := membership.New(membership.Config{
		Node: d.cfg.Node, Generation: max(1, v.Generation), Nodes: nodes,
		Rule: quorumRule(d.cfg.Cluster.Quorum), Deadtime: d.cfg.Cluster.Deadtime,
	}, now)
	if err != nil {
		return err
	}
	d.members.machine = m
	d.membersDone()
	return nil
}

// membersHear gives the agreement what heartbeat tells. It goes before
// takeover: who owns what may depend on the quorum.
func (d *Director) membersHear(ev hb.Event) {
	now, m := d.Now(), d.members.machine
	switch e := ev.(type) {
	case hb.NodeChanged:
		if e.Ping {
			if e.Node == d.cfg.Cluster.Quorum.TieBreaker {
				m.TieBreaker(now, e.To == hb.Ping)
			}
			break
		}
		p, _ := d.Cluster.View().Peer(e.Node)
		m.Node(now, e.Node, membership.Seen{Alive: e.To != hb.Dead, Restarted: e.Restarted, Systole: p.Systole, Unknown: e.To == hb.Init})
	case hb.NodesChanged:
		d.nodesChanged(e)
	case hb.Delivered:
		if e.FromSelf || e.Message.Type() != membership.Type {
			return
		}
		if err := m.Receive(now, e.Node, e.Message); err != nil {
			d.event("cluster", slog.LevelWarn, "%v", err)
		}
	case hb.Lost:
		m.Lost(now, e.Node)
	case hb.Stalled:
		m.Stalled(now)
	default:
		return
	}
	d.membersDone()
}

// membersTick does what is due.
func (d *Director) membersTick() {
	d.members.machine.Tick(d.Now())
	d.membersDone()
}

// membersDone does what the agreement wants done.
func (d *Director) membersDone() {
	out := d.members.machine.Drain()
	for _, msg := range out.Messages {
		err := hb.ErrFlow
		if d.Cluster.View().Unacked <= membership.MaxUnacked {
			err = d.Cluster.Submit(msg)
		}
		if err != nil {
			// It is said again until all agree.
			d.Log.Debug("a report on the view was not sent", "kind", "cluster", "error", err)
			d.members.machine.Unsent(d.Now())
		}
	}
	if len(out.Views) == 0 {
		return
	}
	v, was := out.Views[len(out.Views)-1], d.members.told
	d.members.told = v
	if d.ViewChanged != nil {
		d.ViewChanged(v)
	}
	switch {
	case was.Number == 0 || v.ID == was.ID && v.Quorum == was.Quorum && v.Settled == was.Settled:
	case was.Quorum && !v.Quorum:
		d.event("cluster", slog.LevelWarn, "%s", v)
	default:
		d.event("cluster", slog.LevelInfo, "%s", v)
	}
	if was.Number == 0 || v.Quorum != was.Quorum {
		d.step(d.quorum())
	}
}

// quorum is what takeover is told.
func (d *Director) quorum() takeover.Quorum { return takeover.Quorum{Have: d.members.told.Quorum} }

// nextDeadline is when the loop is to wake at the latest; zero: never.
func (d *Director) nextDeadline() time.Time {
	at, m := d.takeover.Deadline(), d.members.machine.Deadline()
	if at.IsZero() || !m.IsZero() && m.Before(at) {
		return m
	}
	return at
}

// pingChanged tells of a ping node.
func (d *Director) pingChanged(e hb.NodeChanged) {
	if e.To == hb.Dead {
		d.event("cluster", slog.LevelWarn, "ping node %s is dead: %s", e.Node, e.Why)
	} else {
		d.event("cluster", slog.LevelInfo, "ping node %s answers", e.Node)
	}
	alive := 0
	for _, p := range d.Cluster.View().Pings {
		if p.Status == hb.Ping {
			alive++
		}
	}
	d.step(takeover.Pings{Alive: alive})
}

// nodesChanged takes the new list of nodes and keeps it over restarts.
func (d *Director) nodesChanged(e hb.NodesChanged) {
	d.event("cluster", slog.LevelInfo, "%s", e)
	if err := d.members.machine.Nodes(d.Now(), e.Nodes); err != nil {
		d.event("cluster", slog.LevelError, "%v", err)
	}
	d.keepNodes(nodeLists{slices.Clone(e.Nodes), slices.Clone(e.Deleted)})
}

// removed ends a director that another has taken off the list.
func (d *Director) removed(e hb.Removed) {
	d.event("cluster", slog.LevelError, "%s: stopping", e)
	d.step(takeover.Shutdown{})
}

// AddNodes adds nodes to the cluster while it runs, here and at all others.
func (d *Director) AddNodes(ctx context.Context, names []string) error {
	return d.changeNodes(ctx, "node add", names, d.Cluster.AddNodes)
}

// RemoveNodes removes nodes that are dead while all others live.
func (d *Director) RemoveNodes(ctx context.Context, names []string) error {
	return d.changeNodes(ctx, "node remove", names, d.Cluster.RemoveNodes)
}

func (d *Director) changeNodes(ctx context.Context, what string, names []string, change func([]string) error) error {
	return d.do(ctx, func() error {
		d.event("operator", slog.LevelInfo, "%s %s", what, strings.Join(names, " "))
		return change(names)
	})
}

// viewState is the view in force, for State.
func (d *Director) viewState() ViewState {
	v := d.members.machine.View()
	return ViewState{
		Number: v.Number, Coordinator: v.Coordinator, Members: slices.Clone(v.Members), Old: append([]string{}, v.Old...),
		Quorum: v.Quorum, Settled: v.Settled, Why: v.Why,
	}
}

// pingStates are the ping nodes, for State.
func pingStates(v hb.View) []PingState {
	states := []PingState{}
	for _, p := range v.Pings {
		states = append(states, PingState{Name: p.Name, Status: string(p.Status), Age: p.Age})
	}
	return states
}

// nodeProblems says what an operator should know of nodes and views.
func (d *Director) nodeProblems(s *State, v hb.View) (ps []string) {
	if !s.View.Quorum {
		ps = append(ps, s.View.Why)
	}
	for _, p := range s.Pings {
		if p.Status == string(hb.Dead) {
			ps = append(ps, fmt.Sprintf("ping node %s is dead", p.Name))
		}
	}
	if v.Nodes == nil {
		return ps
	}
	members := d.cfg.Cluster.Members()
	for _, n := range v.Nodes {
		if !slices.Contains(members, n) {
			ps = append(ps, fmt.Sprintf("node %s was added at run time and is not in the config: write it under cluster.witnesses, or remove it with `systole node remove %s`", n, n))
		}
	}
	for _, n := range members {
		if !slices.Contains(v.Nodes, n) {
			ps = append(ps, fmt.Sprintf("node %s was removed at run time and is still in the config: take it out there, or add it with `systole node add %s`", n, n))
		}
	}
	return ps
}
