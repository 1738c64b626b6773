package broker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"systole/control/client"
	"systole/hb"
	"systole/hb/wire"
)

var (
	// ErrStopped: the heartbeat has ended, or the broker has.
	ErrStopped = errors.New("the director is stopping")
	// ErrSubscriptions: there are maxSubscriptions already.
	ErrSubscriptions = errors.New("64 programs listen already, which is the limit: does one not end?")
)

// Cluster is what the broker needs of the heartbeat: hb/driver, or a test's
// stand-in.
type Cluster interface {
	Offer(wire.Message) (seq uint64, err error)
	Events() <-chan hb.Event
	View() hb.View
}

// maxPending is how many events wait for the director before the broker stops
// reading. It is small against the heartbeat's own queue, which then fills.
const maxPending = 256

// Broker stands between heartbeat, director and programs; see the package
// comment.
type Broker struct {
	cluster Cluster
	node    string        // ourselves
	events  chan hb.Event // for the director
	done    chan struct{} // closed: nothing can be sent or heard any more

	turn  chan struct{} // held by the one that sends
	ahead atomic.Int64  // own messages sent that did not come back yet

	mu      sync.Mutex
	subs    map[*Subscription]struct{}
	view    *client.Event // the last one told; nil: none yet
	stopped bool
}

// New returns a broker for a heartbeat whose events nobody else reads. Call
// Run.
func New(c Cluster) *Broker {
	return &Broker{
		cluster: c,
		node:    c.View().Node,
		events:  make(chan hb.Event),
		done:    make(chan struct{}),
		turn:    make(chan struct{}, 1),
		subs:    make(map[*Subscription]struct{}),
	}
}

// Events are the heartbeat's events without the messages of programs. The
// channel is closed when Run ends.
func (b *Broker) Events() <-chan hb.Event { return b.events }

// Run hands events on until the heartbeat ends, or ctx does. Subscriptions end
// with it.
func (b *Broker) Run(ctx context.Context) {
	defer close(b.events)
	defer b.stop()
	var pending []hb.Event // for the director
	for {
		from, to := b.cluster.Events(), b.events
		var next hb.Event
		switch {
		case len(pending) == 0:
			to = nil
		case len(pending) >= maxPending:
			from = nil
			fallthrough
		default:
			next = pending[0]
		}
		select {
		case ev, ok := <-from:
			if !ok {
				b.handOver(ctx, pending)
				return
			}
			b.publish(ev)
			if forDirector(ev) {
				pending = append(pending, ev)
			}
		case to <- next:
			pending[0] = nil
			if pending = pending[1:]; len(pending) == 0 {
				pending = nil
			}
		case <-ctx.Done():
			return
		}
	}
}

// handOver gives the director what is left.
func (b *Broker) handOver(ctx context.Context, pending []hb.Event) {
	for _, ev := range pending {
		select {
		case b.events <- ev:
		case <-ctx.Done():
			return
		}
	}
}

// publish queues an event for the programs that want it. It waits for nobody.
func (b *Broker) publish(ev hb.Event) {
	if d, ok := delivered(ev); ok && d.FromSelf && !Reserved(d.Message.Type()) {
		b.ahead.Add(-1)
	}
	if kindOf(ev) == "" {
		return
	}
	at := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	for s := range b.subs {
		s.push(ev, at)
	}
}

// stop ends all that waits.
func (b *Broker) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopped = true
	close(b.done)
	for s := range b.subs {
		s.end()
	}
}
