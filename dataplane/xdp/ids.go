package xdp

import (
	"fmt"
	"net/netip"

	"systole/bpf"
	"systole/dataplane"
)

// serverName is what a server id stands for.
type serverName struct {
	service uint16
	addr    netip.Addr
}

// idTable remembers which id belongs to which service and server. The names
// lie in two maps of the kernel, so that the daemon's successor gives the same
// ids; the Go maps are an index over them.
type idTable struct {
	serviceNames []bpf.DirectorServiceName // by id; [0] is unused
	serverNames  []bpf.DirectorServerName
	services     map[dataplane.ServiceKey]uint16
	servers      map[serverName]uint16
	lastService  int // where the last free id was found
	lastServer   int
}

// The families of names in use.
const (
	family4 = 4
	family6 = 6
)

// packAddr is an address in a name, with its family.
func packAddr(a netip.Addr) (b [16]byte, family uint8) {
	if a.Is4() {
		four := a.As4()
		copy(b[:], four[:])
		return b, family4
	}
	return a.As16(), family6
}

func unpackAddr(b [16]byte, family uint8) netip.Addr {
	if family == family6 {
		return netip.AddrFrom16(b)
	}
	return netip.AddrFrom4([4]byte(b[:4]))
}

// newIDTable indexes the names it finds.
func newIDTable(services []bpf.DirectorServiceName, servers []bpf.DirectorServerName) *idTable {
	t := &idTable{
		serviceNames: services,
		serverNames:  servers,
		services:     map[dataplane.ServiceKey]uint16{},
		servers:      map[serverName]uint16{},
	}
	for id := range services {
		if key, ok := t.serviceKey(uint16(id)); ok {
			t.services[key] = uint16(id)
		}
	}
	for id := range servers {
		if name, ok := t.serverName(uint16(id)); ok {
			t.servers[name] = uint16(id)
		}
	}
	return t
}

func (t *idTable) serviceKey(id uint16) (dataplane.ServiceKey, bool) {
	n := &t.serviceNames[id]
	return dataplane.ServiceKey{
		VIP:      unpackAddr(n.Vip, n.Family),
		Port:     n.Port,
		LastPort: n.LastPort,
		Protocol: dataplane.Protocol(n.Protocol),
	}, id != 0 && n.Family != 0
}

func (t *idTable) serverName(id uint16) (serverName, bool) {
	n := &t.serverNames[id]
	return serverName{service: n.Service, addr: unpackAddr(n.Addr, n.Family)},
		id != 0 && n.Family != 0
}

// service is the id of a service, 0 if it has none.
func (t *idTable) service(key dataplane.ServiceKey) uint16 { return t.services[key] }

// server is the id of a server of a service, 0 if it has none.
func (t *idTable) server(service uint16, addr netip.Addr) uint16 {
	return t.servers[serverName{service, addr}]
}

// of are the ids of s, and how many are missing: those are 0.
func (t *idTable) of(s dataplane.Snapshot) (ids identities, services, servers int) {
	n := 0
	for _, svc := range s.Services {
		n += len(svc.Servers)
	}
	ids = identities{make([]uint16, 0, len(s.Services)), make([][]uint16, 0, len(s.Services))}
	all := make([]uint16, 0, n)
	for _, svc := range s.Services {
		id := t.services[svc.ServiceKey]
		if id == 0 {
			services++
		}
		first := len(all)
		for _, r := range svc.Servers {
			server := uint16(0)
			if id != 0 {
				server = t.servers[serverName{id, r.Addr}]
			}
			if server == 0 {
				servers++
			}
			all = append(all, server)
		}
		ids.services, ids.servers = append(ids.services, id), append(ids.servers, all[first:])
	}
	return ids, services, servers
}

// room counts the ids that nobody has.
func (t *idTable) room() (services, servers int) {
	return len(t.serviceNames) - 1 - len(t.services), len(t.serverNames) - 1 - len(t.servers)
}

// assign gives ids to all of s. There must be room.
func (t *idTable) assign(s dataplane.Snapshot) error {
	for _, svc := range s.Services {
		id, ok := t.services[svc.ServiceKey]
		if !ok {
			id = free(&t.lastService, len(t.serviceNames), func(id int) bool { return t.serviceNames[id].Family == 0 })
			if id == 0 {
				return fmt.Errorf("no free id for service %s", svc.ServiceKey)
			}
			n := &t.serviceNames[id]
			n.Vip, n.Family = packAddr(svc.VIP)
			n.Port, n.LastPort, n.Protocol = svc.Port, svc.LastPort, uint8(svc.Protocol)
			t.services[svc.ServiceKey] = id
		}
		for _, r := range svc.Servers {
			name := serverName{id, r.Addr}
			if _, ok := t.servers[name]; ok {
				continue
			}
			sid := free(&t.lastServer, len(t.serverNames), func(id int) bool { return t.serverNames[id].Family == 0 })
			if sid == 0 {
				return fmt.Errorf("no free id for real server %s of service %s", r.Addr, svc.ServiceKey)
			}
			n := &t.serverNames[sid]
			n.Addr, n.Family = packAddr(r.Addr)
			n.Service = id
			t.servers[name] = sid
		}
	}
	return nil
}

// free finds the next id nobody has, going round from the last one: an id that
// was taken back rests as long as possible.
func free(last *int, size int, isFree func(id int) bool) uint16 {
	for range size {
		*last++
		if *last >= size {
			*last = 1
		}
		if isFree(*last) {
			return uint16(*last)
		}
	}
	return 0
}

// take removes the names of ids that are not kept, and returns them. No flow may
// name them any more.
func (t *idTable) take(keepServices, keepServers *idSet) (services, servers []uint16) {
	for name, id := range t.servers {
		if !keepServers[id] || !keepServices[name.service] {
			delete(t.servers, name)
			servers = append(servers, id)
		}
	}
	for key, id := range t.services {
		if !keepServices[id] {
			delete(t.services, key)
			services = append(services, id)
		}
	}
	return services, servers
}

// forget erases the names of ids that were taken back, after what they stood
// for was settled elsewhere.
func (t *idTable) forget(services, servers []uint16) {
	for _, id := range servers {
		t.serverNames[id] = bpf.DirectorServerName{}
	}
	for _, id := range services {
		t.serviceNames[id] = bpf.DirectorServiceName{}
	}
}
