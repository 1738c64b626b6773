package planetest

import (
	"net"

	"systole/dataplane"
)

// The stories of properties, each with a service of its own.

// serve applies a snapshot of one service.
func (b *bench) serve(svc dataplane.Service) {
	b.Helper()
	b.apply(dataplane.Snapshot{
		VIPs:     []dataplane.VIP{{Addr: vip, Role: dataplane.Active}},
		Services: []dataplane.Service{svc},
		Peers:    []net.HardwareAddr{peerMAC},
	})
}

// Clients are spread over the servers, and all connections of one go to one.
func testHashed(b *bench, s dataplane.Snapshot) {
	b.serve(dataplane.Service{ServiceKey: web, Scheduler: s.Services[0].Scheduler, Servers: servers(4)})
	got := map[string]int{}
	for c := range 400 {
		first := b.Send(from(b.frame(web, c, "S"), 1000))
		got[first.String()]++
		for port := range uint16(3) {
			b.expect(from(b.frame(web, c, "S"), 1001+port), first)
		}
	}
	for _, r := range servers(4) {
		// Binomial: 100 expected, deviation 9.
		if n := got[Outcome{Forwarded, r.MAC}.String()]; n < 50 || n > 150 {
			b.Errorf("400 clients over 4 servers: %v", got)
		}
	}
}

func testHashedPorts(b *bench, _ dataplane.Snapshot) {
	b.serve(dataplane.Service{ServiceKey: web, Scheduler: "sh", SchedulerFlags: []string{"sh-port"}, Servers: servers(4)})
	got := map[string]bool{}
	for port := range uint16(100) {
		got[b.Send(from(b.frame(web, 1, "S"), 1000+port)).String()] = true
	}
	if len(got) != 4 {
		b.Errorf("100 connections of one client, each by its port: %v, want all of 4 servers", got)
	}
}

func testHashedFlowStays(b *bench, _ dataplane.Snapshot) {
	svc := dataplane.Service{ServiceKey: web, Scheduler: "mh", Servers: servers(3)}
	b.serve(svc)
	was := map[int]Outcome{}
	for c := range 100 {
		was[c] = b.Send(b.frame(web, c, "S"))
	}
	svc.Servers = servers(7)
	b.serve(svc)
	for c := range 100 {
		b.expect(b.frame(web, c, "A"), was[c])
	}
}

func testPersistence(b *bench, _ dataplane.Snapshot) {
	svc := dataplane.Service{
		ServiceKey: web, Scheduler: "rr", Servers: servers(3),
		Persistence: dataplane.Persistence{Timeout: 300e9, PrefixLen: 24},
	}
	b.serve(svc)
	b.expectTo(from(b.frame(web, 1, "S"), 1000), server(1, 1))
	b.expectTo(from(b.frame(web, 1, "S"), 1001), server(1, 1))
	b.expectTo(from(b.frame(web, 2, "S"), 1000), server(1, 1))    // the same /24
	b.expectTo(from(b.frame(web, 1<<8, "S"), 1000), server(2, 1)) // another
	b.expectTo(from(b.frame(web, 2<<8, "S"), 1000), server(3, 1))
	b.expectTo(from(b.frame(web, 1<<8, "S"), 1001), server(2, 1))

	// A quiesced server keeps its clients, as in IPVS; one that left does not.
	svc.Servers[1].Weight = 0
	b.serve(svc)
	b.expectTo(from(b.frame(web, 1<<8, "S"), 1002), server(2, 1))
	svc.Servers = []dataplane.RealServer{server(1, 1), server(3, 1)}
	b.serve(svc)
	out := b.Send(from(b.frame(web, 1<<8, "S"), 1003))
	if out.Verdict != Forwarded || out.To.String() == server(2, 1).MAC.String() {
		b.Fatalf("a client whose server left: %s", out)
	}
	b.expect(from(b.frame(web, 1<<8, "S"), 1004), out)
}

func testOnePacket(b *bench, _ dataplane.Snapshot) {
	b.serve(dataplane.Service{ServiceKey: dns, Scheduler: "rr", OnePacket: true, Servers: servers(3)})
	for i := range 9 {
		b.expectTo(b.frame(dns, 1, ""), server(byte(i%3+1), 1))
	}
	st := b.stats(func(st dataplane.Stats) bool { return st.Services[dns].Connections == 9 })
	if c := st.Services[dns]; c.Connections != 9 || st.Flows > 0 {
		b.Errorf("nine datagrams made %d connections and %d flows, want 9 and none", c.Connections, st.Flows)
	}
}

// serverIDs gives a service server IDs of two bytes.
func serverIDs(s *dataplane.Service) {
	s.ServerIDLength = 2
	for i := range s.Servers {
		s.Servers[i].ServerID = []byte{0xa0, byte(i + 1)}
	}
}

// A datagram without a flow goes to the server that its QUIC connection ID
// names, if that is in the service, whatever its weight.
func testServerIDs(b *bench, _ dataplane.Snapshot) {
	svc := dataplane.Service{ServiceKey: dns, Scheduler: "rr", Servers: servers(3)}
	serverIDs(&svc)
	svc.Servers[2].Weight = 0
	b.serve(svc)
	const short, initial = 0x40, 0xc0 // RFC 9000 section 17
	clients, turn := 0, 0
	quic := func(first, id byte) Frame {
		clients++
		f := b.frame(dns, clients, "")
		f.Payload, f.Data = 30, []byte{first, 0x11, 0xa0, id}
		if first == initial {
			f.Data = []byte{first, 0, 0, 0, 1, 8, 0x11, 0xa0, id}
		}
		return f
	}
	byTurns := func(f Frame) {
		b.Helper()
		b.expectTo(f, svc.Servers[turn%2])
		turn++
	}
	byID := func(id byte) {
		b.Helper()
		if f := quic(short, id); b.deviates(AddressOnly) {
			byTurns(f)
		} else {
			b.expectTo(f, server(id, 1))
			f.Data = nil // it has a flow now
			b.expectTo(f, server(id, 1))
		}
	}
	for range 3 {
		byID(2)
		byID(3)
		byTurns(quic(short, 4))
		byTurns(quic(initial, 2))
	}
	svc.Servers = svc.Servers[:2]
	b.serve(svc)
	byTurns(quic(short, 3))
	byID(2)
}

func testReschedule(b *bench, _ dataplane.Snapshot) {
	svc := dataplane.Service{ServiceKey: web, Scheduler: "rr", Lost: dataplane.Reschedule, Servers: servers(1)}
	b.serve(svc)
	b.expectTo(b.frame(web, 0, "S"), server(1, 1))
	b.expectTo(b.frame(web, 0, "A"), server(1, 1))
	svc.Servers = []dataplane.RealServer{server(2, 1)}
	b.serve(svc)
	b.expectTo(b.frame(web, 0, "A"), server(2, 1))
	b.expect(b.frame(web, 1, "A"), Outcome{Verdict: Passed}) // never had a flow
	svc.Servers = []dataplane.RealServer{server(1, 1), server(2, 1)}
	b.serve(svc)
	b.expectTo(b.frame(web, 0, "A"), server(2, 1)) // and it has moved for good
}

func testKeep(b *bench, _ dataplane.Snapshot) {
	svc := dataplane.Service{ServiceKey: web, Scheduler: "rr", Lost: dataplane.Keep, Servers: servers(1)}
	b.serve(svc)
	b.expectTo(b.frame(web, 0, "S"), server(1, 1))
	b.expectTo(b.frame(web, 0, "A"), server(1, 1))
	svc.Servers = []dataplane.RealServer{server(2, 1)}
	for range 3 { // generations
		b.serve(svc)
		b.expectTo(b.frame(web, 0, "A"), server(1, 1))
	}
	b.expectTo(b.frame(web, 1, "S"), server(2, 1))
	b.expectTo(b.frame(web, 0, "FA"), server(1, 1))
	b.expectTo(b.frame(web, 0, "S"), server(2, 1)) // a new connection
	svc.Lost = dataplane.Reset
	b.expectTo(b.frame(web, 1, "A"), server(2, 1))
	svc.Servers = []dataplane.RealServer{server(3, 1)}
	b.serve(svc)
	b.expect(b.frame(web, 1, "A"), Outcome{Verdict: Passed})
}

// wide are three services around port 8050, and one that is not.
func wide() dataplane.Snapshot {
	s := dataplane.Snapshot{VIPs: []dataplane.VIP{{Addr: vip, Role: dataplane.Active}}}
	for n, k := range []dataplane.ServiceKey{
		{Port: 8050}, {Port: 8040, LastPort: 8060}, {Port: 8000, LastPort: 8099}, {Port: 9000, LastPort: 9001},
	} {
		k.VIP, k.Protocol = vip, dataplane.TCP
		svc := dataplane.Service{ServiceKey: k, Scheduler: "rr", Servers: []dataplane.RealServer{server(byte(n+1), 1)}}
		s.Services = append(s.Services, svc)
	}
	return s
}

func (b *bench) port(port uint16, flags string) Frame {
	return at(from(b.frame(web, 1, flags), 1000), port)
}

func testRanges(b *bench, _ dataplane.Snapshot) {
	b.apply(wide())
	for port, n := range map[uint16]byte{8050: 1, 8040: 2, 8060: 2, 8000: 3, 8039: 3, 8061: 3, 8099: 3, 9000: 4, 9001: 4} {
		// The client has one port: its flows to each port are its own.
		b.expectTo(b.port(port, "S"), server(n, 1))
		b.expectTo(b.port(port, "A"), server(n, 1))
		b.expectTo(b.port(port, "FA"), server(n, 1))
	}
	for _, port := range []uint16{7999, 8100, 9002} {
		b.expect(b.port(port, "S"), Outcome{Verdict: Passed})
	}
	udp := b.port(8050, "")
	udp.Protocol = dataplane.UDP
	b.expect(udp, Outcome{Verdict: Passed})
	st, err := b.Plane.Stats()
	if err != nil {
		b.Fatal(err)
	}
	narrow := dataplane.ServiceKey{VIP: vip, Port: 8040, LastPort: 8060, Protocol: dataplane.TCP}
	if c := st.Services[narrow]; c.Connections != 2 {
		b.Errorf("%s: %+v, want two connections", narrow, c)
	}
}

func testAllPorts(b *bench, _ dataplane.Snapshot) {
	s := wide()
	all := dataplane.Service{
		ServiceKey: dataplane.ServiceKey{VIP: vip, Protocol: dataplane.TCP}, Scheduler: "rr", Servers: []dataplane.RealServer{server(9, 1)},
	}
	s.Services = append(s.Services, all)
	b.apply(s)
	for port, n := range map[uint16]byte{8050: 1, 8040: 2, 8000: 3, 9000: 4, 1: 9, 80: 9, 65535: 9} {
		b.expectTo(b.port(port, "S"), server(n, 1))
	}
}
