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
	units := uint32(now >> a.shift)
	for i := range t {
		for j := range t[i].Way {
			val := atomic.LoadUint64(&t[i].Way[j].Val)
			id, state := flowServer(val), flowState(val)
			if id == 0 || int(id) >= ids || int32(units-flowSeen(val)) >= a.timeouts[state] {
				continue
			}
			c.total++
			if bpf.DirectorFlowState(state) == bpf.DirectorFlowStateFLOW_ESTABLISHED {
				c.conns[id].Active++
			} else {
				c.conns[id].Inactive++
			}
		}
	}
	return c
}

// clear frees every entry whose service or server is not kept. It follows the
// protocol of flow.h, so packets may flow meanwhile; but none of them may be
// able to store an id that is not kept: the last generation that had it must
// be out of use.
func (t flowTable) clear(keepService, keepServer func(id uint16) bool) {
	for i := range t {
		for j := range t[i].Way {
			flow := &t[i].Way[j]
			for {
				val := atomic.LoadUint64(&flow.Val)
				if flowServer(val) == 0 {
					break // free, or being written with a kept id
				}
				// If the entry changes owner between the two reads, either
				// the swap fails or the new owner is kept anyway.
				key := atomic.LoadUint64(&flow.Key)
				if keepService(flowService(key)) && keepServer(flowServer(val)) {
					break
				}
				if atomic.CompareAndSwapUint64(&flow.Val, val, freed(val)) {
					break
				}
			}
		}
	}
}
