package takeover

import (
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"systole/hb/wire"
)

// The times of the protocol.
const (
	// startWait is how long a starting node waits for an old peer to become
	// stable before it takes its local groups (section 9; not configurable).
	startWait = 10 * time.Second
	// askedWait is how long the giving node waits for "other" (section 10).
	askedWait = 10 * time.Second
	// oldWait is how long both wait for the rest of a hand-over from an old
	// node, whose scripts may take their time (section 10).
	oldWait = time.Hour
	// givingWait is the same between Systole directors, where it is a matter
	// of milliseconds: after it the giving one takes its groups back.
	givingWait = 5 * time.Second
	// failbackRetry is the pause between attempts to give groups back.
	failbackRetry = time.Second
	// claimRetry is the pause between a suspended director's questions; an old
	// one takes up to half a second to answer anything (section 15).
	claimRetry    = 200 * time.Millisecond
	claimRetryOld = 2 * time.Second
	// orphanWaitOld is how long an old node and we must have been settled before
	// groups that neither holds are taken: its words come late, too.
	orphanWaitOld = 2 * time.Second
	// yieldWaitOld is how long an old node may take to restart itself after a
	// partition and so let go: it begins after two seconds (section 11).
	yieldWaitOld = 5 * time.Second
	// acquireRetry is the pause after a failed Acquire, releaseRetry after a
	// failed Release; releaseAgain after the first of these. Groups that could
	// not be acquired are offered to the peer at most once each offerPause, or
	// two broken nodes would play tennis.
	acquireRetry = 5 * time.Second
	releaseRetry = time.Second
	releaseAgain = 100 * time.Millisecond
	offerPause   = 30 * time.Second
	// stopWait bounds the hand-over of a Shutdown.
	stopWait = 5 * time.Second
)

type state uint8

const (
	stateInit     state = iota
	stateStarting       // "starting" sent
	stateReceived       // a resource report was seen
	stateStable
	stateShutdown // "shutdown" said, nothing is taken any more
)

func (s state) String() string {
	return [...]string{"init", "starting", "received", "stable", "shutdown"}[s]
}

// phase is where we are in a hand-over (section 10).
type phase uint8

const (
	phaseIdle     phase = iota
	phaseAsked          // giving: "me" sent
	phaseGiving         // giving: "other" seen, released or about to be
	phasePromised       // taking: "other" sent
	phaseTaking         // taking: "done" seen, being acquired
)

func (p phase) String() string {
	return [...]string{"idle", "asked", "giving", "promised", "taking"}[p]
}

type timer uint8

const (
	timerStart    timer = iota // waiting for the peer to become stable
	timerReport                // the peer owes us a report
	timerStandby               // the hand-over takes too long
	timerFailback              // try to give back again
	timerWithdraw              // draining is over
	timerClaim                 // ask again
	timerBelieve               // believe the peer's death now
	timerAcquire               // try failed acquisitions again
	timerRelease               // try failed releases again
	timerOrphan                // groups have had no owner for a while
	timerYield                 // an old peer does not let go of what we hold, too
	timerStop                  // a Shutdown waited long enough
	timerSeize                 // a dead peer's lease has surely ended
	timerLegacy                // an old peer does not report, or does not answer
	timerGiveUp                // the peer has seen more ping nodes for a while
	timers
)

// Machine is one director's view of who owns what. It is not safe for
// concurrent use.
type Machine struct {
	cfg Config
	now time.Time // of the current Step
	out []Output

	state    state
	stopping bool // a Shutdown is under way
	said     bool // "shutdone" is sent
	stopped  bool
	why      string
	due      [timers]time.Time
	lease    LeaseMode

	kept      Class // see Kept
	held      Class // owned or being acquired: what we announce
	active    Class // acquired
	releasing Class // a Release is under way
	draining  Class
	failed    Class
	epochs    epochs // when we last acquired what
	seen      uint64 // highest epoch seen anywhere

	ops     map[int]op
	lastOp  int
	lastFor [2]int // last operation that touches Local, Foreign
	offered time.Time

	stuck    []op   // releases to try again
	stuckWhy string // the last one's error
	fencing  int    // number of the Fence under way
	fenced   bool   // the lease has ended for good
	fenceWhy string // why there is no fence

	quorum       bool
	peerDeadtime time.Duration
	peerEnded    bool      // its data plane has surely ended
	clearAt      time.Time // when the lease of a dead peer has surely ended
	seizeWhy     string

	peerJoining bool     // it is not active yet: it holds nothing
	peerReports bool     // it speaks of resources, which a legacy node does not
	asked       []string // legacy: keys of our groups that the peer has to let go
	owed        []string // legacy: keys of its groups, to be answered
	taken       bool     // legacy: it takes its groups, and did not ask
	grumbled    bool     // about the peer's auto_failback
	quietUntil  time.Time

	pings, otherPings int // ping nodes alive; -1: not known
	signedOn          bool
	gaveUp            time.Time     // when we last gave up
	took              time.Time     // when we last took from a peer that gave up
	damp              time.Duration // how long it must be well before it gets its groups back
	peerWorse         bool          // it sees fewer ping nodes than we

	peerAlive, peerEver bool
	peerSystole         bool
	peerGreets          bool  // its beats say that it is a Systole director: it will answer our hello
	peerReported        bool  // since we joined, in its present incarnation
	gone                bool  // it said shutdone
	owedReport          bool  // "starting" came before the peer was alive
	lastReport          order // newest that says what the peer holds
	lastSays, lastAsk   order // newest systole, ask_resources
	lastRefuse          order // newest systole info=refuse
	otherHeld           Class // in our words
	otherStable         bool
	otherEpochs         epochs // in our words
	otherSuspended      bool

	phase    phase
	class    Class // being handed over, in our words
	given    Class // what of it we owned
	handed   bool  // our "done" is sent
	agreed   order // giving: the "other" that answered us
	failback bool  // the hand-over is an auto failback

	needsFailback bool
	flowsThere    bool  // the peer has our flow table
	flowsAwaited  bool  // it was said that a failback waits for that
	fresh         bool  // the peer restarted; what it held is undecided
	contested     Class // both own it and we stay
	audited       string

	claim      uint64    // number of the last question
	adoptClaim uint64    // of the one whether groups that nobody holds are the peer's; 0: none
	firstHello uint64    // number of our first hello to this incarnation of the peer
	greeted    bool      // it was answered
	lastClaim  uint64    // of this suspension
	claimedAt  time.Time // when it was asked
	resuming   bool      // answered, but still releasing
	believeAt  time.Time // from when on the peer's death is believed
	lives      bool      // what PeerLives says
}

// New returns a Machine that owns nothing and waits for Joined.
func New(cfg Config) *Machine {
	if cfg.Keepalive == 0 {
		cfg.Keepalive = time.Second
	}
	if cfg.DrainGrace == 0 {
		cfg.DrainGrace = 2 * time.Second
	}
	return &Machine{cfg: cfg, ops: map[int]op{}, why: "started", pings: -1, otherPings: -1}
}

// SetAutoFailback changes the choice from the next Step on.
func (m *Machine) SetAutoFailback(on bool) { m.cfg.AutoFailback = on }

// Step takes an input at its time, does what else is due by then, and returns
// what to do, in order. The times must not go backwards. After Stopped it
// returns nothing.
func (m *Machine) Step(now time.Time, in Input) []Output {
	if m.stopped {
		return nil
	}
	if at := m.Deadline(); m.lease == LeaseSuspended && !at.IsZero() && now.Sub(at) > m.cfg.Keepalive {
		// Nobody called us in time, so what is said to us next may be as old;
		// without a lease there is time to hear the rest.
		m.believeAt = now.Add(2 * m.cfg.Keepalive)
	}
	m.now, m.out = now, nil
	switch in := in.(type) {
	case Kept:
		m.keep(in.Class)
	case Heard:
		m.giveBack()
	case Joined:
		m.joined()
	case Peer:
		m.peer(in)
	case Message:
		if !in.FromSelf {
			m.message(in.Msg)
		}
	case Repeated:
		m.repeated(in.Msg)
	case Done:
		m.done(in)
	case Standby:
		m.orderStandby(in.Class)
	case Takeover:
		m.orderTakeover(in.Class)
	case LeaseLapsed:
		m.lapsed()
	case Shutdown:
		m.shutdown()
	case Quorum:
		m.quorumChanged(in)
	case Pings:
		m.pingsChanged(in)
	case Flows:
		m.flowsChanged(in)
	case Tick:
	}
	m.fire()
	m.weigh()
	m.tryFailback()
	m.audit()
	return m.out
}

// PeerLives says, before a Step, what the heartbeat holds of the peer at this
// moment. A death that waited to be stepped may be as old as a stall of ours, of
// which no lease tells; if the peer lives again nothing is taken for it.
func (m *Machine) PeerLives(lives bool) { m.lives = lives }

// Deadline is when Step is next needed without other input; zero if never.
func (m *Machine) Deadline() time.Time {
	var first time.Time
	if m.stopped {
		return first
	}
	for _, t := range m.due {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}

// View is the present state.
func (m *Machine) View() View {
	return View{
		State: m.state.String(), Held: m.held, Active: m.active, Draining: m.draining, Kept: m.kept, Failed: m.failed,
		OtherHeld: m.otherHeld.Inverse(), OtherStable: m.otherStable,
		PeerAlive: m.peerAlive, PeerSystole: m.peerSystole, PeerLeft: m.gone,
		Epoch: m.epochs.latest(), Standby: m.phase.String(), Lease: m.lease, Why: m.why,
		Legacy: m.legacy(), Fenced: m.fenced, AtMostOne: m.cfg.AtMostOne, Quorum: m.quorum,
		Pings: m.pings, OtherPings: m.otherPings, ClearAt: m.due[timerSeize],
	}
}

func (m *Machine) set(t timer, after time.Duration) { m.due[t] = m.now.Add(after) }
func (m *Machine) clear(t timer)                    { m.due[t] = time.Time{} }
func (m *Machine) running(t timer) bool             { return !m.due[t].IsZero() }

// fire runs every timer that is due, in a fixed order. What a timer sets anew
// lies in the future, so one pass is enough.
func (m *Machine) fire() {
	for t := range timers {
		if m.stopped || !m.running(t) || m.due[t].After(m.now) {
			continue
		}
		m.clear(t)
		switch t {
		case timerStart:
			m.startOver()
		case timerReport:
			m.reportOverdue()
		case timerStandby:
			m.standbyOverdue()
		case timerFailback: // tryFailback looks at it
		case timerWithdraw:
			m.withdraw()
		case timerClaim:
			m.ask()
		case timerBelieve:
			m.believe()
		case timerAcquire:
			m.retryAcquire()
		case timerRelease:
			m.retryRelease()
		case timerOrphan:
			m.adopt()
		case timerYield:
			m.yield()
		case timerStop:
			m.goodbye()
		case timerSeize:
			if !m.peerAlive || m.gone {
				m.seize(m.seizeWhy)
			}
		case timerLegacy:
			m.notIntroduced()
		case timerGiveUp:
			m.giveUp()
		}
	}
}

func (m *Machine) emit(o Output) { m.out = append(m.out, o) }

func (m *Machine) send(msg wire.Message) { m.emit(Send{msg}) }

func (m *Machine) info(format string, args ...any) {
	m.emit(Report{slog.LevelInfo, fmt.Sprintf(format, args...)})
}

func (m *Machine) warn(format string, args ...any) {
	m.emit(Report{slog.LevelWarn, fmt.Sprintf(format, args...)})
}

func (m *Machine) error(format string, args ...any) {
	m.emit(Report{slog.LevelError, fmt.Sprintf(format, args...)})
}

// stable says whether our reports call us stable.
func (m *Machine) stable() bool {
	return m.state == stateStable && !m.fresh && !m.stopping && m.phase != phaseGiving
}

// settled: both nodes are stable and nothing is under way.
func (m *Machine) settled() bool {
	return m.state == stateStable && m.peerAlive && !m.gone && m.otherStable && !m.fresh && !m.stopping &&
		m.phase == phaseIdle && len(m.ops) == 0 && m.lease != LeaseSuspended && !m.otherSuspended && !m.legacy()
}

// unowned are the classes that nobody holds though both nodes are settled.
func (m *Machine) unowned() Class {
	if !m.settled() || !m.mayOwn() {
		return None
	}
	return All &^ (m.held | m.otherHeld | m.failed)
}

// audit reports contradictions, each once, when both nodes are settled.
func (m *Machine) audit() {
	none, both, text := m.unowned(), None, ""
	if m.settled() {
		both = m.held & m.otherHeld
		if m.peerSystole {
			both = None // being resolved, see contest
		}
		switch {
		case both&Local != 0:
			text = "Both machines own our resources!"
		case both != 0:
			text = "Both machines own foreign resources!"
		case none&Local != 0:
			text = "No one owns our local resources!"
		case none != 0:
			text = "No one owns foreign resources!"
		}
	}
	if text != m.audited && text != "" {
		m.error("%s we hold %s, %s holds %s (its words)", text, m.held, m.cfg.Peer, m.otherHeld.Inverse())
	}
	m.audited = text
	if both == None {
		m.clear(timerYield)
	} else if !m.running(timerYield) {
		m.set(timerYield, yieldWaitOld)
	}
	// Several troubles at once can leave groups that each node thinks the
	// other one's. Between Systole directors the preferred one takes them; if
	// it was wrong, the rule for two owners applies.
	//
	// An old node takes nothing by itself, whoever is preferred: if we crash
	// and are back within the dead time, what we held of its groups would stay
	// without an owner (section 11). We take what it says it does not hold.
	wait := 2 * m.cfg.Keepalive
	if !m.peerSystole {
		wait = max(wait, orphanWaitOld)
	}
	switch {
	case none&m.adoptable() == None:
		m.clear(timerOrphan)
	case !m.running(timerOrphan):
		m.set(timerOrphan, wait)
	}
}

// yield lets go of what an old peer has had all the time: it never saw us dead,
// or found out too late to restart itself, and gives way to no word of ours.
func (m *Machine) yield() {
	if both := m.held & m.otherHeld; m.settled() && !m.peerSystole && both != None {
		m.lose(both, m.cfg.Peer+" does not let go")
	}
}

// adoptable are the classes that we take when nobody holds them.
func (m *Machine) adoptable() Class {
	if m.peerSystole {
		return Local
	}
	return All
}

// adopt takes groups that nobody holds. Where there is one owner at most the peer
// is asked first: what it said last may be from before a cut that is just over,
// and to be wrong for a moment is to be wrong. Until it answers audit asks again.
func (m *Machine) adopt() {
	c := m.unowned() & m.adoptable()
	switch {
	case c == None:
	case m.cfg.AtMostOne && m.peerSystole:
		m.claim++
		m.adoptClaim = m.claim
		m.systole(infoClaim, "n", strconv.FormatUint(m.claim, 16))
	default:
		m.acquire(c, forRetry, "no one owned them")
	}
}

// adoptAnswered: the peer has told what it holds since we asked.
func (m *Machine) adoptAnswered() {
	m.adoptClaim = 0
	if c := m.unowned() & m.adoptable(); c != None {
		m.acquire(c, forRetry, "no one owned them")
	}
}
