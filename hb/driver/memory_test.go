package driver

import (
	"bytes"
	"sync"
	"time"

	"systole/hb/media"
)

// cable connects the media of a test; time is that of the bubble.
type cable struct {
	mu    sync.Mutex
	ends  []*end
	taken []sent // every packet, in order
	cut   bool
}

type sent struct {
	at   time.Time
	from string // medium
	data []byte
}

// plug adds an end; node tells the ends apart, name is the medium's.
func (c *cable) plug(node, name string) *end {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := &end{cable: c, node: node, name: name, inbox: make(chan []byte, 1000), fault: make(chan error), closed: make(chan struct{})}
	c.ends = append(c.ends, e)
	return e
}

func (c *cable) setCut(cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = cut
}

// from returns what a node has sent so far.
func (c *cable) from(node string) (list []sent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.taken {
		if s.from == node {
			list = append(list, s)
		}
	}
	return list
}

// end is a media.Medium.
type end struct {
	cable      *cable
	node, name string
	inbox      chan []byte
	fault      chan error // what Receive returns instead
	closed     chan struct{}

	mu   sync.Mutex
	down error // what Send returns
}

func (e *end) Name() string { return e.name }

func (e *end) setDown(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.down = err
}

func (e *end) Send(p []byte) error {
	e.mu.Lock()
	down := e.down
	e.mu.Unlock()
	if down != nil {
		return down
	}
	c := e.cable
	c.mu.Lock()
	defer c.mu.Unlock()
	p = bytes.Clone(p)
	c.taken = append(c.taken, sent{time.Now(), e.node, p})
	if c.cut {
		return nil
	}
	for _, other := range c.ends {
		if other != e {
			select {
			case other.inbox <- p:
			default:
			}
		}
	}
	return nil
}

func (e *end) Receive(buf []byte) (int, error) {
	select {
	case p := <-e.inbox:
		return copy(buf, p), nil
	case err := <-e.fault:
		return 0, err
	case <-e.closed:
		return 0, media.ErrClosed
	}
}

func (e *end) Stats() media.Stats { return media.Stats{} }

func (e *end) Close() error {
	close(e.closed)
	return nil
}
