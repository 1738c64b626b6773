// Package reopen is how a medium mends itself: what it sends and receives by is
// opened anew, at growing intervals, when it broke (media.Medium). The kinds of
// media differ in what that is.
package reopen

import (
	"fmt"
	"sync"

	"systole/hb/media"
)

// Conn holds what a medium uses, a *C, or the reason why there is none. The
// goroutine that receives calls Get and Broken, the one that sends Hold and
// Release, any goroutine Err and Close.
type Conn[C any] struct {
	name string
	open func() (*C, error)
	shut func(*C)
	done chan struct{} // closed by Close

	backoff media.Backoff // Get's

	mu     sync.Mutex // for what follows; never held while waiting
	c      *C         // nil while broken
	why    error      // why c is nil
	closed bool
}

// New makes the first attempt at once, so that the first packet is not lost; if
// it fails, Get tries again and reports. name is the medium's, for errors. open
// is called by New and Get alone, shut once for each that was opened, when
// nobody holds it any more.
func New[C any](name string, open func() (*C, error), shut func(*C)) *Conn[C] {
	m := &Conn[C]{name: name, open: open, shut: shut, done: make(chan struct{})}
	m.Get()
	return m
}

// Get returns what is open. If nothing is it makes one attempt, when it is time
// for it, and returns its error; after Close it is media.ErrClosed.
func (m *Conn[C]) Get() (*C, error) {
	m.mu.Lock()
	c, closed := m.c, m.closed
	m.mu.Unlock()
	if closed {
		return nil, media.ErrClosed
	}
	if c != nil {
		return c, nil
	}
	if !m.backoff.Wait(m.done) {
		return nil, media.ErrClosed
	}
	c, err := m.open()
	m.mu.Lock()
	if err != nil {
		defer m.mu.Unlock()
		m.why = fmt.Errorf("%s: %w", m.name, err)
		return nil, m.why
	}
	if m.closed {
		m.mu.Unlock()
		m.shut(c)
		return nil, media.ErrClosed
	}
	m.c, m.why = c, nil
	m.mu.Unlock()
	return c, nil
}

// Works is said when c has proved to work: the next attempt is not delayed. That
// it could be opened is no proof, as it may break at once.
func (m *Conn[C]) Works() { m.backoff.Reset() }

// Broken closes c; the next Get opens anew. It returns the error to report,
// which is media.ErrClosed if that is why.
func (m *Conn[C]) Broken(c *C, err error) error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return media.ErrClosed
	}
	why := fmt.Errorf("%s: %w", m.name, err)
	m.c, m.why = nil, why
	m.mu.Unlock()
	m.shut(c)
	return why
}

// Hold returns what is open, which stays so until Release; that must follow
// soon. If there is none it returns why, and Release must not follow.
func (m *Conn[C]) Hold() (*C, error) {
	m.mu.Lock()
	if m.c != nil {
		return m.c, nil
	}
	defer m.mu.Unlock()
	if m.closed {
		return nil, media.ErrClosed
	}
	return nil, m.why
}

// Release ends Hold.
func (m *Conn[C]) Release() { m.mu.Unlock() }

// Err says why nothing is open at present; nil if something is.
func (m *Conn[C]) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.why
}

// Close ends a waiting Get. Later calls return media.ErrClosed.
func (m *Conn[C]) Close() error {
	m.mu.Lock()
	c, closed := m.c, m.closed
	m.c, m.closed = nil, true
	m.mu.Unlock()
	if closed {
		return media.ErrClosed
	}
	close(m.done)
	if c != nil {
		m.shut(c)
	}
	return nil
}
