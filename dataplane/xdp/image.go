package xdp

import (
	"encoding/binary"
	"math/bits"
	"net"
	"net/netip"

	"systole/bpf"
	"systole/dataplane"
	"systole/dataplane/scheduler"
)

// image is the configuration as the program reads it: one of the two halves.
type image = bpf.DirectorGeneration

// identities gives the ids of a snapshot's services and servers.
type identities interface {
	service(dataplane.ServiceKey) uint16
	server(service uint16, addr netip.Addr) uint16
}

var roles = map[dataplane.Role]bpf.DirectorRole{
	dataplane.Standby:  bpf.DirectorRoleROLE_STANDBY,
	dataplane.Active:   bpf.DirectorRoleROLE_ACTIVE,
	dataplane.Draining: bpf.DirectorRoleROLE_DRAINING,
}

// addrWord is an IPv4 address as a little-endian machine loads it from a
// packet.
func addrWord(a netip.Addr) uint32 {
	b := a.As4()
	return binary.LittleEndian.Uint32(b[:])
}

// portWord is a port as a little-endian machine loads it from a packet.
func portWord(port uint16) uint16 {
	return bits.ReverseBytes16(port)
}

// serviceKey is service_key of schedule.h.
func serviceKey(key dataplane.ServiceKey) uint64 {
	return uint64(addrWord(key.VIP))<<24 | uint64(portWord(key.Port))<<8 | uint64(key.Protocol)
}

// slotTables computes the slots of every service, the only part of compiling
// that can fail once a snapshot is valid.
func slotTables(s dataplane.Snapshot) ([][]int, error) {
	tables := make([][]int, len(s.Services))
	total := 0
	for i, svc := range s.Services {
		weights := make([]uint32, len(svc.Servers))
		for j, r := range svc.Servers {
			if known(r.MAC) {
				weights[j] = r.Weight
			}
		}
		slots, err := scheduler.Slots(svc.Scheduler, weights)
		if err != nil {
			return nil, invalid("service %s: %v", svc.ServiceKey, err)
		}
		tables[i] = slots
		total += len(slots)
	}
	if total > MaxSlots {
		return nil, invalid("the weights of all services need %d slots, at most %d are possible: use smaller weights", total, MaxSlots)
	}
	return tables, nil
}

// compile writes the image of a valid snapshot. slots is slotTables of it, since
// tells when an address became active here, in age units.
func compile(img *image, s dataplane.Snapshot, slots [][]int, own net.HardwareAddr, ids identities, since map[netip.Addr]uint32) error {
	*img = image{}
	copy(img.Own.Addr[:], own)
	for i, mac := range s.Peers {
		copy(img.Peers[i].Addr[:], mac)
	}
	img.Npeers = uint32(len(s.Peers))
	if s.SecondChance {
		img.SecondChance = 1
	}

	var err error
	keys := make([]uint64, len(s.VIPs))
	for i, v := range s.VIPs {
		keys[i] = uint64(addrWord(v.Addr))
	}
	img.VipSeed, err = perfectHash(keys, img.VipShift[:], len(img.Vips), func(i, at int) {
		v := &img.Vips[at]
		v.Addr = uint32(keys[i])
		v.Role = uint32(roles[s.VIPs[i].Role])
		v.Since = since[s.VIPs[i].Addr]
	})
	if err != nil {
		return err
	}

	first := 0
	services := make([]struct{ first, id int }, len(s.Services))
	keys = make([]uint64, len(s.Services))
	for i, svc := range s.Services {
		id := ids.service(svc.ServiceKey)
		keys[i] = serviceKey(svc.ServiceKey)
		services[i].first, services[i].id = first, int(id)
		for _, r := range svc.Servers {
			entry := &img.Servers[ids.server(id, r.Addr)]
			entry.Service = id
			copy(entry.Mac[:], r.MAC)
		}
		for _, slot := range slots[i] {
			img.Slots[first] = ids.server(id, svc.Servers[slot].Addr)
			first++
		}
	}
	img.ServiceSeed, err = perfectHash(keys, img.ServiceShift[:], len(img.Services), func(i, at int) {
		entry := &img.Services[at]
		entry.Key = keys[i]
		entry.Id = uint16(services[i].id)
		entry.FirstSlot = uint32(services[i].first)
		entry.Slots = uint32(len(slots[i]))
	})
	return err
}
