// Package ucast is the heartbeat medium of IPv4 datagrams to each peer
// (heartbeat-wire.md section 1). Importing it registers "ucast" with package
// media.
package ucast

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"systole/hb/media"
)

func init() { media.Register("ucast", open) }

// checkInterval is how often it is looked whether the interface is still the
// one that the sockets are bound to. An interface that went away and came
// again is another one, and the kernel does not tell the old sockets.
const checkInterval = time.Second

// medium is a media.Medium.
type medium struct {
	name  string
	spec  media.Spec
	peers []unix.SockaddrInet4

	backoff media.Backoff // used by Receive only
	done    chan struct{} // closed by Close

	mu     sync.Mutex // for what follows; never held while waiting
	s      *sockets   // nil while broken
	why    error      // why s is nil
	closed bool

	sent, received, dropped, failed atomic.Uint64
}

func open(spec media.Spec) (media.Medium, error) {
	if spec.Port == 0 {
		spec.Port = media.DefaultPort
	}
	m := &medium{name: "ucast " + spec.Interface, spec: spec, done: make(chan struct{})}
	if spec.Port != media.DefaultPort {
		m.name += fmt.Sprintf(":%d", spec.Port)
	}
	bad := func(format string, args ...any) (media.Medium, error) {
		return nil, fmt.Errorf("%w: %s: %s", media.ErrSpec, m.name, fmt.Sprintf(format, args...))
	}
	if n := len(spec.Interface); n == 0 || n >= unix.IFNAMSIZ {
		return bad("an interface name has 1 to %d characters", unix.IFNAMSIZ-1)
	}
	if len(spec.Peers) == 0 {
		return bad("no peer to send to")
	}
	seen := make(map[netip.AddrPort]bool)
	for _, p := range spec.Peers {
		port := p.Port()
		if port == 0 {
			port = media.DefaultPort
		}
		p = netip.AddrPortFrom(p.Addr().Unmap(), port)
		switch a := p.Addr(); {
		case !a.Is4():
			return bad("peer %s is not an IPv4 address", a)
		case a.IsUnspecified(), a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
			return bad("peer %s is not the address of one node", a)
		case seen[p]:
			return bad("peer %s is there twice", p)
		}
		seen[p] = true
		m.peers = append(m.peers, unix.SockaddrInet4{Port: int(port), Addr: p.Addr().As4()})
	}
	// Tried at once so that the first beat is not lost; if it fails, Receive
	// tries again and reports.
	m.sockets()
	return m, nil
}

func (m *medium) Name() string { return m.name }

// Send is media.Medium's.
func (m *medium) Send(p []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return media.ErrClosed
	}
	if m.s == nil {
		m.failed.Add(uint64(len(m.peers)))
		return m.why
	}
	var failure error
	for i := range m.peers {
		err := unix.Sendto(m.s.out, p, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, &m.peers[i])
		switch {
		case err == nil:
			m.sent.Add(1)
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.EINTR),
			errors.Is(err, unix.ECONNREFUSED): // ICMP from a stopped daemon is normal (section 1)
			m.dropped.Add(1)
		default:
			m.failed.Add(1)
			if failure == nil {
				failure = fmt.Errorf("%s: send to %s: %w", m.name, netip.AddrFrom4(m.peers[i].Addr), err)
			}
		}
	}
	if failure != nil {
		// The interface may be another one by now: let Receive look at once.
		m.s.in.SetReadDeadline(time.Unix(1, 0))
	}
	return failure
}

// Receive is media.Medium's.
func (m *medium) Receive(buf []byte) (int, error) {
	for {
		s, err := m.sockets()
		if err != nil {
			return 0, err
		}
		s.in.SetReadDeadline(time.Now().Add(checkInterval))
		n, _, err := s.in.ReadFromUDPAddrPort(buf)
		switch {
		case err == nil:
			m.backoff.Reset()
			m.received.Add(1)
			return n, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			if err := s.check(m.spec.Interface); err != nil {
				return 0, m.broken(s, err)
			}
			m.backoff.Reset() // not earlier: a socket that opens may break at once
		case errors.Is(err, unix.ECONNREFUSED):
		default:
			return 0, m.broken(s, err)
		}
	}
}

// sockets returns the open sockets. If there are none it makes one attempt to
// open them, when it is time for it.
func (m *medium) sockets() (*sockets, error) {
	m.mu.Lock()
	s, closed := m.s, m.closed
	m.mu.Unlock()
	if closed {
		return nil, media.ErrClosed
	}
	if s != nil {
		return s, nil
	}
	if !m.backoff.Wait(m.done) {
		return nil, media.ErrClosed
	}
	s, err := openSockets(m.spec.Interface, m.spec.Port)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.why = fmt.Errorf("%s: %w", m.name, err)
		return nil, m.why
	}
	if m.closed {
		s.close()
		return nil, media.ErrClosed
	}
	m.s, m.why = s, nil
	return s, nil
}

// broken closes the sockets s; the next Receive opens new ones.
func (m *medium) broken(s *sockets, err error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return media.ErrClosed
	}
	s.close()
	m.s, m.why = nil, fmt.Errorf("%s: %w", m.name, err)
	return m.why
}

// Stats is media.Medium's.
func (m *medium) Stats() media.Stats {
	return media.Stats{Sent: m.sent.Load(), Received: m.received.Load(), Dropped: m.dropped.Load(), Failed: m.failed.Load()}
}

// Close is media.Medium's.
func (m *medium) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return media.ErrClosed
	}
	m.closed = true
	close(m.done)
	if m.s != nil {
		m.s.close()
	}
	return nil
}
