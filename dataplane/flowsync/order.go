package flowsync

import (
	"hash/maphash"
	"net/netip"

	"systole/dataplane"
)

// orderSlots is how many numbers an order remembers: half a megabyte.
const orderSlots = 1 << 16

// order remembers the numbers of the messages that set flows, by the hash of a
// flow: a message that comes after a later one of the same flow tells an older
// state. Two flows may share a slot, which then tells of both what is true of
// the later one.
type order struct {
	seed  maphash.Seed
	slots []uint64 // nil: nothing was noted yet
}

// clear forgets all: numbers begin anew.
func (o *order) clear() { clear(o.slots) }

func (o *order) slot(f *dataplane.Flow) *uint64 {
	type name struct {
		client, vip netip.AddrPort
		protocol    dataplane.Protocol
	}
	h := maphash.Comparable(o.seed, name{f.Client, netip.AddrPortFrom(f.Service.VIP, f.Port), f.Service.Protocol})
	return &o.slots[h%orderSlots]
}

// note remembers that message n set the flows.
func (o *order) note(n uint64, flows []dataplane.Flow) {
	if o.slots == nil {
		o.seed, o.slots = maphash.MakeSeed(), make([]uint64, orderSlots)
	}
	for i := range flows {
		s := o.slot(&flows[i])
		*s = max(*s, n)
	}
}

// after: a message later than n may have set one of the flows.
func (o *order) after(n uint64, flows []dataplane.Flow) bool {
	if o.slots == nil {
		return false
	}
	for i := range flows {
		if *o.slot(&flows[i]) > n {
			return true
		}
	}
	return false
}

// overtaken tells whether message n, just taken, was overtaken by one that set
// a flow of it, or may have: what it tells may be old, so it must count as
// missed. If not, what it sets is noted as long as an earlier message may come.
func (r *receiver) overtaken(n uint64, flows []dataplane.Flow) bool {
	if n < r.highest && r.order.after(n, flows) {
		return true
	}
	if r.contiguous() < n {
		r.order.note(n, flows)
	}
	return false
}
