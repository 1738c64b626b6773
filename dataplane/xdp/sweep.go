package xdp

import (
	"net/netip"
	"sync/atomic"
	"time"

	"systole/bpf"
	"systole/dataplane"
	"systole/dataplane/flowsync"
)

// part is how many buckets one call of Sweep looks at: a third of a millisecond's
// worth when nothing has changed. Of a table so large that this would take many
// calls it looks at more, so that what is new is not found too late.
const (
	part     = 1 << 16
	mostCall = 32
)

// refreshShare: a flow with traffic is sent again each tenth of its timeout.
const refreshShare = 10

// Sweep finds what has changed in the flow table, for flowsync. It keeps a
// shadow of the values it has seen, 8 bytes an entry of both tables: comparing it costs less
// than a mark that the program would have to set for each packet that changes
// something. Not for several goroutines.
type Sweep struct {
	p      *Plane
	shadow [][ways]uint64 // by bucket: the value when it was sent, or not worth sending
	at     int            // the bucket that is next, of both tables
	names  flowNames
	aging  aging
}

var _ flowsync.Table = (*Sweep)(nil)

// NewSweep returns a Sweep that has seen nothing.
func (p *Plane) NewSweep() *Sweep {
	return &Sweep{p: p, shadow: make([][ways]uint64, p.kernel.buckets()), aging: p.kernel.aging}
}

// flowNames are what the ids in the flow table stand for in one generation.
type flowNames struct {
	generation uint64
	services   []dataplane.ServiceKey // by id; Protocol 0: not in the generation
	active     []bool                 // by id: the service's address is active here
	six        bool                   // some service is IPv6's
	servers    []netip.Addr           // by id; not valid: not in the generation
	timeouts   *serviceTimeouts
}

// names reads them. p.mu is held.
func (p *Plane) names() flowNames {
	img := p.active()
	n := flowNames{
		generation: img.Number,
		services:   make([]dataplane.ServiceKey, MaxServices+1),
		active:     make([]bool, MaxServices+1),
		servers:    make([]netip.Addr, MaxServers+1),
		timeouts:   p.timeouts(),
	}
	active := make(map[[4]uint32]bool) // of IPv4 with one word
	for i := range img.Vips {
		active[[4]uint32{img.Vips[i].Addr}] = img.Vips[i].Role == uint32(bpf.DirectorRoleROLE_ACTIVE)
	}
	active6 := make(map[[4]uint32]bool)
	for i := range img.Vips6 {
		active6[img.Vips6[i].Addr] = img.Vips6[i].Role == uint32(bpf.DirectorRoleROLE_ACTIVE)
	}
	for id := range serviceIDs(img) {
		key, _ := p.ids.serviceKey(id)
		n.services[id] = key
		if key.VIP.Is4() {
			n.active[id] = active[[4]uint32{addrWord(key.VIP)}]
		} else {
			n.active[id] = active6[words6(key.VIP)]
			n.six = true
		}
	}
	for name, id := range p.ids.servers {
		if img.Servers[id].Service != 0 {
			n.servers[id] = name.addr
		}
	}
	return n
}

// Generation implements flowsync.Table.
func (s *Sweep) Generation() uint64 {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if s.p.closed {
		return 0
	}
	return s.p.active().Number
}

// begin prepares a reading of the table; the caller unlocks p.reading.
func (p *Plane) beginFlows(old flowNames) (flowNames, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return old, errClosed
	}
	p.reading.RLock()
	if old.services == nil || old.generation != p.active().Number {
		old = p.names()
	}
	return old, nil
}

// unit is the length of an age unit.
func (p *Plane) unit() time.Duration { return p.kernel.jiffy << p.kernel.aging.shift }

// timeout is that of a value's service and state, in age units.
func (n *flowNames) timeout(val uint64) int32 {
	return n.timeouts[flowOwner(val)&uint16(MaxServices)][flowState(val)]
}

func (n *flowNames) expired(val uint64, now uint32) bool { return flowAge(val, now) > n.timeout(val) }

// flow is the flow of an entry with its service's id; not ok if it is another
// one's by now, or of a service or server that is not in force. val is what the caller read of it.
func (n *flowNames) flow(e entry, val uint64, now uint32, unit time.Duration) (f dataplane.Flow, service uint16, ok bool) {
	key := e.key()
	if again := atomic.LoadUint64(e.val()); flowVersion(again) != flowVersion(val) {
		return f, 0, false // another flow's by now
	}
	service = flowOwner(val)
	server := flowServer(val)
	if int(service) >= len(n.services) || int(server) >= len(n.servers) {
		return f, 0, false
	}
	svc := n.services[service]
	if svc.Protocol == 0 || !n.servers[server].IsValid() {
		return f, 0, false
	}
	state := flowState(val)
	age := max(0, flowAge(val, now)-1)
	client, port := e.client(key)
	return dataplane.Flow{
		Client: client, Service: svc, Port: port, Server: n.servers[server],
		State: flowStates[state], Age: time.Duration(age) * unit,
		Expires: time.Duration(n.timeout(val)-age) * unit,
	}, service, true
}

// Sweep implements flowsync.Table.
func (s *Sweep) Sweep(offer func(place uint32, f dataplane.Flow) flowsync.Answer) (done bool, err error) {
	p := s.p
	if s.names, err = p.beginFlows(s.names); err != nil {
		return false, err
	}
	defer p.reading.RUnlock()
	jiffies, err := p.jiffies()
	if err != nil {
		return false, err
	}
	now := uint32(jiffies >> s.aging.shift)
	end := s.end()
	for stop := min(s.at+max(part, end/mostCall), end); s.at < stop; s.at++ {
		b, shadow := p.kernel.bucket(s.at), &s.shadow[s.at]
		if b.is(shadow) {
			continue
		}
		for i := range ways {
			val := atomic.LoadUint64(b.entry(i).val())
			if val == shadow[i] || !s.changed(val, shadow[i]) {
				continue
			}
			if !s.send(b.entry(i), &shadow[i], val, now, uint32(s.at*ways+i), offer) {
				return false, nil
			}
		}
	}
	if s.at >= end {
		s.at = 0
		return true, nil
	}
	return false, nil
}

// end is where a pass ends: a table that no service of the generation has flows
// in is left out. What is in it waits for one that has.
func (s *Sweep) end() int {
	if s.names.six {
		return len(s.shadow)
	}
	return s.p.kernel.tables[0].buckets
}

// changed tells whether a value is worth a look, seeing the one before.
func (s *Sweep) changed(val, before uint64) bool {
	if (val^before)&(1<<seenShift-1) != 0 {
		return true
	}
	age := later(flowSeen(val), flowSeen(before))
	return age < 0 || age > s.names.timeout(val)/refreshShare
}

// send offers the flow of an entry that has changed; false ends the sweep.
func (s *Sweep) send(e entry, shadow *uint64, val uint64, now uint32, place uint32, offer func(uint32, dataplane.Flow) flowsync.Answer) bool {
	state := flowState(val)
	switch {
	case bpf.DirectorFlowState(state) == bpf.DirectorFlowStateFLOW_BUSY:
		s.p.unstick(e, val, now)
		return true
	case flowServer(val) == 0 || state == uint8(bpf.DirectorFlowStateFLOW_TEMPLATE_SYN) || s.names.expired(val, now):
		*shadow = val
		return true
	}
	f, service, ok := s.names.flow(e, val, now, s.p.unit())
	if !ok {
		return true // another flow's by now, or its server has left and may come back
	}
	if !s.names.active[service] {
		*shadow = val // its owner has it, and tells others
		return true
	}
	switch offer(place, f) {
	case flowsync.Sent:
		*shadow = val
	case flowsync.Full:
		return false
	}
	return true
}

// Again implements flowsync.Table.
func (s *Sweep) Again(places []uint32) {
	for _, at := range places {
		if b := int(at / ways); b < len(s.shadow) {
			s.shadow[b][at%ways] = 0
		}
	}
}

// AgainAll implements flowsync.Table.
func (s *Sweep) AgainAll() {
	clear(s.shadow)
	s.at = 0
}

// Insert implements flowsync.Table.
func (s *Sweep) Insert(flows []dataplane.Flow) (stored, noRoom int, err error) {
	return s.p.Insert(flows)
}
