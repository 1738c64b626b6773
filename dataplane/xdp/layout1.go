package xdp

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"

	"systole/bpf"
	"systole/dataplane"
)

// Layout version 1 of the pinned maps, as it was when it was current. It is
// read once, to take its flows over; nothing here changes any more. Its drawing
// of a flow (one of four in a bucket of 64 bytes) was
//
//	key: 63 client address 32 31 client port 16 15 service id 0 (wire byte order)
//	val: 63 last seen 32 31 version 24 23 state 16 15 server id 0 (age units)
//
// where an age unit is 2^n jiffies, the least of these above half a second.

// layout1Bucket is struct bucket.
type layout1Bucket [4]struct{ key, val uint64 }

// layout1Service is struct service_name, by service id.
type layout1Service struct {
	vip      [16]byte // IPv4 as the first four bytes
	port     uint16   // host byte order
	protocol uint8
	family   uint8 // 4; 0: the id is free
	_        uint32
	_        [3]uint64 // counters
}

// layout1Server is struct server_name, by server id.
type layout1Server struct {
	addr    [16]byte
	service uint16
	family  uint8
	_       [5]uint8
}

// layout1States are the states of flows, and how long each lived.
var layout1States = [8]struct {
	state   dataplane.FlowState
	timeout time.Duration
}{
	1: {dataplane.FlowSyn, 60 * time.Second},
	2: {dataplane.FlowEstablished, 900 * time.Second},
	3: {dataplane.FlowFin, 120 * time.Second},
	4: {dataplane.FlowUDP, 300 * time.Second},
}

// layout1 implements predecessor.
type layout1 struct {
	table    mapping[layout1Bucket]
	services mapping[layout1Service]
	servers  mapping[layout1Server]
	state    mapping[byte] // begins with the end of the lease, in jiffies
	seen     [][4]uint64   // the values of the entries when they were last read
	shift    uint32
	unit     time.Duration
}

// openLayout1 maps what is pinned in dir, which goes on being used.
func openLayout1(dir string, jiffy time.Duration) (predecessor, error) {
	l := &layout1{}
	for jiffy<<l.shift < 500*time.Millisecond {
		l.shift++
	}
	l.unit = jiffy << l.shift
	var errs []error
	errs = append(errs, mapPinned(filepath.Join(dir, bpf.DirectorMapFlows), &l.table))
	errs = append(errs, mapPinned(filepath.Join(dir, "service_names"), &l.services))
	errs = append(errs, mapPinned(filepath.Join(dir, "server_names"), &l.servers))
	errs = append(errs, mapPinned(filepath.Join(dir, "state"), &l.state))
	for _, err := range errs {
		if err != nil {
			l.close()
			return nil, err
		}
	}
	l.seen = make([][4]uint64, len(l.table.elements))
	return l, nil
}

// mapPinned maps a pinned array whose elements are T; bytes for any.
func mapPinned[T any](path string, to *mapping[T]) error {
	m, err := ebpf.LoadPinnedMap(path, nil)
	if err != nil {
		return err
	}
	defer m.Close()
	var element T
	if _, isByte := any(element).(byte); !isByte {
		*to, err = mapArray[T](m)
		return err
	}
	whole, err := mapBytes(m)
	if err != nil {
		return err
	}
	to.raw = whole
	to.elements = unsafe.Slice((*T)(unsafe.Pointer(&whole[0])), len(whole))
	return nil
}

func (l *layout1) lease() *uint64 { return (*uint64)(unsafe.Pointer(&l.state.elements[0])) }

func (l *layout1) addresses() []netip.Addr {
	var addrs []netip.Addr
	for i := range l.services.elements {
		if s := &l.services.elements[i]; s.family == 4 {
			if a := netip.AddrFrom4([4]byte(s.vip[:4])); !slices.Contains(addrs, a) {
				addrs = append(addrs, a)
			}
		}
	}
	return addrs
}

// changed calls f for each flow that has come or changed since the last call,
// and has not expired. now is in jiffies.
func (l *layout1) changed(now uint64, f func(*dataplane.Flow)) {
	units := uint32(now >> l.shift)
	for i := range l.table.elements {
		for j := range l.table.elements[i] {
			at := &l.table.elements[i][j]
			val := atomic.LoadUint64(&at.val)
			if val == l.seen[i][j] {
				continue
			}
			key := atomic.LoadUint64(&at.key)
			const owner = 0xff00ffff // version and server: the entry's owner
			if atomic.LoadUint64(&at.val)&owner != val&owner {
				continue // it changes just now; the next call sees it
			}
			l.seen[i][j] = val
			if flow, ok := l.flow(key, val, units); ok {
				f(&flow)
			}
		}
	}
}

// flow reads one entry.
func (l *layout1) flow(key, val uint64, units uint32) (dataplane.Flow, bool) {
	server, service := int(val&0xffff), int(key&0xffff)
	state := layout1States[val>>16&7]
	age := time.Duration(int32(units-uint32(val>>32))) * l.unit
	if server == 0 || server >= len(l.servers.elements) || service >= len(l.services.elements) || state.timeout == 0 || age > state.timeout {
		return dataplane.Flow{}, false
	}
	name, svc := &l.servers.elements[server], &l.services.elements[service]
	if name.family != 4 || svc.family != 4 || int(name.service) != service {
		return dataplane.Flow{}, false
	}
	addr := func(b [16]byte) netip.Addr { return netip.AddrFrom4([4]byte(b[:4])) }
	client := uint32(key >> 32)
	return dataplane.Flow{
		Client: netip.AddrPortFrom(
			netip.AddrFrom4([4]byte{byte(client), byte(client >> 8), byte(client >> 16), byte(client >> 24)}),
			uint16(key>>16)<<8|uint16(key>>24)&0xff),
		Service: dataplane.ServiceKey{VIP: addr(svc.vip), Port: svc.port, Protocol: dataplane.Protocol(svc.protocol)},
		Port:    svc.port,
		Server:  addr(name.addr),
		State:   state.state,
		Age:     max(age, 0),
		Expires: state.timeout - max(age, 0),
	}, true
}

func (l *layout1) close() error {
	var errs [4]error
	errs[0], errs[1], errs[2], errs[3] = l.table.unmap(), l.services.unmap(), l.servers.unmap(), l.state.unmap()
	for _, err := range errs {
		if err != nil {
			return fmt.Errorf("maps of layout 1: %w", err)
		}
	}
	return nil
}
