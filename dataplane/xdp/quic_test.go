package xdp

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"os"
	"testing"

	"pgregory.net/rapid"

	"systole/bpf"
	"systole/dataplane"
	"systole/dataplane/planetest"
)

// findQUIC looks a server ID up as the program does.
func findQUIC(t *quicIDs, id uint64, service uint16) uint16 {
	h := quicHash(t.Seed, id, service)
	e := t.Ids[(h^uint32(t.Shift[h>>16&uint32(len(t.Shift)-1)]))&uint32(len(t.Ids)-1)]
	if e.Id != id || e.Service != service {
		return 0
	}
	return e.Server
}

// quicService has n servers with IDs that begin at first.
func quicService(port uint16, length, first, n int) dataplane.Service {
	svc := dataplane.Service{ServiceKey: dataplane.ServiceKey{VIP: testVIP, Port: port, Protocol: dataplane.UDP}, Scheduler: "rr", ServerIDLength: length}
	for i := range n {
		r := server(i + 1)
		r.ServerID = binary.LittleEndian.AppendUint64(nil, uint64(first+i))[:length]
		svc.Servers = append(svc.Servers, r)
	}
	return svc
}

// As many servers as there can be have their IDs found, and others none: also
// when all IDs follow each other, or are the same in many services.
func TestServerIDTable(t *testing.T) {
	table := new(quicIDs)
	for name, all := range map[string]func(i int) quicServer{
		"one service":   func(i int) quicServer { return quicServer{uint64(i), 1, uint16(i + 1)} },
		"many services": func(i int) quicServer { return quicServer{uint64(i % 16), uint16(1 + i/16), uint16(i + 1)} },
		"high bytes":    func(i int) quicServer { return quicServer{uint64(i) << 48, 1, uint16(i + 1)} },
	} {
		servers := make([]quicServer, MaxServers)
		for i := range servers {
			servers[i] = all(i)
		}
		if err := writeQUIC(table, servers); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, s := range servers {
			if got := findQUIC(table, s.id, s.service); got != s.server {
				t.Fatalf("%s: %+v is found as %d", name, s, got)
			}
			if got := findQUIC(table, s.id|1<<63, s.service); got != 0 {
				t.Fatalf("%s: %+v with another last byte is found as %d", name, s, got)
			}
		}
	}
	if err := writeQUIC(table, nil); err != nil || *table != (quicIDs{Seed: table.Seed}) {
		t.Errorf("without servers: used %d, %v", table.Used, err)
	}
}

// Through any history of snapshots the table has the IDs of the servers that
// are in their services, and of those that have left and are kept, unless
// another server has the ID now.
func TestServerIDsOfLeftServers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := ids(100, 100)
		halves := [2]*quicIDs{new(quicIDs), new(quicIDs)}
		kept := map[quicServer]bool{} // what must be in the table
		for step := range rapid.IntRange(1, 8).Draw(t, "steps") {
			var s dataplane.Snapshot
			var left []leftServer
			want := map[quicServer]bool{}
			taken := map[[2]uint64]bool{}
			for port := range uint16(3) {
				svc := quicService(100+port, rapid.SampledFrom([]int{0, 1, 4, 8}).Draw(t, "length"), rapid.IntRange(0, 3).Draw(t, "first"), rapid.IntRange(0, 4).Draw(t, "servers"))
				s.Services = append(s.Services, svc)
			}
			if err := names.assign(s); err != nil {
				t.Fatal(err)
			}
			in := map[uint16]bool{}
			for _, svc := range s.Services {
				service := names.service(svc.ServiceKey)
				for _, r := range svc.Servers {
					q := quicServer{serverID(r.ServerID), service, names.server(service, r.Addr)}
					in[q.server] = true
					if svc.ServerIDLength != 0 {
						want[q] = true
						taken[[2]uint64{q.id, uint64(service)}] = true
					}
				}
			}
			for q := range kept {
				if in[q.server] {
					continue
				}
				left = append(left, leftServer{id: q.server, service: q.service})
				length := s.Services[q.service-1].ServerIDLength
				if length != 0 && !taken[[2]uint64{q.id, uint64(q.service)}] {
					want[q] = true
				}
			}
			to := halves[step&1]
			if err := writeQUIC(to, quicServers(s, idsOf(names, s), left, halves[step&1^1])); err != nil {
				t.Fatal(err)
			}
			got := map[quicServer]bool{}
			for _, e := range to.Ids {
				if e.Service != 0 {
					got[quicServer{e.Id, e.Service, e.Server}] = true
				}
			}
			if len(got) != len(want) || int(to.Used) != len(want) {
				t.Fatalf("step %d: %v, want %v", step, got, want)
			}
			for q := range want {
				if !got[q] {
					t.Fatalf("step %d: %v lacks %v", step, got, q)
				}
			}
			kept = want
		}
	})
}

// A successor knows the server IDs of the generation in force before its first
// Apply. One that finds no such table, since its predecessor knew nothing of
// QUIC, keeps all the rest.
func TestServerIDsAfterRestart(t *testing.T) {
	l := newLAN(t)
	s := dataplane.Snapshot{
		VIPs:     []dataplane.VIP{{Addr: testVIP, Role: dataplane.Active}},
		Services: []dataplane.Service{quicService(443, 4, 0, 3)},
	}
	clients := 0
	// named sends datagrams of new clients, all zero: so is the ID of server 1.
	named := func(p *Plane) (n int) {
		t.Helper()
		on := sender(t, p.Program(), ownMAC)
		for range 3 {
			clients++
			got := on(planetest.Frame{
				Dst: ownMAC, Src: otherMAC, From: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 4, 4, byte(clients)}), 4444),
				To: netip.AddrPortFrom(testVIP, 443), Protocol: dataplane.UDP, Payload: 30,
			})
			if got.Verdict != planetest.Forwarded {
				t.Fatalf("client %d: %s", clients, got)
			}
			if bytes.Equal(got.To, serverMAC(1)) {
				n++
			}
		}
		return n
	}
	first := serving(t, l.config(t), s)
	if n := named(first); n != 3 {
		t.Fatalf("%d of 3 went to the server that they name", n)
	}
	first.crash(t)
	second := open(t, l.config(t))
	if n := named(second); n != 3 {
		t.Errorf("after a restart %d of 3 went to the server that they name", n)
	}
	second.crash(t)

	if err := os.Remove(second.pins.path(bpf.DirectorMapQuicIds)); err != nil {
		t.Fatal(err)
	}
	third := open(t, l.config(t))
	if n := named(third); n != 1 {
		t.Errorf("without the table %d of 3 went to server 1, want 1: by turns", n)
	}
	if g := apply(t, third, s); g != 2 {
		t.Errorf("generation %d, want 2: the rest was lost with the table", g)
	}
	if n := named(third); n != 3 {
		t.Errorf("after the first Apply %d of 3 went to the server that they name", n)
	}
	third.crash(t)
	if n := named(open(t, l.config(t))); n != 3 {
		t.Errorf("after another restart %d of 3 went to the server that they name", n)
	}
}
