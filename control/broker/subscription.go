package broker

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"systole/control/client"
	"systole/hb"
)

// The limits of programs that listen.
const (
	maxSubscriptions = 64
	maxQueue         = 4096    // events that wait for a program
	maxQueueBytes    = 4 << 20 // and about how much memory they hold
)

// Filter is what a subscription lets through; see client.Wanted.
type Filter struct {
	Kinds []client.Kind
	Types []string
}

// NewFilter checks what a program wants. The error names what it cannot have.
func NewFilter(w client.Wanted) (Filter, error) {
	for _, k := range w.Kinds {
		switch k {
		case client.KindMessage, client.KindNode, client.KindLink, client.KindView:
		default:
			return Filter{}, fmt.Errorf("kind %q: message, node, link or view", k)
		}
	}
	for _, t := range w.Types {
		if why := badName(t); why != "" {
			return Filter{}, fmt.Errorf("type %q: %s", t, why)
		}
	}
	if len(w.Types) > 0 && len(w.Kinds) > 0 && !slices.Contains(w.Kinds, client.KindMessage) {
		return Filter{}, fmt.Errorf("type %q: types are of messages, and kind message is not wanted", w.Types[0])
	}
	return Filter(w), nil
}

func (f Filter) wantsKind(k client.Kind) bool {
	return len(f.Kinds) == 0 || slices.Contains(f.Kinds, k)
}

func (f Filter) wants(ev hb.Event) bool {
	k := kindOf(ev)
	if k == "" || !f.wantsKind(k) {
		return false
	}
	d, ok := delivered(ev)
	switch {
	case !ok:
		return true
	case len(f.Types) == 0:
		return !Reserved(d.Message.Type())
	}
	return slices.Contains(f.Types, d.Message.Type())
}

// Subscription is one program's events.
type Subscription struct {
	broker *Broker
	filter Filter
	self   string
	ready  chan struct{} // has an element when there may be news

	// The reader's.
	first  []client.Event
	number uint64
	ended  bool

	mu      sync.Mutex
	queue   []entry
	bytes   int
	missed  uint64 // since the queue was full
	stopped bool
}

type entry struct {
	ev   hb.Event      // or
	view *client.Event // of KindView
	at   time.Time
	size int
}

// Subscribe begins a subscription. It ends with Close.
func (b *Broker) Subscribe(f Filter) (*Subscription, error) {
	s := &Subscription{broker: b, filter: f, ready: make(chan struct{}, 1)}
	b.mu.Lock()
	switch {
	case b.stopped:
		b.mu.Unlock()
		return nil, ErrStopped
	case len(b.subs) >= maxSubscriptions:
		b.mu.Unlock()
		return nil, ErrSubscriptions
	}
	b.subs[s] = struct{}{}
	view := b.view
	b.mu.Unlock()
	// Only now: what has been published before is in the view, what comes from
	// now on is in the queue, and nothing is between the two.
	v, now := b.cluster.View(), time.Now()
	s.self = v.Node
	s.first = append(s.first, client.Event{At: now, Kind: client.KindStart, Node: v.Node, Self: true})
	s.first = append(s.first, snapshot(v, now, f)...)
	if view != nil && f.wantsKind(client.KindView) {
		e := *view
		e.At, e.Snapshot = now, true
		s.first = append(s.first, e)
	}
	return s, nil
}

// Close ends a subscription; who waits in Next has to be told by its context.
func (s *Subscription) Close() {
	s.broker.mu.Lock()
	defer s.broker.mu.Unlock()
	delete(s.broker.subs, s)
}

// push queues an event, or counts it if there is no room or was none before:
// what is left out is one piece, at the end.
func (s *Subscription) push(ev hb.Event, at time.Time) {
	if !s.filter.wants(ev) {
		return
	}
	s.queueUp(entry{ev: ev, at: at, size: sizeOf(ev)})
}

func (s *Subscription) queueUp(e entry) {
	s.mu.Lock()
	if s.missed > 0 || len(s.queue) >= maxQueue || s.bytes+e.size > maxQueueBytes {
		s.missed++
	} else {
		s.queue = append(s.queue, e)
		s.bytes += e.size
	}
	s.mu.Unlock()
	s.wake()
}

// end lets Next come to an end after what is queued.
func (s *Subscription) end() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.wake()
}

func (s *Subscription) wake() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// Next waits for the next event. After one of KindEnd it returns io.EOF. It may
// be called by one goroutine at a time.
func (s *Subscription) Next(ctx context.Context) (client.Event, error) {
	for {
		if e, ok := s.Waiting(); ok {
			return e, nil
		}
		if s.ended {
			return client.Event{}, io.EOF
		}
		select {
		case <-s.ready:
		case <-ctx.Done():
			return client.Event{}, ctx.Err()
		}
	}
}

// Waiting returns the next event if there is one now.
func (s *Subscription) Waiting() (e client.Event, ok bool) {
	switch {
	case s.ended:
		return e, false
	case len(s.first) > 0:
		e, s.first = s.first[0], s.first[1:]
	default:
		if e, ok = s.take(); !ok {
			return e, false
		}
	}
	s.number++
	e.N = s.number
	return e, true
}

// take makes the next event of what is queued.
func (s *Subscription) take() (client.Event, bool) {
	s.mu.Lock()
	if len(s.queue) > 0 {
		first := s.queue[0]
		s.queue[0] = entry{}
		if s.queue = s.queue[1:]; len(s.queue) == 0 {
			s.queue = nil
		}
		s.bytes -= first.size
		s.mu.Unlock()
		if first.view != nil {
			return *first.view, true
		}
		return record(first.ev, first.at, s.self), true
	}
	missed, stopped := s.missed, s.stopped
	s.mu.Unlock()
	end := client.Event{At: time.Now(), Kind: client.KindEnd, Node: s.self, Self: true, Missed: missed}
	switch {
	case missed > 0:
		end.Error = fmt.Sprintf("%d events were left out: they were not read in time", missed)
	case stopped:
		end.Error = ErrStopped.Error()
	default:
		return client.Event{}, false
	}
	s.ended = true
	s.Close() // what comes now would only be counted
	return end, true
}
