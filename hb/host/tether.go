package host

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"systole/hb"
	"systole/hb/internal/netdev"
)

// A tether is a TCP connection to a peer's daemon over which nothing is ever
// said. When the daemon dies its kernel closes the connection, and so we know
// at once what else the next beat would find out. Each side makes one and
// accepts the other's.

const (
	// tetherPatience is how long a peer may take to accept.
	tetherPatience = time.Second
	// tetherPause is the time between two attempts that failed: an old node
	// never accepts.
	tetherPause = 5 * time.Second
	// tetherRefusals is how often it is tried again at once after a tether
	// broke: as often as hb wants to see a refusal before it believes it.
	tetherRefusals = 2
	// tetherFailures is how many may be short or fail otherwise, in a row.
	tetherFailures = 4
)

// tetherAlive finds out that the machine behind a tether was switched off: then
// nobody has closed it.
var tetherAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: time.Second, Count: 3}

// tether is the one that we make.
type tether struct {
	t    *target
	port uint16
	kick chan struct{} // somebody asks for that machine, so its daemon may be there
}

// run keeps the tether until ctx ends.
func (h *Hosts) tether(ctx context.Context, t *tether) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.kick:
		}
		if h.hold(ctx, t) {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(tetherPause):
		}
	}
}

// hold makes a tether and holds it until it breaks for good. It is false if
// there was none to hold.
//
// The kernel of a daemon that died refuses another at once. One that lives
// accepts it. One that is dying does, too, if its tethers are closed before its
// port: that one breaks when the port is closed.
func (h *Hosts) hold(ctx context.Context, t *tether) bool {
	c, err := t.dial(ctx)
	if err != nil {
		return false
	}
	for refused, failed := 0, 0; ; {
		switch {
		case err == nil:
			made := time.Now()
			silence(ctx, c)
			if ctx.Err() != nil {
				return true
			}
			h.tell(t, hb.Disconnected)
			if failed++; time.Since(made) >= tetherPatience {
				refused, failed = 0, 0 // what broke lived: this is another matter
			}
		case errors.Is(err, unix.ECONNREFUSED):
			h.tell(t, hb.PortRefused)
			refused++
		default:
			failed++
		}
		if refused == tetherRefusals || failed == tetherFailures {
			return true
		}
		c, err = t.dial(ctx)
	}
}

// tell makes a notice for every medium that goes to that port.
func (h *Hosts) tell(t *tether, kind hb.NoticeKind) {
	for _, p := range t.t.paths {
		if p.Port == t.port {
			h.pending.add(hb.Notice{Node: p.Node, Medium: p.Medium, Kind: kind})
		}
	}
}

func (t *tether) dial(ctx context.Context) (net.Conn, error) {
	device, addr := t.t.conn.cfg.Device, t.t.addr
	if addr.Is6() && addr.IsLinkLocalUnicast() {
		addr = addr.WithZone(device)
	}
	d := net.Dialer{Timeout: tetherPatience, KeepAliveConfig: tetherAlive, Control: control(func(fd int) error {
		return netdev.Bind(fd, device)
	})}
	return d.DialContext(ctx, "tcp", netip.AddrPortFrom(addr, t.port).String())
}

// control makes a hook of package net out of one that gets the socket.
func control(f func(fd int) error) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
			return e
		}
		return err
	}
}

// silence closes c when ctx ends, when the other end is closed, or when
// somebody says something after all, and returns then.
func silence(ctx context.Context, c net.Conn) {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	c.Read(make([]byte, 1))
}

// accept holds the peers' ends, one for each of their addresses, until ctx
// ends.
func (h *Hosts) accept(ctx context.Context, ln net.Listener) {
	defer ln.Close()
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	var mu sync.Mutex
	held := make(map[netip.Addr]net.Conn)
	for {
		c, err := ln.Accept()
		if ctx.Err() != nil {
			return
		}
		if err != nil { // no descriptors left: it is only a tether
			select {
			case <-ctx.Done():
			case <-time.After(tetherPatience):
			}
			continue
		}
		from := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap().WithZone("")
		if !h.known(from) {
			c.Close()
			continue
		}
		mu.Lock()
		if old := held[from]; old != nil {
			old.Close()
		}
		held[from] = c
		mu.Unlock()
		h.running.Go(func() {
			silence(ctx, c)
			mu.Lock()
			defer mu.Unlock()
			if held[from] == c {
				delete(held, from)
			}
		})
	}
}

// known says whether a peer has the address.
func (h *Hosts) known(a netip.Addr) bool {
	for _, c := range h.conns {
		if c.targets[a] != nil {
			return true
		}
	}
	return false
}

// listenTethers listens on our own address of each path that has one, whether
// it is on an interface already or not.
func (h *Hosts) listenTethers(ctx context.Context, paths []Path) ([]net.Listener, error) {
	var all []net.Listener
	seen := make(map[netip.AddrPort]bool)
	for _, p := range paths {
		local := p.Local
		if local.Is6() && local.IsLinkLocalUnicast() {
			local = local.WithZone(p.Interface)
		}
		at := netip.AddrPortFrom(local, p.Port)
		if !local.IsValid() || p.Port == 0 || seen[at] {
			continue
		}
		seen[at] = true
		lc := net.ListenConfig{KeepAliveConfig: tetherAlive, Control: control(freebind(local))}
		ln, err := lc.Listen(ctx, "tcp", at.String())
		if err != nil {
			for _, ln := range all {
				ln.Close()
			}
			return nil, err
		}
		all = append(all, ln)
	}
	return all, nil
}

// freebind lets a socket have an address that the machine does not have yet.
func freebind(a netip.Addr) func(fd int) error {
	return func(fd int) error {
		if a.Is4() {
			return netdev.Set(fd, unix.IPPROTO_IP, unix.IP_FREEBIND, "IP_FREEBIND", 1)
		}
		return netdev.Set(fd, unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, "IPV6_FREEBIND", 1)
	}
}
