package neighbour

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"time"
)

// How often the kernel is asked.
const (
	retry   = 1 * time.Second  // while unknown or in doubt
	refresh = 30 * time.Second // while known
	// giveUp ends a doubt whose end the kernel never told: it sends three
	// requests a second apart by default.
	giveUp = 5 * time.Second
)

// Update says what is known about an address now.
type Update struct {
	Addr netip.Addr
	MAC  net.HardwareAddr // nil: unknown
	Why  string           // why it is unknown
}

// fate is what became of an entry of the kernel's neighbour table.
type fate int

const (
	resolved  fate = iota // it has a MAC address: reachable, stale, permanent ...
	resolving             // the kernel is asking
	failed                // nobody answered
	gone                  // the entry was removed
)

// place is an address on an interface.
type place struct {
	ifindex int
	addr    netip.Addr
}

// event is one message of the kernel about one entry.
type event struct {
	place
	fate fate
	mac  net.HardwareAddr // with resolved
}

// path is how an address is reached: directly on an interface, or why not.
type path struct {
	ifindex int
	iface   string
	why     string // not empty: it is no neighbour
}

// table is what is known about the addresses wanted. It is pure: what to ask
// next is its output, what the kernel says its input, time an argument.
type table struct {
	entries map[netip.Addr]*entry
	// seen mirrors the entries with a MAC address in the kernel's table:
	// asking for one of those brings no message.
	seen    map[place]net.HardwareAddr
	refresh time.Duration
}

type entry struct {
	path  path
	mac   net.HardwareAddr // nil: unknown
	why   string           // last reason reported
	doubt time.Time        // since when the kernel no longer confirms mac; zero: it does
	askAt time.Time
}

func newTable() *table {
	return &table{entries: make(map[netip.Addr]*entry), seen: make(map[place]net.HardwareAddr), refresh: refresh}
}

// set makes addrs the addresses wanted. What is known about one that stays is
// kept; a new one is due at once.
func (t *table) set(addrs []netip.Addr, now time.Time) {
	want := make(map[netip.Addr]*entry, len(addrs))
	for _, a := range addrs {
		a = a.Unmap()
		if e := t.entries[a]; e != nil {
			want[a] = e
		} else {
			want[a] = &entry{askAt: now}
		}
	}
	t.entries = want
}

// due are the addresses to ask the kernel for now.
func (t *table) due(now time.Time) []netip.Addr {
	var out []netip.Addr
	for a, e := range t.entries {
		if !e.askAt.After(now) {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// next is when something will be due; zero: never.
func (t *table) next() time.Time {
	var at time.Time
	for _, e := range t.entries {
		if at.IsZero() || e.askAt.Before(at) {
			at = e.askAt
		}
	}
	return at
}

// asked notes that the kernel was asked to resolve addr by p, or that p says
// why it cannot be.
func (t *table) asked(addr netip.Addr, p path, now time.Time) []Update {
	e := t.entries[addr]
	if e == nil {
		return nil
	}
	moved := e.path.ifindex != p.ifindex
	e.path = p
	e.askAt = now.Add(retry)
	if p.why != "" {
		return e.lose(addr, p.why)
	}
	if mac, ok := t.seen[place{p.ifindex, addr}]; ok {
		return t.learn(addr, e, mac, now)
	}
	switch {
	case e.mac == nil:
		return nil
	case e.doubt.IsZero() && moved:
		e.doubt = now
	case e.doubt.IsZero():
		e.askAt = now.Add(t.refresh)
	case now.Sub(e.doubt) >= giveUp:
		return e.lose(addr, silence(p))
	}
	return nil
}

// hear takes a message of the kernel.
func (t *table) hear(ev event, now time.Time) []Update {
	if ev.fate == resolved {
		t.seen[ev.place] = bytes.Clone(ev.mac)
	} else {
		delete(t.seen, ev.place)
	}
	e := t.entries[ev.addr]
	if e == nil || e.path.ifindex != ev.ifindex || e.path.why != "" {
		return nil
	}
	sure := e.mac != nil && e.doubt.IsZero()
	switch ev.fate {
	case resolved:
		return t.learn(ev.addr, e, ev.mac, now)
	case resolving:
		if sure {
			e.doubt, e.askAt = now, now.Add(retry)
		}
	case gone:
		if sure {
			e.doubt, e.askAt = now, now
		}
	case failed:
		// The kernel confirms by asking the old MAC address alone. The
		// server may have a new one, so everybody is asked before it is
		// given up.
		if sure {
			e.doubt, e.askAt = now, now
			return nil
		}
		return e.lose(ev.addr, silence(e.path))
	}
	return nil
}

// forget drops the mirror, before the kernel's table is listed anew because
// messages were lost, and makes everything due.
func (t *table) forget(now time.Time) {
	clear(t.seen)
	for _, e := range t.entries {
		e.askAt = now
	}
}

func (t *table) learn(addr netip.Addr, e *entry, mac net.HardwareAddr, now time.Time) []Update {
	if len(mac) != 6 || bytes.Equal(mac, make([]byte, 6)) {
		e.askAt = now.Add(retry)
		return e.lose(addr, e.path.iface+" has no Ethernet addresses: gate (DR) needs an Ethernet LAN")
	}
	e.doubt = time.Time{}
	e.askAt = now.Add(t.refresh)
	if bytes.Equal(e.mac, mac) {
		return nil
	}
	e.mac, e.why = bytes.Clone(mac), ""
	return []Update{{Addr: addr, MAC: bytes.Clone(mac)}}
}

func (e *entry) lose(addr netip.Addr, why string) []Update {
	e.doubt = time.Time{}
	if e.mac == nil && e.why == why {
		return nil
	}
	e.mac, e.why = nil, why
	return []Update{{Addr: addr, Why: why}}
}

func silence(p path) string { return "no answer to ARP on " + p.iface }
