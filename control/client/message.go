package client

import "time"

// Message is what a program sends to the nodes of the cluster.
type Message struct {
	Type string `json:"type"`
	// Dest is the name of the node it is for; empty: all, ourselves included.
	Dest   string            `json:"dest,omitempty"`
	Fields map[string]string `json:"fields,omitempty"` // text
	Binary map[string][]byte `json:"binary,omitempty"` // base64 in JSON
}

// Sent says as what a message left. Node and Seq together are unique while the
// sender's director runs.
type Sent struct {
	Node string `json:"node"` // the director that sent it
	Seq  uint64 `json:"seq"`  // its number there
}

// Kind says what an Event tells.
type Kind string

// The kinds of events. Start, lost and end need not be asked for.
const (
	// KindStart is the first event: the subscription is in force. Node is the
	// director that tells.
	KindStart Kind = "start"
	// KindMessage is a message for all, or for this node.
	KindMessage Kind = "message"
	// KindLost: messages First to Last of Node, which should be here, will not
	// come. It is told to those who want messages, whatever their types; beats
	// have numbers, too, so that perhaps nothing is missing that matters.
	KindLost Kind = "lost"
	// KindNode: the status of a node: "init", "up", "active" or "dead". A node of
	// the old heartbeat is one, too, and a ping node: "init", "ping" or "dead".
	KindNode Kind = "node"
	// KindLink: packets of a node arrive on a medium, or do not any more.
	KindLink Kind = "link"
	// KindView: the directors have agreed on who is in the cluster, or whether
	// they have the quorum has changed.
	KindView Kind = "view"
	// KindEnd is the last event: Error says why, Missed how many were left out.
	KindEnd Kind = "end"
)

// Event is one line of GET /v1/events. Which fields are there depends on Kind.
type Event struct {
	N    uint64    `json:"n"` // 1, 2, 3 ... within a stream
	At   time.Time `json:"at"`
	Kind Kind      `json:"kind"`
	// Snapshot: this is how it is, not a change.
	Snapshot bool   `json:"snapshot,omitempty"`
	Node     string `json:"node,omitempty"`
	Self     bool   `json:"self,omitempty"` // Node is the director that tells

	// KindMessage. A text that is not UTF-8 is in Binary, and so are the
	// nested, list and compressed fields of an old node, as they came.
	Generation uint64            `json:"generation,omitempty"` // of the sender: it grows with each start
	Seq        uint64            `json:"seq,omitempty"`
	Type       string            `json:"type,omitempty"`
	Dest       string            `json:"dest,omitempty"` // empty: it was for all
	Fields     map[string]string `json:"fields,omitempty"`
	Binary     map[string][]byte `json:"binary,omitempty"`

	// KindLost.
	First uint64 `json:"first,omitempty"`
	Last  uint64 `json:"last,omitempty"`

	// KindNode and KindLink.
	Status string `json:"status,omitempty"` // of a node
	Medium string `json:"medium,omitempty"` // of a link
	State  string `json:"state,omitempty"`  // of a link: "up", "late" or "dead"
	Why    string `json:"why,omitempty"`

	// KindView.
	View *View `json:"view,omitempty"`

	// KindEnd.
	Missed uint64 `json:"missed,omitempty"`
	Error  string `json:"error,omitempty"`
}

// View is who is in the cluster, as all its members agree.
type View struct {
	Number      uint64   `json:"number"`      // grows at every node
	Coordinator string   `json:"coordinator"` // the node that made it
	Members     []string `json:"members"`     // in order of their names
	// Quorum: who holds resources may keep them. Settled: those of nodes that are
	// no members may be taken, too; no other part has the quorum any more.
	Quorum  bool `json:"quorum"`
	Settled bool `json:"settled"`
}

// Wanted says which events a program wants. The zero value wants all but the
// messages of takeover.
type Wanted struct {
	Kinds []Kind // of KindMessage, KindNode, KindLink and KindView; none: all
	// Types are the types of messages; none: all that programs send. The types
	// of takeover, such as "resource", can be heard if they are named.
	Types []string
}
