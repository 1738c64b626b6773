package icmp

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"systole/hb/internal/netdev"
)

// Config says what a socket is for.
type Config struct {
	Family Family
	Device string   // the only interface to send and receive on; "" is any
	ID     uint16   // of the echo requests that are sent
	Ports  []uint16 // UDP ports whose refusal is received
	TOS    int      // type of service, or traffic class, of what is sent
}

// Socket is a raw ICMP socket. One goroutine may call Receive while others call
// Send and Close.
type Socket struct {
	family Family
	id     uint16
	index  uint32 // of the interface; 0 without one
	file   *os.File
	raw    syscall.RawConn

	mu  sync.Mutex
	out []byte // for Send
}

// Open opens a socket. The error is os.ErrPermission without CAP_NET_RAW.
func Open(cfg Config) (*Socket, error) {
	domain, proto := unix.AF_INET, unix.IPPROTO_ICMP
	if cfg.Family == V6 {
		domain, proto = unix.AF_INET6, unix.IPPROTO_ICMPV6
	}
	fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	if errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("raw ICMP socket: %w: it needs CAP_NET_RAW", err)
	}
	if err != nil {
		return nil, fmt.Errorf("raw ICMP socket: %w", err)
	}
	s := &Socket{family: cfg.Family, id: cfg.ID}
	if err := s.prepare(fd, cfg); err != nil {
		unix.Close(fd)
		return nil, err
	}
	s.file = os.NewFile(uintptr(fd), "icmp") // in the runtime's poller: Close ends Receive
	if s.raw, err = s.file.SyscallConn(); err != nil {
		s.file.Close()
		return nil, err
	}
	return s, nil
}

func (s *Socket) prepare(fd int, cfg Config) (err error) {
	if err := attach(fd, cfg.Family, cfg.ID, cfg.Ports); err != nil {
		return err
	}
	if cfg.TOS != 0 && cfg.Family == V4 {
		err = netdev.Set(fd, unix.IPPROTO_IP, unix.IP_TOS, "IP_TOS", cfg.TOS)
	} else if cfg.TOS != 0 {
		err = netdev.Set(fd, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, "IPV6_TCLASS", cfg.TOS)
	}
	if err != nil || cfg.Device == "" {
		return err
	}
	// The index is read before: if the interface is replaced between the two,
	// whoever compares Index sees it.
	if s.index, err = netdev.Index(fd, cfg.Device); err != nil {
		return err
	}
	return netdev.Bind(fd, cfg.Device)
}

// Index is the number of the interface the socket is bound to, as it was when
// it was opened.
func (s *Socket) Index() uint32 { return s.index }

// Send sends an echo request with the socket's identifier and never waits.
// Link-local addresses need no zone where there is an interface.
func (s *Socket) Send(to netip.Addr, seq uint16, payload []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out = AppendRequest(s.out[:0], s.family, Echo{ID: s.id, Seq: seq, Payload: payload})
	var sa unix.Sockaddr
	if s.family == V4 {
		sa = &unix.SockaddrInet4{Addr: to.As4()}
	} else {
		sa = &unix.SockaddrInet6{Addr: to.As16(), ZoneId: s.index}
	}
	var err error
	cerr := s.raw.Control(func(fd uintptr) { err = unix.Sendto(int(fd), s.out, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, sa) })
	return errors.Join(cerr, err)
}

// Receive waits for a reply or a refusal. The payload is part of buf, which
// should have room for the whole packet. The error is os.ErrClosed after Close,
// and os.ErrDeadlineExceeded at the deadline.
func (s *Socket) Receive(buf []byte) (Message, error) {
	for {
		var n int
		var from unix.Sockaddr
		var err error
		rerr := s.raw.Read(func(fd uintptr) bool {
			n, from, err = unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT)
			return !errors.Is(err, unix.EAGAIN)
		})
		switch {
		case rerr != nil:
			return Message{}, rerr
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return Message{}, err
		}
		m, ok := Parse(s.family, buf[:n])
		if !ok || !m.Refused.IsValid() && m.Echo.ID != s.id {
			continue
		}
		if sa, v6 := from.(*unix.SockaddrInet6); v6 {
			m.From = netip.AddrFrom16(sa.Addr)
		}
		return m, nil
	}
}

// SetReadDeadline ends a waiting Receive at a time; zero is never.
func (s *Socket) SetReadDeadline(t time.Time) error { return s.file.SetReadDeadline(t) }

// Control calls f with the socket, which is not closed meanwhile.
func (s *Socket) Control(f func(fd int)) error {
	return s.raw.Control(func(fd uintptr) { f(int(fd)) })
}

// Close ends a waiting Receive.
func (s *Socket) Close() error { return s.file.Close() }
