package xdp

import (
	"cmp"
	"sync/atomic"
	"time"

	"systole/bpf"
	"systole/dataplane"
)

// How long a flow lives after its client's last packet: as long as in kernel
// IPVS, "ipvsadm -L --timeout" 900 120 300, and its SYN timeout of 60 s.
const (
	timeoutSYN         = 60 * time.Second
	timeoutEstablished = 900 * time.Second
	timeoutFIN         = 120 * time.Second
	timeoutUDP         = 300 * time.Second
)

// How long the first fragment of a datagram is remembered (fragment.h).
const timeoutFragment = 2 * time.Second

// ageUnit is the least length of the unit in which a flow's age is counted. A
// flow's entry is written at most once per unit, however many packets it has.
const ageUnit = 500 * time.Millisecond

// stateTimeouts are the ages, in units, at which a flow counts as free.
type stateTimeouts = [int(bpf.DirectorFlowStateFLOW_STATES)]int32

// aging is how the program counts ages, from the length of a jiffy.
type aging struct {
	shift uint32 // jiffies >> shift are units
	unit  time.Duration
}

func newAging(jiffy time.Duration) aging {
	var a aging
	for jiffy<<a.shift < ageUnit {
		a.shift++
	}
	a.unit = jiffy << a.shift
	return a
}

// maxTimeout is what an age can tell: half of the time after which ages begin
// anew.
const maxTimeout = (seenMax / 2) * ageUnit

// timeouts are those of a service; zero means as in IPVS.
func (a aging) timeouts(t dataplane.Timeouts, persistence time.Duration) stateTimeouts {
	// One more than the quotient: the unit of the last packet had begun
	// before it.
	units := func(d time.Duration) int32 { return int32((d+a.unit-1)/a.unit) + 1 }
	var by stateTimeouts
	for i := range by {
		by[i] = minInt32 // free whatever the age
	}
	by[bpf.DirectorFlowStateFLOW_SYN] = units(timeoutSYN)
	by[bpf.DirectorFlowStateFLOW_ESTABLISHED] = units(cmp.Or(t.TCP, timeoutEstablished))
	by[bpf.DirectorFlowStateFLOW_FIN] = units(cmp.Or(t.TCPFin, timeoutFIN))
	by[bpf.DirectorFlowStateFLOW_UDP] = units(cmp.Or(t.UDP, timeoutUDP))
	by[bpf.DirectorFlowStateFLOW_BUSY] = maxInt32
	by[bpf.DirectorFlowStateFLOW_TEMPLATE] = units(persistence)
	by[bpf.DirectorFlowStateFLOW_TEMPLATE_SYN] = units(min(persistence, timeoutSYN))
	return by
}

// fragments are the timeouts of service 0, the owner of datagrams that come in
// fragments (flow6.h).
func (a aging) fragments() stateTimeouts {
	return a.timeouts(dataplane.Timeouts{UDP: timeoutFragment}, 0)
}

const (
	minInt32 = -1 << 31
	maxInt32 = 1<<31 - 1
)

// Fields of a flow's value; flow.h has the drawing.
const (
	flowIDBits   = 14
	stateShift   = 2 * flowIDBits
	versionShift = stateShift + 3
	seenShift    = versionShift + 7
	versionMask  = 1<<seenShift - 1<<versionShift
	seenMax      = 1<<(64-seenShift) - 1
)

func flowServer(val uint64) uint16 { return uint16(val & (1<<flowIDBits - 1)) }
func flowOwner(val uint64) uint16  { return uint16(val >> flowIDBits & (1<<flowIDBits - 1)) } // its service
func flowState(val uint64) uint8 {
	return uint8(val>>stateShift) & uint8(bpf.DirectorFlowStateFLOW_STATES-1)
}
func flowSeen(val uint64) uint32 { return uint32(val >> seenShift) } // in age units, modulo seenMax+1

// flowAge is the age of a flow in units, plus one, as flow.h has it.
func flowAge(val uint64, units uint32) int32 { return int32((units + 1 - flowSeen(val)) & seenMax) }

// isTemplate tells a persistent client's entry from a flow's.
func isTemplate(state uint8) bool {
	return state >= uint8(bpf.DirectorFlowStateFLOW_TEMPLATE)
}

// freed is the value of an entry after its flow was cleared: no service, no
// server, and the next version, as the program leaves it for whoever comes next.
func freed(val uint64) uint64 { return (val + 1<<versionShift) & versionMask }

// flowTable is the program's flow table, mapped.
type flowTable []bpf.DirectorBucket

// census is what a flow table holds, in all and by server id.
type census struct {
	total int64
	conns []inState
}

// inState are the flows of one server by their state.
type inState struct{ opening, established, other uint64 }

// conns are they as IPVS counts them. Half open connections are active, but of
// SCTP (ip_vs_proto_tcp.c, ip_vs_proto_sctp.c).
func (n inState) conns(p dataplane.Protocol) dataplane.Conns {
	if p == dataplane.TCP {
		return dataplane.Conns{Active: n.opening + n.established, Inactive: n.other}
	}
	return dataplane.Conns{Active: n.established, Inactive: n.opening + n.other}
}

// serviceTimeouts are the timeouts of all services, by id.
type serviceTimeouts = [MaxServices + 1]stateTimeouts

// census counts the flows of both tables that have not expired. It takes tenths
// of a second when they are as large as can be.
func (p *Plane) census(timeouts *serviceTimeouts) (census, error) {
	jiffies, err := p.jiffies()
	if err != nil {
		return census{}, err
	}
	now := uint32(jiffies >> p.kernel.aging.shift)
	c := flowTable(p.kernel.flows.elements).count(now, timeouts, MaxServers+1)
	flowTable6(p.kernel.flows6.elements).count(&c, now, timeouts)
	return c, nil
}

// count counts the flows that have not expired. now is in age units; server ids
// are below ids.
func (t flowTable) count(now uint32, timeouts *serviceTimeouts, ids int) census {
	c := census{conns: make([]inState, ids)}
	for i := range t {
		for j := range t[i].Way {
			c.add(atomic.LoadUint64(&t[i].Way[j].Val), now, timeouts)
		}
	}
	return c
}

// add counts the flow of a value, if there is one that has not expired now, in
// age units.
func (c *census) add(val uint64, now uint32, timeouts *serviceTimeouts) {
	id, state := flowServer(val), flowState(val)
	if id == 0 || int(id) >= len(c.conns) || isTemplate(state) || flowAge(val, now) > timeouts[flowOwner(val)&uint16(MaxServices)][state] {
		return
	}
	c.total++
	switch bpf.DirectorFlowState(state) {
	case bpf.DirectorFlowStateFLOW_ESTABLISHED:
		c.conns[id].established++
	case bpf.DirectorFlowStateFLOW_SYN:
		c.conns[id].opening++
	default:
		c.conns[id].other++
	}
}

// idSet are ids of services or servers, as many as an entry can tell apart. An
// array: millions of entries are looked up in it.
type idSet [1 << flowIDBits]bool

// everyID is the set of all of them.
func everyID() *idSet {
	all := new(idSet)
	for i := range all {
		all[i] = true
	}
	return all
}

// flowTable6 is a table with long keys (flow6.h), mapped.
type flowTable6 []bpf.DirectorBucket6

// count adds the flows of t to c. now is in age units.
func (t flowTable6) count(c *census, now uint32, timeouts *serviceTimeouts) {
	for i := range t {
		for j := range t[i].Way {
			c.add(atomic.LoadUint64(&t[i].Way[j].Val), now, timeouts)
		}
	}
}
