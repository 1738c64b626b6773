package xdp

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"systole/bpf"
	"systole/dataplane"
)

// anySnapshot is a random configuration with some of everything.
func anySnapshot(rnd *rand.Rand) dataplane.Snapshot {
	s := wide(rnd.IntN(300))
	s.Peers = append(s.Peers, serverMAC(1+rnd.IntN(9)))
	for i := range s.Services {
		svc := &s.Services[i]
		switch rnd.IntN(5) {
		case 0:
			svc.LastPort = svc.Port + 1 + uint16(rnd.IntN(9))
			if i > 3 {
				svc.LastPort = 0
			}
		case 1:
			svc.Timeouts.TCP = time.Duration(1+rnd.IntN(99)) * time.Second
		case 2:
			svc.Servers = nil
		case 3:
			svc.Servers[0].Weight = uint32(rnd.IntN(3))
			svc.Servers[0].MAC = serverMAC(rnd.IntN(99))
		case 4:
			svc.Servers[0].Forward, svc.Servers[0].Source = dataplane.IPIP, netip.MustParseAddr("172.16.255.1")
		}
		for j := range svc.Servers {
			svc.Servers[j].Interface = []string{"a", "b", "none", ""}[rnd.IntN(4)]
		}
	}
	rnd.Shuffle(len(s.Services), func(i, j int) { s.Services[i], s.Services[j] = s.Services[j], s.Services[i] })
	for i := range rnd.IntN(30) {
		addr := netip.AddrFrom16([16]byte{0x20, 1, 14: byte(rnd.IntN(2)), 15: byte(i)})
		r := server(1)
		r.Addr = netip.AddrFrom16([16]byte{0x20, 2, 15: byte(1 + i)})
		s.VIPs = append(s.VIPs, dataplane.VIP{Addr: addr, Role: dataplane.Role(rnd.IntN(3))})
		s.Services = append(s.Services, dataplane.Service{
			ServiceKey: dataplane.ServiceKey{VIP: addr, Port: 53, Protocol: dataplane.UDP}, Scheduler: "rr", Servers: []dataplane.RealServer{r},
		})
	}
	return s
}

// Whatever was drawn before, on the canvas and on the half it is put onto: the
// half is what an empty one would be.
func TestOnlyWhatHasChangedIsCopied(t *testing.T) {
	a := newAging(4 * time.Millisecond)
	fresh := newCanvas(a)
	table := ids(MaxServices+1, MaxServers+1)
	ports := []*port{
		{name: "a", nic: nic{index: 2, mac: ownMAC}, at: []*attachment{{mode: ModeNative}}},
		{name: "b", number: 1, nic: nic{index: 3, mac: serverMAC(7)}},
	}
	p := &Plane{ids: table, kernel: &kernelSide{state: mapping[bpf.DirectorState]{elements: make([]bpf.DirectorState, 1)}}}
	rapid.Check(t, func(t *rapid.T) {
		rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		c := newCanvas(a)
		halves, known := [2]*image{new(image), new(image)}, [2]blocks{allBlocks(), allBlocks()}
		halves[0].Slots[99], halves[1].Services6[5].Service.Id = 9, 9 // of a predecessor
		for n := range rapid.IntRange(1, 6).Draw(t, "generations") {
			s := anySnapshot(rnd)
			if err := validate(s, ownMAC); err != nil {
				t.Fatal(err)
			}
			slots, err := slotTables(s)
			if err == nil {
				err = table.assign(s)
			}
			if err != nil {
				t.Fatal(err)
			}
			given := idsOf(table, s)
			left := []leftServer{
				{id: uint16(1 + rnd.IntN(MaxServers)), service: 1, mac: [6]uint8{2}},
				{id: uint16(1 + rnd.IntN(MaxServers)), service: 1, tunnel: tunnel{Kind: 1, Most: uint16(1 + rnd.IntN(9))}},
			}
			p.ports = ports[:rnd.IntN(len(ports)+1)]
			fresh.image, fresh.drawn = *fresh.empty, blocks{}
			for _, on := range []*canvas{c, fresh} {
				if err := compile(on, s, slots, ownMAC, given, nil, a, left); err != nil {
					t.Fatal(err)
				}
				p.compileEgress(on, s, given, left)
				on.image.Number = uint64(n)
			}
			half := halves[n%2]
			c.onto(half, &known[n%2])
			if *half != fresh.image {
				t.Fatalf("generation %d is not what an empty image would have become", n)
			}
		}
	})
}

// wide is n services of one server each, on addresses of a hundred ports.
func wide(n int) dataplane.Snapshot {
	var s dataplane.Snapshot
	for i := range n {
		addr := netip.AddrFrom4([4]byte{10, 9, byte(i / 100 >> 8), byte(i / 100)})
		if i%100 == 0 {
			s.VIPs = append(s.VIPs, dataplane.VIP{Addr: addr, Role: dataplane.Active})
		}
		r := server(1 + i)
		r.Addr = netip.AddrFrom4([4]byte{172, 17, byte(i >> 8), byte(i)})
		s.Services = append(s.Services, dataplane.Service{
			ServiceKey: dataplane.ServiceKey{VIP: addr, Port: uint16(80 + i%100), Protocol: dataplane.TCP}, Scheduler: "rr",
			Servers: []dataplane.RealServer{r},
		})
	}
	return s
}

// BenchmarkApplySizes is an Apply of configurations of several sizes, the grace
// period before it not counted.
func BenchmarkApplySizes(b *testing.B) {
	for name, s := range map[string]dataplane.Snapshot{
		"2 services, 32 servers":        twoServices(16),
		"100 services, 10000 servers":   hundred(),
		"4000 services, 4000 servers":   wide(4000),
		"10000 services, 10000 servers": wide(10_000),
	} {
		b.Run(name, func(b *testing.B) {
			p := loaded(b, MinFlows)
			for b.Loop() {
				b.StopTimer()
				<-p.grace
				b.StartTimer()
				if _, err := p.Apply(s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// hundred are a hundred services of a hundred servers each.
func hundred() dataplane.Snapshot {
	s := wide(100)
	for i := range s.Services {
		for j := range 99 {
			r := server(1)
			r.Addr = netip.AddrFrom4([4]byte{172, 18, byte(i), byte(j)})
			s.Services[i].Servers = append(s.Services[i].Servers, r)
		}
	}
	return s
}
