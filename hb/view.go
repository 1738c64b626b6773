package hb

import (
	"slices"
	"time"
)

// View is the state of the cluster as this node sees it, for people and
// metrics. It shares no memory with the core.
type View struct {
	At         time.Time // when it was taken
	Node       string    // ourselves
	Status     Status
	Generation uint64
	Deadtime   time.Duration // as we announce it now
	Seq        uint64        // our newest message
	Unacked    uint64        // our messages that a live peer has not acknowledged
	Peers      []PeerView    // in configured order, those added later at the end
	Links      []LinkView    // how we hear ourselves, on media where that is so
	Pings      []PingView
	Nodes      []string // all, ourselves included
	Deleted    []string // removed, and so not to join by themselves
	Counters   Counters
}

// PeerView is another node.
type PeerView struct {
	Name       string
	Status     Status
	Heard      bool // a packet came since our start
	Generation uint64
	UUID       [16]byte
	Deadtime   time.Duration // as it announces it
	Age        time.Duration // of its last status; negative if none came yet
	LateBeats  uint64        // intervals above our warntime
	Missing    int           // messages being asked for
	Lost       uint64        // messages given up
	Acked      uint64        // our newest message it has acknowledged
	Key        string        // what it signs with: "2 sha256"; "" if not heard
	Links      []LinkView

	Systole   bool          // its newest status says so
	Keepalive time.Duration // as it announces it; 0 for an old node
	Ends      bool          // it says that its data plane ends with its process
	Suspected bool          // it is being asked whether it lives
	Warm      int           // calm probes that are due in the next keepalives, a link having come up
	Look      time.Duration // how long it would be asked until its silence is a death; 0: only the dead time makes it one
}

// LinkView is a node on a medium.
type LinkView struct {
	Medium   string
	Up       bool // State is LinkUp
	State    LinkState
	Age      time.Duration // of the last packet; negative if none came yet
	Loss     float64       // share of the node's last 128 numbered packets that did not come on it
	RTT      time.Duration // smoothed round trip of probes; 0 if not known
	Received uint64        // numbered packets heard on it, each once
	Missed   uint64        // numbered packets that were heard elsewhere, or not at all
}

// Counters count since the start.
type Counters struct {
	Received      uint64 // packets
	Bad           uint64 // of these refused
	Stale         uint64 // replayed, or sent before the sender knew of our start; with sha256 only
	Duplicates    uint64 // of these known already, as usual with several media
	Requests      uint64 // retransmissions we asked for
	Retransmitted uint64 // packets sent again
	Naks          uint64 // requests we had to refuse
	Suspicions    uint64 // of all nodes together
	Cleared       uint64 // of these
	EarlyDeaths   uint64 // of these
}

// Snapshot returns the view at time now.
func (c *Core) Snapshot(now time.Time) (v View) {
	c.SnapshotInto(now, &v)
	return v
}

// SnapshotInto is Snapshot in the memory of a view that is not needed any more.
func (c *Core) SnapshotInto(now time.Time, into *View) {
	v := View{
		At:         now,
		Node:       c.cfg.Node,
		Status:     c.status,
		Generation: c.cfg.Generation,
		Deadtime:   c.ownDeadtime(),
		Seq:        c.history.newest,
		Unacked:    c.unacked(),
		Peers:      into.Peers[:0],
		Links:      c.linkViews(now, c.links, 0, into.Links),
		Pings:      c.pingViews(now, into.Pings),
		Nodes:      append(into.Nodes[:0], c.cfg.Nodes...),
		Deleted:    append(into.Deleted[:0], c.deleted...),
		Counters:   c.counters,
	}
	for i, p := range c.peers {
		var links []LinkView
		if i < len(into.Peers) {
			links = into.Peers[i].Links
		}
		v.Peers = append(v.Peers, PeerView{
			Name:       p.name,
			Status:     p.status,
			Heard:      p.heard,
			Generation: p.gen,
			UUID:       p.uuid,
			Deadtime:   p.deadtime,
			Age:        age(now, p.statusAt),
			LateBeats:  p.lateBeats,
			Missing:    len(p.win.missing),
			Lost:       p.lostNumber,
			Acked:      p.acked,
			Key:        p.guard.keyText,
			Links:      c.linkViews(now, p.links, p.newest, links),
			Systole:    p.systole,
			Keepalive:  p.announcedKeepalive(),
			Ends:       p.ends,
			Suspected:  p.suspicion.on,
			Warm:       p.warm,
			Look:       c.lookTime(p),
		})
	}
	*into = v
}

// Clone returns a view that shares no memory with v.
func (v View) Clone() View {
	v.Peers, v.Links = slices.Clone(v.Peers), slices.Clone(v.Links)
	for i := range v.Peers {
		v.Peers[i].Links = slices.Clone(v.Peers[i].Links)
	}
	v.Pings, v.Nodes, v.Deleted = slices.Clone(v.Pings), slices.Clone(v.Nodes), slices.Clone(v.Deleted)
	return v
}

// Peer returns the view of the node with that name.
func (v View) Peer(name string) (PeerView, bool) {
	i := slices.IndexFunc(v.Peers, func(p PeerView) bool { return p.Name == name })
	if i < 0 {
		return PeerView{}, false
	}
	return v.Peers[i], true
}

func (p *peer) announcedKeepalive() time.Duration {
	if p.systole {
		return p.keepalive
	}
	return 0
}

func (c *Core) linkViews(now time.Time, links []link, newest uint64, into []LinkView) []LinkView {
	views := slices.Grow(into[:0], len(links))[:len(links)]
	for i := range links {
		l := &links[i]
		v := LinkView{
			Medium: c.cfg.Media[i], Up: l.state == LinkUp, State: l.state,
			Age: age(now, l.since), RTT: l.trip.smooth,
		}
		if lost, of := l.numbers.recent(newest, newest); of > 0 {
			v.Loss = float64(lost) / float64(of)
		}
		v.Received, v.Missed = l.numbers.totals(newest)
		views[i] = v
	}
	return views
}

func age(now, then time.Time) time.Duration {
	if then.IsZero() {
		return -1
	}
	return max(0, now.Sub(then))
}
