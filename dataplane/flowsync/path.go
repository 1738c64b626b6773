package flowsync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"systole/dataplane/flowsync/wire"
)

// reopenAfter is how often an interface that is missing, or was replaced, is
// looked for.
const reopenAfter = time.Second

// receiveBuffer holds a burst of a fast sender, bytes.
const receiveBuffer = 8 << 20

// path is a Path with its socket.
type path struct {
	Path
	log    *slog.Logger
	conn   atomic.Pointer[net.UDPConn] // nil: not open now
	failed bool                        // the last send; of the sending goroutine
}

func newPath(p Path, log *slog.Logger) *path {
	return &path{Path: p, log: log.With("interface", p.Interface)}
}

// run keeps the socket open and hands on what arrives.
func (p *path) run(ctx context.Context, receive func([]byte)) {
	said := ""
	for ctx.Err() == nil {
		conn, index, err := p.open(ctx)
		if err != nil {
			if said != err.Error() {
				said = err.Error()
				p.log.Warn("flow synchronisation waits", "error", err)
			}
		} else {
			said = ""
			p.conn.Store(conn)
			p.serve(ctx, conn, index, receive)
			p.conn.Store(nil)
			conn.Close()
		}
		select {
		case <-ctx.Done():
		case <-time.After(reopenAfter):
		}
	}
}

// serve reads until the interface is another one, or ctx ends.
func (p *path) serve(ctx context.Context, conn *net.UDPConn, index int, receive func([]byte)) {
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	buf := make([]byte, wire.MaxSize)
	for {
		if err := conn.SetReadDeadline(time.Now().Add(reopenAfter)); err != nil {
			return
		}
		for {
			n, err := conn.Read(buf)
			if err == nil {
				receive(buf[:n])
				continue
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if ctx.Err() != nil {
				return
			}
			// An ICMP error of a peer that is not there yet is none of ours.
			if !isTransient(err) {
				p.log.Warn("flow synchronisation: the socket failed", "error", err)
				return
			}
		}
		if i, err := net.InterfaceByName(p.Interface); err != nil || i.Index != index {
			return
		}
	}
}

func isTransient(err error) bool {
	return slices.ContainsFunc([]error{unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ENETDOWN},
		func(e error) bool { return errors.Is(err, e) })
}

// open binds a socket to the interface and joins the group.
func (p *path) open(ctx context.Context) (conn *net.UDPConn, index int, err error) {
	ifi, err := net.InterfaceByName(p.Interface)
	if err != nil {
		return nil, 0, fmt.Errorf("interface %s: %w", p.Interface, err)
	}
	if len(p.To) == 0 {
		return nil, 0, errNoAddress
	}
	if conn, err = listen(ctx, p.Interface, p.To[0].Addr().Is6(), p.Port); err != nil {
		return nil, 0, err
	}
	if group := p.To[0].Addr(); group.IsMulticast() {
		if err := join(conn, ifi, group, max(p.TTL, 1)); err != nil {
			conn.Close()
			return nil, 0, fmt.Errorf("group %s on %s: %w", group, p.Interface, err)
		}
	}
	return conn, ifi.Index, nil
}

// listen binds a socket to a port of one interface.
func listen(ctx context.Context, device string, six bool, port uint16) (*net.UDPConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) { err = prepare(int(fd), device) }); cerr != nil {
			return cerr
		}
		return err
	}}
	network, any := "udp4", netip.IPv4Unspecified()
	if six {
		network, any = "udp6", netip.IPv6Unspecified()
	}
	pc, err := lc.ListenPacket(ctx, network, netip.AddrPortFrom(any, port).String())
	if err != nil {
		return nil, err
	}
	return pc.(*net.UDPConn), nil
}

// prepare sets what must be set before a socket is bound. A kernel's daemon may
// have the port on this machine, too.
func prepare(fd int, device string) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if err := unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, device); err != nil {
		return fmt.Errorf("bind to %s: %w", device, err)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		// Not root: as much as the machine's limit allows.
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	return nil
}

// join hears a group, and sends to it, on one interface, but not to ourselves.
func join(conn *net.UDPConn, ifi *net.Interface, group netip.Addr, ttl int) error {
	addr := &net.UDPAddr{IP: group.AsSlice()}
	if group.Is4() {
		c := ipv4.NewPacketConn(conn)
		for _, err := range []error{
			c.JoinGroup(ifi, addr), c.SetMulticastInterface(ifi), c.SetMulticastLoopback(false), c.SetMulticastTTL(ttl),
		} {
			if err != nil {
				return err
			}
		}
		return nil
	}
	c := ipv6.NewPacketConn(conn)
	for _, err := range []error{
		c.JoinGroup(ifi, addr), c.SetMulticastInterface(ifi), c.SetMulticastLoopback(false), c.SetMulticastHopLimit(ttl),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

// send sends a message to everybody. What fails is lost: the protocol finds it
// out.
func (p *path) send(msg []byte) {
	conn := p.conn.Load()
	if conn == nil {
		return
	}
	var bad error
	for _, to := range p.To {
		if _, err := conn.WriteToUDPAddrPort(msg, to); err != nil && !isTransient(err) {
			bad = err
		}
	}
	if bad != nil && !p.failed {
		p.log.Warn("flow synchronisation: not sent", "error", bad)
	}
	p.failed = bad != nil
}
