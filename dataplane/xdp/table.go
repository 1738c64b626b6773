package xdp

import (
	"net/netip"
	"sync/atomic"
	"unsafe"

	"systole/bpf"
)

// table is the program's flow table of one family, mapped: flow.h has IPv4's,
// flow6.h the other. Both have four entries to a bucket, and an entry is its
// key, of one word or of three, and its value.
type table struct {
	base    unsafe.Pointer
	words   uintptr // of a key
	buckets int
	roomy   int       // entries free in the first bucket that make a look at the second needless
	seed    [5]uint64 // of the hash; IPv4 has two words
}

const wordSize = 8

// flowKey is the key of an entry of either table: one of IPv4 has its word
// first. In the third the other family has the service's id above the ports.
type flowKey [3]uint64

// The parts of key6.port of flow6.h.
const serviceInPort = 32

// newTables are the tables of both families.
func (k *kernelSide) newTables() [2]table {
	seed := k.state.elements[0].Seed
	return [2]table{
		{
			base: unsafe.Pointer(&k.flows.elements[0]), words: 1, buckets: len(k.flows.elements), roomy: 2,
			seed: [5]uint64{seed[0], seed[1]},
		}, {
			base: unsafe.Pointer(&k.flows6.elements[0]), words: 3, buckets: len(k.flows6.elements), roomy: 1,
			seed: flow6Seed(seed),
		},
	}
}

// datagrams is the table of those that come in fragments (fragment.h).
func (k *kernelSide) datagrams() *table {
	return &table{base: unsafe.Pointer(&k.fragments.elements[0]), words: 3, buckets: len(k.fragments.elements)}
}

// hash is flow_hash of flow.h, or flow6_hash of flow6.h.
func (t *table) hash(k *flowKey) (h uint64) {
	seed := &t.seed
	if t.words == 1 {
		h = k[0] ^ seed[0]
		h ^= h >> 32
		h *= seed[1]
	} else {
		h = uint64(uint32(k[0]))*seed[0] + k[0]>>32*seed[1] +
			uint64(uint32(k[1]))*seed[2] + k[1]>>32*seed[3] + uint64(uint32(k[2]))*seed[4]
	}
	h ^= h >> 32
	h *= 0x9e3779b97f4a7c15
	return h ^ h>>32
}

// choices are the two buckets where an entry may stand: first_choice and
// second_choice of flow.h.
func (t *table) choices(k *flowKey) (first, second bucket) {
	mask := uint32(t.buckets - 1)
	h := t.hash(k)
	at1, at2 := uint32(h>>40)&mask, uint32(h)&mask
	if at1 == at2 {
		at2 ^= 1 & mask
	}
	return t.bucket(int(at1)), t.bucket(int(at2))
}

// bucket is one of a table's.
type bucket struct {
	at    unsafe.Pointer
	words uintptr
}

func (t *table) bucket(i int) bucket {
	return bucket{unsafe.Add(t.base, uintptr(i)*ways*(t.words+1)*wordSize), t.words}
}

// entry is one of a bucket's.
type entry struct {
	at    unsafe.Pointer
	words uintptr
}

func (b bucket) entry(way int) entry {
	return entry{unsafe.Add(b.at, uintptr(way)*(b.words+1)*wordSize), b.words}
}

// is tells whether a bucket's values are those.
func (b bucket) is(values *[ways]uint64) bool {
	at, size := unsafe.Add(b.at, b.words*wordSize), (b.words+1)*wordSize
	for i := range values {
		if atomic.LoadUint64((*uint64)(at)) != values[i] {
			return false
		}
		at = unsafe.Add(at, size)
	}
	return true
}

// word is the i-th of an entry.
func (e entry) word(i uintptr) *uint64 { return (*uint64)(unsafe.Add(e.at, i*wordSize)) }

// val is an entry's value, which two may change at the same time.
func (e entry) val() *uint64 { return e.word(e.words) }

// key reads an entry's key. It is that of the value read before if the version
// is the same after.
func (e entry) key() (k flowKey) {
	for i := range e.words {
		k[i] = atomic.LoadUint64(e.word(i))
	}
	return k
}

// has tells whether an entry has a key.
func (e entry) has(k *flowKey) bool {
	return atomic.LoadUint64(e.word(0)) == k[0] &&
		(e.words == 1 || atomic.LoadUint64(e.word(1)) == k[1] && atomic.LoadUint64(e.word(2)) == k[2])
}

// setKey writes the key of an entry that is BUSY by us.
func (e entry) setKey(k *flowKey) {
	for i := range e.words {
		atomic.StoreUint64(e.word(i), k[i])
	}
}

// free gives an entry back whose value is val, unless somebody has changed that.
// A long key goes with it: the program looks at the first entry with its key and
// at no other one (bucket6_find of flow6.h), and the flow may come back into
// another place of the same bucket.
func (e entry) free(val uint64) bool {
	if e.words == 1 {
		return atomic.CompareAndSwapUint64(e.val(), val, freed(val))
	}
	busy := flowValue(0, 0, uint8(bpf.DirectorFlowStateFLOW_BUSY), freed(val), flowSeen(val))
	if !atomic.CompareAndSwapUint64(e.val(), val, busy) {
		return false
	}
	e.setKey(&flowKey{})
	atomic.StoreUint64(e.val(), freed(val))
	return true
}

// clear frees every entry whose service or server is not kept. It follows the
// protocol of flow.h, so packets may flow meanwhile; but none of them may be
// able to store an id that is not kept: the last generation that had it must
// be out of use.
func (t *table) clear(services, servers *idSet) {
	at, size := t.base, (t.words+1)*wordSize
	for range t.buckets * ways {
		e := entry{at, t.words}
		// Without a server it is free, or being written with a kept id.
		for {
			val := atomic.LoadUint64(e.val())
			if flowServer(val) == 0 || services[flowOwner(val)] && servers[flowServer(val)] || e.free(val) {
				break
			}
		}
		at = unsafe.Add(at, size)
	}
}

// flowKeyOf is flow_key of flow.h, and the key of serve6 of ipv6.h.
func flowKeyOf(client netip.AddrPort, port, service uint16) flowKey {
	ports := uint64(portWord(client.Port()))<<16 | uint64(portWord(port))
	if client.Addr().Is4() {
		return flowKey{uint64(addrWord(client.Addr()))<<32 | ports}
	}
	w := words6(client.Addr())
	return flowKey{uint64(w[1])<<32 | uint64(w[0]), uint64(w[3])<<32 | uint64(w[2]), uint64(service)<<serviceInPort | ports}
}

// client is whose flow has the key of an entry, and the port it goes to.
func (e entry) client(k flowKey) (client netip.AddrPort, port uint16) {
	var addr netip.Addr
	ports := k[0]
	if e.words == 1 {
		addr = netip.AddrFrom4(bytes4(uint32(k[0] >> 32)))
	} else {
		ports = k[2]
		var b [16]byte
		for i, w := range [4]uint32{uint32(k[0]), uint32(k[0] >> 32), uint32(k[1]), uint32(k[1] >> 32)} {
			four := bytes4(w)
			copy(b[4*i:], four[:])
		}
		addr = netip.AddrFrom16(b)
	}
	return netip.AddrPortFrom(addr, portWord(uint16(ports>>16))), portWord(uint16(ports))
}

// bytes4 is a word as it stands in a packet.
func bytes4(w uint32) [4]byte { return [4]byte{byte(w), byte(w >> 8), byte(w >> 16), byte(w >> 24)} }

// tableOf is the table of a family.
func (k *kernelSide) tableOf(a netip.Addr) *table {
	if a.Is4() {
		return &k.tables[0]
	}
	return &k.tables[1]
}

// buckets is how many there are in both tables; places number them, and their
// entries, through: those of IPv4 first.
func (k *kernelSide) buckets() int { return k.tables[0].buckets + k.tables[1].buckets }

// bucket is one of them.
func (k *kernelSide) bucket(i int) bucket {
	if n := k.tables[0].buckets; i >= n {
		return k.tables[1].bucket(i - n)
	}
	return k.tables[0].bucket(i)
}

// find is bucket_find of flow.h and bucket6_find of flow6.h.
func (b bucket) find(k *flowKey, service uint16) (e entry, val uint64, ok bool) {
	for i := range ways {
		e := b.entry(i)
		if !e.has(k) {
			continue
		}
		val := atomic.LoadUint64(e.val())
		if flowOwner(val) == service && e.has(k) && flowVersion(atomic.LoadUint64(e.val())) == flowVersion(val) {
			return e, val, true
		}
	}
	return entry{}, 0, false
}

// place is where a new entry may go.
type place struct {
	e    entry // none: at is nil
	val  uint64
	free int // entries free or expired
	age  int32
}

// judge is bucket_judge of flow.h; but of entries in use only one on probation
// is offered.
func (p *Plane) judge(b bucket, now uint32) place {
	best := place{age: -1}
	timeouts := &p.active().Timeouts
	for i := range ways {
		e := b.entry(i)
		val := atomic.LoadUint64(e.val())
		state, age := bpf.DirectorFlowState(flowState(val)), flowAge(val, now)
		probation := state == bpf.DirectorFlowStateFLOW_SYN || state == bpf.DirectorFlowStateFLOW_TEMPLATE_SYN
		switch {
		case state == bpf.DirectorFlowStateFLOW_BUSY:
		case age > timeouts[flowOwner(val)&uint16(MaxServices)].ByState[state]:
			if best.free == 0 {
				best.e, best.val = e, val
			}
			best.free++
		case best.free == 0 && probation && age > best.age:
			best.e, best.val, best.age = e, val, age
		}
	}
	return best
}

// store is flow_store of flow.h and store6 of flow6.h.
func (p *Plane) store(t *table, b1, b2 bucket, in *newFlow, now uint32) bool {
	at := p.judge(b1, now)
	if at.free < t.roomy {
		if q := p.judge(b2, now); q.free > at.free || at.free == 0 && q.age > at.age {
			at = q
		}
	}
	if at.e.at == nil || at.free == 0 && int32(now-in.seen)+1 > at.age {
		return false
	}
	version := flowVersion(at.val + 1<<versionShift)
	if !atomic.CompareAndSwapUint64(at.e.val(), at.val, flowValue(0, 0, uint8(bpf.DirectorFlowStateFLOW_BUSY), version, now)) {
		return false
	}
	at.e.setKey(&in.key)
	atomic.StoreUint64(at.e.val(), flowValue(in.service, in.server, in.state, version, in.seen))
	return true
}
