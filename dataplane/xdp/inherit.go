package xdp

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"

	"systole/dataplane"
)

// inherit are the addresses that a predecessor was the owner of when it ended,
// and that its generation still serves: there are some only if its lease has no
// end. A lease that was armed has ended with it.
func (p *Plane) inherit() []netip.Addr {
	if atomic.LoadUint64(&p.kernel.state.elements[0].LeaseUntil) != unlimitedTicks {
		return nil
	}
	if p.deferred {
		return p.old.addresses()
	}
	return activeAddresses(p.active())
}

// activeAddresses are the addresses that an image serves as their owner.
func activeAddresses(img *image) []netip.Addr {
	active := uint32(roles[dataplane.Active])
	var addrs []netip.Addr
	for _, v := range img.Vips {
		if v.Role == active {
			addrs = append(addrs, netip.AddrFrom4([4]byte(binary.LittleEndian.AppendUint32(nil, v.Addr))))
		}
	}
	for _, v := range img.Vips6 {
		if v.Role == active {
			var b []byte
			for _, w := range v.Addr {
				b = binary.LittleEndian.AppendUint32(b, w)
			}
			addrs = append(addrs, netip.AddrFrom16([16]byte(b)))
		}
	}
	return addrs
}
