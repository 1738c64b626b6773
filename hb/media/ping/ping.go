// Package ping is the heartbeat medium of ping nodes: machines that run no
// heartbeat but answer ICMP echo requests, such as the router, and by that show
// whether the network still reaches this far (heartbeat-wire.md section 12).
// Importing it registers "ping" with package media.
//
// A packet that is sent travels as the payload of an echo request to each host
// of the medium, and what the hosts echo is received: a packet comes back as
// often as hosts answer. Only answers to this medium count, from its hosts; that
// the packet is ours is for its authenticator to say, as on every medium.
//
// One medium is one ping node: a single host, or a group of hosts any of which
// will do. It needs CAP_NET_RAW.
package ping

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"systole/hb/internal/icmp"
	"systole/hb/internal/netdev"
	"systole/hb/media"
	"systole/hb/media/internal/reopen"
)

func init() { media.Register("ping", open) }

const (
	// checkInterval is how often it is looked whether the interface is still
	// the one that the socket is bound to; see package udp.
	checkInterval = time.Second
	// maxPacket is the longest IP packet.
	maxPacket = 64 << 10
	// tosLowDelay marks the packets as those of the other media (section 1).
	tosLowDelay = 0x10
)

// medium is a media.Medium.
type medium struct {
	name  string
	cfg   icmp.Config
	hosts []netip.Addr
	conn  *reopen.Conn[icmp.Socket]

	seq     uint16 // Send's
	buf     []byte // Receive's
	checked time.Time

	sent, received, dropped, failed atomic.Uint64
}

func open(spec media.Spec) (media.Medium, error) {
	m := &medium{name: "ping " + spec.Name, buf: make([]byte, maxPacket)}
	if spec.Name == "" && len(spec.Peers) == 1 {
		m.name = "ping " + spec.Peers[0].Addr().String()
	}
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s: %s", media.ErrSpec, m.name, fmt.Sprintf(format, args...))
	}
	if f := spec.Unused("name", "interface", "peers"); f != "" {
		return nil, bad("%s means nothing to it", f)
	}
	device := spec.Interface
	for _, p := range spec.Peers {
		switch a, z := p.Addr(), p.Addr().Zone(); {
		case !a.IsValid():
			return nil, bad("a host has no address")
		case p.Port() != 0:
			return nil, bad("host %s has a port: ICMP has none", p)
		case a.IsUnspecified(), a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
			return nil, bad("host %s is not the address of one machine", a)
		case a.IsLinkLocalUnicast() && a.Is6() && z == "" && spec.Interface == "":
			return nil, bad("host %s is on one interface: say which", a)
		case z != "" && device == "" && len(m.hosts) == 0:
			device = z
		case z != "" && z != device:
			return nil, bad("host %s is on another interface than the rest", a)
		}
		a := p.Addr().Unmap().WithZone("")
		switch {
		case slices.Contains(m.hosts, a):
			return nil, bad("host %s is there twice", a)
		case len(m.hosts) > 0 && a.Is6() != m.hosts[0].Is6():
			return nil, bad("host %s is of another family than the first: IPv4 and IPv6 need a medium each", a)
		}
		m.hosts = append(m.hosts, a)
	}
	switch {
	case len(m.hosts) == 0:
		return nil, bad("no host to ask")
	case len(m.hosts) > 1 && spec.Name == "":
		return nil, bad("%d hosts are a group, which needs a name", len(m.hosts))
	case device != "" && !netdev.ValidName(device):
		return nil, bad("%q is no name of an interface", device)
	}
	var id [2]byte
	rand.Read(id[:])
	m.cfg = icmp.Config{Family: icmp.FamilyOf(m.hosts[0]), Device: device, ID: binary.BigEndian.Uint16(id[:]), TOS: tosLowDelay}
	m.conn = reopen.New(m.name, m.open, func(s *icmp.Socket) { s.Close() })
	return m, nil
}

func (m *medium) open() (*icmp.Socket, error) {
	m.checked = time.Now()
	return icmp.Open(m.cfg)
}

func (m *medium) Name() string { return m.name }

// Send is media.Medium's: an echo request to each host.
func (m *medium) Send(p []byte) error {
	s, err := m.conn.Hold()
	if err != nil {
		if err != media.ErrClosed {
			m.failed.Add(1)
		}
		return err
	}
	defer m.conn.Release()
	m.seq++
	var failure error
	for _, h := range m.hosts {
		err := s.Send(h, m.seq, p)
		switch {
		case err == nil:
			m.sent.Add(1)
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.EINTR):
			m.dropped.Add(1)
		default:
			m.failed.Add(1)
			if failure == nil {
				failure = fmt.Errorf("%s: ask %s: %w", m.name, h, err)
			}
		}
	}
	if failure != nil {
		// The interface may be another one by now: let Receive look at once.
		s.SetReadDeadline(time.Unix(1, 0))
	}
	return failure
}

// Receive is media.Medium's.
func (m *medium) Receive(buf []byte) (int, error) {
	for {
		s, err := m.conn.Get()
		if err != nil {
			return 0, err
		}
		if now := time.Now(); now.Sub(m.checked) >= checkInterval {
			m.checked = now
			if err := m.check(s); err != nil {
				return 0, m.conn.Broken(s, err)
			}
			m.conn.Works()
		}
		s.SetReadDeadline(time.Now().Add(checkInterval))
		msg, err := s.Receive(m.buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			m.checked = time.Time{}
		case err != nil:
			return 0, m.conn.Broken(s, err)
		case !msg.Refused.IsValid() && slices.Contains(m.hosts, msg.From):
			m.conn.Works()
			m.received.Add(1)
			return copy(buf, msg.Echo.Payload), nil
		}
	}
}

// errReplaced: the socket is bound to an interface that no longer has the name.
var errReplaced = errors.New("interface was replaced, opening it again")

// check looks after the interface, if there is one.
func (m *medium) check(s *icmp.Socket) error {
	if m.cfg.Device == "" {
		return nil
	}
	var index uint32
	var err error
	cerr := s.Control(func(fd int) { index, err = netdev.Index(fd, m.cfg.Device) })
	if err == nil && cerr == nil && index != s.Index() {
		return errReplaced
	}
	return errors.Join(cerr, err)
}

// Stats is media.Medium's. Received counts answers.
func (m *medium) Stats() media.Stats {
	return media.Stats{Sent: m.sent.Load(), Received: m.received.Load(), Dropped: m.dropped.Load(), Failed: m.failed.Load()}
}

// Close is media.Medium's.
func (m *medium) Close() error { return m.conn.Close() }
