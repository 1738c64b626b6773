package flowsync

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Path is one way to the others.
type Path struct {
	Interface string // sockets are bound to it
	Port      uint16 // to receive on
	// To are the peers' addresses, or the one of the group, all of one family.
	To []netip.AddrPort
	// TTL is how many networks a multicast may cross; 0 means 1.
	TTL int
}

// Options are a Syncer's parts.
type Options struct {
	Core  *Core
	Table Table
	Paths []Path // at least one; what is sent goes by all of them
	// Changed is told each time the state has another Peer, InSync or Complete.
	// It must not wait. Nil: nobody is told.
	Changed func(State)
	Log     *slog.Logger
}

// Syncer runs a Core on real sockets with a real clock.
type Syncer struct {
	Options
	paths []*path

	keys atomic.Pointer[Keys] // to be taken by the next step
	lost atomic.Bool          // PeerLost was called

	mu    sync.Mutex // core and table
	told  State      // of the goroutine of tick, as is
	fault string     // of the table, the last one in the log
}

// NewSyncer returns a Syncer that does nothing before Run.
func NewSyncer(o Options) *Syncer {
	s := &Syncer{Options: o}
	for _, p := range o.Paths {
		s.paths = append(s.paths, newPath(p, o.Log))
	}
	return s
}

// State is the present one.
func (s *Syncer) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Core.State(time.Now())
}

// SetKeys changes the keys, with the next step.
func (s *Syncer) SetKeys(k Keys) error {
	if _, err := newSealer(k); err != nil {
		return err
	}
	s.keys.Store(&k)
	return nil
}

// PeerLost says that what the peer had may be gone: with the next step it is
// not InSync before it has the whole table again. It does not wait.
func (s *Syncer) PeerLost() { s.lost.Store(true) }

// Run sends and receives until ctx ends. An interface that is not there is
// waited for.
func (s *Syncer) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, p := range s.paths {
		wg.Go(func() { p.run(ctx, s.receive) })
	}
	wg.Go(func() { s.tick(ctx) })
	wg.Wait()
}

// receive takes a datagram.
func (s *Syncer) receive(data []byte) {
	s.mu.Lock()
	err := s.Core.Receive(time.Now(), data, s.Table)
	s.mu.Unlock()
	if err != nil {
		s.Log.Debug("a message of flow synchronisation does not count", "error", err)
	}
}

// tick calls Core.Tick each Period.
func (s *Syncer) tick(ctx context.Context) {
	t := time.NewTicker(Period)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			s.report(s.step())
		}
	}
}

func (s *Syncer) step() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if k := s.keys.Swap(nil); k != nil {
		_ = s.Core.SetKeys(*k) // SetKeys has tried them
	}
	if s.lost.Swap(false) {
		s.Core.PeerLost()
	}
	out, err := s.Core.Tick(now, s.Table)
	if text := textOf(err); text != s.fault {
		if s.fault = text; text != "" {
			s.Log.Warn("the flow table cannot be synchronised", "error", err)
		}
	}
	for _, msg := range out {
		for _, p := range s.paths {
			p.send(msg)
		}
	}
	return s.Core.State(now)
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// report tells of a change, without a lock: who is told may ask for the State.
func (s *Syncer) report(st State) {
	if s.Changed == nil {
		return
	}
	if st.Peer != s.told.Peer || st.InSync != s.told.InSync || st.Complete != s.told.Complete || st.epoch != s.told.epoch {
		s.told = st
		s.Changed(st)
	}
}

var errNoAddress = errors.New("no address to send to")
