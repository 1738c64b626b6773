// Package udp is what the media over UDP have in common: a pair of sockets bound
// to an interface that may come and go, one that sends without ever waiting and
// one that receives (heartbeat-wire.md section 1). The kinds differ in where
// they send to and in a few options; see Config.
package udp

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"systole/hb/internal/netdev"
	"systole/hb/media"
	"systole/hb/media/internal/reopen"
)

const (
	// checkInterval is how often it is looked whether the interface is still
	// the one that the sockets are bound to. An interface that went away and
	// came again is another one, and the kernel does not tell the old sockets.
	checkInterval = time.Second
	// reviveInterval is how often Revive is called while nothing is heard.
	reviveInterval = 10 * time.Second
)

// Config makes a kind of medium. A function may be nil; To may not.
//
// The functions are called with a socket that is open, and in its network
// namespace they ask by package netdev alone. None may wait.
type Config struct {
	Kind   string // "ucast"
	V6     bool   // over IPv6, as the destinations are then
	Device string // the interface
	Port   uint16 // to receive on

	// Out and In set options of the sending and the receiving socket before
	// they are used.
	Out, In func(fd, ifindex int) error
	// To returns the destinations of a packet, all of the one family. It is
	// asked when the sockets are opened and then once a second; another answer
	// opens them anew.
	To func(fd int) ([]netip.AddrPort, error)
	// Revive is told of the receiving socket when the link has its carrier back
	// and, every ten seconds, while nothing is heard: the network may have
	// forgotten us.
	Revive func(fd, ifindex int) error
}

// Medium is a media.Medium over UDP.
type Medium struct {
	name string
	cfg  Config
	conn *reopen.Conn[sockets]

	checked time.Time // Receive's: when check was called last
	heard   time.Time // Receive's: when a packet came, or Revive was called, last

	sent, received, dropped, failed atomic.Uint64
}

// Name is the name of a medium of this kind: "ucast eth0", "ucast6 eth0", and
// with the port unless it is heartbeat's.
func (cfg Config) Name() string {
	kind := cfg.Kind
	if cfg.V6 {
		kind += "6"
	}
	if cfg.Port != media.DefaultPort {
		return fmt.Sprintf("%s %s:%d", kind, cfg.Device, cfg.Port)
	}
	return kind + " " + cfg.Device
}

// Host brings a peer's address into the form in which destinations are
// compared: without the zone, which is the medium's interface anyway.
func (cfg Config) Host(a netip.Addr) (netip.Addr, error) {
	if z := a.Zone(); z != "" && z != cfg.Device {
		return a, cfg.Bad("%s is an address on interface %s, not on %s", a, z, cfg.Device)
	}
	return a.Unmap().WithZone(""), nil
}

// Open returns a medium. The error is media.ErrSpec.
func Open(cfg Config) (*Medium, error) {
	if !netdev.ValidName(cfg.Device) {
		return nil, cfg.Bad("an interface name has 1 to %d characters", unix.IFNAMSIZ-1)
	}
	m := &Medium{name: cfg.Name(), cfg: cfg}
	m.conn = reopen.New(m.name, m.open, (*sockets).close)
	return m, nil
}

// Bad is media.ErrSpec and says of which medium.
func (cfg Config) Bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s: %s", media.ErrSpec, cfg.Name(), fmt.Sprintf(format, args...))
}

// Name is media.Medium's.
func (m *Medium) Name() string { return m.name }

// Send is media.Medium's.
func (m *Medium) Send(p []byte) error {
	s, err := m.conn.Hold()
	if err != nil {
		if err != media.ErrClosed {
			m.failed.Add(1)
		}
		return err
	}
	defer m.conn.Release()
	var failure error
	for i := range s.to {
		err := unix.Sendto(s.out, p, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, s.to[i])
		switch {
		case err == nil:
			m.sent.Add(1)
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.EINTR),
			errors.Is(err, unix.ECONNREFUSED): // ICMP from a stopped daemon is normal (section 1)
			m.dropped.Add(1)
		default:
			m.failed.Add(1)
			if failure == nil {
				failure = fmt.Errorf("%s: send to %s: %w", m.name, s.dest[i].Addr(), err)
			}
		}
	}
	if failure != nil {
		// The interface may be another one by now: let Receive look at once.
		s.in.SetReadDeadline(time.Unix(1, 0))
	}
	return failure
}

// Receive is media.Medium's.
func (m *Medium) Receive(buf []byte) (int, error) {
	for {
		s, err := m.conn.Get()
		if err != nil {
			return 0, err
		}
		// Also while packets come: a node may hear itself all the time.
		if now := time.Now(); now.Sub(m.checked) >= checkInterval {
			if err := m.check(s, now); err != nil {
				return 0, m.conn.Broken(s, err)
			}
		}
		s.in.SetReadDeadline(time.Now().Add(checkInterval))
		n, _, err := s.in.ReadFromUDPAddrPort(buf)
		switch {
		case err == nil:
			m.conn.Works()
			m.received.Add(1)
			m.heard = time.Now()
			return n, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			if err := m.check(s, time.Now()); err != nil {
				return 0, m.conn.Broken(s, err)
			}
			m.conn.Works() // not earlier: a socket that opens may break at once
		case errors.Is(err, unix.ECONNREFUSED):
		default:
			return 0, m.conn.Broken(s, err)
		}
	}
}

// check looks after the interface.
func (m *Medium) check(s *sockets, now time.Time) error {
	m.checked = now
	back, err := s.check(&m.cfg)
	if err == nil && (back || now.Sub(m.heard) >= reviveInterval) {
		m.heard = now
		err = s.revive(&m.cfg)
	}
	return err
}

// open opens the sockets.
func (m *Medium) open() (*sockets, error) {
	s, err := openSockets(&m.cfg)
	m.checked = time.Now()
	m.heard = m.checked
	return s, err
}

// Err says why the medium is broken at present; nil if it is not.
func (m *Medium) Err() error { return m.conn.Err() }

// Stats is media.Medium's.
func (m *Medium) Stats() media.Stats {
	return media.Stats{Sent: m.sent.Load(), Received: m.received.Load(), Dropped: m.dropped.Load(), Failed: m.failed.Load()}
}

// Close is media.Medium's.
func (m *Medium) Close() error { return m.conn.Close() }
