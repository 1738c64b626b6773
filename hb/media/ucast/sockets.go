package ucast

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// tosLowDelay marks the packets as the original does (section 1).
const tosLowDelay = 0x10

// sockets are the two of one ucast medium: what is sent comes from a port of
// its own, not from the one that is received on.
type sockets struct {
	in      *net.UDPConn
	out     int // a descriptor outside of the runtime's poller: Send must not wait
	ifindex uint32
}

// openSockets binds a pair to the interface, which must exist.
func openSockets(device string, port uint16) (_ *sockets, err error) {
	s := &sockets{out: -1}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	s.out, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("socket to send: %w", err)
	}
	// The index is read before the sockets are bound: if the interface is
	// replaced between the two, check sees it.
	if s.ifindex, err = interfaceIndex(s.out, device); err != nil {
		return nil, err
	}
	if err := bindToDevice(s.out, device); err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(s.out, unix.IPPROTO_IP, unix.IP_TOS, tosLowDelay); err != nil {
		return nil, fmt.Errorf("set IP_TOS: %w", err)
	}

	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) { err = prepare(int(fd), device) }); cerr != nil {
			return cerr
		}
		return err
	}}
	conn, err := lc.ListenPacket(context.Background(), "udp4", fmt.Sprintf("0.0.0.0:%d", port))
	if err != nil {
		return nil, fmt.Errorf("socket to receive: %w", err)
	}
	s.in = conn.(*net.UDPConn)
	return s, nil
}

// prepare sets what must be set before the receiving socket is bound.
func prepare(fd int, device string) error {
	for _, o := range []struct {
		name   string
		option int
	}{{"SO_REUSEADDR", unix.SO_REUSEADDR}, {"SO_REUSEPORT", unix.SO_REUSEPORT}} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, o.option, 1); err != nil {
			return fmt.Errorf("set %s: %w", o.name, err)
		}
	}
	return bindToDevice(fd, device)
}

func bindToDevice(fd int, device string) error {
	if err := unix.BindToDevice(fd, device); err != nil {
		return fmt.Errorf("bind to interface %s: %w", device, err)
	}
	return nil
}

// errReplaced: the sockets are bound to an interface that no longer has the
// name.
var errReplaced = errors.New("interface was replaced, opening it again")

// check tells whether the interface is still the one the sockets are bound to.
// It may be down: sockets survive that.
func (s *sockets) check(device string) error {
	var index uint32
	var err error
	rc, cerr := s.in.SyscallConn()
	if cerr != nil {
		return cerr
	}
	// The receiving socket, not out: Close cannot take it away meanwhile.
	if cerr := rc.Control(func(fd uintptr) { index, err = interfaceIndex(int(fd), device) }); cerr != nil {
		return cerr
	}
	if err != nil {
		return err
	}
	if index != s.ifindex {
		return errReplaced
	}
	return nil
}

// interfaceIndex asks in the network namespace of the socket fd, whatever
// namespace the calling thread is in.
func interfaceIndex(fd int, device string) (uint32, error) {
	ifr, err := unix.NewIfreq(device)
	if err != nil {
		return 0, fmt.Errorf("interface %s: %w", device, err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr); err != nil {
		if errors.Is(err, unix.ENODEV) {
			return 0, fmt.Errorf("interface %s does not exist: %w", device, err)
		}
		return 0, fmt.Errorf("interface %s: %w", device, err)
	}
	return ifr.Uint32(), nil
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
