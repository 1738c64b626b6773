package membership

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"systole/hb/wire"
)

// Config is what a Machine is told once. Zero durations mean the default.
type Config struct {
	Node       string
	Generation uint64 // of our heartbeat: higher at each start
	Nodes      []string
	Rule       Rule
	// Deadtime is the longest of the cluster. It is how long an answer may
	// take before it is asked for again.
	Deadtime time.Duration
	// Settle is how long a message may take at most while its sender is not
	// held for dead: a node that was cut off knows by then that it was.
	// Default: 2 x Deadtime, and 500 ms more than Deadtime at least, which is
	// twice what hb waits before it asks for a lost message.
	Settle time.Duration
	// Delay is how long changes are gathered before they are reported.
	// Default: a twentieth of Deadtime, 1 to 50 ms.
	Delay time.Duration
}

// deafAfter is for how many dead times a node may owe us a report until we hold
// it for one that does not hear us.
const deafAfter = 3

// MaxUnacked is how many messages of a node may be unacknowledged for one of ours
// to be submitted: half of what pauses all others, too (heartbeat-wire.md section
// 6.4), which must find room while packets are lost and everybody has news.
const MaxUnacked = 125

// Output is what a Machine wants done, in order.
type Output struct {
	Messages []wire.Message // to submit; one that is not is not missed for long: see Unsent
	Views    []View         // the last one is in force
}

// Machine is one node's part in the agreement; see the package comment. It is
// not safe for concurrent use.
type Machine struct {
	cfg   Config
	nodes []string // configured, sorted, ourselves included
	peers map[string]*peer
	own   report // as it is now; serial is of the last one sent
	tie   bool   // the tie-breaker that is no node is seen

	edges       [][]bool  // the graph: who hears whom both ways, by index in nodes
	whole       bool      // nobody needs to be told what others say
	wanted      []string  // who belongs together, by the graph
	members     []string  // who does, as we act on it
	graphOld    bool      // all this is to be computed again
	partAt      time.Time // when members becomes wanted, though some hear us; zero: nothing waits
	view        View      // installed
	told        View      // the last one in an Output
	installedAt time.Time
	settled     bool

	reportAt time.Time // zero: nothing to report
	retryAt  time.Time // zero: all agree
	growAt   time.Time // when a view with more members is made at last; zero: none waits
	passAt   time.Time // when others are told what they do not hear; zero: nothing waits
	out      Output
}

// peer is another configured node.
type peer struct {
	name        string
	alive       bool
	systole     bool    // it takes part, or will when its report comes
	unknown     bool    // whether it does is not known yet
	rep         *report // nil: none, or of a start that is over
	gen, serial uint64  // nothing older than this is news
	direct      uint64  // generation of the last report from itself
	// mustEcho: it counts only when it has answered a report of ours with at
	// least this serial: what we know of it may be out of date.
	mustEcho uint64
	echoed   uint64    // the highest serial of ours it has answered
	since    time.Time // when it first owed us an answer, or a report at all
	deaf     bool      // it has not answered for so long that it cannot hear us
	// passed is the last report of it that we passed on, and to whom.
	passedGen, passedSerial uint64
	passedTo                []string
}

// New returns a machine in a view of its own: nobody was heard yet.
func New(cfg Config, now time.Time) (*Machine, error) {
	cfg.Node = strings.ToLower(cfg.Node)
	switch {
	case cfg.Deadtime <= 0 || cfg.Settle < 0 || cfg.Delay < 0:
		return nil, fmt.Errorf("%w: Deadtime %v, Settle %v, Delay %v: times are positive", ErrConfig, cfg.Deadtime, cfg.Settle, cfg.Delay)
	case cfg.Generation == 0 || cfg.Generation > maxNumber:
		return nil, fmt.Errorf("%w: Generation %d: it counts the starts of this node, from 1", ErrConfig, cfg.Generation)
	}
	if cfg.Settle == 0 {
		cfg.Settle = max(2*cfg.Deadtime, cfg.Deadtime+500*time.Millisecond)
	}
	if cfg.Delay == 0 {
		cfg.Delay = min(max(cfg.Deadtime/20, time.Millisecond), 50*time.Millisecond)
	}
	m := &Machine{cfg: cfg, peers: make(map[string]*peer)}
	if err := m.setNodes(cfg.Nodes); err != nil {
		return nil, err
	}
	if err := cfg.Rule.check(m.nodes); err != nil {
		return nil, err
	}
	alone := []string{cfg.Node}
	id := ID{1, cfg.Generation, cfg.Node}
	m.own = report{about: cfg.Node, gen: cfg.Generation, alive: alone, accepted: id, members: alone, installed: id}
	m.view.ID, m.view.Members, m.installedAt = id, alone, now
	m.members, m.graphOld = alone, true
	m.reportAt = now
	m.settle(now)
	return m, nil
}

// Nodes tells of a new list of configured nodes, ourselves included. The error
// wraps ErrConfig, and then nothing has changed.
func (m *Machine) Nodes(now time.Time, names []string) error {
	if err := m.setNodes(names); err != nil {
		return err
	}
	m.graphOld = true
	m.settle(now)
	return nil
}

func (m *Machine) setNodes(names []string) error {
	nodes := make([]string, 0, len(names))
	for _, n := range names {
		n = strings.ToLower(n)
		if !goodName(n) {
			return fmt.Errorf("%w: Nodes: %q is not a node name", ErrConfig, n)
		}
		nodes = append(nodes, n)
	}
	slices.Sort(nodes)
	if len(nodes) > maxNodes || len(slices.Compact(slices.Clone(nodes))) < len(nodes) || !has(nodes, m.cfg.Node) {
		return fmt.Errorf("%w: Nodes: want at most %d, each once, and %q among them: have %s", ErrConfig, maxNodes, m.cfg.Node, strings.Join(nodes, " "))
	}
	m.nodes = nodes
	for _, n := range nodes {
		if n != m.cfg.Node && m.peers[n] == nil {
			m.peers[n] = &peer{name: n}
		}
	}
	for n := range m.peers {
		if !has(nodes, n) {
			delete(m.peers, n)
		}
	}
	return nil
}

// Seen is what hb saw of another node.
type Seen struct {
	Alive     bool // heard, and not dead
	Restarted bool // since we last heard it (hb.NodeChanged)
	Systole   bool // its status says that it is no old node
	Unknown   bool // its status has not come yet: it may be either
}

// Node tells what hb saw of another node, whenever that changes.
func (m *Machine) Node(now time.Time, name string, seen Seen) {
	p := m.peers[name]
	if p == nil {
		return
	}
	if seen.Restarted {
		// What it said is void, and what is still under way from before, too.
		// Only another node can have told us of the new start already.
		if p.gen <= p.direct {
			p.rep, p.serial = nil, math.MaxUint64
		}
		m.doubt(now, p) // it has forgotten us
		m.graphOld = true
	}
	if seen.Alive != p.alive || seen.Systole != p.systole || seen.Unknown != p.unknown {
		p.alive, p.systole, p.unknown, p.deaf = seen.Alive, seen.Systole, seen.Unknown, false
		m.graphOld = true
		if p.alive && p.systole {
			m.doubt(now, p) // what we know of it is old, or was told by others
		}
	}
	m.settle(now)
}

// Receive takes a message of another node. A bad one changes nothing; the
// error wraps ErrMessage.
func (m *Machine) Receive(now time.Time, from string, msg wire.Message) error {
	r, err := parse(from, msg)
	if err != nil {
		return fmt.Errorf("from %s: %w", from, err)
	}
	p, sender := m.peers[r.about], m.peers[from]
	if p == nil || sender == nil {
		return nil // ourselves, or a node that was removed or is not added yet
	}
	for _, e := range r.echo {
		// A higher serial is one of our last start.
		if e.node == m.cfg.Node && r.gen >= p.gen && e.serial <= m.own.serial {
			p.echoed = max(p.echoed, e.serial)
		}
	}
	if r.ask {
		m.own.echo = slices.DeleteFunc(m.own.echo, func(e echo) bool { return e.node == from })
		m.own.echo = append(m.own.echo, echo{from, r.serial})
		m.passAgain()
		m.touch(now)
	}
	if p == sender {
		p.direct = max(p.direct, r.gen)
	}
	if r.newer(p.gen, p.serial) {
		if p.rep == nil || !slices.Equal(p.rep.alive, r.alive) {
			m.graphOld = true
		}
		if r.hears(m.cfg.Node) && (p.rep == nil || !p.rep.hears(m.cfg.Node)) {
			m.nowHeard(now, p)
		}
		p.rep, p.gen, p.serial = r, r.gen, r.serial
		if p.deaf {
			p.deaf, m.graphOld = false, true
			m.doubt(now, p)
		}
	}
	m.settle(now)
	return nil
}

// Lost tells that a message of a node will not arrive (hb.Lost): what we know
// of it may be out of date.
func (m *Machine) Lost(now time.Time, node string) {
	if p := m.peers[node]; p != nil {
		m.doubt(now, p)
		m.settle(now)
	}
}

// Stalled tells that time has passed in which we heard nobody (hb.Stalled). We
// do not know whether we are in anybody's view any more.
func (m *Machine) Stalled(now time.Time) {
	for _, p := range m.peers {
		m.doubt(now, p)
	}
	m.settle(now)
}

// Unsent tells that a message could not be submitted, or was not because of
// MaxUnacked. It would have gone to all, so nobody counts on what only some know;
// it is made again while not all agree; and who was not asked owes no answer.
func (m *Machine) Unsent(now time.Time) {
	for _, p := range m.peers {
		p.since = now
	}
}

// doubt makes a node count only when it has answered once more.
func (m *Machine) doubt(now time.Time, p *peer) {
	p.mustEcho, p.since = m.own.serial+1, now
	m.own.ask = true
	m.touch(now)
}

// nowHeard: the node says that it hears us, for the first time or again. Only
// now does it owe us the answers that we lack. After a cut in one direction that
// is long after we asked, and it cannot have heard that: it would be held for
// deaf at once, and as our report then says that we do not hear it, it would see
// nothing to answer.
func (m *Machine) nowHeard(now time.Time, p *peer) {
	if now.Sub(p.since) >= m.cfg.Deadtime {
		m.doubt(now, p)
	} else {
		p.since = now
	}
}

// TieBreaker tells whether the tie-breaker of the rule is seen, if it is no
// node.
func (m *Machine) TieBreaker(now time.Time, seen bool) {
	m.tie = seen
	m.settle(now)
}

// Tick does what is due. Called half a dead time late, it may be the first after
// a stall that is not told yet: time in which we heard nobody settles nothing.
func (m *Machine) Tick(now time.Time) {
	if at := m.Deadline(); !m.settled && !at.IsZero() && now.Sub(at) >= m.cfg.Deadtime/2 {
		m.installedAt = now
	}
	m.settle(now)
}

// Deadline is when Tick is to be called next; zero if there is nothing to do.
func (m *Machine) Deadline() time.Time {
	var at time.Time
	earlier := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	earlier(m.reportAt)
	earlier(m.retryAt)
	earlier(m.partAt)
	earlier(m.growAt)
	earlier(m.passAt)
	if m.view.Quorum && !m.view.Settled {
		earlier(m.installedAt.Add(m.cfg.Settle))
	}
	return at
}

// Drain returns what came out since the last Drain; it is the caller's.
func (m *Machine) Drain() Output {
	out := m.out
	m.out = Output{}
	return out
}

// View is the view in force. Its lists are not to be changed.
func (m *Machine) View() View { return m.view }

// old: it takes no part.
func (p *peer) old() bool { return !p.systole && !p.unknown }

// waiting: it takes part and owes us an answer, or its first report.
func (m *Machine) waiting(p *peer) bool {
	return p.alive && p.systole && !p.deaf && (p.rep == nil || p.echoed < p.mustEcho && p.rep.hears(m.cfg.Node))
}

// touch makes a report due soon.
func (m *Machine) touch(now time.Time) {
	if m.reportAt.IsZero() {
		m.reportAt = now.Add(m.cfg.Delay)
	}
}

// passAgain forgets what was passed on.
func (m *Machine) passAgain() {
	for _, p := range m.peers {
		p.passedTo = nil
	}
}
