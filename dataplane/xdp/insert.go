package xdp

import (
	"cmp"
	"fmt"
	"iter"
	"sync/atomic"
	"time"

	"systole/bpf"
	"systole/dataplane"
)

// flowStates are the contract's names of the program's states.
var flowStates = [int(bpf.DirectorFlowStateFLOW_STATES)]dataplane.FlowState{
	bpf.DirectorFlowStateFLOW_SYN:         dataplane.FlowSyn,
	bpf.DirectorFlowStateFLOW_ESTABLISHED: dataplane.FlowEstablished,
	bpf.DirectorFlowStateFLOW_FIN:         dataplane.FlowFin,
	bpf.DirectorFlowStateFLOW_UDP:         dataplane.FlowUDP,
	bpf.DirectorFlowStateFLOW_TEMPLATE:    dataplane.FlowTemplate,
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

// Flows lists the flows of the services in force that have not expired, in the
// order of the tables, IPv4 first; templates are none. Flows that come, go or
// move meanwhile may be missed.
func (p *Plane) Flows() iter.Seq[dataplane.Flow] { return p.list(false) }

// FlowsAndTemplates lists as Flows does, and among them the templates of
// persistent clients (FlowTemplate) that are past their probation.
func (p *Plane) FlowsAndTemplates() iter.Seq[dataplane.Flow] { return p.list(true) }

func (p *Plane) list(templates bool) iter.Seq[dataplane.Flow] {
	return func(yield func(dataplane.Flow) bool) {
		var names flowNames
		for at := 0; ; at += part {
			var err error
			if names, err = p.beginFlows(names); err != nil {
				return
			}
			flows := p.flowsOf(&names, at, templates)
			last := at+part >= p.kernel.buckets()
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

// flowsOf are the flows of one part of the tables, with templates or without.
func (p *Plane) flowsOf(names *flowNames, at int, templates bool) []dataplane.Flow {
	jiffies, err := p.jiffies()
	if err != nil {
		return nil
	}
	unit := p.unit()
	now := uint32(jiffies >> p.kernel.aging.shift)
	var out []dataplane.Flow
	for i := at; i < min(at+part, p.kernel.buckets()); i++ {
		b := p.kernel.bucket(i)
		for j := range ways {
			e := b.entry(j)
			val := atomic.LoadUint64(e.val())
			if flowServer(val) == 0 || names.expired(val, now) {
				continue
			}
			if state := flowState(val); isTemplate(state) && !(templates && state == uint8(bpf.DirectorFlowStateFLOW_TEMPLATE)) {
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
// are of services and servers of the generation in force, or of servers that
// have left and keep their flows (dataplane.Keep). A service may be named by the
// one port that the flow goes to. A template (FlowTemplate) is of a persistent
// service, and has its client's port 0. What is left of a flow's life is Expires, or
// if that is 0, follows from Age. A flow that is here already is replaced unless
// it is younger here, by more than two seconds; of an address that is active
// here only while the plane is detached, for packets know better. An entry in
// use is given away only if it is on probation and no younger.
//
// stored counts those that are in the table after it, in this or a newer form;
// noRoom those that could be, were the table larger or emptier. The others are
// none of this generation's. An error is dataplane.ErrUnavailable: the plane was
// closed.
func (p *Plane) Insert(flows []dataplane.Flow) (stored, noRoom int, err error) {
	for len(flows) > 0 {
		n := min(len(flows), insertPart)
		k, full, err := p.insertPart(flows[:n])
		stored, noRoom = stored+k, noRoom+full
		if err != nil {
			return stored, noRoom, fmt.Errorf("insert flows: %w", err)
		}
		flows = flows[n:]
	}
	return stored, noRoom, nil
}

func (p *Plane) insertPart(flows []dataplane.Flow) (stored, noRoom int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0, 0, errClosed
	}
	jiffies, err := p.jiffies()
	if err != nil {
		return 0, 0, err
	}
	now := uint32(jiffies >> p.kernel.aging.shift)
	detached := p.detached()
	for i := range flows {
		switch p.insert(&flows[i], now, detached) {
		case inTable:
			stored++
		case withoutRoom:
			noRoom++
		}
	}
	return stored, noRoom, nil
}

// coarse is by how much a flow from elsewhere may seem older than it is: the
// kernel lists whole seconds, sync messages have them, and an age unit here is
// almost one. Nothing within it tells which of two states came first; messages
// come in the order of their states, so the last one counts.
const coarse = 2 * time.Second

// inserted is what became of a flow.
type inserted uint8

const (
	notOurs inserted = iota // its service or server is not in force, or it is no flow
	inTable
	withoutRoom // none of the eight places where it may stand can be taken
)

// insert stores one flow. detached: no packet comes here, so another plane may
// know better what becomes of an address that is active. p.mu is held, so no id
// is taken back meanwhile.
func (p *Plane) insert(f *dataplane.Flow, now uint32, detached bool) inserted {
	if f.Client.Addr().Is4() != f.Service.VIP.Is4() || !f.Client.IsValid() {
		return notOurs
	}
	service, server := p.identify(f)
	state := stateNumber(f.State)
	if service == 0 || server == 0 || state == 0 {
		return notOurs
	}
	port := cmp.Or(f.Port, f.Service.Port)
	if f.State == dataplane.FlowTemplate {
		if !p.persistent(service) || f.Client.Port() != 0 {
			return notOurs
		}
		port = 0
	}
	in := &newFlow{key: flowKeyOf(f.Client, port, service), service: service, server: server, state: state, seen: p.seen(f, service, state, now)}
	t := p.kernel.tableOf(f.Client.Addr())
	b1, b2 := t.choices(&in.key)
	for range 4 { // a packet of the flow, or of another, may be faster
		e, val, ok := b1.find(&in.key, service)
		if !ok {
			e, val, ok = b2.find(&in.key, service)
		}
		if !ok {
			if p.store(t, b1, b2, in, now) {
				return inTable
			}
			continue
		}
		newer := later(in.seen, flowSeen(val))
		_, active := p.since[f.Service.VIP]
		if active && !detached || newer+int32(coarse/p.unit())+1 < 0 {
			return inTable
		}
		next := flowValue(service, server, state, flowVersion(val), flowSeen(val)+uint32(max(newer, 0)))
		if next == val || atomic.CompareAndSwapUint64(e.val(), val, next) {
			return inTable
		}
	}
	return withoutRoom
}

// persistent tells whether a service has templates: they outlive a moment.
func (p *Plane) persistent(service uint16) bool {
	const moment = 1 // in age units, rounded up
	return p.active().Timeouts[service].ByState[bpf.DirectorFlowStateFLOW_TEMPLATE] > moment
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
	key             flowKey
	service, server uint16
	state           uint8
	seen            uint32
}

// stuckAfter is the age in units of an entry that nobody is writing any more: a
// daemon was killed in the middle of store. The program cannot be.
const stuckAfter = 10

// unstick frees such an entry. A store of ours that is under way holds p.mu.
func (p *Plane) unstick(e entry, val uint64, now uint32) {
	if flowAge(val, now) <= stuckAfter || !p.mu.TryLock() {
		return
	}
	defer p.mu.Unlock()
	e.free(val)
}
