package host

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"

	"systole/hb/internal/icmp"
	"systole/hb/media"
)

// conn is the raw socket of an interface and a family, which is opened anew
// when the interface is.
type conn struct {
	cfg     icmp.Config
	targets map[netip.Addr]*target
	index   atomic.Uint32 // the interface's number as the watch knows it; 0: not yet
	seq     atomic.Uint32

	mu     sync.Mutex   // for what follows; never held while waiting
	s      *icmp.Socket // nil while broken
	why    error        // why s is nil
	closed bool
}

// lowDelay is the type of service of heartbeat's packets (heartbeat-wire.md
// section 1): the answer travels as beats do.
const lowDelay = 0x10

// maxReply is more than any reply to our requests, and any refusal (RFC 792,
// RFC 4443 section 2.4) need.
const maxReply = 2048

func (c *conn) send(to netip.Addr, payload []byte) {
	c.mu.Lock()
	s := c.s
	c.mu.Unlock()
	if s != nil {
		// An error, as of an interface that is down, is no answer.
		_ = s.Send(to, uint16(c.seq.Add(1)), payload)
	}
}

// open opens the socket if there is none.
func (c *conn) open() error {
	cfg := c.cfg
	cfg.TOS = lowDelay
	s, err := icmp.Open(cfg)
	if err == nil {
		if known := c.index.Load(); known != 0 && known != s.Index() {
			s.Close()
			err = errReplaced
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err != nil:
		c.why = fmt.Errorf("asking hosts on interface %s: %w", c.cfg.Device, err)
		return c.why
	case c.closed:
		s.Close()
		return ErrClosed
	}
	c.s, c.why = s, nil
	return nil
}

// errReplaced: the socket is bound to an interface that no longer has the name.
var errReplaced = errors.New("interface was replaced, opening it again")

// run reads until the hosts are closed.
func (c *conn) run(h *Hosts) {
	var backoff media.Backoff
	buf := make([]byte, maxReply)
	for {
		c.mu.Lock()
		s, closed := c.s, c.closed
		c.mu.Unlock()
		if closed {
			return
		}
		if s == nil {
			if !backoff.Wait(h.done) {
				return
			}
			_ = c.open() // kept in c.why
			continue
		}
		m, err := s.Receive(buf)
		if err != nil {
			c.broken(s, err)
			continue
		}
		backoff.Reset()
		h.heard(c, m)
	}
}

// follow is told the number of the interface; 0 is none.
func (c *conn) follow(index uint32) {
	c.index.Store(index)
	c.mu.Lock()
	s := c.s
	c.mu.Unlock()
	if s != nil && s.Index() != index {
		c.broken(s, errReplaced)
	}
}

// broken closes the socket s; run opens a new one.
func (c *conn) broken(s *icmp.Socket, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.Close()
	if c.s == s && !c.closed {
		c.s, c.why = nil, fmt.Errorf("asking hosts on interface %s: %w", c.cfg.Device, err)
	}
}

func (c *conn) trouble() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.why
}

func (c *conn) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.s != nil {
		c.s.Close()
	}
}
