package vip

import (
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/mdlayher/packet"
)

// sendTimeout bounds the wait for room in a transmit queue. A director must
// not hang in an announcement that is repeated anyway.
const sendTimeout = 20 * time.Millisecond

// sockets are the raw sockets announcements leave by, one per interface,
// opened with the first and kept.
type sockets struct {
	lookup func(name string) (index int, mac net.HardwareAddr, err error)

	mu   sync.Mutex
	open map[string]*socket
}

type socket struct {
	conn *packet.Conn
	mac  net.HardwareAddr
}

// send announces a. An interface that was made anew under its old
// name has another index, so a failure is tried once more on a new socket.
func (s *sockets) send(a Addr) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.open[a.Interface]; c != nil {
		if c.send(a) == nil {
			return nil
		}
		s.forget(a.Interface)
	}
	c, err := s.dial(a.Interface)
	if err != nil {
		return err
	}
	return c.send(a)
}

func (s *sockets) dial(name string) (*socket, error) {
	index, mac, err := s.lookup(name)
	if err != nil {
		return nil, err
	}
	// Protocol 0: the socket sends only, no frame is ever queued on it.
	conn, err := packet.Listen(&net.Interface{Index: index, Name: name}, packet.Raw, 0, nil)
	if err != nil {
		return nil, fmt.Errorf("opening a raw socket on %s (CAP_NET_RAW is needed): %w", name, err)
	}
	c := &socket{conn, mac}
	s.open[name] = c
	return c, nil
}

func (c *socket) send(a Addr) error {
	frames, err := framesFor(c.mac, a.IP)
	if err != nil {
		return fmt.Errorf("%s: %w", a.Interface, err)
	}
	if err := c.conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	for _, f := range frames {
		to := &packet.Addr{HardwareAddr: net.HardwareAddr(f[:6])}
		if _, err := c.conn.WriteTo(f, to); err != nil {
			return fmt.Errorf("announcing %s: %w", a, err)
		}
	}
	return nil
}

// drop closes the socket of an interface that has changed.
func (s *sockets) drop(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(name)
}

func (s *sockets) forget(name string) {
	if c := s.open[name]; c != nil {
		_ = c.conn.Close() // nothing is buffered in it
		delete(s.open, name)
	}
}

func (s *sockets) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.open {
		s.forget(name)
	}
}
