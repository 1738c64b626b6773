package flowsync

import (
	"fmt"
	"time"

	"systole/dataplane"
	"systole/dataplane/flowsync/wire"
)

// Answer is what becomes of a flow that a Table offers.
type Answer uint8

// The answers.
const (
	Sent  Answer = iota // it need not be offered before it has changed
	Later               // it is to be offered by the next sweep again
	Full                // as Later, and this call of Sweep ends
)

// Table is a flow table as Core needs it. Places name entries of it.
type Table interface {
	// Sweep goes on through the table where it stopped, over a part of it that
	// takes about a millisecond, and offers the flows of active addresses that
	// are new or have changed since they were sent. end: the last place was
	// looked at; the next call begins anew.
	Sweep(offer func(place uint32, f dataplane.Flow) Answer) (end bool, err error)
	// Again has the flows at these places offered again.
	Again(places []uint32)
	// AgainAll has every flow offered again, from the next Sweep on.
	AgainAll()
	// Insert stores flows of another director, unless what is here is newer.
	// stored are those that are here after it, noRoom those for which the table
	// is too small; the services or servers of the others are not known.
	Insert(flows []dataplane.Flow) (stored, noRoom int, err error)
	// Generation numbers the configurations that were in force: what was
	// refused under one may be stored under another.
	Generation() uint64
}

// Config is what a Core has to know.
type Config struct {
	SyncID  uint8 // only messages with it are taken; 0: all, as with the kernel
	MaxSize int   // of a message, bytes: the MTU less the headers, at most 1472 for a kernel's backup daemon
	// Bandwidth is how many bytes may be sent in a second, more or less.
	Bandwidth int
	Keys      Keys
	Session   uint64 // random, of this start
	Kernel    bool   // take the unsigned messages of kernels, too
}

// Times of the protocol.
const (
	Period      = 10 * time.Millisecond // from one Tick to the next
	ackDelay    = 20 * time.Millisecond
	pollDelay   = 40 * time.Millisecond
	helloPeriod = time.Second
	askPeriod   = time.Second      // between wishes for the whole table
	patience    = 10 * time.Second // for flows of servers that are not known
	silence     = 3 * time.Second  // a peer that was not heard for so long is gone
	burst       = 10               // a tenth of a second's bandwidth may leave at once
	synShare    = 4                // of which SYNs get a quarter
)

// Counters count since the start.
type Counters struct {
	Messages uint64 `json:"messages"`
	Bytes    uint64 `json:"bytes"` // of UDP payload
	Flows    uint64 `json:"flows"`
}

// Stats are what a Core has done.
type Stats struct {
	Sent     Counters `json:"sent"`
	Received Counters `json:"received"` // that counted; Flows are those that were stored
	Refused  uint64   `json:"refused"`  // flows of services or servers that are not known here
	NoRoom   uint64   `json:"no_room"`  // flows that found no room in the table here
	Missed   uint64   `json:"missed"`   // the peer's messages that were lost on the way, or overtaken
	Resent   uint64   `json:"resent"`   // flows, because the peer had missed them
	Passes   uint64   `json:"passes"`   // whole tables sent
	// Messages that did not count.
	Bad      uint64 `json:"bad"`      // malformed, or signed wrongly
	Unsigned uint64 `json:"unsigned"` // a kernel's, and not wanted
	Replayed uint64 `json:"replayed"` // a second time, or of an earlier session
}

// State is where a Core stands.
type State struct {
	Peer bool `json:"peer"` // another director takes part
	// InSync: it has confirmed our whole table.
	InSync bool `json:"in_sync"`
	// Complete: we have its whole table.
	Complete bool `json:"complete"`
	// Lag is the age of the oldest message that the peer has not confirmed.
	Lag time.Duration `json:"lag_ns"`
	Stats

	epoch int // changes when the peer is to be given the whole table again
}

// Core is the protocol of one node. It is not for several goroutines.
type Core struct {
	cfg   Config
	seal  *sealer
	send  sender
	recv  receiver
	peer  uint64            // its session; 0: none yet
	heard time.Time         // when it was heard last
	gone  map[uint64]uint64 // its earlier sessions, and the number of the last message taken of each
	stats Stats
}

// New returns a Core that knows no peer.
func New(cfg Config, now time.Time) (*Core, error) {
	seal, err := newSealer(cfg.Keys)
	if err != nil {
		return nil, err
	}
	switch least := wire.HeaderSize + wire.EntrySize6 + trailerSize + maxRuns*runSize; {
	case cfg.Session == 0:
		return nil, fmt.Errorf("flow synchronisation: session 0 means none")
	case cfg.MaxSize < least || cfg.MaxSize > wire.MaxSize:
		return nil, fmt.Errorf("flow synchronisation: messages of %d bytes: choose %d to %d", cfg.MaxSize, least, wire.MaxSize)
	case cfg.Bandwidth < burst*cfg.MaxSize:
		return nil, fmt.Errorf("flow synchronisation: a bandwidth of %d bytes a second: choose %d or more", cfg.Bandwidth, burst*cfg.MaxSize)
	}
	c := &Core{cfg: cfg, seal: seal, gone: make(map[uint64]uint64)}
	c.send.filled = now
	return c, nil
}

// SetKeys changes the keys.
func (c *Core) SetKeys(k Keys) error {
	seal, err := newSealer(k)
	if err == nil {
		c.seal, c.cfg.Keys = seal, k
	}
	return err
}

// State is the present one.
func (c *Core) State(now time.Time) State {
	s := State{Peer: c.peer != 0 && now.Sub(c.heard) < silence, Stats: c.stats, epoch: c.send.epoch}
	s.InSync = s.Peer && c.send.synced()
	s.Complete = s.Peer && c.recv.wants != 0 && !c.recv.unmet(now) && c.recv.given == c.recv.wants && c.recv.contiguous() >= c.recv.highest
	s.Lag = c.send.lag(now)
	return s
}

// PeerLost says that what the peer had may be gone. It says again what it
// wants, and gets it.
func (c *Core) PeerLost() { c.send.restart() }

// Receive takes a datagram. An error says why it did not count; nothing was
// done then.
func (c *Core) Receive(now time.Time, data []byte, t Table) error {
	tr := &c.recv.trailer
	switch err := c.seal.open(data, tr); {
	case err == nil:
	case !isUnsigned(err):
		c.stats.Bad++
		return err
	case !c.cfg.Kernel:
		c.stats.Unsigned++
		return err
	default:
		flows, err := c.decode(data)
		if err != nil {
			return err
		}
		return c.insert(now, flows, t)
	}
	if tr.session == c.cfg.Session {
		return nil // our own, come back
	}
	if tr.echo != c.cfg.Session {
		c.send.greet(tr.session)
		return nil
	}
	// A session does not come back, but for one that was taken for an earlier one
	// because a message of that came late: only the living one goes on.
	if last, was := c.gone[tr.session]; was && (tr.number <= last || now.Sub(c.heard) < 2*helloPeriod) {
		c.stats.Replayed++
		return nil
	}
	if tr.session != c.peer {
		c.believe(tr, now)
	}
	newest := tr.number > c.recv.highest
	lost, fresh := c.recv.take(tr.number, tr.floor)
	if !fresh {
		c.stats.Replayed++
		return nil
	}
	if lost {
		c.recv.ask(now)
	}
	c.heard = now
	c.stats.Missed += c.recv.gap
	flows, err := c.decode(data)
	if err != nil {
		return err
	}
	if c.recv.overtaken(tr.number, flows) {
		c.recv.unset(tr.number)
	} else if err := c.insert(now, flows, t); err != nil {
		return err
	}
	c.recv.expect(tr.number, len(c.recv.msg.Entries) > 0, tr.floor)
	c.stats.Resent += c.send.confirm(tr, t)
	if newest { // an older one says what was wished for, and given, before
		c.recv.given = tr.gives
		c.send.wish(tr.wants, t)
	}
	return nil
}

// maxGone bounds the memory of sessions; 30,000 restarts of the peer's daemon
// are not one life of ours.
const maxGone = 32768

// believe begins a new session of the peer.
func (c *Core) believe(tr *trailer, now time.Time) {
	if c.peer != 0 {
		if len(c.gone) == maxGone {
			clear(c.gone)
		}
		c.gone[c.peer] = c.recv.highest
	}
	delete(c.gone, tr.session)
	c.peer = tr.session
	c.send.restart()
	c.recv.restart(tr.number)
	c.recv.ask(now)
}

// decode is the flows of a message, until the next call.
func (c *Core) decode(data []byte) ([]dataplane.Flow, error) {
	m := &c.recv.msg
	if err := wire.Decode(data, m); err != nil {
		c.stats.Bad++
		return nil, err
	}
	flows := c.recv.flows[:0]
	if c.cfg.SyncID != 0 && m.SyncID != c.cfg.SyncID {
		m.Entries = m.Entries[:0]
		return flows, nil
	}
	c.stats.Received.Messages++
	c.stats.Received.Bytes += uint64(len(data))
	for i := range m.Entries {
		if f, ok := fromEntry(&m.Entries[i]); ok {
			flows = append(flows, f)
		}
	}
	c.recv.flows = flows
	return flows, nil
}

// insert puts flows into the table.
func (c *Core) insert(now time.Time, flows []dataplane.Flow, t Table) error {
	if len(flows) == 0 {
		return nil
	}
	generation := t.Generation()
	stored, noRoom, err := t.Insert(flows)
	c.stats.Received.Flows += uint64(stored)
	c.stats.NoRoom += uint64(noRoom) // to ask for them again would not make any
	if refused := len(flows) - stored - noRoom; refused > 0 {
		c.stats.Refused += uint64(refused)
		c.recv.refuse(now, generation)
	}
	return err
}

// Tick does what is due: it sweeps a part of the table and returns the messages
// to be sent to everybody, which are valid until the next call. It is to be
// called each Period; later is no harm.
func (c *Core) Tick(now time.Time, t Table) ([][]byte, error) {
	s := &c.send
	s.refill(now, c.cfg.Bandwidth)
	s.out = s.out[:0]
	if c.recv.refused && t.Generation() != c.recv.refusedAt && c.recv.mayAsk(now) {
		c.recv.ask(now)
	}
	err := c.sweep(now, t)
	if s.stranger != 0 && now.Sub(s.greeted) >= ackDelay {
		c.empty(now, s.stranger)
		s.stranger, s.greeted = 0, now
	}
	if since := now.Sub(s.last); s.tell || since >= helloPeriod || since >= ackDelay && c.recv.owes() || since >= pollDelay && s.waits() && now.Sub(c.heard) < silence {
		c.empty(now, c.peer)
	}
	return s.out, err
}

// sweep sends what the table offers.
func (c *Core) sweep(now time.Time, t Table) error {
	s := &c.send
	var msg []byte
	var places []uint32
	flush := func() {
		if msg == nil {
			return
		}
		flows := wire.Count(msg)
		s.keep(c.finish(now, msg, c.peer, nil), places, now)
		c.stats.Sent.Flows += uint64(flows)
		msg, places = nil, nil
	}
	// A peer that takes part must be able to say what it has missed, and its
	// socket to hold what it has not read yet.
	ahead := func() bool {
		return c.peer != 0 && now.Sub(c.heard) < silence && s.number-s.floor > Window/4
	}
	end, err := t.Sweep(func(place uint32, f dataplane.Flow) Answer {
		e, ok := toEntry(f)
		if !ok {
			return Sent // never: there is no message for it
		}
		size := wire.EntrySize4
		if e.Client.Addr().Is6() {
			size = wire.EntrySize6
		}
		if msg != nil && (len(msg)+size+trailerSize > c.cfg.MaxSize || wire.Count(msg) == wire.MaxEntries) {
			flush()
		}
		if msg == nil && (s.tokens < c.cfg.MaxSize || ahead()) {
			return Full
		}
		if f.State == dataplane.FlowSyn {
			if s.syns < size {
				return Later
			}
			s.syns -= size
		}
		if msg == nil {
			msg = wire.Begin(s.buffer(), c.cfg.SyncID)
			places = s.places()
		}
		msg = wire.AppendEntry(msg, &e)
		places = append(places, place)
		return Sent
	})
	flush()
	if end && err == nil {
		c.stats.Passes += s.ended()
	}
	return err
}

// empty sends a message without flows to a session.
func (c *Core) empty(now time.Time, to uint64) {
	s := &c.send
	s.keep(c.finish(now, wire.Begin(s.buffer(), c.cfg.SyncID), to, c.recv.missing()), nil, now)
	if to == c.peer {
		c.recv.owed, s.tell = false, false
	}
}

// finish adds the trailer and signs.
func (c *Core) finish(now time.Time, msg []byte, to uint64, missed []run) []byte {
	s := &c.send
	s.number++
	t := trailer{
		session: c.cfg.Session, echo: to, number: s.number, floor: s.floor,
		upto: c.recv.contiguous(), wants: c.recv.wants, gives: s.gives, missed: missed,
	}
	if missed != nil {
		t.upto = c.recv.reported
	}
	if c.recv.unmet(now) {
		t.wants = 0
	}
	msg = t.append(msg, c.seal.send)
	// The size is signed, so it must count the signature to come.
	size := len(msg) + footerSize - 8
	msg[2], msg[3] = byte(size>>8), byte(size)
	msg = c.seal.sign(msg)
	s.tokens -= len(msg)
	c.stats.Sent.Messages++
	c.stats.Sent.Bytes += uint64(len(msg))
	return msg
}
