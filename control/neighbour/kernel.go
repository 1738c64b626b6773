package neighbour

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// lookup asks the routing table how addr is reached.
func lookup(h *netlink.Handle, addr netip.Addr) path {
	routes, err := h.RouteGet(addr.AsSlice())
	switch {
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH), err == nil && len(routes) == 0:
		return path{why: "no route to it: gate (DR) needs the real server on the director's LAN, other methods a router to it"}
	case err != nil:
		return path{why: fmt.Sprintf("no route to it: %v", err)}
	}
	r := routes[0]
	switch {
	case r.Type == unix.RTN_LOCAL:
		return path{why: "is this host"}
	case r.Type != unix.RTN_UNICAST:
		return path{why: "is not the address of a host"}
	case r.Via != nil:
		return path{why: fmt.Sprintf("the router to it is of another address family (%v), which the data planes do not know", r.Via)}
	}
	p := path{ifindex: r.LinkIndex}
	if gw, ok := netip.AddrFromSlice(r.Gw); ok {
		p.via = gw.Unmap()
	}
	l, err := h.LinkByIndex(r.LinkIndex)
	if err != nil {
		return path{why: fmt.Sprintf("interface %d: %v", r.LinkIndex, err)}
	}
	p.iface = l.Attrs().Name
	p.below = below(h, l)
	p.way.MTU = cmp.Or(r.MTU, l.Attrs().MTU)
	if src, ok := netip.AddrFromSlice(r.Src); ok {
		p.way.Source = src.Unmap()
	}
	return p
}

// made bounds how many interfaces one may be on top of.
const made = 8

// below are the interfaces that l is made of, next ones first: what a VLAN or a
// macvlan is on, the members of a bond or a bridge. Most are made of none, and
// for those the kernel is not asked.
func below(h *netlink.Handle, l netlink.Link) (names []string) {
	next := []netlink.Link{l}
	for n := 0; n < len(next) && n < made; n++ {
		l := next[n]
		if n > 0 {
			names = append(names, l.Attrs().Name)
		}
		switch l.Type() {
		case "vlan", "macvlan", "ipvlan":
			if on, err := h.LinkByIndex(l.Attrs().ParentIndex); err == nil {
				next = append(next, on)
			}
		case "bond", "bridge", "team":
			all, err := h.LinkList()
			if err != nil {
				continue
			}
			for _, m := range all {
				if m.Attrs().MasterIndex == l.Attrs().Index {
					next = append(next, m)
				}
			}
		}
	}
	return names
}

func familyOf(addr netip.Addr) int {
	if addr.Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// use has the kernel resolve addr if it needs to, as if a packet were about to
// be sent: nothing is done for an entry that is reachable; a stale one is
// confirmed (rtnetlink's NTF_USE, net/core/neighbour.c, neigh_add).
func use(h *netlink.Handle, addr netip.Addr, ifindex int) error {
	return h.NeighSet(&netlink.Neigh{
		LinkIndex: ifindex,
		Family:    familyOf(addr),
		State:     netlink.NUD_NONE,
		Flags:     netlink.NTF_USE,
		IP:        addr.AsSlice(),
	})
}

// eventOf reads a message; false if it is not about an IP neighbour.
func eventOf(u netlink.NeighUpdate) (event, bool) {
	addr, ok := netip.AddrFromSlice(u.IP)
	if !ok || u.Family != unix.AF_INET && u.Family != unix.AF_INET6 {
		return event{}, false
	}
	ev := event{place: place{u.LinkIndex, addr.Unmap()}}
	const valid = netlink.NUD_PERMANENT | netlink.NUD_NOARP | netlink.NUD_REACHABLE |
		netlink.NUD_PROBE | netlink.NUD_STALE | netlink.NUD_DELAY
	switch {
	case u.Type == unix.RTM_DELNEIGH:
		ev.fate = gone
	case u.State&valid != 0:
		ev.fate, ev.mac = resolved, u.HardwareAddr
	case u.State&netlink.NUD_FAILED != 0:
		ev.fate = failed
	default:
		ev.fate = resolving
	}
	return ev, true
}

// carrierOf reads a message about an interface: up is with a carrier, not only
// switched on. False if it is about something else: bridges send messages of
// their own family about their ports.
func carrierOf(u netlink.LinkUpdate) (ifindex int, up, ok bool) {
	const live = unix.IFF_UP | unix.IFF_RUNNING
	return int(u.Index), u.Header.Type == unix.RTM_NEWLINK && u.Flags&live == live, u.Family == unix.AF_UNSPEC
}

// subscription delivers the kernel's neighbours and interfaces as they are,
// then their changes.
type subscription struct {
	updates chan netlink.NeighUpdate // closed when messages were lost
	links   chan netlink.LinkUpdate  // closed when messages were lost
	broken  chan struct{}            // readable when the table must be read again
	stop    chan struct{}
}

func newSubscription() *subscription {
	return &subscription{
		updates: make(chan netlink.NeighUpdate),
		links:   make(chan netlink.LinkUpdate),
		broken:  make(chan struct{}, 1),
		stop:    make(chan struct{}),
	}
}

func subscribe() (*subscription, error) {
	s := newSubscription()
	// Whatever went wrong (an overrun, a listing disturbed by a change, a
	// message that cannot be read) something may be missing.
	failed := func(error) {
		select {
		case s.broken <- struct{}{}:
		default:
		}
	}
	err := netlink.NeighSubscribeWithOptions(s.updates, s.stop, netlink.NeighSubscribeOptions{
		ListExisting: true, ErrorCallback: failed,
	})
	if err != nil {
		close(s.stop)
		return nil, fmt.Errorf("subscribing to neighbour messages: %w", err)
	}
	err = netlink.LinkSubscribeWithOptions(s.links, s.stop, netlink.LinkSubscribeOptions{
		ListExisting: true, ErrorCallback: failed,
	})
	if err != nil {
		close(s.links)
		s.close()
		return nil, fmt.Errorf("subscribing to link messages: %w", err)
	}
	return s, nil
}

// close ends the subscription's goroutines, which may be waiting to deliver.
func (s *subscription) close() {
	close(s.stop)
	for range s.updates {
	}
	for range s.links {
	}
}
