package xdp

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"systole/dataplane"
)

// find6 looks an IPv6 service up in an image as the program does.
func find6(img *image, key dataplane.ServiceKey) (role uint32, svc service) {
	addr := words6(key.VIP)
	h := hash6(img.Vip6Seed[:], addr, 0)
	v := img.Vips6[(h^uint32(img.Vip6Shift[h>>16&uint32(len(img.Vip6Shift)-1)]))&uint32(len(img.Vips6)-1)]
	if v.Addr != addr {
		return 0, service{}
	}
	h = hash6(img.Service6Seed[:], addr, portKey(key, 0))
	s := img.Services6[(h^uint32(img.Service6Shift[h>>16&uint32(len(img.Service6Shift)-1)]))&uint32(len(img.Services6)-1)]
	if s.Addr != addr || s.Service.Key != portKey(key, 0) {
		return v.Role, service{}
	}
	return v.Role, s.Service
}

// Full tables of addresses as operators have them: in a row, one for each
// network, scattered.
func TestFullImage6(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for name, addr := range map[string]func(i int) netip.Addr{
		"in a row": func(i int) netip.Addr {
			return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 14: byte(i >> 8), 15: byte(i)})
		},
		"one for each network": func(i int) netip.Addr {
			return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 6: byte(i >> 8), 7: byte(i), 15: 1})
		},
		"scattered": func(int) netip.Addr {
			b := [16]byte{0x20}
			for i := range b[1:] {
				b[i+1] = byte(rnd.Uint32())
			}
			return netip.AddrFrom16(b)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var s dataplane.Snapshot
			for i := range MaxVIPs {
				s.VIPs = append(s.VIPs, dataplane.VIP{Addr: addr(i), Role: dataplane.Role(i % 3)})
			}
			for i := range MaxServices {
				r := server(1)
				r.Addr = netip.MustParseAddr("2001:db8:1::1")
				s.Services = append(s.Services, dataplane.Service{
					ServiceKey: dataplane.ServiceKey{VIP: s.VIPs[i%MaxVIPs].Addr, Port: uint16(1 + i/MaxVIPs), Protocol: dataplane.UDP},
					Scheduler:  "rr", Servers: []dataplane.RealServer{r},
				})
			}
			if err := validate(s, ownMAC); err != nil {
				t.Fatal(err)
			}
			slots, err := slotTables(s)
			if err != nil {
				t.Fatal(err)
			}
			table := ids(len(image{}.ServiceShift), len(image{}.Servers))
			if err := table.assign(s); err != nil {
				t.Fatal(err)
			}
			c := newCanvas(newAging(4 * time.Millisecond))
			img := &c.image
			if err := compile(c, s, slots, ownMAC, idsOf(table, s), nil, newAging(4*time.Millisecond), nil); err != nil {
				t.Fatal(err)
			}
			for i, svc := range s.Services {
				role, entry := find6(img, svc.ServiceKey)
				id := table.service(svc.ServiceKey)
				if want := s.VIPs[i%MaxVIPs].Role; role != uint32(roles[want]) || entry.Id != id || entry.Slots != 1 {
					t.Fatalf("%s: role %d, %+v; want %s, id %d", svc.ServiceKey, role, entry, want, id)
				}
				if got, want := img.Slots[entry.FirstSlot], table.server(id, svc.Servers[0].Addr); got != want {
					t.Fatalf("%s: its slot has server %d, want %d", svc.ServiceKey, got, want)
				}
			}
			for _, key := range []dataplane.ServiceKey{
				{VIP: netip.MustParseAddr("2001:db8:ffff::1"), Port: 1, Protocol: dataplane.UDP},
				{VIP: s.VIPs[0].Addr, Port: 1, Protocol: dataplane.TCP},
				{VIP: s.VIPs[0].Addr, Port: 999, Protocol: dataplane.UDP},
			} {
				if _, entry := find6(img, key); entry.Id != 0 {
					t.Errorf("%s is not in the snapshot and was found", key)
				}
			}
		})
	}
}

// A successor finds the names of both families, and gives the same ids.
func TestIDsOfBothFamilies(t *testing.T) {
	s := twoServices(2)
	v6 := s.Services[0]
	v6.VIP = netip.MustParseAddr("2001:db8::1")
	v6.Servers = []dataplane.RealServer{{Addr: netip.MustParseAddr("2001:db8::11"), Weight: 1}}
	// Its first four bytes are an IPv4 address in use.
	v6.Servers = append(v6.Servers, dataplane.RealServer{Addr: netip.MustParseAddr("ac10:1::"), Weight: 1})
	s.VIPs = append(s.VIPs, dataplane.VIP{Addr: v6.VIP})
	s.Services = append(s.Services, v6)
	before := ids(100, 100)
	if err := before.assign(s); err != nil {
		t.Fatal(err)
	}
	after := newIDTable(before.serviceNames, before.serverNames)
	for _, svc := range s.Services {
		id := after.service(svc.ServiceKey)
		if id == 0 || id != before.service(svc.ServiceKey) {
			t.Errorf("%s has id %d, had %d", svc.ServiceKey, id, before.service(svc.ServiceKey))
		}
		for _, r := range svc.Servers {
			if got := after.server(id, r.Addr); got == 0 || got != before.server(id, r.Addr) {
				t.Errorf("%s, %s has id %d, had %d", svc.ServiceKey, r.Addr, got, before.server(id, r.Addr))
			}
		}
	}
	if _, services, servers := after.of(s); services != 0 || servers != 0 {
		t.Errorf("%d services and %d servers are missing", services, servers)
	}
}
