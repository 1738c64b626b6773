package xdp

import (
	"errors"
	"fmt"

	"systole/bpf"
	"systole/dataplane"
)

// quicIDs are the server IDs of one generation: struct quic_ids of quic.h.
type quicIDs = bpf.DirectorQuicIds

// quicServer is who has a server ID in a service.
type quicServer struct {
	id              uint64
	service, server uint16
}

// serverID is a server ID as the program reads it: the first byte is the lowest.
func serverID(b []byte) (id uint64) {
	for i, c := range b {
		id |= uint64(c) << (8 * i)
	}
	return id
}

// validateQUIC checks a service that goes by connection IDs.
func validateQUIC(svc dataplane.Service) error {
	n := svc.ServerIDLength
	switch {
	case n == 0:
		return nil
	case n < 0 || n > dataplane.MaxServerID:
		return fmt.Errorf("server IDs of %d bytes: choose 1 to %d", n, dataplane.MaxServerID)
	case svc.Protocol != dataplane.UDP:
		return errors.New("QUIC connection IDs are for udp only")
	case svc.OnePacket:
		return errors.New("one-packet scheduling keeps no QUIC connection on its server")
	case svc.Persistence.Timeout != 0:
		return errors.New("the xdp plane cannot do both: persistence and QUIC connection IDs")
	}
	of := make(map[uint64]dataplane.RealServer, len(svc.Servers))
	for _, r := range svc.Servers {
		if len(r.ServerID) != n {
			return fmt.Errorf("real server %s: the server ID %x has %d bytes, not %d", r.Addr, r.ServerID, len(r.ServerID), n)
		}
		id := serverID(r.ServerID)
		if other, twice := of[id]; twice {
			return fmt.Errorf("real servers %s and %s have the same server ID %x", other.Addr, r.Addr, r.ServerID)
		}
		of[id] = r
	}
	return nil
}

// quicServers are the server IDs of a valid snapshot, and those of servers that
// have left and keep their flows: from the generation in force.
func quicServers(s dataplane.Snapshot, ids identities, left []leftServer, before *quicIDs) []quicServer {
	var all []quicServer
	type key struct {
		id      uint64
		service uint16
	}
	given := make(map[key]bool)
	by := make(map[uint16]bool) // the services that go by IDs
	for i, svc := range s.Services {
		if svc.ServerIDLength == 0 {
			continue
		}
		service := ids.services[i]
		by[service] = true
		for j, r := range svc.Servers {
			id := serverID(r.ServerID)
			all = append(all, quicServer{id, service, ids.servers[i][j]})
			given[key{id, service}] = true
		}
	}
	if len(left) == 0 || before.Used == 0 {
		return all
	}
	gone := make(map[uint16]bool, len(left))
	for _, l := range left {
		gone[l.id] = by[l.service]
	}
	for _, e := range before.Ids {
		if e.Service != 0 && gone[e.Server] && !given[key{e.Id, e.Service}] {
			all = append(all, quicServer{e.Id, e.Service, e.Server})
		}
	}
	return all
}

// quicHash is the hash of quic_find.
func quicHash(seed [3]uint64, id uint64, service uint16) uint32 {
	return uint32((uint64(uint32(id))*seed[0] + id>>32*seed[1] + uint64(service)*seed[2]) >> 32)
}

// quicSeeds are the multipliers that follow from one seed.
func quicSeeds(seed uint64) [3]uint64 {
	s := seeds6(seed)
	return [3]uint64(s[:3])
}

// writeQUIC fills a table that no packet reads.
func writeQUIC(to *quicIDs, all []quicServer) error {
	*to = quicIDs{Used: uint32(len(all))}
	seed, err := perfectHashes(len(all), func(i int, seed uint64) uint32 {
		return quicHash(quicSeeds(seed), all[i].id, all[i].service)
	}, to.Shift[:], len(to.Ids), func(i, at int) {
		e := &to.Ids[at]
		e.Id, e.Service, e.Server = all[i].id, all[i].service, all[i].server
	})
	to.Seed = quicSeeds(seed)
	return err
}

// applyQUIC writes the server IDs of the generation that is to come. Generations
// use the two tables by turns, so no packet reads this one.
func (p *Plane) applyQUIC(s dataplane.Snapshot, ids identities, left []leftServer) error {
	now := p.active().Number
	before, to := &p.kernel.quic.elements[now&1], &p.kernel.quic.elements[(now+1)&1]
	all := quicServers(s, ids, left, before)
	if len(all) == 0 && to.Used == 0 {
		return nil
	}
	if len(all) > MaxServers {
		return fmt.Errorf("%d server IDs with those of servers that have left, at most %d are possible", len(all), MaxServers)
	}
	return writeQUIC(to, all)
}
