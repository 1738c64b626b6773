package xdp

import (
	"encoding/binary"
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

// portKey is the key of a service besides its address.
func portKey(key dataplane.ServiceKey) uint64 {
	return uint64(portWord(key.Port))<<8 | uint64(key.Protocol)
}

// compileVIPs6 writes the IPv6 addresses among vips.
func compileVIPs6(img *image, vips []dataplane.VIP, since map[netip.Addr]uint32) error {
	addrs := make([][4]uint32, len(vips))
	for i, v := range vips {
		addrs[i] = words6(v.Addr)
	}
	seed, err := perfectHashes(len(vips), func(i int, seed uint64) uint32 {
		s := seeds6(seed)
		return hash6(s[:4], addrs[i], 0)
	}, img.Vip6Shift[:], len(img.Vips6), func(i, at int) {
		v := &img.Vips6[at]
		v.Addr = addrs[i]
		v.Role = uint32(roles[vips[i].Role])
		v.Since = since[vips[i].Addr]
	})
	s := seeds6(seed)
	copy(img.Vip6Seed[:], s[:])
	return err
}

// compileServices6 writes IPv6 services; entries is what both families have.
func compileServices6(img *image, services []dataplane.Service, entries []service) error {
	addrs := make([][4]uint32, len(services))
	for i, svc := range services {
		addrs[i] = words6(svc.VIP)
	}
	seed, err := perfectHashes(len(services), func(i int, seed uint64) uint32 {
		s := seeds6(seed)
		return hash6(s[:], addrs[i], portKey(services[i].ServiceKey))
	}, img.Service6Shift[:], len(img.Services6), func(i, at int) {
		img.Services6[at].Addr = addrs[i]
		img.Services6[at].Service = entries[i]
		img.Services6[at].Service.Key = portKey(services[i].ServiceKey)
	})
	img.Service6Seed = seeds6(seed)
	return err
}
