package udp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"systole/hb/internal/netdev"
)

// sockets are the two of one medium: what is sent comes from a port of its
// own, not from the one that is received on (section 1).
type sockets struct {
	in      *net.UDPConn
	out     int // a descriptor outside of the runtime's poller: Send must not wait
	ifindex uint32
	dest    []netip.AddrPort // as Config.To says
	to      []unix.Sockaddr  // the same; sending writes into it
	running bool             // had a carrier when check looked last; Receive's
}

// openSockets binds a pair to the interface, which must exist.
func openSockets(cfg *Config) (_ *sockets, err error) {
	s := &sockets{out: -1, running: true}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	domain, network, any := unix.AF_INET, "udp4", "0.0.0.0"
	if cfg.V6 {
		domain, network, any = unix.AF_INET6, "udp6", "[::]" // and nothing of IPv4, which may have the same port
	}
	s.out, err = unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("socket to send: %w", err)
	}
	// The index is read before the sockets are bound: if the interface is
	// replaced between the two, check sees it.
	if s.ifindex, err = netdev.Index(s.out, cfg.Device); err != nil {
		return nil, err
	}
	if err := netdev.Bind(s.out, cfg.Device); err != nil {
		return nil, err
	}
	if cfg.Out != nil {
		if err := cfg.Out(s.out, int(s.ifindex)); err != nil {
			return nil, err
		}
	}
	if s.dest, err = cfg.To(s.out); err != nil {
		return nil, err
	}
	for _, d := range s.dest {
		if cfg.V6 {
			// The number of the interface is for link-local addresses alone.
			s.to = append(s.to, &unix.SockaddrInet6{Port: int(d.Port()), Addr: d.Addr().As16(), ZoneId: s.ifindex})
		} else {
			s.to = append(s.to, &unix.SockaddrInet4{Port: int(d.Port()), Addr: d.Addr().As4()})
		}
	}

	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) { err = s.prepare(int(fd), cfg) }); cerr != nil {
			return cerr
		}
		return err
	}}
	conn, err := lc.ListenPacket(context.Background(), network, fmt.Sprintf("%s:%d", any, cfg.Port))
	if err != nil {
		return nil, fmt.Errorf("socket to receive: %w", err)
	}
	s.in = conn.(*net.UDPConn)
	return s, nil
}

// prepare sets what must be set before the receiving socket is bound.
func (s *sockets) prepare(fd int, cfg *Config) error {
	if err := netdev.Set(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, "SO_REUSEADDR", 1); err != nil {
		return err
	}
	if err := netdev.Bind(fd, cfg.Device); err != nil {
		return err
	}
	if cfg.In != nil {
		return cfg.In(fd, int(s.ifindex))
	}
	return nil
}

var (
	// errReplaced: the sockets are bound to an interface that no longer has the
	// name.
	errReplaced = errors.New("interface was replaced, opening it again")
	// errReaddressed: the interface now reaches the others in another way.
	errReaddressed = errors.New("interface has other addresses, opening it again")
)

// check tells whether the interface is still the one the sockets are bound to,
// with the same destinations, and whether it has just got its carrier back. It
// may be down: sockets survive that.
func (s *sockets) check(cfg *Config) (back bool, err error) {
	cerr := s.control(func(fd int) {
		var index uint32
		if index, err = netdev.Index(fd, cfg.Device); err != nil {
			return
		}
		if index != s.ifindex {
			err = errReplaced
			return
		}
		var dest []netip.AddrPort
		if dest, err = cfg.To(fd); err != nil {
			return
		}
		if !slices.Equal(dest, s.dest) {
			err = errReaddressed
			return
		}
		var running bool
		if running, err = netdev.HasCarrier(fd, cfg.Device); err != nil {
			return
		}
		back, s.running = running && !s.running, running
	})
	return back, errors.Join(cerr, err)
}

// revive calls the medium's own function for a link that may have forgotten us.
func (s *sockets) revive(cfg *Config) error {
	if cfg.Revive == nil {
		return nil
	}
	var err error
	cerr := s.control(func(fd int) { err = cfg.Revive(fd, int(s.ifindex)) })
	return errors.Join(cerr, err)
}

// control calls f with the receiving socket, not with out: Close cannot take
// it away meanwhile.
func (s *sockets) control(f func(fd int)) error {
	rc, err := s.in.SyscallConn()
	if err != nil {
		return err
	}
	return rc.Control(func(fd uintptr) { f(int(fd)) })
}

func (s *sockets) close() {
	if s.in != nil {
		s.in.Close()
	}
	if s.out >= 0 {
		unix.Close(s.out)
		s.out = -1
	}
}
