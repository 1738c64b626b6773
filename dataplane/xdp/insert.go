package xdp

import (
	"cmp"
	"fmt"
	"iter"
	"net/netip"
	"sync/atomic"
	"time"
	"unsafe"

	"systole/bpf"
	"systole/dataplane"
)

// entry is one entry of the flow table; bpf2go's type for it has no name.
type entry struct{ Key, Val uint64 }

func entryOf(b *bpf.DirectorBucket, way int) *entry {
	return (*entry)(unsafe.Pointer(&b.Way[way]))
}

// flowStates are the contract's names of the program's states.
var flowStates = [int(bpf.DirectorFlowStateFLOW_STATES)]dataplane.FlowState{
	bpf.DirectorFlowStateFLOW_SYN:         dataplane.FlowSyn,
	bpf.DirectorFlowStateFLOW_ESTABLISHED: dataplane.FlowEstablished,
	bpf.DirectorFlowStateFLOW_FIN:         dataplane.FlowFin,
	bpf.DirectorFlowStateFLOW_UDP:         dataplane.FlowUDP,
}

// stateNumber is the inverse of flowStates; 0 if the program knows no such.
func stateNumber(s dataplane.FlowState) uint8 {
	for i, name := range flowStates {
		if name == s && s != 0 {
			return uint8(i)
		}
	}
	return 0
}

// flowVersion is the part of a value that tells its owners apart.
func flowVersion(val uint64) uint64 { return val & versionMask }

// flowValue is FLOW_VAL of flow.h.
func flowValue(service, server uint16, state uint8, version uint64, seen uint32) uint64 {
	return uint64(seen)<<seenShift | version | uint64(state)<<stateShift | uint64(service)<<flowIDBits | uint64(server)
}

// later is a's distance from b on the circle of times seen; negative: earlier.
func later(a, b uint32) int32 {
	const unused = 32 - (64 - seenShift)
	return int32((a-b)<<unused) >> unused
}

// flowKey is flow_key of flow.h.
func flowKey(client netip.AddrPort, port uint16) uint64 {
	return uint64(addrWord(client.Addr()))<<32 | uint64(portWord(client.Port()))<<16 | uint64(portWord(port))
}

// flowClient is the client of a key.
func flowClient(key uint64) netip.AddrPort {
	a := uint32(key >> 32)
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(a), byte(a >> 8), byte(a >> 16), byte(a >> 24)}), portWord(uint16(key>>16)))
}

// choices are the two buckets where a flow may stand: flow_hash, first_choice
// and second_choice of flow.h.
func (p *Plane) choices(key uint64) (first, second uint32) {
	seed := &p.kernel.state.elements[0].Seed
	mask := uint32(len(p.kernel.flows.elements) - 1)
	h := key ^ seed[0]
	h ^= h >> 32
	h *= seed[1]
	h ^= h >> 32
	h *= 0x9e3779b97f4a7c15
	h ^= h >> 32
	first, second = uint32(h>>40)&mask, uint32(h)&mask
	if first == second {
		second ^= 1 & mask
	}
	return first, second
}

// Flows lists the flows of the services in force that have not expired, in the
// order of the table. Flows that come, go or move meanwhile may be missed.
func (p *Plane) Flows() iter.Seq[dataplane.Flow] {
	return func(yield func(dataplane.Flow) bool) {
		var names flowNames
		for at := 0; ; at += part {
			var err error
			if names, err = p.beginFlows(names); err != nil {
				return
			}
			flows := p.flowsOf(&names, at)
			last := at+part >= len(p.kernel.flows.elements)
			// Not while the table is held: the caller may call the plane.
			p.reading.RUnlock()
			for _, f := range flows {
				if !yield(f) {
					return
				}
			}
			if last {
				return
			}
		}
	}
}

// flowsOf are the flows of one part of the table.
func (p *Plane) flowsOf(names *flowNames, at int) []dataplane.Flow {
	jiffies, err := p.jiffies()
	if err != nil {
		return nil
	}
	unit := p.unit()
	now := uint32(jiffies >> p.kernel.aging.shift)
	buckets := p.kernel.flows.elements
	var out []dataplane.Flow
	for i := at; i < min(at+part, len(buckets)); i++ {
		for j := range buckets[i].Way {
			e := entryOf(&buckets[i], j)
			val := atomic.LoadUint64(&e.Val)
			if flowServer(val) == 0 || isTemplate(flowState(val)) || names.expired(val, now) {
				continue
			}
			if f, _, ok := names.flow(e, val, now, unit); ok {
				out = append(out, f)
			}
		}
	}
	return out
}

// insertPart is how many flows are stored between two chances for Apply.
const insertPart = 256

// Insert stores flows that another director, or another plane, has had. They
// are of services and servers of the generation in force; what is left of their
// life is Expires, or if that is 0, follows from Age. A flow that is here
// already is replaced if it is older here; of an address that is active here
// only while the plane is detached, for packets know better. An entry in use is given away only if it is on
// probation and no younger.
//
// stored counts those that are in the table after it, in this or a newer form.
// An error is dataplane.ErrUnavailable: the plane was closed.
func (p *Plane) Insert(flows []dataplane.Flow) (stored int, err error) {
	for len(flows) > 0 {
		n := min(len(flows), insertPart)
		k, err := p.insertPart(flows[:n])
		stored += k
		if err != nil {
			return stored, fmt.Errorf("insert flows: %w", err)
		}
		flows = flows[n:]
	}
	return stored, nil
}

func (p *Plane) insertPart(flows []dataplane.Flow) (stored int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0, errClosed
	}
	jiffies, err := p.jiffies()
	if err != nil {
		return 0, err
	}
	now := uint32(jiffies >> p.kernel.aging.shift)
	detached := p.att != nil && p.att.gone()
	for i := range flows {
		if p.insert(&flows[i], now, detached) {
			stored++
		}
	}
	return stored, nil
}

// coarse is by how much a flow of another plane may seem older than it is: the
// kernel lists whole seconds, and an age unit here is almost one.
const coarse = 2 * time.Second

// insert stores one flow. detached: no packet comes here, so another plane may
// know better what becomes of an address that is active. p.mu is held, so no id
// is taken back meanwhile.
func (p *Plane) insert(f *dataplane.Flow, now uint32, detached bool) bool {
	if !f.Client.Addr().Is4() || !f.Service.VIP.Is4() {
		return false
	}
	service := p.ids.service(f.Service)
	server := p.ids.server(service, f.Server)
	state := stateNumber(f.State)
	if service == 0 || server == 0 || state == 0 || p.active().Servers[server].Service != service {
		return false
	}
	in := newFlow{key: flowKey(f.Client, cmp.Or(f.Port, f.Service.Port)), service: service, server: server, state: state, seen: p.seen(f, service, state, now)}
	first, second := p.choices(in.key)
	buckets := p.kernel.flows.elements
	b1, b2 := &buckets[first], &buckets[second]
	for range 4 { // a packet of the flow, or of another, may be faster
		e, val := findFlow(b1, in.key, service)
		if e == nil {
			e, val = findFlow(b2, in.key, service)
		}
		if e == nil {
			if p.store(b1, b2, in, now) {
				return true
			}
			continue
		}
		newer := later(in.seen, flowSeen(val))
		if _, active := p.since[f.Service.VIP]; active && detached {
			newer += int32(coarse/p.unit()) + 1
		} else if active {
			return true
		}
		if newer < 0 {
			return true
		}
		next := flowValue(service, server, state, flowVersion(val), in.seen)
		if next == val || atomic.CompareAndSwapUint64(&e.Val, val, next) {
			return true
		}
	}
	return false
}

// seen is when the last packet of a flow from elsewhere came, in age units.
func (p *Plane) seen(f *dataplane.Flow, service uint16, state uint8, now uint32) uint32 {
	unit := p.unit()
	age := f.Age
	if f.Expires > 0 {
		age = time.Duration(p.active().Timeouts[service].ByState[state])*unit - f.Expires
	}
	return now - uint32(max(age, 0)/unit)
}

// newFlow is a flow as the table has it.
type newFlow struct {
	key             uint64
	service, server uint16
	state           uint8
	seen            uint32
}

// findFlow is bucket_find of flow.h.
func findFlow(b *bpf.DirectorBucket, key uint64, service uint16) (*entry, uint64) {
	for i := range b.Way {
		e := entryOf(b, i)
		if atomic.LoadUint64(&e.Key) != key {
			continue
		}
		val := atomic.LoadUint64(&e.Val)
		if flowOwner(val) == service && atomic.LoadUint64(&e.Key) == key && flowVersion(atomic.LoadUint64(&e.Val)) == flowVersion(val) {
			return e, val
		}
	}
	return nil, 0
}

// place is where a new flow may go.
type place struct {
	e    *entry
	val  uint64
	free int // entries free or expired
	age  int32
}

// judge is bucket_judge of flow.h; but of entries in use only one on probation
// is offered.
func (p *Plane) judge(b *bpf.DirectorBucket, now uint32) place {
	best := place{age: -1}
	timeouts := &p.active().Timeouts
	for i := range b.Way {
		e := entryOf(b, i)
		val := atomic.LoadUint64(&e.Val)
		state, age := flowState(val), flowAge(val, now)
		switch {
		case bpf.DirectorFlowState(state) == bpf.DirectorFlowStateFLOW_BUSY:
		case age > timeouts[flowOwner(val)&uint16(MaxServices)].ByState[state]:
			if best.free == 0 {
				best.e, best.val = e, val
			}
			best.free++
		case best.free == 0 && bpf.DirectorFlowState(state) == bpf.DirectorFlowStateFLOW_SYN && age > best.age:
			best.e, best.val, best.age = e, val, age
		}
	}
	return best
}

// store is flow_store of flow.h.
func (p *Plane) store(b1, b2 *bpf.DirectorBucket, in newFlow, now uint32) bool {
	at := p.judge(b1, now)
	if at.free < 2 {
		if q := p.judge(b2, now); q.free > at.free || at.free == 0 && q.age > at.age {
			at = q
		}
	}
	if at.e == nil || at.free == 0 && int32(now-in.seen)+1 > at.age {
		return false
	}
	version := flowVersion(at.val + 1<<versionShift)
	if !atomic.CompareAndSwapUint64(&at.e.Val, at.val, flowValue(0, 0, uint8(bpf.DirectorFlowStateFLOW_BUSY), version, now)) {
		return false
	}
	atomic.StoreUint64(&at.e.Key, in.key)
	atomic.StoreUint64(&at.e.Val, flowValue(in.service, in.server, in.state, version, in.seen))
	return true
}

// stuckAfter is the age in units of an entry that nobody is writing any more: a
// daemon was killed in the middle of store. The program cannot be.
const stuckAfter = 10

// unstick frees such an entry. A store of ours that is under way holds p.mu.
func (p *Plane) unstick(e *entry, val uint64, now uint32) {
	if flowAge(val, now) <= stuckAfter || !p.mu.TryLock() {
		return
	}
	defer p.mu.Unlock()
	atomic.CompareAndSwapUint64(&e.Val, val, freed(val))
}
