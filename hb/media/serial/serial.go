// Package serial is the heartbeat medium of a null-modem cable between two
// nodes (heartbeat-wire.md section 1): raw, 8N1, without flow control. It is the
// one path that no fault of a network takes away. Importing it registers
// "serial" with package media.
//
// Packets go over it as text whatever the form of the others; see
// wire.AppendText. So the heartbeat core must send form Both or Classic.
//
// A line is slow: a beat has some 300 bytes, 160 ms at 19200 bit/s. What the
// line has no time for is dropped, the oldest first, and beats overtake what else
// waits. Pseudo terminals work as well, at the rate that a cable would have.
package serial

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"systole/hb/media"
	"systole/hb/wire"
)

func init() { media.Register("serial", open) }

// DefaultBaud is the rate in bit/s if none is given.
const DefaultBaud = 19200

// Rates are those there are, in bit/s.
var Rates = []int{9600, 19200, 38400, 57600, 115200, 230400, 460800}

// medium is a media.Medium.
type medium struct {
	name   string
	device string
	baud   int
	queue  *queue

	// used by Receive only
	backoff media.Backoff
	framer  framer
	buf     [512]byte
	rest    []byte // of buf: read, not framed

	done chan struct{} // closed by Close

	mu     sync.Mutex // for what follows; never held while waiting
	l      *line      // nil while broken
	why    error      // why l is nil
	closed bool

	sent, received, dropped, failed atomic.Uint64
}

func open(spec media.Spec) (media.Medium, error) {
	m := &medium{
		name: "serial " + spec.Device, device: spec.Device, baud: cmp.Or(spec.Baud, DefaultBaud),
		done: make(chan struct{}),
	}
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s: %s", media.ErrSpec, m.name, fmt.Sprintf(format, args...))
	}
	switch f := spec.Unused("device", "baud"); {
	case f != "":
		return nil, bad("%s means nothing to it", f)
	case !strings.HasPrefix(m.device, "/"):
		return nil, bad("device %q is not a path such as /dev/ttyS0", m.device)
	case !slices.Contains(Rates, m.baud):
		return nil, bad("baud %d is none of %v", m.baud, Rates)
	}
	m.queue = newQueue(m.baud)
	// Tried at once so that the first beat is not lost; if it fails, Receive
	// tries again and reports.
	m.line()
	return m, nil
}

func (m *medium) Name() string { return m.name }

// Send is media.Medium's. The packet waits for the line; that it was sent is
// counted when the line has taken it.
func (m *medium) Send(p []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return media.ErrClosed
	}
	if m.l == nil {
		m.failed.Add(1)
		return m.why
	}
	text, err := wire.AppendText(make([]byte, 0, len(p)+len(p)/4), p)
	if err == nil && len(text) > m.queue.limit {
		err = fmt.Errorf("a packet of %d bytes, and the line carries %d a second", len(text), m.baud/10)
	}
	if err != nil {
		m.failed.Add(1)
		return fmt.Errorf("%s: %w", m.name, err)
	}
	m.dropped.Add(uint64(m.queue.push(text)))
	return nil
}

// Receive is media.Medium's.
func (m *medium) Receive(buf []byte) (int, error) {
	for {
		for i, c := range m.rest {
			if p := m.framer.push(c); p != nil {
				m.rest = m.rest[i+1:]
				m.backoff.Reset()
				m.received.Add(1)
				return copy(buf, p), nil
			}
		}
		m.rest = nil
		l, err := m.line()
		if err != nil {
			return 0, err
		}
		n, err := l.Read(m.buf[:])
		if err != nil {
			return 0, m.broken(l, l.why(err))
		}
		m.rest = m.buf[:n]
	}
}

// line returns the open line. If there is none it makes one attempt to open it,
// when it is time for it.
func (m *medium) line() (*line, error) {
	m.mu.Lock()
	l, closed := m.l, m.closed
	m.mu.Unlock()
	if closed {
		return nil, media.ErrClosed
	}
	if l != nil {
		return l, nil
	}
	if !m.backoff.Wait(m.done) {
		return nil, media.ErrClosed
	}
	l, err := openLine(m.device, m.baud)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.why = fmt.Errorf("%s: %w", m.name, err)
		return nil, m.why
	}
	if m.closed {
		l.Close()
		return nil, media.ErrClosed
	}
	go l.write(l, m.queue, m.baud, &m.sent, &m.failed)
	m.framer.reset()
	m.l, m.why = l, nil
	return l, nil
}

// broken closes the line l; the next Receive opens it anew. What waits is not
// sent later: by then it is old.
func (m *medium) broken(l *line, err error) error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return media.ErrClosed
	}
	why := fmt.Errorf("%s: %w", m.name, err)
	m.l, m.why = nil, why
	m.failed.Add(uint64(m.queue.clear()))
	m.mu.Unlock()
	l.shut()
	return why
}

// Stats is media.Medium's.
func (m *medium) Stats() media.Stats {
	return media.Stats{Sent: m.sent.Load(), Received: m.received.Load(), Dropped: m.dropped.Load(), Failed: m.failed.Load()}
}

// Close is media.Medium's.
func (m *medium) Close() error {
	m.mu.Lock()
	l, closed := m.l, m.closed
	m.l, m.closed = nil, true
	m.mu.Unlock()
	if closed {
		return media.ErrClosed
	}
	close(m.done)
	if l != nil {
		l.shut()
	}
	return nil
}
