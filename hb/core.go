package hb

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"systole/hb/wire"
)

// The reasons why Submit refuses a message; test with errors.Is.
var (
	// ErrFlow: too many of our messages are not acknowledged (section 6.4).
	// Try again when the peers have caught up or were declared dead.
	ErrFlow = errors.New("more than 250 messages are unacknowledged")
	// ErrMessage: the message is none that can be submitted.
	ErrMessage = errors.New("message cannot be submitted")
	// ErrStopped: Stop was called.
	ErrStopped = errors.New("heartbeat is stopping")
)

// Core is one node's view of the cluster; see the package comment.
type Core struct {
	cfg    Config
	rnd    *rand.Rand
	load   string
	status Status
	peers  []*peer // in the order of Config.Nodes, without ourselves
	byName map[string]*peer
	links  []link  // our own packets as we hear them, by medium
	broken []uint8 // by medium: why we cannot use it, a bit for each NoticeKind
	ends   bool    // our data plane ends with this process
	probes uint64  // number of our last probe

	pings   []pingNode
	deleted []string         // nodes that were removed: they cannot join by themselves
	former  map[string]*peer // of these what we know of those we heard
	lastID  int              // the highest id of a peer

	lastCall  time.Time
	deadline  time.Time // what Deadline has found since lastCall; else zero
	lastBeat  time.Time // our last status message
	nextBeat  time.Time // on the schedule start + n x keepalive
	graceEnds time.Time // zero once the real dead time is announced

	complete bool      // every node was heard or declared dead once
	asking   bool      // reqnodes was sent, repnodes not received
	asked    *peer     // who was asked last
	nextAsk  time.Time // when to ask the next one

	history history
	guard   guard
	decoder wire.Decoder
	flow    bool // every node speaks protocol 1: ACKs, flow control, reqnodes
	stopped bool

	build    builder
	out      outbox
	spare    outbox
	limits   map[limitKey]*limit
	counters Counters
}

// New returns a core that has just started: Drain has its first packets. The
// random source is used for retransmission delays and ACK triggers only. The
// error wraps ErrConfig.
func New(cfg Config, now time.Time, rnd *rand.Rand) (*Core, error) {
	cfg, err := cfg.normal()
	if err != nil {
		return nil, err
	}
	c := &Core{
		cfg:      cfg,
		rnd:      rnd,
		status:   Init,
		byName:   make(map[string]*peer),
		links:    make([]link, len(cfg.Media)),
		lastCall: now,
		lastBeat: now,
		nextBeat: now,
		flow:     true,
		broken:   make([]uint8, len(cfg.Media)),
		probes:   uint64(now.UnixNano()), // no start uses the numbers of one before
		limits:   make(map[limitKey]*limit),
		former:   make(map[string]*peer),
	}
	for _, name := range cfg.Nodes {
		if name == cfg.Node {
			continue
		}
		c.addPeer(now, name)
	}
	c.guard.on = guarded(cfg.Keys)
	for i, p := range cfg.Pings {
		c.pings = append(c.pings, pingNode{PingNode: p, id: -1 - i, status: Init, since: now})
	}
	c.deleted = cfg.Deleted
	if cfg.StartGrace > 0 {
		c.graceEnds = now.Add(graceTime)
	}
	// init, up, and up again as the first beat: section 8.
	c.sendStatus(now)
	c.status = Up
	c.sendStatus(now)
	c.beat(now)
	c.checkComplete(now)
	return c, nil
}

// SetLoad sets the text of /proc/loadavg that goes out with every message.
func (c *Core) SetLoad(load string) {
	load = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, load)
	c.load = load[:min(len(load), maxLoadLen)]
}

// Submit sends a message to all nodes, or to the one its field dest names, and
// if it is for all or for us it is also an event Delivered here. The common
// fields are added. The message is copied.
//
// It fails with ErrMessage if the type belongs to the protocol itself, a
// common field is already there, dest is no node or the message cannot be
// encoded; with ErrFlow; with ErrStopped. A message that fails has no effect.
func (c *Core) Submit(now time.Time, m wire.Message) error {
	now = c.enter(now)
	if c.stopped {
		return ErrStopped
	}
	dest, err := c.checkSubmit(m)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMessage, err)
	}
	if c.flow && c.unacked() > flowLimit {
		return ErrFlow
	}
	// The event keeps the message, so it needs memory of its own.
	m = m.Clone()
	seq := c.history.newest + 1
	b := builder{fields: m.Fields}
	var destUUID []byte
	forUs := true
	if dest != "" {
		m.Set("dest", dest)
		forUs = dest == c.cfg.Node
		if forUs {
			destUUID = c.cfg.UUID[:]
		} else if p := c.byName[dest]; p.hasUUID {
			destUUID = p.uuid[:]
		}
	}
	c.common(&b, now, seq, destUUID)
	if err := c.emit(b.message(), seq, false); err != nil {
		return fmt.Errorf("%w: %w", ErrMessage, err)
	}
	c.watchBacklog(now)
	if forUs {
		c.event(Delivered{Node: c.cfg.Node, Message: b.message(), FromSelf: true})
		if c.cfg.Ordered {
			c.event(Ordered{Node: c.cfg.Node, Message: b.message(), FromSelf: true})
		}
	}
	return nil
}

// checkSubmit says what is wrong with a message to submit, and for whom it is:
// "" for all.
func (c *Core) checkSubmit(m wire.Message) (dest string, err error) {
	for i := range m.Fields {
		switch m.Fields[i].Name {
		case "src", "srcuuid", "destuuid", "seq", "hg", "ts", "ld", "ttl", "auth", "nonce", "seen", "nscount":
			return "", fmt.Errorf("field %s is added by the core", m.Fields[i].Name)
		}
	}
	switch t := m.Type(); {
	case t == "":
		return "", errors.New("it has no type: field t")
	case ofProtocol(t):
		return "", fmt.Errorf("type %s belongs to the protocol itself", t)
	}
	dest, ok := m.Get("dest")
	if !ok {
		return "", nil
	}
	dest = strings.ToLower(dest)
	if dest != c.cfg.Node && c.byName[dest] == nil {
		return "", fmt.Errorf("dest %q is no node of the cluster (%s)", dest, strings.Join(c.cfg.Nodes, " "))
	}
	return dest, nil
}

// ofProtocol: messages of type t are the core's own.
func ofProtocol(t string) bool {
	switch t {
	case "status", "reqnodes", "repnodes", "addnode", "delnode":
		return true
	}
	return strings.HasPrefix(t, "NS_")
}

// Stop refuses further messages. Beats, acknowledgements and retransmissions
// go on, so that what was submitted still arrives; the caller stops calling
// Tick after 2 to 3 s (section 11).
func (c *Core) Stop(now time.Time) {
	c.enter(now)
	c.stopped = true
}

// Drain returns what came out since the last Drain. It is valid until the next
// one, which uses its memory again; the messages in events stay valid. Who
// does not drain lets output grow without limit.
func (c *Core) Drain() Output {
	o := Output{Packets: c.out.packets, Events: c.out.events, Asks: c.out.asks}
	c.spare.reset()
	c.out, c.spare = c.spare, c.out
	return o
}

// SetEnds says whether our data plane ends with this process: whether the
// kernel takes its lease before it closes our sockets. Only then may others
// conclude from a refused packet that we own nothing any more. They are told at
// once.
func (c *Core) SetEnds(now time.Time, ends bool) {
	now = c.enter(now)
	if c.ends != ends {
		c.ends = ends
		c.sendStatus(now)
	}
}

// Beat sends a beat now, beside those at their times: the lease that comes with
// it, and the others' patience, begin anew.
func (c *Core) Beat(now time.Time) { c.sendStatus(c.enter(now)) }

// Keepalive is the period of our beats. Who calls the core later than this
// after its Deadline has stood still.
func (c *Core) Keepalive() time.Duration { return c.cfg.Keepalive }

// PeersAlive is the number of other nodes that were heard and are not dead.
func (c *Core) PeersAlive() int {
	n := 0
	for _, p := range c.peers {
		if p.live() {
			n++
		}
	}
	return n
}

func (c *Core) event(e Event) { c.out.events = append(c.out.events, e) }

// enter begins every call that carries a time. Time never goes backwards. If
// we are called later than Deadline asked for, we have been deaf for the
// difference: after a small delay nobody cares, but from one keepalive on it
// is a stall, and what we did not hear meanwhile is not the others' silence.
func (c *Core) enter(now time.Time) time.Time {
	now = c.wake(now)
	c.stir()
	return now
}

// stir: of each peer something else may be due now.
func (c *Core) stir() {
	for _, p := range c.peers {
		p.due = time.Time{}
	}
}

// wake is enter for a call that concerns one peer at most, which it stirs itself.
func (c *Core) wake(now time.Time) time.Time {
	if now.Before(c.lastCall) {
		now = c.lastCall
	}
	asleep := c.Deadline()
	if asleep.Before(c.lastCall) {
		asleep = c.lastCall
	}
	if late := now.Sub(asleep); late >= c.cfg.Keepalive {
		for _, p := range c.peers {
			p.since = p.since.Add(late)
			shift(p.links, late)
			p.echo.mixed = true
			if p.suspicion.on {
				c.look(now, p)
			}
		}
		c.stir()
		shift(c.links, late)
		for i := range c.pings {
			c.pings[i].since = c.pings[i].since.Add(late)
		}
		c.event(Stalled{For: late, Dead: now.Sub(c.lastBeat) > c.ownDeadtime()})
	}
	c.lastCall, c.deadline = now, time.Time{}
	return now
}
