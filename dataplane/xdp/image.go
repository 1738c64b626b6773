package xdp

import (
	"encoding/binary"
	"iter"
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

	v4, v6 := splitVIPs(s.VIPs)
	var err error
	keys := make([]uint64, len(v4))
	for i, v := range v4 {
		keys[i] = uint64(addrWord(v.Addr))
	}
	img.VipSeed, err = perfectHash(keys, img.VipShift[:], len(img.Vips), func(i, at int) {
		v := &img.Vips[at]
		v.Addr = uint32(keys[i])
		v.Role = uint32(roles[v4[i].Role])
		v.Since = since[v4[i].Addr]
	})
	if err != nil {
		return err
	}
	if err := compileVIPs6(img, v6, since); err != nil {
		return err
	}

	// The slots and servers of all services; then the two tables of services.
	first := 0
	var services [2]familyServices
	for i, svc := range s.Services {
		id := ids.service(svc.ServiceKey)
		family := &services[0]
		if svc.VIP.Is6() {
			family = &services[1]
		}
		family.services = append(family.services, svc)
		family.entries = append(family.entries, service{
			Id: id, FirstSlot: uint32(first), Slots: uint32(len(slots[i])),
		})
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
	keys = make([]uint64, len(services[0].services))
	for i, svc := range services[0].services {
		keys[i] = serviceKey(svc.ServiceKey)
	}
	img.ServiceSeed, err = perfectHash(keys, img.ServiceShift[:], len(img.Services), func(i, at int) {
		img.Services[at] = services[0].entries[i]
		img.Services[at].Key = keys[i]
	})
	if err != nil {
		return err
	}
	return compileServices6(img, services[1].services, services[1].entries)
}

// service is a service as the program reads it.
type service = bpf.DirectorService

// familyServices are the services of one address family, and what the program
// is told of each but its key.
type familyServices struct {
	services []dataplane.Service
	entries  []service
}

// serviceIDs are the ids of all services of an image.
func serviceIDs(img *image) iter.Seq[uint16] {
	return func(yield func(uint16) bool) {
		for i := range img.Services {
			if id := img.Services[i].Id; id != 0 && !yield(id) {
				return
			}
		}
		for i := range img.Services6 {
			if id := img.Services6[i].Service.Id; id != 0 && !yield(id) {
				return
			}
		}
	}
}

// splitVIPs parts addresses by family.
func splitVIPs(vips []dataplane.VIP) (v4, v6 []dataplane.VIP) {
	for _, v := range vips {
		if v.Addr.Is6() {
			v6 = append(v6, v)
		} else {
			v4 = append(v4, v)
		}
	}
	return v4, v6
}
