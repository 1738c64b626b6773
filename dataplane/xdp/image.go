package xdp

import (
	"cmp"
	"encoding/binary"
	"iter"
	"math/bits"
	"net"
	"net/netip"
	"slices"
	"unsafe"

	"systole/bpf"
	"systole/dataplane"
	"systole/dataplane/scheduler"
)

// image is the configuration as the program reads it: one of the two halves.
type image = bpf.DirectorGeneration

// identities are the ids of a snapshot's services, and of the servers of each,
// in its order.
type identities struct {
	services []uint16
	servers  [][]uint16
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
	var servers []scheduler.Server // of one service after the other
	for i, svc := range s.Services {
		servers = schedulable(svc, servers)
		slots, err := scheduler.Slots(svc.Scheduler, servers)
		if err != nil {
			return nil, invalid("service %s: %v", svc.ServiceKey, err)
		}
		tables[i] = slots
		total += len(slots)
		if scheduler.Least(svc.Scheduler) {
			total += len(slots) // their weights
		}
	}
	if total > MaxSlots {
		return nil, invalid("the schedulers and weights of all services need %d slots, at most %d are possible: use smaller weights, or fewer services with mh (%d each)",
			total, MaxSlots, scheduler.MaglevSlots)
	}
	return tables, nil
}

// schedulable are the servers of a service as a scheduler sees them, in the place
// of servers, which nobody needs any more.
func schedulable(svc dataplane.Service, servers []scheduler.Server) []scheduler.Server {
	servers = servers[:0]
	for _, r := range svc.Servers {
		server := scheduler.Server{Addr: r.Addr}
		if deliverable(svc.ServiceKey, r) {
			server.Weight = r.Weight
		}
		servers = append(servers, server)
	}
	return servers
}

// serverLeft is SERVER_LEFT of consts.h.
const serverLeft = 0x8000

// leftServer is a server that has left its service and keeps its flows.
type leftServer struct {
	id, service uint16
	mac         [6]uint8
	tunnel      tunnel
}

// flags are what the program must know of a service, and whether its address is
// served here.
func flags(svc dataplane.Service, served bool) (f bpf.DirectorServiceFlags) {
	if served && !svc.OnePacket {
		f |= bpf.DirectorServiceFlagsSERVICE_FAST
	}
	if scheduler.Hashed(svc.Scheduler) {
		f |= bpf.DirectorServiceFlagsSERVICE_HASH
		if slices.Contains(svc.SchedulerFlags, svc.Scheduler+"-port") || slices.Contains(svc.SchedulerFlags, flagPort) {
			f |= bpf.DirectorServiceFlagsSERVICE_HASH_PORT
		}
	}
	if scheduler.Least(svc.Scheduler) {
		f |= bpf.DirectorServiceFlagsSERVICE_LEAST
	}
	if svc.OnePacket {
		f |= bpf.DirectorServiceFlagsSERVICE_ONE_PACKET
	}
	f |= bpf.DirectorServiceFlagsSERVICE_QUIC * bpf.DirectorServiceFlags(svc.ServerIDLength)
	if svc.Persistence.Timeout != 0 {
		f |= bpf.DirectorServiceFlagsSERVICE_PERSISTENT
	}
	switch svc.Lost {
	case dataplane.Reschedule:
		f |= bpf.DirectorServiceFlagsSERVICE_RESCHEDULE
	case dataplane.Keep:
		f |= bpf.DirectorServiceFlagsSERVICE_KEEP
	}
	return f
}

// clientMask is what of a client's address counts, as a packet has it.
func clientMask(p dataplane.Persistence) uint32 {
	n := p.PrefixLen
	if n == 0 {
		n = 32
	}
	return bits.ReverseBytes32(^uint32(0) << (32 - n))
}

// compile draws the image of a valid snapshot. slots is slotTables of it, since
// tells when an address became active here, in units of a; left are servers no
// longer in s that keep their flows.
func compile(c *canvas, s dataplane.Snapshot, slots [][]int, own net.HardwareAddr, ids identities,
	since map[netip.Addr]uint32, a aging, left []leftServer) error {
	c.clear()
	img := &c.image
	c.mark(0, int(unsafe.Offsetof(img.VipShift))) // the words in front of all tables
	copy(img.Own.Addr[:], own)
	for i, mac := range s.Peers {
		copy(img.Peers[i].Addr[:], mac)
	}
	img.Npeers = uint32(len(s.Peers))
	if s.SecondChance {
		img.SecondChance = 1
	}
	tunnels := newTunnelTable(c)
	for _, l := range left {
		entry := draw(c, &img.Servers[l.id])
		entry.Mac, entry.Service = l.mac, l.service|serverLeft
		if err := tunnels.add(l.id, l.tunnel); err != nil {
			return err
		}
	}

	served := make(map[netip.Addr]bool)
	for _, v := range s.VIPs {
		served[v.Addr] = v.Role != dataplane.Standby
	}
	// The slots and servers of all services; then the two tables of services.
	first := 0
	var services [2]familyServices
	for i, svc := range s.Services {
		id := ids.services[i]
		family := &services[0]
		if svc.VIP.Is6() {
			family = &services[1]
		}
		family.of = append(family.of, i)
		family.services = append(family.services, svc)
		family.entries = append(family.entries, service{
			Id: id, FirstSlot: uint32(first), Slots: uint32(len(slots[i])), Flags: uint16(flags(svc, served[svc.VIP])),
		})
		draw(c, &img.Timeouts[id]).ByState = a.timeouts(svc.Timeouts, svc.Persistence.Timeout)
		for j, r := range svc.Servers {
			server := ids.servers[i][j]
			entry := draw(c, &img.Servers[server])
			entry.Service = id
			if !r.Tunnelled() {
				copy(entry.Mac[:], r.MAC)
			} else if err := tunnels.add(server, tunnelTo(svc.ServiceKey, r)); err != nil {
				return err
			}
		}
		for _, slot := range slots[i] {
			img.Slots[first] = ids.servers[i][slot]
			first++
		}
		if scheduler.Least(svc.Scheduler) {
			weights, err := scheduler.Weights(svc.Scheduler, schedulable(svc, nil), slots[i])
			if err != nil {
				return err
			}
			first += copy(img.Slots[first:], weights)
		}
	}
	drawAll(c, img.Slots[:first])
	places := make([]int, len(s.Services))
	if err := compileServices(c, services[0], places); err != nil {
		return err
	}
	if err := compileServices6(c, services[1], places); err != nil {
		return err
	}
	ranges := compileRanges(c, s, places)
	v4, v6 := splitVIPs(s.VIPs)
	if err := compileVIPs(c, v4, since, ranges); err != nil {
		return err
	}
	return compileVIPs6(c, v6, since, ranges)
}

// service is a service as the program reads it.
type service = bpf.DirectorService

// familyServices are the services of one address family, and what the program
// is told of each but its key.
type familyServices struct {
	of       []int // index in the snapshot
	services []dataplane.Service
	entries  []service
}

// compileServices writes IPv4 services, and into places where each of the
// snapshot stands.
func compileServices(c *canvas, f familyServices, places []int) (err error) {
	keys := make([]uint64, len(f.services))
	for i, svc := range f.services {
		keys[i] = serviceKey(svc.ServiceKey)
		if manyPorts(svc.ServiceKey) {
			// No packet has this key: the program finds it by its range.
			keys[i] = 1<<63 | uint64(i)
		}
	}
	img := &c.image
	img.ServiceSeed, err = perfectHash(keys, shiftsFor(c, keys, img.ServiceShift[:]), len(img.Services), func(i, at int) {
		entry := draw(c, &img.Services[at])
		*entry = f.entries[i]
		entry.Key, entry.ClientMask = keys[i], clientMask(f.services[i].Persistence)
		places[f.of[i]] = at
	})
	return err
}

// shiftsFor are the shifts of a table for some keys: without any they stay as
// they are.
func shiftsFor[T any](c *canvas, keys []T, shifts []uint16) []uint16 {
	if len(keys) > 0 {
		drawAll(c, shifts)
	}
	return shifts
}

// compileVIPs writes IPv4 addresses.
func compileVIPs(c *canvas, vips []dataplane.VIP, since map[netip.Addr]uint32, ranges map[netip.Addr]rangesOf) (err error) {
	keys := make([]uint64, len(vips))
	for i, v := range vips {
		keys[i] = uint64(addrWord(v.Addr))
	}
	img := &c.image
	img.VipSeed, err = perfectHash(keys, shiftsFor(c, keys, img.VipShift[:]), len(img.Vips), func(i, at int) {
		v := draw(c, &img.Vips[at])
		v.Addr = uint32(keys[i])
		v.Role = uint32(roles[vips[i].Role])
		v.Since = since[vips[i].Addr]
		r := ranges[vips[i].Addr]
		v.FirstRange, v.Ranges = r.first, r.count
	})
	return err
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

// rangesOf is where the ranges of one address stand.
type rangesOf struct{ first, count uint16 }

// compileRanges writes the services of many ports, those of one address
// together and the narrow ones first.
func compileRanges(c *canvas, s dataplane.Snapshot, places []int) map[netip.Addr]rangesOf {
	var wide []int
	for i, svc := range s.Services {
		if manyPorts(svc.ServiceKey) {
			wide = append(wide, i)
		}
	}
	width := func(i int) int {
		first, last := s.Services[i].Ports()
		return int(last) - int(first)
	}
	slices.SortFunc(wide, func(a, b int) int {
		return cmp.Or(
			s.Services[a].VIP.Compare(s.Services[b].VIP),
			cmp.Compare(width(a), width(b)),
			s.Services[a].ServiceKey.Compare(s.Services[b].ServiceKey),
		)
	})
	of := make(map[netip.Addr]rangesOf)
	for at, i := range wide {
		svc := s.Services[i]
		entry := draw(c, &c.image.Ranges[at])
		entry.First, entry.Last = svc.Ports()
		entry.Place, entry.Protocol = uint16(places[i]), uint16(svc.Protocol)
		r, ok := of[svc.VIP]
		if !ok {
			r.first = uint16(at)
		}
		r.count++
		of[svc.VIP] = r
	}
	return of
}

// manyPorts tells whether a service has more than one port.
func manyPorts(k dataplane.ServiceKey) bool { return k.Port == 0 || k.LastPort != 0 }
