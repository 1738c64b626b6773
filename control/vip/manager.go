package vip

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Manager adds, removes and announces virtual addresses. Its methods may be
// called from several goroutines.
type Manager struct {
	log       *slog.Logger
	announcer *announcer
	sockets   *sockets

	mu     sync.RWMutex // held for reading while handle is used
	closed bool
	handle *netlink.Handle // opened with the first use, as is links
	links  *linkWatch

	addedMu sync.Mutex
	added   map[key]Addr // by Add, and not taken away by Del since
}

// New returns a manager for the network namespace of the process. It opens
// nothing until it is used.
//
// settle is how long it waits after link-up before it announces again. A
// director that was cut off finds out by the next beats that another one owns
// the address by now; if it announced it before that, it would take the clients
// away from where they are served. A few keepalives are right; clients that
// know us are not affected.
func New(log *slog.Logger, settle time.Duration) *Manager {
	m := &Manager{log: log, added: make(map[key]Addr)}
	m.sockets = &sockets{lookup: m.lookup, open: make(map[string]*socket)}
	m.announcer = newAnnouncer(log, m.sockets.send, m.Present)
	m.announcer.settle = settle
	return m
}

// Add puts a on its interface: scope global, no prefix route and no broadcast
// address, since the LAN's own address has those. An address that is there
// already, with whatever prefix length, is left as it is, and the log says so.
func (m *Manager) Add(a Addr) error {
	a, err := a.check()
	if err != nil {
		return err
	}
	h, err := m.use()
	if err != nil {
		return err
	}
	defer m.mu.RUnlock()
	l, err := h.LinkByName(a.Interface)
	if err != nil {
		return fmt.Errorf("adding %s: interface %s: %w", a.IP, a.Interface, err)
	}
	have, err := find(h, l, a.IP)
	if err != nil {
		return fmt.Errorf("adding %s: %w", a, err)
	}
	m.note(a, true) // also when adding fails: who knows how far it came
	if len(have) > 0 {
		m.log.Info("address was there already", "address", have[0].IPNet, "interface", a.Interface)
		return nil
	}
	err = h.AddrAdd(l, kernelAddr(a))
	if a.IP.Is6() && errors.Is(err, unix.EACCES) {
		return fmt.Errorf("adding %s: the interface has no IPv6 (sysctl net.ipv6.conf.%s.disable_ipv6): %w", a, a.Interface, err)
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("adding %s (CAP_NET_ADMIN is needed): %w", a, err)
	}
	m.log.Info("address added", "address", a.IP, "interface", a.Interface)
	return nil
}

// kernelAddr is a as the kernel is to have it.
func kernelAddr(a Addr) *netlink.Addr {
	k := &netlink.Addr{
		IPNet: &net.IPNet{IP: a.IP.AsSlice(), Mask: net.CIDRMask(a.PrefixLen, a.IP.BitLen())},
		Scope: unix.RT_SCOPE_UNIVERSE,
		Flags: unix.IFA_F_NOPREFIXROUTE,
	}
	if a.IP.Is4() {
		k.Broadcast = net.IPv4zero
		return k
	}
	k.Flags |= unix.IFA_F_NODAD
	k.ValidLft, k.PreferedLft = math.MaxUint32, 0 // for ever, deprecated
	return k
}

// Del ends a's announcements, then takes a off its interface in whatever form
// it is there. No address, or no such interface, is no error.
func (m *Manager) Del(a Addr) error {
	a, err := a.check()
	if err != nil {
		return err
	}
	m.announcer.stop(a)
	h, err := m.use()
	if err != nil {
		return err
	}
	defer m.mu.RUnlock()
	l, err := h.LinkByName(a.Interface)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		m.note(a, false)
		return nil
	}
	if err != nil {
		return fmt.Errorf("removing %s: interface %s: %w", a.IP, a.Interface, err)
	}
	have, err := find(h, l, a.IP)
	if err != nil {
		return fmt.Errorf("removing %s: %w", a, err)
	}
	for i := range have {
		if err := h.AddrDel(l, &have[i]); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("removing %s (CAP_NET_ADMIN is needed): %w", a, err)
		}
		m.log.Info("address removed", "address", a.IP, "interface", a.Interface)
	}
	m.note(a, false)
	return nil
}

func (m *Manager) note(a Addr, added bool) {
	m.addedMu.Lock()
	defer m.addedMu.Unlock()
	if added {
		m.added[a.key()] = a
	} else {
		delete(m.added, a.key())
	}
}

// Added are the addresses that Add was asked for and Del has not taken away
// since, in the order of their numbers: what a daemon that ends has to look
// after, whatever its configuration said when it began.
func (m *Manager) Added() []Addr {
	m.addedMu.Lock()
	defer m.addedMu.Unlock()
	return slices.SortedFunc(maps.Values(m.added), func(a, b Addr) int {
		return cmp.Or(a.IP.Compare(b.IP), cmp.Compare(a.Interface, b.Interface))
	})
}

// Present tells whether a is on its interface, with whatever prefix length.
func (m *Manager) Present(a Addr) (bool, error) {
	a, err := a.check()
	if err != nil {
		return false, err
	}
	h, err := m.use()
	if err != nil {
		return false, err
	}
	defer m.mu.RUnlock()
	l, err := h.LinkByName(a.Interface)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking for %s: interface %s: %w", a.IP, a.Interface, err)
	}
	have, err := find(h, l, a.IP)
	return len(have) > 0, err
}

// Announce tells the LAN by gratuitous ARP, or by neighbour advertisements, that
// a is here. The first announcement leaves before it returns, more follow by schedule, and all again some time
// after the interface comes up or changes its hardware address. Calling it once more
// restarts the schedule. What goes wrong is logged: an announcement is
// repeated anyway, and there is nothing else a caller could do about it.
func (m *Manager) Announce(a Addr) {
	a, err := a.check()
	if err == nil {
		err = m.open()
	}
	if err != nil {
		m.log.Error("cannot announce", "address", a.IP, "interface", a.Interface, "error", err)
		return
	}
	m.announcer.announce(a)
}

// Close ends all announcements. The addresses stay: whether they should go is
// the caller's decision.
func (m *Manager) Close() error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil
	}
	m.closed = true
	links := m.links
	m.mu.Unlock()

	m.announcer.close()
	if links != nil {
		links.close()
	}
	m.sockets.close()

	m.mu.Lock() // waits for those who still use it
	defer m.mu.Unlock()
	if m.handle != nil {
		m.handle.Close()
	}
	return nil
}

// use returns the netlink handle, with m.mu held for reading unless there is
// an error.
func (m *Manager) use() (*netlink.Handle, error) {
	if err := m.open(); err != nil {
		return nil, err
	}
	m.mu.RLock()
	if m.closed {
		m.mu.RUnlock()
		return nil, ErrClosed
	}
	return m.handle, nil
}

// open makes the netlink handle if there is none, and follows the interfaces.
func (m *Manager) open() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	if m.handle != nil {
		return nil
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("opening a netlink socket: %w", err)
	}
	w, err := watchLinks(m.log, func() (*subscription, error) { return subscribe(h) }, m.linkChanged)
	if err != nil {
		h.Close()
		return err
	}
	m.handle, m.links = h, w
	return nil
}

func (m *Manager) linkChanged(c change) {
	for _, name := range c.stale {
		m.sockets.drop(name)
	}
	if c.why != "" {
		m.announcer.again(c.announce, c.why)
	}
}

// lookup finds an interface for the raw sockets.
func (m *Manager) lookup(name string) (int, net.HardwareAddr, error) {
	h, err := m.use()
	if err != nil {
		return 0, nil, err
	}
	defer m.mu.RUnlock()
	l, err := h.LinkByName(name)
	if err != nil {
		return 0, nil, fmt.Errorf("interface %s: %w", name, err)
	}
	return l.Attrs().Index, l.Attrs().HardwareAddr, nil
}

// find returns the addresses on l that are ip. A dump that a concurrent change
// disturbed is read again: it may have missed the one we look for.
func find(h *netlink.Handle, l netlink.Link, ip netip.Addr) ([]netlink.Addr, error) {
	family := netlink.FAMILY_V4
	if ip.Is6() {
		family = netlink.FAMILY_V6
	}
	var all []netlink.Addr
	err := error(netlink.ErrDumpInterrupted)
	for try := 0; try < 10 && errors.Is(err, netlink.ErrDumpInterrupted); try++ {
		all, err = h.AddrList(l, family)
	}
	if err != nil {
		return nil, fmt.Errorf("listing the addresses of %s: %w", l.Attrs().Name, err)
	}
	var have []netlink.Addr
	for _, a := range all {
		if got, ok := netip.AddrFromSlice(a.IP); ok && got.Unmap() == ip {
			have = append(have, a)
		}
	}
	return have, nil
}
