package membership

import (
	"slices"
	"time"
)

// settle draws all conclusions from what has changed, and sends what is due.
func (m *Machine) settle(now time.Time) {
	for _, p := range m.peers {
		if m.waiting(p) && now.Sub(p.since) >= deafAfter*m.cfg.Deadtime {
			p.deaf, m.graphOld = true, true
		}
	}
	if m.graphOld {
		m.graphOld = false
		m.hearing(now)
		m.wanted = m.together()
	}
	m.part(now)
	m.accept(now)
	m.install(now)
	m.judge(now)

	switch {
	case m.agreed():
		m.retryAt = time.Time{}
	case m.retryAt.IsZero():
		m.retryAt = now.Add(m.cfg.Deadtime)
	case !now.Before(m.retryAt):
		m.retryAt = now.Add(m.cfg.Deadtime)
		m.own.ask = true
		m.passAgain()
		m.reportAt = now
	}
	if !m.reportAt.IsZero() && !now.Before(m.reportAt) {
		m.reportAt = time.Time{}
		m.own.serial++
		m.out.Messages = append(m.out.Messages, m.own.message(true))
		m.own.ask, m.own.echo = false, nil
	}
	m.passOn(now)
}

// part makes those our members who belong with us by the graph. But before we
// leave one who hears us as we hear it the others have half a dead time to see
// what we see. A node has died, and we are the first to know: as long as another
// one says that it hears the dead, the dead and we fit that one equally well, and
// by our names it may be we who leave, and both lose the quorum.
//
// Nobody has a quorum through that who had none: it is counted among those that
// confirm the view. But who is on the wrong side of a cut, and is confirmed by
// one that hears both sides, learns that much later: in half a dead time and two
// reports, and package takeover counts on a whole one.
func (m *Machine) part(now time.Time) {
	leaves := slices.ContainsFunc(m.members, func(name string) bool {
		p := m.peers[name]
		return p != nil && p.alive && !has(m.wanted, name) && m.reportOf(name) != nil &&
			m.own.hears(name) && m.reportOf(name).hears(m.cfg.Node)
	})
	switch {
	case !leaves:
	case m.partAt.IsZero():
		m.partAt = now.Add(m.cfg.Deadtime / 2)
		return
	case now.Before(m.partAt):
		return
	}
	m.members, m.partAt = m.wanted, time.Time{}
}

// hearing brings our own report in line with what we hear.
func (m *Machine) hearing(now time.Time) {
	var alive []string
	for _, name := range m.nodes {
		if p := m.peers[name]; p == nil || p.alive && !p.deaf {
			alive = append(alive, name)
		}
	}
	votes := max(1, m.cfg.Rule.total(m.nodes))
	if slices.Equal(alive, m.own.alive) && votes == m.own.votes {
		return
	}
	m.own.alive, m.own.votes = alive, votes
	m.touch(now)
}

// reportOf is the latest report of a node that takes part, our own included;
// nil of an old node.
func (m *Machine) reportOf(name string) *report {
	if name == m.cfg.Node {
		return &m.own
	}
	if p := m.peers[name]; p != nil && !(p.alive && p.old()) {
		return p.rep
	}
	return nil
}

// graph computes edges: which nodes hear each other.
func (m *Machine) graph() {
	n := len(m.nodes)
	m.edges = make([][]bool, n)
	for i := range m.edges {
		m.edges[i] = make([]bool, n)
	}
	for i, a := range m.nodes {
		for j, b := range m.nodes[:i] {
			ra, rb := m.reportOf(a), m.reportOf(b)
			both := ra != nil && rb != nil && ra.hears(b) && rb.hears(a)
			m.edges[i][j], m.edges[j][i] = both, both
		}
	}
}

// component is who is joined with us, at once or over others, in order.
func (m *Machine) component() []int {
	self, _ := slices.BinarySearch(m.nodes, m.cfg.Node)
	list := []int{self}
	in := make([]bool, len(m.nodes))
	in[self] = true
	for at := 0; at < len(list); at++ {
		for j, joined := range m.edges[list[at]] {
			if joined && !in[j] {
				in[j] = true
				list = append(list, j)
			}
		}
	}
	slices.Sort(list)
	return list
}

// together is who belongs with us by the rule of the package comment, in order
// of the names.
func (m *Machine) together() []string {
	m.graph()
	rest := m.component()
	group := m.complete(rest)
	self, _ := slices.BinarySearch(m.nodes, m.cfg.Node)
	m.whole = len(group) == len(rest)
	for i, name := range m.nodes {
		// Who hears such a one knows what it says; others may have its old word
		// that it hears us.
		if p := m.peers[name]; p != nil && p.alive && p.systole && !m.edges[self][i] {
			m.whole = false
		}
	}
	for {
		if slices.ContainsFunc(group, func(i int) bool { return m.nodes[i] == m.cfg.Node }) {
			break
		}
		rest = slices.DeleteFunc(rest, func(i int) bool { return slices.Contains(group, i) })
		group = m.complete(rest)
	}
	var members []string
	for _, i := range group {
		members = append(members, m.nodes[i])
	}
	// And the old nodes that all of them hear. Their reports say so; what kind
	// of node it is we know from hearing it.
	for i, k := 0, len(members); i < len(m.nodes); i++ {
		p := m.peers[m.nodes[i]]
		if p != nil && p.alive && p.old() && !slices.ContainsFunc(members[:k], func(n string) bool { return !m.reportOf(n).hears(p.name) }) {
			members = append(members, p.name)
		}
	}
	slices.Sort(members)
	return members
}

// complete takes nodes away until those that are left are all joined with each
// other.
func (m *Machine) complete(nodes []int) []int {
	nodes = slices.Clone(nodes)
	degree := make([]int, len(m.nodes))
	for _, i := range nodes {
		for _, j := range nodes {
			if m.edges[i][j] {
				degree[i]++
			}
		}
	}
	for {
		worst := 0 // of several the last: the highest name
		for at, i := range nodes {
			if degree[i] <= degree[nodes[worst]] {
				worst = at
			}
		}
		gone := nodes[worst]
		if degree[gone] == len(nodes)-1 {
			return nodes
		}
		nodes = slices.Delete(nodes, worst, worst+1)
		for _, i := range nodes {
			if m.edges[i][gone] {
				degree[i]--
			}
		}
	}
}

// accept follows the coordinator of those who belong together, or makes a new
// view if we are it.
func (m *Machine) accept(now time.Time) {
	coordinator := m.members[slices.IndexFunc(m.members, func(n string) bool { return m.reportOf(n) != nil })]
	own := &m.own
	if coordinator != m.cfg.Node {
		m.growAt = time.Time{}
		r := m.reportOf(coordinator)
		if r.accepted.Coordinator == coordinator && r.accepted.Number > own.accepted.Number && m.allBelong(r.members) && m.dropsNobody(r.members) {
			own.accepted, own.members = r.accepted, r.members
			m.touch(now)
		}
		return
	}
	// A member can only follow to a higher number than it has.
	highest := own.accepted.Number
	for _, name := range m.members {
		if r := m.reportOf(name); r != nil && r.accepted != own.accepted {
			highest = max(highest, r.accepted.Number)
		}
	}
	ours := own.accepted.Coordinator == m.cfg.Node && slices.Equal(own.members, m.members)
	if ours && !slices.ContainsFunc(m.members, func(n string) bool {
		r := m.reportOf(n)
		return r != nil && r.accepted != own.accepted && r.accepted.Number >= own.accepted.Number
	}) {
		m.growAt = time.Time{}
		return
	}
	if m.tooSoon(now) {
		return
	}
	own.accepted = ID{highest + 1, m.cfg.Generation, m.cfg.Node}
	own.members = m.members
	m.touch(now)
}

// tooSoon: a view with more members waits, a quarter of a dead time at most,
// until those who will be in it have installed what they have accepted. A node
// has restarted, the others have just agreed to leave it, some of them know that
// all have and some do not, and it is there again: with one view left out they
// would not confirm each other for a moment, and give up their quorum.
func (m *Machine) tooSoon(now time.Time) bool {
	waits := false
	for _, name := range m.members {
		r := m.reportOf(name)
		if r == nil {
			continue
		}
		// Alone, as who has just begun, we have nothing to lose.
		waits = waits || r.accepted != r.installed && (r != &m.own || m.view.Quorum)
		if !m.allBelong(r.members) {
			waits = false // somebody leaves: that is urgent
			break
		}
	}
	switch {
	case !waits:
		m.growAt = time.Time{}
	case m.growAt.IsZero():
		m.growAt = now.Add(m.cfg.Deadtime / 4)
		return true
	case now.Before(m.growAt):
		return true
	}
	m.growAt = time.Time{}
	return false
}

// allBelong: of these nobody has left. There may be more who belong with us by
// now: they will be in the next view.
func (m *Machine) allBelong(names []string) bool {
	return !slices.ContainsFunc(names, func(n string) bool { return !has(m.members, n) })
}

// dropsNobody: a view of these has us, and all in the view that we have accepted
// who still belong with us. One that lacks some who have come since is as good,
// and the others may have installed it already.
func (m *Machine) dropsNobody(names []string) bool {
	return has(names, m.cfg.Node) &&
		!slices.ContainsFunc(m.own.members, func(n string) bool { return has(m.members, n) && !has(names, n) })
}

// install makes the accepted view the one in force when all members that take
// part have accepted it.
func (m *Machine) install(now time.Time) {
	own := &m.own
	if own.installed == own.accepted || !m.allBelong(own.members) {
		return
	}
	for _, name := range own.members {
		if r := m.reportOf(name); r != nil && r.accepted != own.accepted {
			return
		}
	}
	// Whoever is not in it, but was in one that a member accepted before, may
	// still believe in its quorum for a while.
	m.installedAt, m.settled = now, false
	own.installed = own.accepted
	m.view.ID, m.view.Members = own.accepted, own.members
	m.touch(now)
}

// agreed: there is nothing to wait for.
func (m *Machine) agreed() bool {
	own := &m.own
	if own.installed != own.accepted || !slices.Equal(own.members, m.members) {
		return false
	}
	for _, p := range m.peers {
		switch {
		case m.waiting(p):
			return false
		case p.rep != nil && has(own.members, p.name) && p.rep.installed != own.installed:
			return false
		}
	}
	return true
}

// passOn sends reports on to nodes that hear us but not the node in question.
// Of several nodes in between the one with the lowest name does it, and not
// before half a dead time: who begins hears the others with their next beats, one
// after another, and then nobody needs to be told. When sixteen begin at once
// that would be more messages than may be unacknowledged (heartbeat-wire.md
// section 6.4). It delays no loss of a quorum, since that is told by those who
// confirm a view, themselves; and who has to leave others waits as long (part).
func (m *Machine) passOn(now time.Time) {
	switch {
	case m.whole:
		m.passAt = time.Time{}
		return
	case m.passAt.IsZero():
		if len(m.toPass()) > 0 {
			m.passAt = now.Add(m.cfg.Deadtime / 2)
		}
		return
	case now.Before(m.passAt):
		return
	}
	m.passAt = time.Time{}
	for _, p := range m.toPass() {
		p.passedGen, p.passedSerial, p.passedTo = p.rep.gen, p.rep.serial, m.toTell(p)
		m.out.Messages = append(m.out.Messages, p.rep.message(false))
	}
}

// toPass are the nodes of which others have to be told something new.
func (m *Machine) toPass() (list []*peer) {
	for _, about := range m.nodes {
		p := m.peers[about]
		if p == nil || p.rep == nil {
			continue
		}
		to := m.toTell(p)
		news := p.rep.newer(p.passedGen, p.passedSerial)
		if len(to) > 0 && (news || slices.ContainsFunc(to, func(n string) bool { return !slices.Contains(p.passedTo, n) })) {
			list = append(list, p)
		}
	}
	return list
}

// toTell are the nodes that have to hear of p through us.
func (m *Machine) toTell(p *peer) (to []string) {
	self, _ := slices.BinarySearch(m.nodes, m.cfg.Node)
	k, _ := slices.BinarySearch(m.nodes, p.name)
	for n, name := range m.nodes {
		if n != k && m.edges[self][n] && !m.edges[n][k] && m.between(self, n, k) {
			to = append(to, name)
		}
	}
	return to
}

// between: it is for us to tell n of k.
func (m *Machine) between(self, n, k int) bool {
	for x := range m.nodes {
		if m.edges[x][n] && m.edges[x][k] {
			return x == self
		}
	}
	return true // it is further away
}

// judge says what the view in force is worth.
func (m *Machine) judge(now time.Time) {
	v := m.view
	v.Old = nil
	var voters []string
	all, missing := max(1, m.cfg.Rule.total(m.nodes)), false
	for _, name := range m.nodes {
		switch p := m.peers[name]; {
		case !has(v.Members, name):
			missing = true
		case p == nil:
			voters = append(voters, name)
		case p.old():
			v.Old = append(v.Old, name)
			missing = missing || !p.alive
		case m.confirms(p):
			voters = append(voters, name)
			all = max(all, p.rep.votes)
		default:
			missing = true
		}
	}
	v.Quorum, v.Why = m.cfg.Rule.judge(voters, all, has(m.nodes, m.cfg.Rule.TieBreaker), m.tie)
	if !missing && !v.Quorum {
		v.Quorum, v.Why = true, "quorum, as no node is missing"
	}
	if !v.Quorum {
		m.settled, m.installedAt = false, now
	}
	m.settled = v.Quorum && (m.settled || !missing || m.cfg.Rule.Kind == None || now.Sub(m.installedAt) >= m.cfg.Settle)
	v.Settled = m.settled
	m.view = v
	if !v.equal(m.told) {
		m.told = v
		m.out.Views = append(m.out.Views, v)
	}
}

// confirms: as far as we know the member is in the same view as we are, or on
// the way to a view of us both.
func (m *Machine) confirms(p *peer) bool {
	return p.alive && p.rep != nil && p.echoed >= p.mustEcho && p.rep.hears(m.cfg.Node) && has(p.rep.members, m.cfg.Node) &&
		(p.rep.installed == m.own.installed || p.rep.installed == m.own.accepted || p.rep.accepted == m.own.installed)
}
