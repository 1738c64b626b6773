package neighbour

import (
	"bytes"
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"
)

// How often the kernel is asked.
const (
	retry   = 1 * time.Second  // while unknown or in doubt
	refresh = 30 * time.Second // while known
	// rush is how long an address is asked for every pace after it became
	// unknown or in doubt, or after its interface came up. A switch port that
	// begins to forward later than that (spanning tree) is met by retry.
	rush = 5 * time.Second
	pace = 50 * time.Millisecond
	// share is the part of a second that each address in a hurry costs: many
	// are asked less often, about 250 in a second in all, as a request is a
	// broadcast that every machine on the LAN must look at.
	share = 4 * time.Millisecond
	// giveUp ends a doubt whose end the kernel never told: it sends three
	// requests a second apart by default.
	giveUp = 5 * time.Second
)

// Update says what is known about an address now.
type Update struct {
	Addr netip.Addr
	MAC  net.HardwareAddr // its own, or that of the router Via; nil: unknown
	Via  netip.Addr       // the router to it; not valid: it is on a LAN of ours
	Way  Way
	// Interfaces are by which interfaces it is reached: the one the route names,
	// then what that is made of: what a VLAN is on, a bond's or bridge's members.
	Interfaces []string
	Why        string // why it is unknown
}

// Way is what else the routing table says of how packets get to an address.
type Way struct {
	Source netip.Addr // where they come from: an address of this machine
	MTU    int        // of the route, else of its interface; in bytes
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

// path is how an address is reached: on an interface, directly or by a router,
// or why not.
type path struct {
	ifindex int
	iface   string
	below   []string   // what iface is made of
	via     netip.Addr // the router; not valid: none
	way     Way
	why     string // not empty: it cannot be reached
}

// hop is the neighbour to ask for on the way to addr.
func (p path) hop(addr netip.Addr) netip.Addr {
	if p.via.IsValid() {
		return p.via
	}
	return addr
}

// interfaces are those of Update.
func (p path) interfaces() []string {
	if p.iface == "" {
		return nil
	}
	return append([]string{p.iface}, p.below...)
}

// place is where the kernel has the entry of the neighbour on the way to addr.
func (p path) place(addr netip.Addr) place { return place{p.ifindex, p.hop(addr)} }

// table is what is known about the addresses wanted. It is pure: what to ask
// next is its output, what the kernel says its input, time an argument.
type table struct {
	entries map[netip.Addr]*entry
	// seen mirrors the entries with a MAC address in the kernel's table:
	// asking for one of those brings no message.
	seen    map[place]net.HardwareAddr
	routed  map[netip.Addr]bool // addresses wanted that are behind a router
	up      map[int]bool        // interfaces by index: up and with a carrier
	hurried int                 // addresses in a hurry when due was last called
	refresh time.Duration
	rush    time.Duration
}

type entry struct {
	path  path
	mac   net.HardwareAddr // nil: unknown
	via   netip.Addr       // whose mac is, as in Update
	by    []string         // Interfaces, as they were reported
	way   Way              // as last reported
	why   string           // last reason reported
	doubt time.Time        // since when the kernel no longer confirms mac; zero: it does
	askAt time.Time
	last  time.Time // when it was asked for
	// The hurry: from begin to end it is asked for often, with requests of
	// our own. Both zero: none.
	begin, end time.Time
}

func newTable() *table {
	return &table{
		entries: make(map[netip.Addr]*entry),
		seen:    make(map[place]net.HardwareAddr),
		routed:  make(map[netip.Addr]bool),
		up:      make(map[int]bool),
		refresh: refresh,
		rush:    rush,
	}
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
	for a := range t.routed {
		if want[a] == nil {
			delete(t.routed, a)
		}
	}
}

// due are the addresses to ask the kernel for now. Its count of those in a
// hurry sets their pace until the next call.
func (t *table) due(now time.Time) []netip.Addr {
	var out []netip.Addr
	t.hurried = 0
	for a, e := range t.entries {
		if e.end.After(now) {
			t.hurried++
		}
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

// insist tells whether addr, which is due and reached by p, wants a request of
// our own besides: the kernel repeats its own only every retrans_time (1 s),
// however often it is asked to resolve.
func (t *table) insist(addr netip.Addr, p path, now time.Time) bool {
	e := t.entries[addr]
	if _, known := t.seen[p.place(addr)]; known || e == nil || p.why != "" || t.down(p.ifindex) {
		return false
	}
	return !now.Before(e.begin) && now.Before(e.end)
}

// asked notes that the kernel was asked to resolve addr by p, or that p says
// why it cannot be.
func (t *table) asked(addr netip.Addr, p path, now time.Time) []Update {
	e := t.entries[addr]
	if e == nil {
		return nil
	}
	moved := e.path.ifindex != p.ifindex || e.path.via != p.via
	if p.via.IsValid() {
		t.routed[addr] = true
	} else {
		delete(t.routed, addr)
	}
	if p.why == "" && (moved || e.path.why != "") {
		t.hurry(e, now)
	}
	e.path, e.last = p, now
	e.askAt = now.Add(retry)
	if e.end.After(now) && !t.down(p.ifindex) {
		e.askAt = now.Add(t.pause())
	}
	if p.why != "" {
		return e.lose(addr, p.why)
	}
	if mac, ok := t.seen[p.place(addr)]; ok {
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
	out := t.hearOf(ev.addr, ev, now)
	for _, a := range slices.SortedFunc(maps.Keys(t.routed), netip.Addr.Compare) {
		if a != ev.addr {
			out = append(out, t.hearOf(a, ev, now)...)
		}
	}
	return out
}

// hearOf takes a message for one address, if it is about the way to it.
func (t *table) hearOf(addr netip.Addr, ev event, now time.Time) []Update {
	e := t.entries[addr]
	if e == nil || e.path.place(addr) != ev.place || e.path.why != "" {
		return nil
	}
	sure := e.sure()
	switch ev.fate {
	case resolved:
		return t.learn(addr, e, ev.mac, now)
	case resolving:
		if sure {
			t.suspect(e, now)
			e.askAt = now.Add(t.pause()) // it asks already
		}
	case gone:
		if sure {
			t.suspect(e, now)
		}
	case failed:
		// The kernel confirms by asking the old MAC address alone. The
		// server may have a new one, so everybody is asked before it is
		// given up.
		if sure {
			t.suspect(e, now)
			return nil
		}
		return e.lose(addr, silence(e.path))
	}
	return nil
}

// carrier takes the state of an interface. When one comes up (or is first
// heard of) there is a hurry for all that is not known on it, and for what no
// interface led to. The kernel forgets the neighbours of an interface that
// loses its carrier, and what it asks when the carrier is back may be lost:
// the switch port does not forward yet.
func (t *table) carrier(ifindex int, up bool, now time.Time) {
	was := t.up[ifindex]
	t.up[ifindex] = up
	if !up || was {
		return
	}
	for _, e := range t.entries {
		if e.sure() || e.path.why == "" && e.path.ifindex != ifindex {
			continue
		}
		t.hurry(e, now)
		e.begin = now // the kernel may be in the midst of a second's silence
		e.askAt = t.soon(e, now)
	}
}

// remove takes the end of an interface.
func (t *table) remove(ifindex int) { delete(t.up, ifindex) }

func (t *table) down(ifindex int) bool {
	up, known := t.up[ifindex]
	return known && !up
}

// forget drops the mirror, before the kernel's tables are listed anew because
// messages were lost, and makes everything due.
func (t *table) forget(now time.Time) {
	clear(t.seen)
	clear(t.up)
	for _, e := range t.entries {
		e.askAt = t.soon(e, now)
	}
}

// pause is the time between two requests for an address in a hurry.
func (t *table) pause() time.Duration {
	return min(max(pace, time.Duration(t.hurried)*share), retry)
}

// soon is now, or a pause after e was last asked for.
func (t *table) soon(e *entry, now time.Time) time.Time {
	if at := e.last.Add(t.pause()); at.After(now) {
		return at
	}
	return now
}

// hurry begins one. The first request is the kernel's own.
func (t *table) hurry(e *entry, now time.Time) {
	e.begin, e.end = now.Add(t.pause()), now.Add(t.rush)
}

// suspect notes that the kernel no longer confirms what is known.
func (t *table) suspect(e *entry, now time.Time) {
	e.doubt = now
	t.hurry(e, now)
	e.askAt = t.soon(e, now)
}

func (e *entry) sure() bool { return e.mac != nil && e.doubt.IsZero() }

func (t *table) learn(addr netip.Addr, e *entry, mac net.HardwareAddr, now time.Time) []Update {
	e.begin, e.end = time.Time{}, time.Time{}
	if len(mac) != 6 || bytes.Equal(mac, make([]byte, 6)) {
		e.askAt = now.Add(retry)
		return e.lose(addr, e.path.iface+" has no Ethernet addresses: gate (DR) needs an Ethernet LAN")
	}
	e.doubt = time.Time{}
	e.askAt = now.Add(t.refresh)
	by := e.path.interfaces()
	if bytes.Equal(e.mac, mac) && e.via == e.path.via && e.way == e.path.way && slices.Equal(e.by, by) {
		return nil
	}
	e.mac, e.via, e.way, e.why, e.by = bytes.Clone(mac), e.path.via, e.path.way, "", by
	return []Update{{Addr: addr, MAC: bytes.Clone(mac), Via: e.via, Way: e.way, Interfaces: by}}
}

func (e *entry) lose(addr netip.Addr, why string) []Update {
	e.doubt = time.Time{}
	if e.mac == nil && e.why == why {
		return nil
	}
	e.mac, e.via, e.way, e.why, e.by = nil, netip.Addr{}, Way{}, why, nil
	return []Update{{Addr: addr, Why: why}}
}

func silence(p path) string {
	if p.via.IsValid() {
		return "no answer of the router " + p.via.String() + " on " + p.iface
	}
	return "no answer to ARP on " + p.iface
}
