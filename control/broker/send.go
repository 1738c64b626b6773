package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"systole/control/client"
	"systole/hb"
)

// ErrBusy: the message was not sent, as earlier ones are not acknowledged.
var ErrBusy = errors.New("not sent")

// maxAhead is how many own messages may be on their way back to us: as many
// as the heartbeat's queue of events can bear from us at the worst.
const maxAhead = 256

// firstRetry and lastRetry bound the pause before the heartbeat is asked again
// whether there is room. An acknowledgement on a LAN takes a fraction of the
// first; the last is for a peer that is silent until its dead time.
const (
	firstRetry = time.Millisecond
	lastRetry  = 20 * time.Millisecond
)

// errAhead is like hb.ErrFlow, but it is this machine that is behind.
var errAhead = errors.New("this director is behind with earlier messages")

// Send sends a program's message when its turn has come and there is room. It
// waits for that until ctx ends; the error wraps ErrBusy then. Else it wraps
// ErrMessage or hb.ErrMessage if the message is not good, or ErrStopped. A
// message that failed was not sent.
func (b *Broker) Send(ctx context.Context, m client.Message) (client.Sent, error) {
	w, err := encode(m)
	if err != nil {
		return client.Sent{}, err
	}
	select {
	case b.turn <- struct{}{}: // whoever waits longest is next
		defer func() { <-b.turn }()
	case <-ctx.Done():
		return client.Sent{}, fmt.Errorf("%w: other programs' messages wait before it: %s", ErrBusy, b.slowest())
	case <-b.done:
		return client.Sent{}, ErrStopped
	}
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		err := errAhead
		if b.ahead.Load() < maxAhead {
			sent := client.Sent{Node: b.node}
			comesBack := m.Dest == "" || strings.EqualFold(m.Dest, b.node)
			if comesBack {
				b.ahead.Add(1)
			}
			if sent.Seq, err = b.cluster.Offer(w); err == nil {
				return sent, nil
			}
			if comesBack {
				b.ahead.Add(-1)
			}
		}
		switch {
		case errors.Is(err, hb.ErrMessage):
			return client.Sent{}, err
		case !errors.Is(err, hb.ErrFlow) && err != errAhead:
			return client.Sent{}, fmt.Errorf("%w: %w", ErrStopped, err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			if err == errAhead {
				return client.Sent{}, fmt.Errorf("%w: %w", ErrBusy, err)
			}
			return client.Sent{}, fmt.Errorf("%w: the cluster has not acknowledged earlier messages: %s", ErrBusy, b.slowest())
		case <-b.done:
			return client.Sent{}, ErrStopped
		}
	}
}

// slowest says which live node has acknowledged least.
func (b *Broker) slowest() string {
	v := b.cluster.View()
	var name string
	least := v.Seq
	for _, p := range v.Peers {
		if p.Heard && p.Status != hb.Dead && p.Acked < least {
			name, least = p.Name, p.Acked
		}
	}
	if name == "" {
		return "all nodes have acknowledged, try again"
	}
	return fmt.Sprintf("node %s has acknowledged messages up to %d of %d", name, least, v.Seq)
}
