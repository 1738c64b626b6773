package host

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"systole/hb"
	"systole/hb/internal/icmp"
	"systole/hb/internal/netdev"
)

var (
	// ErrClosed: Close was called.
	ErrClosed = errors.New("hosts are closed")
	// ErrPath: a path cannot be used as it is.
	ErrPath = errors.New("bad path to a host")
)

// Path is a way on which a peer's machine can be asked: one for each peer and
// medium that goes by an interface.
type Path struct {
	Node      string // whose machine
	Medium    string // the name by which notices are given
	Interface string // by which it is asked, and whose carrier is watched
	// Addr is the machine's address there. If it is zero, as where the medium
	// knows none (mcast, bcast), only the carrier is watched.
	Addr netip.Addr
	// Port is the UDP port to which the medium sends there; 0 if it sends to
	// none of Addr's, and then no refusal is expected.
	Port uint16
	// Local is our own address there. If it and Port are given the daemons are
	// joined by tethers, on TCP's port of the same number: see Disconnected.
	Local netip.Addr
}

// Config says what to watch.
type Config struct {
	Paths []Path
}

// Hosts asks and listens. Any goroutine may call its methods, but only one at a
// time Receive.
type Hosts struct {
	conns   []*conn
	targets map[string][]*target // by node
	tethers map[string][]*tether // by node
	secret  [8]byte              // in what we ask; who sees it is on the path
	start   time.Time

	done    chan struct{}
	cancel  context.CancelFunc // what runs with a context
	running sync.WaitGroup
	pending pending
}

// target is an address that is asked, on one interface.
type target struct {
	conn  *conn
	addr  netip.Addr
	paths []Path
}

// stale is the age at which an answer says nothing any more of the present.
const stale = time.Second

// Open begins to watch. The error is ErrPath, or os.ErrPermission without
// CAP_NET_RAW. An interface that is absent is none: it may come.
func Open(cfg Config) (*Hosts, error) {
	h := &Hosts{
		targets: make(map[string][]*target), tethers: make(map[string][]*tether),
		start: time.Now(), done: make(chan struct{}),
	}
	h.pending.ready = make(chan struct{}, 1)
	var id [2]byte
	rand.Read(id[:])
	rand.Read(h.secret[:])
	for _, p := range cfg.Paths {
		if err := h.add(p, binary.BigEndian.Uint16(id[:])); err != nil {
			return nil, err
		}
	}
	// The paths are complete; now the sockets, so that the first Ask is not
	// lost.
	for i, c := range h.conns {
		if err := c.open(); errors.Is(err, os.ErrPermission) {
			for _, c := range h.conns[:i] {
				c.close()
			}
			return nil, err
		}
	}
	w := newWatch(cfg.Paths, h.conns, &h.pending)
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel = cancel
	listeners, err := h.listenTethers(ctx, cfg.Paths)
	var sub *subscription
	if err == nil {
		sub, err = w.subscribe()
	}
	if err != nil {
		cancel()
		for _, ln := range listeners {
			ln.Close()
		}
		for _, c := range h.conns {
			c.close()
		}
		return nil, err
	}
	for _, ln := range listeners {
		h.running.Go(func() { h.accept(ctx, ln) })
	}
	for _, ts := range h.tethers {
		for _, t := range ts {
			h.running.Go(func() { h.tether(ctx, t) })
		}
	}
	h.running.Go(func() { w.run(sub, h.done) })
	for _, c := range h.conns {
		h.running.Go(func() { c.run(h) })
	}
	return h, nil
}

// add notes a path.
func (h *Hosts) add(p Path, id uint16) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s on %s: %s", ErrPath, p.Node, p.Medium, fmt.Sprintf(format, args...))
	}
	if !netdev.ValidName(p.Interface) {
		return bad("%q is no name of an interface", p.Interface)
	}
	if p.Addr == (netip.Addr{}) {
		return nil
	}
	if z := p.Addr.Zone(); z != "" && z != p.Interface {
		return bad("%s is not on interface %s", p.Addr, p.Interface)
	}
	addr := p.Addr.Unmap().WithZone("")
	switch {
	case p.Node == "":
		return bad("nobody is known to have the address %s", addr)
	case addr.IsUnspecified(), addr.IsMulticast(), addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return bad("%s is not the address of one machine", addr)
	}
	c := h.conn(p.Interface, icmp.FamilyOf(addr), id)
	t := c.targets[addr]
	switch {
	case t == nil:
		t = &target{conn: c, addr: addr}
		c.targets[addr] = t
		h.targets[p.Node] = append(h.targets[p.Node], t)
	case t.paths[0].Node != p.Node:
		return bad("%s is the address of %s already", addr, t.paths[0].Node)
	}
	if p.Local.IsValid() && p.Port != 0 && !slices.ContainsFunc(t.paths, func(o Path) bool { return o.Port == p.Port && o.Local.IsValid() }) {
		h.tethers[p.Node] = append(h.tethers[p.Node], &tether{t: t, port: p.Port, kick: make(chan struct{}, 1)})
	}
	t.paths = append(t.paths, p)
	if p.Port != 0 && !slices.Contains(c.cfg.Ports, p.Port) {
		c.cfg.Ports = append(c.cfg.Ports, p.Port)
	}
	return nil
}

// conn returns the connection of an interface and a family.
func (h *Hosts) conn(device string, f icmp.Family, id uint16) *conn {
	for _, c := range h.conns {
		if c.cfg.Device == device && c.cfg.Family == f {
			return c
		}
	}
	c := &conn{cfg: icmp.Config{Family: f, Device: device, ID: id}, targets: make(map[netip.Addr]*target)}
	h.conns = append(h.conns, c)
	return c
}

// Ask sends an echo request to a node's machine, on each path to it, and never
// waits. What cannot be sent is not answered either: nobody is told of it.
func (h *Hosts) Ask(node string) {
	var payload [len(h.secret) + 8]byte
	copy(payload[:], h.secret[:])
	binary.BigEndian.PutUint64(payload[len(h.secret):], uint64(time.Since(h.start)))
	for _, t := range h.targets[node] {
		t.conn.send(t.addr, payload[:])
	}
	for _, t := range h.tethers[node] {
		select {
		case t.kick <- struct{}{}:
		default:
		}
	}
}

// Receive waits for the next notice. The only error is ErrClosed.
func (h *Hosts) Receive() (hb.Notice, error) {
	for {
		select {
		case <-h.done:
			return hb.Notice{}, ErrClosed
		default:
		}
		if n, ok := h.pending.take(); ok {
			return n, nil
		}
		select {
		case <-h.done:
		case <-h.pending.ready:
		}
	}
}

// heard turns what a socket received into notices.
func (h *Hosts) heard(c *conn, m icmp.Message) {
	t := c.targets[m.From]
	if t == nil {
		return
	}
	if !m.Refused.IsValid() {
		if !h.ours(m.Echo.Payload, time.Since(h.start)) {
			return
		}
		for _, p := range t.paths {
			h.pending.add(hb.Notice{Node: p.Node, Medium: p.Medium, Kind: hb.HostAnswered})
		}
		return
	}
	if m.Refused.Addr() != t.addr {
		return
	}
	for _, p := range t.paths {
		if p.Port == m.Refused.Port() {
			h.pending.add(hb.Notice{Node: p.Node, Medium: p.Medium, Kind: hb.PortRefused})
		}
	}
}

// ours tells whether an echoed payload is one of ours that was sent less than a
// second ago.
func (h *Hosts) ours(payload []byte, now time.Duration) bool {
	secret, at, ok := cut(payload, len(h.secret))
	if !ok || len(at) != 8 || !bytes.Equal(secret, h.secret[:]) {
		return false
	}
	sent := binary.BigEndian.Uint64(at)
	return sent <= uint64(now) && uint64(now)-sent < uint64(stale)
}

func cut(p []byte, n int) (head, tail []byte, ok bool) {
	if len(p) < n {
		return nil, nil, false
	}
	return p[:n], p[n:], true
}

// Trouble says why an interface cannot be used at present, such as that it does
// not exist; nil if all can.
func (h *Hosts) Trouble() error {
	var all []error
	for _, c := range h.conns {
		all = append(all, c.trouble())
	}
	return errors.Join(all...)
}

// Close ends a waiting Receive, and returns when nothing is left. Later calls
// return ErrClosed.
func (h *Hosts) Close() error {
	if !h.pending.end(h.done) {
		return ErrClosed
	}
	h.cancel()
	for _, c := range h.conns {
		c.close()
	}
	h.running.Wait()
	return nil
}
