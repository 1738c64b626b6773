package xdp

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"systole/bpf"
	"systole/dataplane"
)

func ids(services, servers int) *idTable {
	return newIDTable(make([]bpf.DirectorServiceName, services), make([]bpf.DirectorServerName, servers))
}

// idsOf are those of a snapshot, all of which are there.
func idsOf(t *idTable, s dataplane.Snapshot) identities {
	ids, _, _ := t.of(s)
	return ids
}

// idsThat is the set of the ids below n that a function holds for.
func idsThat(keep func(uint16) bool, n int) *idSet {
	set := new(idSet)
	for id := range n {
		set[id] = keep(uint16(id))
	}
	return set
}

// Over any history of snapshots: ids are distinct, never change, and a
// successor reads the same from the names.
func TestIDsAreStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := ids(5, 12)
		services := map[dataplane.ServiceKey]uint16{}
		servers := map[serverName]uint16{}
		steps := rapid.IntRange(1, 30).Draw(t, "steps")
		for range steps {
			s := dataplane.Snapshot{}
			for _, port := range rapid.SliceOfNDistinct(rapid.Uint16Range(1, 6), 0, 4, rapid.ID).Draw(t, "ports") {
				svc := dataplane.Service{ServiceKey: dataplane.ServiceKey{VIP: testVIP, Port: port, Protocol: dataplane.TCP}}
				for _, n := range rapid.SliceOfNDistinct(rapid.IntRange(1, 4), 0, 2, rapid.ID).Draw(t, "servers") {
					svc.Servers = append(svc.Servers, server(n))
				}
				s.Services = append(s.Services, svc)
			}
			_, needServices, needServers := table.of(s)
			if a, b := table.room(); needServices > a || needServers > b {
				// As takeBackIDs: only what s has is kept.
				keep := idsThat(func(id uint16) bool {
					key, ok := table.serviceKey(id)
					return ok && slices.ContainsFunc(s.Services, func(svc dataplane.Service) bool { return svc.ServiceKey == key })
				}, len(table.serviceNames))
				keepServer := idsThat(func(id uint16) bool {
					name, ok := table.serverName(id)
					if !ok {
						return false
					}
					key, _ := table.serviceKey(name.service)
					return slices.ContainsFunc(s.Services, func(svc dataplane.Service) bool {
						return svc.ServiceKey == key && slices.ContainsFunc(svc.Servers, func(r dataplane.RealServer) bool { return r.Addr == name.addr })
					})
				}, len(table.serverNames))
				goneServices, goneServers := table.take(keep, keepServer)
				table.forget(goneServices, goneServers)
				for key, id := range services {
					if slices.Contains(goneServices, id) {
						delete(services, key)
					}
				}
				for name, id := range servers {
					if slices.Contains(goneServers, id) {
						delete(servers, name)
					}
				}
			}
			if err := table.assign(s); err != nil {
				t.Fatal(err)
			}
			for _, svc := range s.Services {
				id := table.service(svc.ServiceKey)
				if was, ok := services[svc.ServiceKey]; id == 0 || ok && was != id {
					t.Fatalf("service %s has id %d, had %d", svc.ServiceKey, id, was)
				}
				services[svc.ServiceKey] = id
				for _, r := range svc.Servers {
					name := serverName{id, r.Addr}
					sid := table.server(id, r.Addr)
					if was, ok := servers[name]; sid == 0 || ok && was != sid {
						t.Fatalf("server %v has id %d, had %d", name, sid, was)
					}
					servers[name] = sid
				}
			}
			successor := newIDTable(table.serviceNames, table.serverNames)
			if len(successor.services) != len(services) || len(successor.servers) != len(servers) {
				t.Fatalf("a successor reads %d services and %d servers, want %d and %d",
					len(successor.services), len(successor.servers), len(services), len(servers))
			}
			distinct := map[uint16]bool{}
			for name, id := range servers {
				if successor.servers[name] != id || distinct[id] {
					t.Fatalf("server %v: id %d, its successor reads %d", name, id, successor.servers[name])
				}
				distinct[id] = true
			}
		}
	})
}

func TestNoFreeID(t *testing.T) {
	s := twoServices(1)
	if err := ids(2, 8).assign(s); err == nil {
		t.Error("two services with one id")
	}
	if err := ids(8, 2).assign(s); err == nil {
		t.Error("two servers with one id")
	}
}

// many is a snapshot with n servers, numbered from first, over services of at
// most 4096.
func many(first, n int) dataplane.Snapshot {
	s := dataplane.Snapshot{VIPs: []dataplane.VIP{{Addr: testVIP, Role: dataplane.Active}}}
	for port := uint16(80); n > 0; port++ {
		svc := dataplane.Service{ServiceKey: dataplane.ServiceKey{VIP: testVIP, Port: port, Protocol: dataplane.TCP}, Scheduler: "rr"}
		for range min(n, 4096) {
			r := server(first)
			r.Addr = netip.AddrFrom4([4]byte{172, byte(16 + first>>16), byte(first >> 8), byte(first)})
			svc.Servers = append(svc.Servers, r)
			first++
		}
		n -= len(svc.Servers)
		s.Services = append(s.Services, svc)
	}
	return s
}

func TestIDsAreTakenBack(t *testing.T) {
	p, on := ready(t, 1024, 1)
	on(client(0, "S"))
	on(client(0, "A"))
	apply(t, p, many(100, 10_000))
	before := p.ids.server(p.ids.service(web), server(1).Addr)
	if before == 0 {
		t.Fatal("the id was taken back without need")
	}
	if _, err := p.Apply(many(20_000, 10_000)); !errors.Is(err, dataplane.ErrInvalid) || !strings.Contains(err.Error(), "two steps") {
		t.Errorf("20,000 ids at once: %v, want ErrInvalid", err)
	}
	apply(t, p, many(30_000, 1))
	apply(t, p, many(20_000, 10_000))
	if p.ids.server(p.ids.service(web), server(1).Addr) != 0 {
		t.Error("the id was not taken back")
	}
	st, err := p.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if st.Flows != 0 {
		t.Errorf("%d flows of servers that are gone", st.Flows)
	}
	if got := st.Services[web]; got.Packets != 2 || got.Connections != 1 {
		t.Errorf("the service forgot what its former server did: %+v", got)
	}
	for _, c := range st.Servers {
		if c != (dataplane.Counters{}) {
			t.Fatalf("a new server inherited %+v", c)
		}
	}
	// The turn of the service went on: one connection was made.
	if got, want := on(client(0, "S")).To.String(), many(20_000, 2).Services[0].Servers[1].MAC.String(); got != want {
		t.Errorf("the flow of a server that left went to %s, want %s", got, want)
	}
}
