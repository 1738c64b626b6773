package control

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"systole/control/config"
	"systole/control/takeover"
	"systole/dataplane"
	"systole/dataplane/fallback"
	"systole/hb"
)

// Status returns the director's state, with counters read just now.
func (d *Director) Status(ctx context.Context) (*State, error) {
	var s *State
	if err := d.do(ctx, func() error { s = d.state(); return nil }); err != nil {
		return nil, err
	}
	// What takes time is read outside the loop: a table of ten thousand servers
	// must not make a takeover wait.
	for i := range s.Groups {
		for j := range s.Groups[i].VIPs {
			v := &s.Groups[i].VIPs[j]
			there, err := d.Addresses.Present(v.addr)
			if err != nil {
				s.Problems = append(s.Problems, fmt.Sprintf("group %s: %v", s.Groups[i].Name, err))
			}
			v.Present = there
		}
	}
	d.countFlows(s)
	if len(d.Planes) > 0 {
		if st, err := d.Planes[0].Stats(); err != nil {
			s.Problems = append(s.Problems, fmt.Sprintf("%s: counters: %v", d.Planes[0].Info().Name, err))
		} else {
			s.count(st)
		}
	}
	return s, nil
}

// count puts the counters in their places.
func (s *State) count(st dataplane.Stats) {
	s.Reasons, s.CPUs = st.Reasons, st.CPUs
	s.Flows, s.FlowTableSize, s.FlowTableBytes = st.Flows, st.FlowTableSize, st.FlowTableBytes
	for i := range s.Planes {
		// Interfaces are XDP's alone, whose statistics come first.
		if len(s.Planes[i].Interfaces) > 0 {
			s.Planes[i].Traffic = st.Interfaces
		}
	}
	for i := range s.Services {
		svc := &s.Services[i]
		svc.Counters = st.Services[svc.Key]
		for j := range svc.Servers {
			srv := &svc.Servers[j]
			srv.Counters, srv.Conns = st.Servers[srv.key], st.Conns[srv.key]
		}
	}
}

// state renders the State. Loop only.
func (d *Director) state() *State {
	view := d.takeover.View()
	mode, leaseErr := d.Lease.Mode()
	s := &State{
		Node: d.cfg.Node, Version: d.Version, Started: d.started, At: d.Now(),
		Role: "standby", Holds: view.Held.String(), Lease: mode.String(),
		Takeover: TakeoverState{
			State: view.State, PeerHolds: view.OtherHeld.String(), PeerStable: view.OtherStable,
			PeerSystole: view.PeerSystole, Epoch: view.Epoch, Standby: view.Standby,
			AutoFailback: d.cfg.Cluster.AutoFailback,
			Legacy:       view.Legacy && view.PeerAlive, Fenced: view.Fenced,
			AtMostOne: view.AtMostOne, Quorum: view.Quorum, Pings: view.Pings, PeerPings: view.OtherPings,
		},
		Planes: append(slices.Clone(d.planes), d.Absent...), PlaneChoice: fallback.Auto.String(),
		Config: d.conf, Flows: -1, Events: slices.Clone(d.events.ring), Problems: []string{},
	}
	if !slices.ContainsFunc(d.planes, func(p PlaneState) bool { return p.Lease }) {
		s.Lease = noLease
	}
	if !view.ClearAt.IsZero() {
		s.Takeover.Waits = max(0, view.ClearAt.Sub(s.At))
	}
	if d.cfg.Witness() {
		s.PlaneChoice = ""
		s.Role, s.Lease, s.Takeover = RoleWitness, noLease, TakeoverState{State: "none", Standby: "idle", Pings: -1, PeerPings: -1}
	}
	hbView := d.Cluster.View()
	s.Nodes = d.nodeStates()
	s.View, s.Pings = d.viewState(), pingStates(hbView)
	for i := range d.cfg.Groups {
		s.Groups = append(s.Groups, d.groupState(&d.cfg.Groups[i], view.OtherHeld))
	}
	for i := range d.cfg.Services {
		s.Services = append(s.Services, d.serviceState(&d.cfg.Services[i]))
	}
	if d.Carriers != nil {
		s.carriers(d.Carriers.Report())
		d.otherInterfaces(s)
	}
	s.describe(d.snapshot)
	for _, r := range d.facts.Roles {
		if r == dataplane.Active {
			s.Role = "active"
		}
	}
	s.judge(leaseErr, d.nodeProblems(s, hbView))
	return s
}

func (d *Director) nodeStates() []NodeState {
	v := d.Cluster.View()
	nodes := map[string]NodeState{
		v.Node: {Name: v.Node, Self: true, Status: string(v.Status), Generation: v.Generation, LastBeat: -1, Deadtime: v.Deadtime},
	}
	for _, p := range v.Peers {
		ns := NodeState{Name: p.Name, Status: string(p.Status), Generation: p.Generation, LastBeat: p.Age, Deadtime: p.Deadtime}
		for _, l := range p.Links {
			ns.Links = append(ns.Links, d.failures.state(p.Name, l))
		}
		nodes[p.Name] = ns
	}
	names := v.Nodes
	if names == nil {
		names = d.cfg.Cluster.Members()
	}
	var out []NodeState
	for _, n := range names {
		s, known := nodes[n]
		if !known { // an event says it before the view does
			s = NodeState{Name: n, Status: string(hb.Init), LastBeat: -1}
		}
		out = append(out, s)
	}
	return out
}

func (d *Director) groupState(g *config.Group, other takeover.Class) GroupState {
	role := d.facts.Roles[g.Name]
	gs := GroupState{Name: g.Name, Preferred: g.Preferred, Role: role.String()}
	switch {
	case role == dataplane.Active:
		gs.Owner = d.cfg.Node
	case other.Inverse()&d.classOf(g) != 0:
		gs.Owner = takeoverConfig(d.cfg).Peer
	}
	for _, v := range g.VIPs {
		gs.VIPs = append(gs.VIPs, VIPState{
			Address: fmt.Sprintf("%s/%d", v.Addr, v.PrefixLen), Interface: v.Interface, addr: vipAddr(v),
		})
	}
	return gs
}

func (d *Director) serviceState(c *config.Service) ServiceState {
	key := serviceKey(c)
	ss := ServiceState{Service: key.String(), Scheduler: c.Scheduler, State: "empty", Key: key}
	servers := c.Servers
	if c.Fallback != nil {
		servers = append(slices.Clone(servers), *c.Fallback)
	}
	for i, srv := range servers {
		id := dataplane.ServerKey{Service: key, Server: srv.Addr}
		p := d.why[id]
		st := ServerState{
			Address: srv.Addr.String(), Weight: srv.Weight, Effective: p.Effective, InTable: p.InTable,
			Fallback: i == len(c.Servers), Quiesced: d.facts.Quiesced[id], Reason: p.Reason, Health: "unknown", key: id,
		}
		if mac := d.facts.Neighbours[srv.Addr].MAC; mac != nil {
			st.MAC = mac.String()
		}
		if r, ok := d.health[id]; ok {
			st.Health, st.CheckTook, st.LastCheck, st.CheckFails = "up", r.Took, r.At, r.Failures
			if !r.Up {
				st.Health = "down"
				if r.Err != nil {
					st.Reason = p.Reason + ": " + r.Err.Error()
				}
			}
		}
		if st.InTable && st.Effective > 0 && p.Reason == "" {
			switch {
			case st.Fallback && ss.State == "empty":
				ss.State = "fallback"
			case !st.Fallback:
				ss.State = "up"
			}
		}
		ss.Servers = append(ss.Servers, st)
	}
	return ss
}

// noLease is the lease of a director whose data planes cannot end by themselves.
const noLease = "none"

// problem is something an operator should know, and how bad it is.
type problem struct {
	critical bool
	text     string
}

// judge fills Health and Problems from the rest.
func (s *State) judge(leaseErr error, more []string) {
	var ps []problem
	add := func(critical bool, format string, args ...any) {
		ps = append(ps, problem{critical, fmt.Sprintf(format, args...)})
	}
	working := false
	stranded := slices.ContainsFunc(s.Services, func(svc ServiceState) bool { return svc.Plane == "" })
	for _, p := range s.Planes {
		switch {
		case p.Mode == dataplane.Detached:
			add(stranded, "data plane %s: %s", p.Name, p.Reason)
		case p.Error != "":
			add(true, "data plane %s: generation %d is still in force: %s", p.Name, p.Generation, p.Error)
		case !p.Absent:
			working = true
		}
		for _, text := range detachedInterfaces(p) {
			add(false, "data plane %s", text)
		}
	}
	if !working && s.Role != RoleWitness {
		add(true, "no data plane is working")
	}
	if leaseErr != nil {
		add(true, "lease: %v", leaseErr)
	}
	if s.Lease == noLease && len(s.Nodes) > 1 && s.Role != RoleWitness {
		add(false, "no data plane here keeps a lease: if this daemon crashes, its kernel goes on answering beside the peer")
	}
	if s.Lease == LeaseSuspended.String() {
		add(true, "the lease ended while the daemon was stalled; asking the peer who owns what")
	}
	switch t := s.Takeover; {
	case t.Fenced:
		add(true, "fenced: an address could not be removed, so this director answers for none; remove it by hand (ip address del); the events name it")
	case t.AtMostOne && !t.Quorum:
		add(true, "no quorum, so nothing is owned (cluster.partition is at-most-one): repair the way to the other director or to the tie-breaker")
	case t.Waits > 0:
		add(true, "the peer is dead; its groups are taken in %v, when its lease has surely ended (cluster.partition is at-most-one)", t.Waits.Round(time.Millisecond))
	}
	if t := s.Takeover; t.Pings >= 0 && t.PeerPings > t.Pings {
		add(false, "the peer sees %d ping nodes, this director %d: it has the groups, or gets them", t.PeerPings, t.Pings)
	}
	for _, svc := range s.Services {
		if svc.Plane == "" && svc.PlaneWhy != "" {
			add(true, "service %s is carried by no plane: %s", svc.Service, svc.PlaneWhy)
		}
		switch svc.State {
		case "empty":
			add(s.Role == "active", "service %s has no real server to serve it", svc.Service)
		case "fallback":
			add(false, "service %s is served by its fallback", svc.Service)
		}
		for _, r := range svc.Servers {
			if r.Reason != "" && !r.Fallback {
				add(false, "service %s: real server %s: %s", svc.Service, r.Address, r.Reason)
			}
		}
	}
	for _, n := range s.Nodes {
		if n.Self {
			continue
		}
		if n.Status == "dead" {
			add(false, "node %s is dead", n.Name)
			continue
		}
		for _, l := range n.Links {
			if !l.Up && l.Age >= 0 {
				add(false, "link %s to %s is %s", l.Medium, n.Name, l.State)
			}
		}
	}
	for _, text := range more {
		add(false, "%s", text)
	}
	if !s.Config.ReloadOK {
		add(false, "the last reload was refused: %s", s.Config.Error)
	}
	slices.SortStableFunc(ps, func(a, b problem) int {
		return cmp.Compare(btoi(b.critical), btoi(a.critical))
	})
	s.Health = "ok"
	for _, p := range ps {
		if p.critical {
			s.Health = "critical"
		} else if s.Health == "ok" {
			s.Health = "degraded"
		}
		s.Problems = append(s.Problems, p.text)
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
