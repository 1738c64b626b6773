package xdp

import (
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

// aging is how the program counts ages, from the length of a jiffy.
type aging struct {
	shift    uint32 // jiffies >> shift are units
	timeouts [int(bpf.DirectorFlowStateFLOW_STATES)]int32
}

func newAging(jiffy time.Duration) aging {
	var a aging
	for jiffy<<a.shift < ageUnit {
		a.shift++
	}
	unit := jiffy << a.shift
	// One more than the quotient: the unit of the last packet had begun
	// before it.
	units := func(d time.Duration) int32 { return int32((d+unit-1)/unit) + 1 }
	for i := range a.timeouts {
		a.timeouts[i] = minInt32 // free whatever the age
	}
	a.timeouts[bpf.DirectorFlowStateFLOW_SYN] = units(timeoutSYN)
	a.timeouts[bpf.DirectorFlowStateFLOW_ESTABLISHED] = units(timeoutEstablished)
	a.timeouts[bpf.DirectorFlowStateFLOW_FIN] = units(timeoutFIN)
	a.timeouts[bpf.DirectorFlowStateFLOW_UDP] = units(timeoutUDP)
	a.timeouts[bpf.DirectorFlowStateFLOW_FRAGMENT] = units(timeoutFragment)
	a.timeouts[bpf.DirectorFlowStateFLOW_BUSY] = maxInt32
	return a
}

const (
	minInt32 = -1 << 31
	maxInt32 = 1<<31 - 1
)

// Fields of a flow's value; flow.h has the drawing.
func flowServer(val uint64) uint16 { return uint16(val) }
func flowState(val uint64) uint8   { return uint8(val>>16) & uint8(bpf.DirectorFlowStateFLOW_STATES-1) }
func flowSeen(val uint64) uint32   { return uint32(val >> 32) }

// flowService is the service of a flow's key.
func flowService(key uint64) uint16 { return uint16(key) }

// freed is the value of an entry after its flow was cleared: no server, and
// the next version, as the program leaves it for whoever comes next.
func freed(val uint64) uint64 { return (val + 1<<24) & 0xff000000 }

// flowTable is the program's flow table, mapped.
type flowTable []bpf.DirectorBucket

// census is what a flow table holds, in all and by server id.
type census struct {
	total int64
	conns []dataplane.Conns
}

// count counts the flows that have not expired. now is in jiffies; server ids
// are below ids.
func (t flowTable) count(now uint64, a aging, ids int) census {
	c := census{conns: make([]dataplane.Conns, ids)}
	for i := range t {
		for j := range t[i].Way {
			c.add(atomic.LoadUint64(&t[i].Way[j].Val), uint32(now>>a.shift), a)
		}
	}
	return c
}

// add counts the flow of a value, if there is one that has not expired now, in
// age units.
func (c *census) add(val uint64, now uint32, a aging) {
	id, state := flowServer(val), flowState(val)
	if id == 0 || int(id) >= len(c.conns) || int32(now-flowSeen(val)) >= a.timeouts[state] {
		return
	}
	c.total++
	if bpf.DirectorFlowState(state) == bpf.DirectorFlowStateFLOW_ESTABLISHED {
		c.conns[id].Active++
	} else {
		c.conns[id].Inactive++
	}
}

// clear frees every entry whose service or server is not kept. It follows the
// protocol of flow.h, so packets may flow meanwhile; but none of them may be
// able to store an id that is not kept: the last generation that had it must
// be out of use.
func (t flowTable) clear(keepService, keepServer func(id uint16) bool) {
	for i := range t {
		for j := range t[i].Way {
			clearFlow(&t[i].Way[j].Key, &t[i].Way[j].Val, keepService, keepServer)
		}
	}
}

// clearFlow is clear for one entry; key is the word of it that has the service.
func clearFlow(key, word *uint64, keepService, keepServer func(id uint16) bool) {
	for {
		val := atomic.LoadUint64(word)
		if flowServer(val) == 0 {
			return // free, or being written with a kept id
		}
		// If the entry changes owner between the two reads, either the swap
		// fails or the new owner is kept anyway.
		if keepService(flowService(atomic.LoadUint64(key))) && keepServer(flowServer(val)) {
			return
		}
		if atomic.CompareAndSwapUint64(word, val, freed(val)) {
			return
		}
	}
}

// flowTable6 is a table with long keys (flow6.h), mapped.
type flowTable6 []bpf.DirectorBucket6

// count adds the flows of t to c.
func (t flowTable6) count(c *census, now uint64, a aging) {
	for i := range t {
		for j := range t[i].Way {
			c.add(atomic.LoadUint64(&t[i].Way[j].Val), uint32(now>>a.shift), a)
		}
	}
}

// clear is flowTable.clear.
func (t flowTable6) clear(keepService, keepServer func(id uint16) bool) {
	for i := range t {
		for j := range t[i].Way {
			clearFlow(&t[i].Way[j].Port, &t[i].Way[j].Val, keepService, keepServer)
		}
	}
}
