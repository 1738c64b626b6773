package scheduler

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// MaglevSlots is the size of every mh table: a prime, and what IPVS has if it is
// not configured otherwise (CONFIG_IP_VS_MH_TAB_INDEX 12). It is the same for
// any number of servers, since a table of another size is another table.
const MaglevSlots = 4093

// maglev is the hash of "Maglev: A Fast and Reliable Software Network Load
// Balancer" (NSDI 2016), section 3.4, with weights: each server has its own
// order of all slots, made from its address alone, and in each round takes as
// many of the slots still free as its weight says. A server that comes or goes
// so changes its own slots and few others.
//
// What a server earns in a round is weight/largest weight, and a slot costs one,
// so that the rounds are as fine as can be whatever the weights are.
func maglev(servers []Server) ([]int, error) {
	var largest uint64
	count := 0
	for _, s := range servers {
		largest = max(largest, uint64(s.Weight))
		if s.Weight > 0 {
			count++
		}
	}
	switch {
	case count == 0:
		return nil, nil
	case count > MaglevSlots:
		return nil, fmt.Errorf("%w: %d servers, mh has %d slots", ErrTooManySlots, count, MaglevSlots)
	}
	type taker struct{ next, skip, earned uint64 }
	takers := make([]taker, len(servers))
	for i, s := range servers {
		h := hashAddr(s.Addr)
		takers[i] = taker{next: (h >> 32) % MaglevSlots, skip: (h&0xffffffff)%(MaglevSlots-1) + 1}
	}
	slots := make([]int, MaglevSlots)
	for i := range slots {
		slots[i] = -1
	}
	for free := MaglevSlots; ; {
		for i := range takers {
			t := &takers[i]
			t.earned += uint64(servers[i].Weight)
			if t.earned < largest {
				continue
			}
			t.earned -= largest
			for slots[t.next] >= 0 {
				t.next = (t.next + t.skip) % MaglevSlots
			}
			slots[t.next] = i
			if free--; free == 0 {
				return slots, nil
			}
		}
	}
}

// hashAddr mixes an address into 64 bits. It must never change: directors of
// different versions have to agree.
func hashAddr(a netip.Addr) uint64 {
	b := a.As16()
	return mix(mix(binary.BigEndian.Uint64(b[:8])) ^ binary.BigEndian.Uint64(b[8:]))
}

// mix is the output function of the SplitMix64 generator.
func mix(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
