package membership

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"systole/hb/wire"
)

// The simulation: machines on a model of hb, in virtual time, of which every
// promise is checked at every view. The model keeps what hb promises: a node
// is seen dead one dead time after the last beat that came; a message comes
// once, late or in another order, or its loss is told.
const (
	simDead  = time.Second
	simBeat  = 100 * time.Millisecond
	simRexmt = 300 * time.Millisecond
)

type simNode struct {
	name    string
	old     bool
	up      bool
	gen     uint64
	m       *Machine
	stalled bool
	inbox   []func()
	view    View
	since   time.Duration // when view was installed
	ticket  int           // so that old wake-ups do nothing
	// of every other node
	sees map[string]uint64 // generation it is seen alive with; 0: dead
	last map[string]uint64 // generation it was last heard with
}

type simEvent struct {
	at  time.Duration
	seq int
	do  func()
}

type simEvents []simEvent

func (e simEvents) Len() int      { return len(e) }
func (e simEvents) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e simEvents) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e *simEvents) Push(x any) { *e = append(*e, x.(simEvent)) }
func (e *simEvents) Pop() any {
	x := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return x
}

type sim struct {
	t     testing.TB
	seed  uint64
	rnd   *rand.Rand
	rule  Rule
	now   time.Duration
	queue simEvents
	seq   int
	nodes []*simNode
	names []string
	cut   map[[2]string]time.Duration // from, to: since when
	held  map[[2]string][]func()      // messages that wait for the end of a cut
	tie   string                      // the node whose side sees the tie-breaker; "" for nobody
	loss  float64

	made     map[ID]string
	messages int
	views    int
	logs     bool // set for a single seed
	log      []string
}

func simTime(d time.Duration) time.Time { return time.Unix(1_700_000_000, 0).Add(d) }

func (s *sim) logf(format string, args ...any) {
	if !s.logs {
		return
	}
	s.log = append(s.log, fmt.Sprintf("%8.3f ", s.now.Seconds())+fmt.Sprintf(format, args...))
}

func (s *sim) fatalf(format string, args ...any) {
	s.t.Helper()
	for _, n := range s.nodes {
		if !n.up || n.old {
			continue
		}
		s.logf("%s: members %v own %+v", n.name, n.m.members, n.m.own)
		for _, p := range n.m.peers {
			s.logf("    %s alive %v must %d echoed %d: %+v", p.name, p.alive, p.mustEcho, p.echoed, p.rep)
		}
	}
	from := max(0, len(s.log)-60)
	s.t.Fatalf("SYSTOLE_SIM_SEED=%d at %v: %s\n%s", s.seed, s.now, fmt.Sprintf(format, args...), strings.Join(s.log[from:], "\n"))
}

func (s *sim) after(d time.Duration, do func()) {
	s.seq++
	heap.Push(&s.queue, simEvent{s.now + d, s.seq, do})
}

func (s *sim) upTo(d time.Duration) time.Duration { return time.Duration(s.rnd.Int64N(int64(d) + 1)) }

func (s *sim) run(d time.Duration) {
	end := s.now + d
	for len(s.queue) > 0 && s.queue[0].at <= end {
		e := heap.Pop(&s.queue).(simEvent)
		s.now = e.at
		e.do()
	}
	s.now = end
}

func (s *sim) node(name string) *simNode {
	return s.nodes[slices.IndexFunc(s.nodes, func(n *simNode) bool { return n.name == name })]
}

// input gives a node something, now or when it wakes.
func (s *sim) input(n *simNode, do func(*Machine)) {
	if !n.up || n.old {
		return
	}
	if n.stalled {
		n.inbox = append(n.inbox, func() { s.input(n, do) })
		return
	}
	do(n.m)
	out := n.m.Drain()
	for _, v := range out.Views {
		s.views++
		s.newView(n, v)
	}
	for _, msg := range out.Messages {
		s.send(n, msg)
	}
	n.ticket++
	if at := n.m.Deadline(); !at.IsZero() {
		ticket := n.ticket
		s.after(max(0, at.Sub(simTime(s.now))), func() {
			if n.ticket == ticket {
				s.input(n, func(m *Machine) { m.Tick(simTime(s.now)) })
			}
		})
	}
}

func (s *sim) send(from *simNode, msg wire.Message) {
	s.messages++
	for _, to := range s.nodes {
		if to == from {
			continue
		}
		gen, toGen := from.gen, to.gen
		key := [2]string{from.name, to.name}
		arrive := func() {
			if to.gen != toGen || !to.up || to.last[from.name] > gen {
				return
			}
			s.input(to, func(m *Machine) {
				if err := m.Receive(simTime(s.now), from.name, msg); err != nil {
					s.fatalf("%s: %v", to.name, err)
				}
			})
		}
		delay := time.Millisecond + s.upTo(4*time.Millisecond)
		if s.rnd.Float64() < s.loss {
			delay += s.upTo(simRexmt)
		}
		s.after(delay, func() {
			if _, cut := s.cut[key]; cut {
				s.held[key] = append(s.held[key], arrive)
				return
			}
			// A message that comes before the first beat is not refused.
			s.seen(from, to, gen)
			arrive()
		})
	}
}

// seen: a beat of from came to to.
func (s *sim) seen(from, to *simNode, gen uint64) {
	if !to.up || to.sees[from.name] == gen || gen < to.last[from.name] {
		return
	}
	restarted := to.last[from.name] != 0 && to.last[from.name] != gen
	to.sees[from.name], to.last[from.name] = gen, gen
	s.logf("%s hears %s %d", to.name, from.name, gen)
	s.input(to, func(m *Machine) {
		m.Node(simTime(s.now), from.name, Seen{Alive: true, Restarted: restarted, Unknown: true})
	})
	s.after(s.upTo(simBeat), func() { // its status says what it is
		if to.up && to.sees[from.name] == gen {
			s.input(to, func(m *Machine) { m.Node(simTime(s.now), from.name, Seen{Alive: true, Systole: !from.old}) })
		}
	})
}

// beats makes to hear from soon, if it can.
func (s *sim) beats(from, to *simNode) {
	gen := from.gen
	s.after(s.upTo(simBeat), func() {
		if _, cut := s.cut[[2]string{from.name, to.name}]; !cut && from.up && !from.stalled && from.gen == gen {
			s.seen(from, to, gen)
		}
	})
}

// silent makes to declare from dead if it is not heard for the dead time.
func (s *sim) silent(from, to *simNode) {
	key, since, gen, toGen := [2]string{from.name, to.name}, s.now, from.gen, to.gen
	s.after(simDead-s.upTo(simBeat), func() {
		cut, is := s.cut[key]
		if !to.up || to.gen != toGen || to.sees[from.name] != gen {
			return
		}
		if is && cut == since || from.gen != gen || !from.up || from.stalled {
			to.sees[from.name] = 0
			s.logf("%s: %s is dead", to.name, from.name)
			s.input(to, func(m *Machine) { m.Node(simTime(s.now), from.name, Seen{Systole: !from.old}) })
		}
	})
}

func (s *sim) start(n *simNode) {
	n.up, n.stalled, n.inbox = true, false, nil
	n.gen++
	n.sees, n.last, n.view = map[string]uint64{}, map[string]uint64{}, View{}
	n.ticket++
	s.logf("%s starts, generation %d", n.name, n.gen)
	if !n.old {
		var err error
		n.m, err = New(Config{Node: n.name, Generation: n.gen, Nodes: s.names, Rule: s.rule, Deadtime: simDead}, simTime(s.now))
		if err != nil {
			s.t.Fatal(err)
		}
		s.input(n, func(m *Machine) { m.TieBreaker(simTime(s.now), s.tie == n.name) })
	}
	for _, o := range s.nodes {
		if o != n {
			delete(s.held, [2]string{o.name, n.name})
			delete(s.held, [2]string{n.name, o.name})
			s.beats(o, n)
			s.beats(n, o)
		}
	}
}

func (s *sim) crash(n *simNode) {
	if !n.up {
		return
	}
	s.logf("%s crashes", n.name)
	n.up = false
	n.ticket++
	for _, o := range s.nodes {
		if o != n {
			s.silent(n, o)
		}
	}
}

func (s *sim) stall(n *simNode, d time.Duration) {
	if !n.up || n.stalled || n.old {
		return
	}
	s.logf("%s stalls for %v", n.name, d)
	n.stalled = true
	gen := n.gen
	for _, o := range s.nodes {
		if o != n {
			s.silent(n, o)
		}
	}
	s.after(d, func() {
		if n.gen != gen || !n.up {
			return
		}
		n.stalled = false
		s.logf("%s wakes", n.name)
		inbox := n.inbox
		n.inbox = nil
		s.input(n, func(m *Machine) { m.Stalled(simTime(s.now)) })
		for _, do := range inbox {
			do()
		}
		for _, o := range s.nodes {
			if o != n {
				s.beats(n, o)
			}
		}
	})
}

func (s *sim) cutOne(a, b string) {
	key := [2]string{a, b}
	if _, is := s.cut[key]; is || a == b {
		return
	}
	s.cut[key] = s.now
	s.silent(s.node(a), s.node(b))
}

func (s *sim) healOne(a, b string) {
	key := [2]string{a, b}
	if _, is := s.cut[key]; !is {
		return
	}
	delete(s.cut, key)
	held := s.held[key]
	delete(s.held, key)
	from, to := s.node(a), s.node(b)
	s.beats(from, to)
	gen, toGen := from.gen, to.gen
	for _, arrive := range held {
		if s.rnd.IntN(10) == 0 {
			arrive = func() { s.input(to, func(m *Machine) { m.Lost(simTime(s.now), a) }) }
		}
		var ask func() // until it answers
		ask = func() {
			switch _, cut := s.cut[key]; {
			case !from.up || from.gen != gen || to.gen != toGen:
			case cut:
				s.held[key] = append(s.held[key], arrive)
			case from.stalled:
				s.after(simRexmt, ask)
			default:
				s.seen(from, to, gen) // only who is heard is asked
				arrive()
			}
		}
		s.after(s.upTo(simRexmt), ask)
	}
}

func (s *sim) split(side func(string) bool) {
	s.logf("split: %v | rest", slices.DeleteFunc(slices.Clone(s.names), func(n string) bool { return !side(n) }))
	for _, a := range s.names {
		for _, b := range s.names {
			if side(a) != side(b) {
				s.cutOne(a, b)
			}
		}
	}
}

func (s *sim) heal() {
	s.logf("heal")
	for _, a := range s.names {
		for _, b := range s.names {
			s.healOne(a, b)
		}
	}
}

// newView checks promises 1, 2 and 4.
func (s *sim) newView(n *simNode, v View) {
	s.logf("%s: %v", n.name, v)
	members := strings.Join(v.Members, " ")
	if was, ok := s.made[v.ID]; ok && was != members {
		s.fatalf("view %v of %s has the members %s, elsewhere %s", v.ID, n.name, members, was)
	}
	s.made[v.ID] = members
	if v.Number < n.view.Number || v.Number == n.view.Number && v.ID != n.view.ID {
		s.fatalf("%s: view %v after %v", n.name, v.ID, n.view.ID)
	}
	if !v.Has(n.name) {
		s.fatalf("%s is not in its own view %v", n.name, v)
	}
	if v.ID != n.view.ID {
		n.since = s.now
	}
	n.view = v
	if s.rule.Kind == None {
		return
	}
	for _, q := range s.nodes {
		if q == n || !q.up || q.stalled || !q.view.Quorum || !v.Quorum {
			continue
		}
		for _, pair := range [][2]*simNode{{n, q}, {q, n}} {
			p, q := pair[0], pair[1]
			if p.view.Settled && !p.view.Has(q.name) && (q.since <= p.since || q.view.Settled && !q.view.Has(p.name)) {
				s.fatalf("%s has quorum, settled, in %v; and %s has quorum in %v", p.name, p.view, q.name, q.view)
			}
		}
	}
}

// groups is the rule of the package comment, once more and in other words: who
// must be with whom.
func (s *sim) groups() [][]string {
	joined := func(a, b string) bool {
		_, x := s.cut[[2]string{a, b}]
		_, y := s.cut[[2]string{b, a}]
		return !x && !y
	}
	var rest []string
	for _, n := range s.nodes {
		if n.up && !n.old {
			rest = append(rest, n.name)
		}
	}
	var groups [][]string
	for len(rest) > 0 {
		// The component of the first.
		group := []string{rest[0]}
		for i := 0; i < len(group); i++ {
			for _, n := range rest {
				if !slices.Contains(group, n) && joined(group[i], n) {
					group = append(group, n)
				}
			}
		}
		for {
			slices.Sort(group)
			worst, least := "", len(group)
			for _, a := range group {
				edges := 0
				for _, b := range group {
					if a != b && joined(a, b) {
						edges++
					}
				}
				if edges <= least {
					worst, least = a, edges
				}
			}
			if least == len(group)-1 {
				break
			}
			group = slices.DeleteFunc(group, func(n string) bool { return n == worst })
		}
		rest = slices.DeleteFunc(rest, func(n string) bool { return slices.Contains(group, n) })
		takePart := group // what old nodes hear nobody knows
		for _, n := range s.nodes {
			if n.old && n.up && !slices.ContainsFunc(takePart, func(m string) bool {
				_, cut := s.cut[[2]string{n.name, m}]
				return cut
			}) {
				group = append(group, n.name)
			}
		}
		slices.Sort(group)
		groups = append(groups, group)
	}
	return groups
}

// calm checks promise 3, and that a network at rest is silent.
func (s *sim) calm() {
	s.loss = 0
	s.run(9 * simDead)
	for _, g := range s.groups() {
		var id ID
		for _, name := range g {
			n := s.node(name)
			if n.old {
				continue
			}
			if id == (ID{}) {
				id = n.view.ID
			}
			if n.view.ID != id || !slices.Equal(n.view.Members, g) {
				s.fatalf("%s has %v, want one of %v, and %v as the others", name, n.view, g, id)
			}
		}
	}
	before := s.messages
	s.run(10 * simDead)
	if s.messages != before {
		s.fatalf("%d messages at rest", s.messages-before)
	}
}

func newSim(t testing.TB, seed uint64) *sim {
	s := &sim{
		t: t, seed: seed, rnd: rand.New(rand.NewPCG(seed, 5)), cut: map[[2]string]time.Duration{},
		held: map[[2]string][]func(){}, made: map[ID]string{},
	}
	n := 2 + s.rnd.IntN(4)
	if s.rnd.IntN(20) == 0 {
		n = 6 + s.rnd.IntN(11)
	}
	for i := range n {
		node := &simNode{name: fmt.Sprintf("n%02d", i), old: i > 1 && s.rnd.IntN(8) == 0, gen: uint64(s.rnd.IntN(3))}
		s.nodes, s.names = append(s.nodes, node), append(s.names, node.name)
	}
	pick := func() string { return s.names[s.rnd.IntN(n)] }
	switch s.rnd.IntN(5) {
	case 0:
	case 1:
		s.rule = Rule{Kind: Weight, Weights: map[string]uint32{pick(): 3, pick(): 0}}
	case 2:
		s.rule = Rule{Kind: TieBreaker, TieBreaker: pick()}
	case 3:
		s.rule = Rule{Kind: TieBreaker, TieBreaker: "gateway"}
		s.tie = pick()
	default:
		s.rule = Rule{Kind: Majority}
	}
	s.loss = float64(s.rnd.IntN(4)) / 10
	return s
}

// seeds is how many runs there are: the environment variable
// SYSTOLE_SIM_SEEDS, or the number given.
func seeds(n int) int {
	if v, err := strconv.Atoi(os.Getenv("SYSTOLE_SIM_SEEDS")); err == nil {
		return v
	}
	if testing.Short() {
		return n / 10
	}
	return n
}

func TestSimulation(t *testing.T) {
	first, n := uint64(1), seeds(300)
	if one, err := strconv.ParseUint(os.Getenv("SYSTOLE_SIM_SEED"), 10, 64); err == nil {
		first, n = one, 1
	}
	messages, views, quorums := 0, 0, 0
	var virtual time.Duration
	for seed := first; seed < first+uint64(n); seed++ {
		s := newSim(t, seed)
		s.logs = n == 1
		for _, node := range s.nodes {
			s.after(s.upTo(3*simDead), func() { s.start(node) })
		}
		s.run(s.upTo(6 * simDead))
		for range s.rnd.IntN(25) {
			s.run(s.upTo(s.upTo(3 * simDead)))
			a, b := s.nodes[s.rnd.IntN(len(s.nodes))], s.nodes[s.rnd.IntN(len(s.nodes))]
			switch s.rnd.IntN(10) {
			case 0:
				s.crash(a)
			case 1:
				s.crash(a)
				s.start(a)
			case 2:
				if !a.up {
					s.start(a)
				}
			case 3:
				s.stall(a, s.upTo(3*simDead))
			case 4:
				s.logf("cut %s -> %s", a.name, b.name)
				s.cutOne(a.name, b.name)
			case 5:
				s.split(func(n string) bool { return n == a.name })
			case 6:
				edge := s.rnd.IntN(len(s.names))
				s.split(func(n string) bool { return n < s.names[edge] })
			case 7:
				s.logf("mend %s -> %s", a.name, b.name)
				s.healOne(a.name, b.name)
			default:
				s.heal()
			}
		}
		s.calm() // with whatever is cut
		s.heal()
		s.calm()
		for _, node := range s.nodes {
			if node.view.Quorum {
				quorums++
			}
		}
		messages, views, virtual = messages+s.messages, views+s.views, virtual+s.now
	}
	if quorums == 0 {
		t.Error("nobody ever had quorum in the end")
	}
	t.Logf("%d runs, %v of cluster life: %d views, %d messages", n, virtual.Round(time.Hour), views, messages)
}
