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
	"sync/atomic"

	"systole/hb/media"
	"systole/hb/media/internal/reopen"
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

	conn *reopen.Conn[line]

	// used by Receive only
	framer framer
	buf    [512]byte
	rest   []byte // of buf: read, not framed

	sent, received, dropped, failed atomic.Uint64
}

func open(spec media.Spec) (media.Medium, error) {
	m := &medium{
		name: "serial " + spec.Device, device: spec.Device, baud: cmp.Or(spec.Baud, DefaultBaud),
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
	m.conn = reopen.New(m.name, m.open, m.shut)
	return m, nil
}

func (m *medium) Name() string { return m.name }

// Send is media.Medium's. The packet waits for the line; that it was sent is
// counted when the line has taken it.
func (m *medium) Send(p []byte) error {
	if _, err := m.conn.Hold(); err != nil {
		if err != media.ErrClosed {
			m.failed.Add(1)
		}
		return err
	}
	defer m.conn.Release()
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
				m.conn.Works()
				m.received.Add(1)
				return copy(buf, p), nil
			}
		}
		m.rest = nil
		l, err := m.conn.Get()
		if err != nil {
			return 0, err
		}
		n, err := l.Read(m.buf[:])
		if err != nil {
			return 0, m.conn.Broken(l, l.why(err))
		}
		m.rest = m.buf[:n]
	}
}

// open opens the line and starts its writer.
func (m *medium) open() (*line, error) {
	l, err := openLine(m.device, m.baud)
	if err != nil {
		return nil, err
	}
	go l.write(l, m.queue, m.baud, &m.sent, &m.failed)
	m.framer.reset()
	return l, nil
}

// shut closes a line. What waits is not sent later: by then it is old.
func (m *medium) shut(l *line) {
	m.failed.Add(uint64(m.queue.clear()))
	l.shut()
}

// Stats is media.Medium's.
func (m *medium) Stats() media.Stats {
	return media.Stats{Sent: m.sent.Load(), Received: m.received.Load(), Dropped: m.dropped.Load(), Failed: m.failed.Load()}
}

// Close is media.Medium's.
func (m *medium) Close() error { return m.conn.Close() }
