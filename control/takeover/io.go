package takeover

import (
	"errors"
	"log/slog"
	"time"

	"systole/hb/wire"
)

// Config is what a Machine has to know. It has been checked by whoever read
// the configuration: two different names, no negative duration.
type Config struct {
	// Node and Peer are the names of the two directors.
	Node, Peer string
	// AutoFailback gives the peer its groups back when it has returned from
	// the dead. SetAutoFailback changes it in a running Machine.
	AutoFailback bool
	// Legacy speaks to an old node as auto_failback legacy does (section 9,
	// last paragraph); AutoFailback should be set, too: it is what a Systole
	// director gets. SetLegacy changes both.
	Legacy bool
	// Keys name our groups to a legacy node, PeerKeys the peer's: the first
	// resource of each line of haresources. An address alone, as in
	// "192.168.145.100", also stands for every resource that begins with it,
	// as "IPaddr2::192.168.145.100/24/eth0", in what the peer says.
	Keys, PeerKeys []string
	// AtMostOne lets a director own something only while it has quorum, and
	// makes it wait after the peer's death until the peer's lease has surely
	// ended. See doc.go.
	AtMostOne bool
	// Deadtime is what we announce: how long the peer is patient with us. It
	// only matters with AtMostOne.
	Deadtime time.Duration
	// FailbackDelay is how long the peer must have been back before it gets
	// its groups: long enough for it to have checked all real servers again.
	// What it knew of them is as old as its absence. 0 means none.
	FailbackDelay time.Duration
	// AwaitFlows gives a Systole peer its groups back only when it has our flow
	// table (Flows): connections would be cut otherwise.
	AwaitFlows bool
	// Keepalive is the period of the peer's beats. The news of its death is
	// not believed for two of these after our own stall: a process that slept
	// finds its timers run out before it finds the beats that wait in its
	// socket. 0 means 1 s.
	Keepalive time.Duration
	// DrainGrace is how long packets are still forwarded after the peer has
	// announced an address that we handed over: until the last client's ARP
	// cache has noticed. 0 means 2 s.
	DrainGrace time.Duration
}

// Input is something that happened. See Machine.Step.
type Input interface{ isInput() }

type (
	// Kept is the first input, or there is none: the addresses of the class are
	// still here and the data plane still forwards for them, under an unlimited
	// lease, as a predecessor that was alone has left it. See kept.go.
	Kept struct{ Class Class }

	// Heard says that something of the peer was heard, whatever it was, before
	// its status is known. It only matters after Kept.
	Heard struct{}

	// Joined says that the membership is complete and we are "active"
	// (heartbeat-wire.md section 8).
	Joined struct{}

	// Peer says that the peer came alive or was declared dead. Alive without
	// Returned or Restarted is news only if it was not alive.
	Peer struct {
		Alive bool
		// Returned: it had been declared dead and is the same incarnation.
		Returned bool
		// Restarted: it is a new incarnation (a higher generation).
		Restarted bool
		// Joining: its status is "up": it runs, but is not active yet, so it
		// holds nothing.
		Joining bool
		// Systole: its beats say that it is a Systole director. It will answer
		// our hello, so until it has, what it says may be meant for our
		// previous incarnation.
		Systole bool
		// Ended, with a death: its data plane is known to have ended (its
		// daemon is gone and had said that the plane goes with it).
		Ended bool
		// Deadtime is what it announces: its lease is not longer. 0: as ours.
		Deadtime time.Duration
		Why      string // for reports: "no beat for 300ms"
	}

	// Quorum says whether we have quorum; we have not until it is said. It is
	// ignored without Config.AtMostOne.
	//
	// The promise that is needed: of two directors that are not in contact
	// with each other, one that loses quorum is told within its peer's dead
	// time, unless it stands still. The other one may be told at once.
	Quorum struct{ Have bool }

	// Pings says how many ping nodes and groups are alive. Whoever has none
	// configured never says it.
	Pings struct{ Alive int }

	// Message is a message delivered by hb. Own messages that come back are
	// ignored: what they cause was done when they were sent.
	Message struct {
		Msg      wire.Message
		FromSelf bool
	}

	// Repeated is a message of ours that hb has just sent again, because an old
	// peer asked for it: it takes it for newer than what we said since.
	Repeated struct{ Msg wire.Message }

	// Done answers an Acquire, a Release or a Fence.
	Done struct {
		Op  int
		Err error
	}

	// Flows says whether the peer has our flow table. It has not until it is
	// said; when it dies or restarts it has not any more, until it is said again.
	Flows struct{ There bool }

	// Standby is the operator's order to hand the class over to the peer.
	Standby struct{ Class Class }

	// Takeover is the operator's order to take the class from the peer.
	Takeover struct{ Class Class }

	// LeaseLapsed says that the lease was found run out: we were stalled, the
	// data plane has stopped by itself and the peer may have taken over.
	LeaseLapsed struct{}

	// Shutdown hands over and stops; a second one stops at once.
	Shutdown struct{}

	// Tick is due when Deadline has come.
	Tick struct{}
)

func (Kept) isInput()        {}
func (Heard) isInput()       {}
func (Joined) isInput()      {}
func (Peer) isInput()        {}
func (Message) isInput()     {}
func (Repeated) isInput()    {}
func (Done) isInput()        {}
func (Standby) isInput()     {}
func (Takeover) isInput()    {}
func (LeaseLapsed) isInput() {}
func (Shutdown) isInput()    {}
func (Tick) isInput()        {}
func (Quorum) isInput()      {}
func (Pings) isInput()       {}
func (Flows) isInput()       {}

// Output is something to do. The outputs of a Step are to be done in their
// order: a lease before the message that promises it.
type Output interface{ isOutput() }

type (
	// Send submits a message to hb.
	Send struct{ Msg wire.Message }

	// Acquire makes this director the owner: data plane Active, addresses
	// added, announced by gratuitous ARP; then Done. Classes that are still
	// draining become Active again. Operations are done in their order.
	//
	// Planned: the peer lives and has handed over, so it still knows (and for
	// DrainGrace still forwards) the connections it began.
	Acquire struct {
		Op      int
		Class   Class
		Planned bool
		Why     string
	}

	// Release ends the ownership; then Done. Drain: the addresses go, so ARP
	// is no longer answered, but packets that still arrive are forwarded (role
	// Draining) until Withdraw. Without Drain both stop at once (Standby).
	Release struct {
		Op    int
		Class Class
		Drain bool
		Why   string
	}

	// Fence ends the data plane's lease for good, because a Release failed: the
	// plane drops what comes for any virtual address, ARP included, until the
	// next Lease; then Done, with an error if no plane here can do that.
	Fence struct {
		Op  int
		Why string
	}

	// Withdraw ends the draining of the class: role Standby.
	Withdraw struct{ Class Class }

	// Announce sends gratuitous ARP for the class again: another director has
	// answered for it, too, or we were silent for a while.
	Announce struct{ Class Class }

	// Lease changes what the data plane is granted.
	Lease struct{ Mode LeaseMode }

	// Report is for the log.
	Report struct {
		Level slog.Level
		Text  string
	}

	// Refused answers an operator's order that cannot be carried out.
	Refused struct{ Err error }

	// Stopped says that nothing is owned nor forwarded any more; it is the
	// last output of a Machine.
	Stopped struct{}
)

func (Send) isOutput()     {}
func (Acquire) isOutput()  {}
func (Release) isOutput()  {}
func (Fence) isOutput()    {}
func (Withdraw) isOutput() {}
func (Announce) isOutput() {}
func (Lease) isOutput()    {}
func (Report) isOutput()   {}
func (Refused) isOutput()  {}
func (Stopped) isOutput()  {}

// LeaseMode is what the data plane is granted.
type LeaseMode uint8

const (
	// LeaseNone is the mode before anything is known of the peer; nothing is
	// held then.
	LeaseNone LeaseMode = iota
	// LeaseArmed: a peer lives. The lease is renewed with each beat and ends
	// one deadtime after the last beat *sent*; so does the first one, which
	// must not count from the moment of arming (see doc.go).
	LeaseArmed
	// LeaseUnlimited: no peer lives. Nobody would serve if we stopped.
	LeaseUnlimited
	// LeaseSuspended: the lease ran out. It is not renewed, beats go on.
	LeaseSuspended
	// LeaseFenced: ended by a Fence. It is a mode of the View only.
	LeaseFenced
)

// String is "none", "armed", "unlimited", "suspended" or "fenced".
func (l LeaseMode) String() string {
	return [...]string{"none", "armed", "unlimited", "suspended", "fenced"}[min(l, LeaseFenced)]
}

// MarshalText makes a mode a word in JSON.
func (l LeaseMode) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// Why an order was Refused, to be tested with errors.Is.
var (
	ErrNotStable     = errors.New("this director has not settled yet: wait until status says stable")
	ErrNoPeer        = errors.New("no other director is alive: start it, or repair its heartbeat media, first")
	ErrPeerNotStable = errors.New("the other director has not settled yet: wait until its status says stable")
	ErrBusy          = errors.New("a hand-over is in progress: wait until it ends")
	ErrSuspended     = errors.New("this director was stalled and is asking who owns what: wait a moment")
	ErrContested     = errors.New("both directors own the same groups: wait until one has let go")
	ErrNothing       = errors.New("there is nothing to hand over")
	ErrStopping      = errors.New("this director is shutting down")
	ErrNoQuorum      = errors.New("this director has no quorum, and cluster.partition is at-most-one: repair its way to the other director, or to the tie-breaker, first")
	ErrFenced        = errors.New("this director is fenced, because an address could not be removed: remove it by hand (ip address del); the log names it")
	ErrLegacy        = errors.New("the other director speaks auto_failback legacy, which knows no hand-over: stop heartbeat on one of them instead, or set auto_failback to on or off on both")
)

// View is the state of a Machine, for status, page and metrics. Classes are in
// this director's words, OtherHeld in the peer's, as on the wire.
type View struct {
	State       string    `json:"state"` // init, starting, received, stable, shutdown
	Held        Class     `json:"held"`  // owned, or being acquired
	Active      Class     `json:"active"`
	Draining    Class     `json:"draining"`
	Kept        Class     `json:"kept"`   // not owned, but served as a predecessor left it
	Failed      Class     `json:"failed"` // could not be acquired, tried again
	OtherHeld   Class     `json:"other_held"`
	OtherStable bool      `json:"other_stable"`
	PeerAlive   bool      `json:"peer_alive"`
	PeerSystole bool      `json:"peer_systole"`
	PeerLeft    bool      `json:"peer_left"` // it has let go of everything, to end
	Epoch       uint64    `json:"epoch"`
	Standby     string    `json:"standby"` // idle, asked, giving, promised, taking
	Lease       LeaseMode `json:"lease"`
	Why         string    `json:"why"` // of the last change of what we hold

	Legacy     bool      `json:"legacy"`      // the peer is spoken to as auto_failback legacy does
	Fenced     bool      `json:"fenced"`      // a Release failed: we answer for nothing
	AtMostOne  bool      `json:"at_most_one"` // nothing is owned without quorum
	Quorum     bool      `json:"quorum"`      // as it was last said
	Pings      int       `json:"pings"`       // ping nodes alive here; -1: none configured
	OtherPings int       `json:"other_pings"` // at the peer; -1: not known
	ClearAt    time.Time `json:"clear_at"`    // until then a dead peer's groups wait; zero: nothing waits
}

// Word is what cl_status rscstatus says: none, local, foreign, all or
// transition.
func (v View) Word() string {
	if v.State != stateStable.String() || v.Standby != phaseIdle.String() || v.Held != v.Active {
		return "transition"
	}
	return v.Held.String()
}
