package xdp

import (
	"cmp"
	"encoding/binary"
	"net"
	"net/netip"

	"systole/dataplane"
)

// words6 is an IPv6 address as a little-endian machine loads it from a packet.
func words6(a netip.Addr) (w [4]uint32) {
	b := a.As16()
	for i := range w {
		w[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return w
}

// hash6 is address_hash of ipv6.h, with one word more for services.
func hash6(seed []uint64, addr [4]uint32, last uint64) uint32 {
	var h uint64
	for i, w := range addr {
		h += uint64(w) * seed[i]
	}
	if len(seed) > len(addr) {
		h += last * seed[len(addr)]
	}
	return uint32(h >> 32)
}

// seeds6 are the multipliers that follow from one seed.
func seeds6(seed uint64) (s [5]uint64) {
	for i := range s {
		s[i] = splitmix(seed+uint64(i)) | 1
	}
	return s
}

// portKey is the key of a service besides its address; i is its index.
func portKey(key dataplane.ServiceKey, i int) uint64 {
	if manyPorts(key) {
		return 1<<31 | uint64(i) // no packet has it: see compileServices
	}
	return uint64(portWord(key.Port))<<8 | uint64(key.Protocol)
}

// clientMask6 is clientMask for IPv6.
func clientMask6(p dataplane.Persistence) (mask [2]uint64) {
	ones := net.CIDRMask(cmp.Or(p.PrefixLen, 128), 128)
	mask[0], mask[1] = binary.LittleEndian.Uint64(ones), binary.LittleEndian.Uint64(ones[8:])
	return mask
}

// compileVIPs6 writes IPv6 addresses.
func compileVIPs6(c *canvas, vips []dataplane.VIP, since map[netip.Addr]uint32, ranges map[netip.Addr]rangesOf) error {
	addrs := make([][4]uint32, len(vips))
	for i, v := range vips {
		addrs[i] = words6(v.Addr)
	}
	img := &c.image
	seed, err := perfectHashes(len(vips), func(i int, seed uint64) uint32 {
		s := seeds6(seed)
		return hash6(s[:4], addrs[i], 0)
	}, shiftsFor(c, vips, img.Vip6Shift[:]), len(img.Vips6), func(i, at int) {
		v := draw(c, &img.Vips6[at])
		v.Addr = addrs[i]
		v.Role = uint32(roles[vips[i].Role])
		v.Since = since[vips[i].Addr]
		r := ranges[vips[i].Addr]
		v.FirstRange, v.Ranges = r.first, r.count
	})
	s := seeds6(seed)
	copy(draw(c, &img.Vip6Seed)[:], s[:])
	return err
}

// compileServices6 is compileServices for IPv6.
func compileServices6(c *canvas, f familyServices, places []int) error {
	addrs := make([][4]uint32, len(f.services))
	keys := make([]uint64, len(f.services))
	for i, svc := range f.services {
		addrs[i], keys[i] = words6(svc.VIP), portKey(svc.ServiceKey, i)
	}
	img := &c.image
	seed, err := perfectHashes(len(f.services), func(i int, seed uint64) uint32 {
		s := seeds6(seed)
		return hash6(s[:], addrs[i], keys[i])
	}, shiftsFor(c, keys, img.Service6Shift[:]), len(img.Services6), func(i, at int) {
		entry := draw(c, &img.Services6[at])
		entry.Addr, entry.Service = addrs[i], f.entries[i]
		entry.Service.Key, entry.ClientMask = keys[i], clientMask6(f.services[i].Persistence)
		places[f.of[i]] = at
	})
	*draw(c, &img.Service6Seed) = seeds6(seed)
	return err
}
