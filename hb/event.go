package hb

import (
	"fmt"
	"time"

	"systole/hb/wire"
)

// Status is the state of a node (section 7).
type Status string

const (
	Init   Status = "init"   // configured, not heard yet; or just (re)started
	Up     Status = "up"     // runs, its membership is not complete yet
	Active Status = "active" // membership complete: resources may run
	Dead   Status = "dead"   // silent for its dead time
)

// Output is what a Core wants done. The lists are in the order in which things
// happened.
type Output struct {
	Packets []Packet
	Events  []Event
	// Asks are nodes whose machines shall be asked whether they run, by an ICMP
	// echo request on each of their addresses. The answers are Notices.
	Asks []string
}

// Packet is one datagram.
type Packet struct {
	Data []byte
	// Medium is the only one to send it on; empty for all but those of ping
	// nodes.
	Medium string
	// Beat: the packet carries our status, so a node that gets it holds us for
	// alive for one more dead time. Who must not be believed alive (a director
	// whose lease cannot be renewed) does not send it. Set for periodic,
	// immediate and retransmitted status messages.
	Beat bool
	// Again: it was sent before, and a node that had it then does not take it
	// for a sign of life now. So whatever lasts as long as the patience of the
	// others (a director's lease) must not be renewed by it.
	Again bool
	// Answer: the packet says that we live, to a node that suspects us. It is
	// no beat: it renews no lease and nobody's patience. It goes out only if
	// the last beat did.
	Answer bool
}

// Event is something the upper layers should know: NodeChanged, LinkChanged,
// Suspected, Cleared, NodesChanged, Removed, Delivered, Lost, Repeated, Ordered,
// Gap, Joined, Stalled or Report.
type Event interface {
	isEvent()
	// String is the event in a few words, without its time.
	String() string
}

// NodeChanged: another node's status changed.
type NodeChanged struct {
	Node     string
	From, To Status
	Ping     bool          // it is a ping node
	Systole  bool          // To is not Dead nor Init: its status says that it is one
	Why      string        // for people
	Silence  time.Duration // To is Dead: how long it was silent, as far as we listened
	Early    bool          // To is Dead: before the dead time; Why has the evidence
	Ended    bool          // Early: its daemon has ended, and its data plane with it
	// Returned: it was dead and is back with the same generation. The network
	// was parted, or the node (or we) stood still: both sides may own the same
	// resources now (section 11; what to do is up to package takeover). A node
	// that was declared dead without ever being heard is not "returned" when
	// it is first heard: From is Dead, too.
	Returned bool
	// Restarted: it has a higher generation: whatever it held is released,
	// and it has forgotten what it knew. From and To may then be equal.
	Restarted bool
}

// LinkChanged: packets of a node arrive on a medium again, or do not any more.
// Node may be ourselves, on media where one hears oneself.
type LinkChanged struct {
	Node, Medium string
	State        LinkState
	Up           bool          // State is LinkUp
	Silence      time.Duration // if not Up
	Why          string        // for people; empty for silence as long as the dead time
}

// Suspected: a Systole node gave no sign of life in time; it is being asked.
// What follows is Cleared, or its death.
type Suspected struct {
	Node, Why string
}

// Cleared: a suspected node lives.
type Cleared struct {
	Node  string
	After time.Duration // since Suspected
	By    string        // what it sent
}

// Delivered is a message for us or for all, our own included, so that all
// nodes' state machines are fed alike; and an ip-request-resp that a node sends
// to itself, as the real one does when it takes its groups without a question.
// Messages of the protocol itself (status, reqnodes, repnodes, NS_*) are not
// delivered.
type Delivered struct {
	Node     string // who sent it
	Message  wire.Message
	FromSelf bool
}

// Lost: messages First to Last of a node will never arrive: it does not have
// them any more, it restarted, or there are too many of them (section 6.2).
type Lost struct {
	Node        string
	First, Last uint64
}

// Repeated: a message of ours was sent again, because a node asked for it that is
// none of Systole's. Whatever we said since, this is what it hears last.
type Repeated struct {
	Node    string
	Message wire.Message
}

// Ordered is what Delivered is, but in the order in which its sender sent it,
// without exception; so it may come later: a message waits for those before it
// until they arrive or are given up, or their sender is declared dead. With
// Config.Ordered only.
//
// The order is that of one sender; nothing is said about those of two. It
// begins with the first message that is heard of a node.
type Ordered struct {
	Node     string
	Message  wire.Message
	FromSelf bool
}

// Gap stands among the Ordered of a node where its messages First to Last
// should be, which will not come there. Beats have numbers, too, and messages
// for others: it need not be one that matters here.
type Gap struct {
	Node        string
	First, Last uint64
}

// Joined: the membership is complete; we are active (section 8).
type Joined struct{}

// Stalled: the core was not called in time, by For; the process or the
// machine stood still. That time is not counted as silence of other nodes.
// This is where the original restarts itself ("No local heartbeat").
type Stalled struct {
	For time.Duration
	// Dead: our beats were missing for longer than the dead time we announced:
	// the others have declared us dead and may have taken over.
	Dead bool
}

// Level is the weight of a Report; the values are those of log/slog.
type Level int

const (
	Info  Level = 0
	Warn  Level = 4
	Error Level = 8
)

// String is the level in capitals, as in logs.
func (l Level) String() string {
	switch l {
	case Info:
		return "INFO"
	case Warn:
		return "WARN"
	case Error:
		return "ERROR"
	}
	return fmt.Sprintf("Level(%d)", int(l))
}

// Report is a line for the log. Reports that others can cause with packets
// come at most once in 10 s of each kind and node, and tell how many were left
// out.
type Report struct {
	Level Level
	Text  string
}

func (NodeChanged) isEvent() {}
func (LinkChanged) isEvent() {}
func (Suspected) isEvent()   {}
func (Cleared) isEvent()     {}
func (Delivered) isEvent()   {}
func (Lost) isEvent()        {}
func (Repeated) isEvent()    {}
func (Ordered) isEvent()     {}
func (Gap) isEvent()         {}
func (Joined) isEvent()      {}
func (Stalled) isEvent()     {}
func (Report) isEvent()      {}

func (e NodeChanged) String() string {
	s := fmt.Sprintf("node %s %s -> %s", e.Node, e.From, e.To)
	if e.Returned {
		s += ", returned"
	}
	if e.Restarted {
		s += ", restarted"
	}
	return s + ": " + e.Why
}

func (e LinkChanged) String() string {
	if e.Up {
		return fmt.Sprintf("link %s:%s up", e.Node, e.Medium)
	}
	s := fmt.Sprintf("link %s:%s %v, silent for %v", e.Node, e.Medium, e.State, e.Silence)
	if e.Why != "" {
		s += ": " + e.Why
	}
	return s
}

func (e Suspected) String() string { return fmt.Sprintf("suspecting %s: %s", e.Node, e.Why) }

func (e Cleared) String() string {
	return fmt.Sprintf("%s lives: %s after %v", e.Node, e.By, e.After)
}

func (e Delivered) String() string {
	if e.FromSelf {
		return "delivered " + e.Message.Type() + " from ourselves"
	}
	return "delivered " + e.Message.Type() + " from " + e.Node
}

func (e Lost) String() string {
	if e.First == e.Last {
		return fmt.Sprintf("message %d of %s is irretrievably lost", e.First, e.Node)
	}
	return fmt.Sprintf("messages %d to %d of %s are irretrievably lost", e.First, e.Last, e.Node)
}

func (e Repeated) String() string { return "sent " + e.Message.Type() + " again to " + e.Node }

func (e Ordered) String() string {
	if e.FromSelf {
		return "in order " + e.Message.Type() + " from ourselves"
	}
	return "in order " + e.Message.Type() + " from " + e.Node
}

func (e Gap) String() string {
	if e.First == e.Last {
		return fmt.Sprintf("in order nothing for message %d of %s", e.First, e.Node)
	}
	return fmt.Sprintf("in order nothing for messages %d to %d of %s", e.First, e.Last, e.Node)
}

func (Joined) String() string { return "membership is complete, we are active" }

func (e Stalled) String() string {
	s := fmt.Sprintf("stood still for %v", e.For)
	if e.Dead {
		s += ": the others have declared us dead"
	}
	return s
}

func (e Report) String() string { return e.Level.String() + " " + e.Text }
