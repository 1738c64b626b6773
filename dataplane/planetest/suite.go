package planetest

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"systole/dataplane"
)

// Verdict is what a plane did with a frame.
type Verdict string

// The verdicts.
const (
	Passed    Verdict = "passed" // up to the kernel, untouched
	Dropped   Verdict = "dropped"
	Forwarded Verdict = "forwarded" // to the MAC in Outcome.To
)

// Outcome is what became of a frame.
type Outcome struct {
	Verdict Verdict
	To      net.HardwareAddr
}

func (o Outcome) String() string {
	if o.Verdict == Forwarded {
		return fmt.Sprintf("forwarded to %s", o.To)
	}
	return string(o.Verdict)
}

// Harness is a plane that can be shown frames.
type Harness struct {
	Plane dataplane.Plane
	// Own is the MAC address of the plane's interface.
	Own net.HardwareAddr
	// Send puts one frame before the plane and waits for what becomes of it.
	Send func(Frame) Outcome
	// Carries is nil if the plane can forward a service, else why it cannot.
	// Nil: it does not say, and properties that not every plane has are not tested.
	Carries func(dataplane.Service) error
	// Deviations are those of the plane, on purpose.
	Deviations []Deviation
}

// The cast of the suite.
var (
	vip     = netip.MustParseAddr("192.168.145.101")
	other   = netip.MustParseAddr("192.168.145.102")
	web     = dataplane.ServiceKey{VIP: vip, Port: 80, Protocol: dataplane.TCP}
	dns     = dataplane.ServiceKey{VIP: vip, Port: 53, Protocol: dataplane.UDP}
	router  = net.HardwareAddr{2, 0, 0, 0, 9, 9}
	peerMAC = net.HardwareAddr{2, 0, 0, 0, 0, 2}
)

// server is the n-th real server, with the MAC that tells it in an Outcome.
func server(n byte, weight uint32) dataplane.RealServer {
	return dataplane.RealServer{
		Addr:   netip.AddrFrom4([4]byte{192, 168, 145, 10 + n}),
		Weight: weight,
		MAC:    net.HardwareAddr{2, 0, 0, 1, 0, n},
	}
}

func servers(n int) []dataplane.RealServer {
	var rs []dataplane.RealServer
	for i := range n {
		rs = append(rs, server(byte(i+1), 1))
	}
	return rs
}

func snapshot(role dataplane.Role, rs ...dataplane.RealServer) dataplane.Snapshot {
	return dataplane.Snapshot{
		VIPs: []dataplane.VIP{{Addr: vip, Role: role}},
		Services: []dataplane.Service{
			{ServiceKey: web, Scheduler: "rr", Servers: rs},
			{ServiceKey: dns, Scheduler: "rr", Servers: rs},
		},
		Peers: []net.HardwareAddr{peerMAC},
	}
}

// bench is one test's plane with helpers around it.
type bench struct {
	*testing.T
	Harness
}

func (b *bench) apply(s dataplane.Snapshot) dataplane.Generation {
	b.Helper()
	g, err := b.Plane.Apply(s)
	if err != nil {
		b.Fatalf("Apply: %v", err)
	}
	return g
}

// frame is a client's frame for svc; client numbers both address and port.
func (b *bench) frame(svc dataplane.ServiceKey, client int, flags string) Frame {
	addr := netip.AddrFrom4([4]byte{10, 0, byte(client >> 8), byte(client)})
	return Frame{
		Dst: b.Own, Src: router,
		From:     netip.AddrPortFrom(addr, uint16(1024+client)),
		To:       netip.AddrPortFrom(svc.VIP, svc.Port),
		Protocol: svc.Protocol, Flags: flags,
	}
}

func (b *bench) expect(f Frame, want Outcome) {
	b.Helper()
	if got := b.Send(f); got.Verdict != want.Verdict || !bytes.Equal(got.To, want.To) {
		b.Fatalf("%s %q from %s: %s, want %s", f.Service(), f.Flags, f.From, got, want)
	}
}

func (b *bench) expectTo(f Frame, r dataplane.RealServer) {
	b.Helper()
	b.expect(f, Outcome{Forwarded, r.MAC})
}

// Run tests that the planes newPlane makes keep the contract of package
// dataplane. newPlane is called for each test; it must release the plane with
// t.Cleanup (a second Close must do no harm).
func Run(t *testing.T, newPlane func(t *testing.T) Harness) {
	for _, tt := range []struct {
		name string
		test func(*bench)
	}{
		{"nothing is touched before the first Apply", testUntouched},
		{"generations count from 1", testGenerations},
		{"an invalid snapshot changes nothing", testInvalid},
		{"what is not ours passes", testForeign},
		{"strict rr", testRoundRobin},
		{"strict rr goes on over Apply", testRoundRobinOverApply},
		{"weighted rr", testWeighted},
		{"strays do not disturb rr", testStrays},
		{"a flow stays on its server", testFlowStays},
		{"a quiesced server keeps its flows", testQuiesce},
		{"a removed server loses its flows", testRemove},
		{"a server without MAC gets no flow", testNoMAC},
		{"no server passes", testNoServer},
		{"a new connection from an old port", testReconnect},
		{"udp flows", testUDP},
		{"standby", testStandby},
		{"draining forwards", testDraining},
		{"second chance", testSecondChance},
		{"a packet from a peer", testFromPeer},
		{"lease", testLease},
		{"stats", testStats},
		{"a snapshot is its caller's", testSnapshotIsTheCallers},
		{"services are apart", testServicesAreApart},
		{"a service comes and goes", testServiceComesAndGoes},
		{"roles keep flows", testRolesKeepFlows},
		{"a closed plane is unavailable", testClosed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newPlane(t)
			if tt.name != "lease" {
				if err := h.Plane.Renew(dataplane.Unlimited); err != nil && !errors.Is(err, dataplane.ErrNoLease) {
					t.Fatalf("Renew: %v", err)
				}
			}
			tt.test(&bench{t, h})
		})
	}
	t.Run("properties", func(t *testing.T) { runProperties(t, newPlane) })
	t.Run("flows", func(t *testing.T) { runFlows(t, newPlane) })
}

func testUntouched(b *bench) {
	b.expect(b.frame(web, 1, "S"), Outcome{Verdict: Passed})
}

func testGenerations(b *bench) {
	for want := dataplane.Generation(1); want <= 3; want++ {
		if got := b.apply(snapshot(dataplane.Active, servers(int(want))...)); got != want {
			b.Fatalf("generation %d, want %d", got, want)
		}
	}
}

func testInvalid(b *bench) {
	good := snapshot(dataplane.Active, server(1, 1))
	b.apply(good)
	change := func(f func(*dataplane.Snapshot)) dataplane.Snapshot {
		s := clone(good)
		f(&s)
		return s
	}
	for name, s := range map[string]dataplane.Snapshot{
		"vip listed twice":     change(func(s *dataplane.Snapshot) { s.VIPs = append(s.VIPs, s.VIPs[0]) }),
		"zero vip":             change(func(s *dataplane.Snapshot) { s.VIPs = append(s.VIPs, dataplane.VIP{}) }),
		"unknown role":         change(func(s *dataplane.Snapshot) { s.VIPs[0].Role = 7 }),
		"service without vip":  change(func(s *dataplane.Snapshot) { s.VIPs = nil }),
		"service listed twice": change(func(s *dataplane.Snapshot) { s.Services = append(s.Services, s.Services[0]) }),
		"an empty range":       change(func(s *dataplane.Snapshot) { s.Services[0].LastPort = 79 }),
		"protocol 47":          change(func(s *dataplane.Snapshot) { s.Services[0].Protocol = 47 }),
		"unknown scheduler":    change(func(s *dataplane.Snapshot) { s.Services[0].Scheduler = "best" }),
		"server listed twice": change(func(s *dataplane.Snapshot) {
			s.Services[0].Servers = []dataplane.RealServer{server(2, 1), server(2, 1)}
		}),
		"server without address": change(func(s *dataplane.Snapshot) { s.Services[0].Servers[0].Addr = netip.Addr{} }),
	} {
		if _, err := b.Plane.Apply(s); !errors.Is(err, dataplane.ErrInvalid) {
			b.Errorf("%s: Apply: %v, want ErrInvalid", name, err)
		}
	}
	b.expectTo(b.frame(web, 1, "S"), server(1, 1))
	if g := b.apply(good); g != 2 {
		b.Errorf("generation %d after refused snapshots, want 2", g)
	}
}

func testForeign(b *bench) {
	b.apply(snapshot(dataplane.Active, servers(2)...))
	pass := Outcome{Verdict: Passed}
	elsewhere := web
	elsewhere.VIP = other
	b.expect(b.frame(elsewhere, 1, "S"), pass)
	wrongPort := web
	wrongPort.Port = 81
	b.expect(b.frame(wrongPort, 1, "S"), pass)
	wrongProtocol := web
	wrongProtocol.Protocol = dataplane.UDP
	b.expect(b.frame(wrongProtocol, 1, ""), pass)
	flooded := b.frame(web, 1, "S")
	flooded.Dst = peerMAC
	b.expect(flooded, pass)
}

// spread sends n SYNs of new clients and counts them by server.
func (b *bench) spread(n int, first int) map[string]int {
	got := map[string]int{}
	for i := range n {
		got[b.Send(b.frame(web, first+i, "S")).String()]++
	}
	return got
}

func testRoundRobin(b *bench) {
	for n := 1; n <= 7; n++ {
		b.apply(snapshot(dataplane.Active, servers(n)...))
		const conns = 100
		got := b.spread(conns, n*1000)
		for _, r := range servers(n) {
			c := got[Outcome{Forwarded, r.MAC}.String()]
			if c != conns/n && c != (conns+n-1)/n {
				b.Errorf("%d servers: %v, want counts that differ by at most one", n, got)
			}
		}
	}
}

func testRoundRobinOverApply(b *bench) {
	got := map[string]int{}
	for i := range 60 {
		b.apply(snapshot(dataplane.Active, servers(3)...))
		for k, v := range b.spread(1, i) {
			got[k] += v
		}
	}
	for _, r := range servers(3) {
		if c := got[Outcome{Forwarded, r.MAC}.String()]; c != 20 {
			b.Fatalf("60 connections with an Apply before each: %v, want 20 each", got)
		}
	}
}

func testWeighted(b *bench) {
	s := snapshot(dataplane.Active, server(1, 30), server(2, 10), server(3, 0))
	s.Services[0].Scheduler = "wrr"
	b.apply(s)
	got := b.spread(40, 1)
	if got[Outcome{Forwarded, server(1, 0).MAC}.String()] != 30 || got[Outcome{Forwarded, server(2, 0).MAC}.String()] != 10 {
		b.Fatalf("weights 30, 10, 0: %v, want 30 and 10", got)
	}
}

func testStrays(b *bench) {
	b.apply(snapshot(dataplane.Active, servers(2)...))
	strays := []string{"A", "SA", "R", "FA", ""}
	opens := b.deviates(SynAckOpens)
	if opens {
		strays = slices.DeleteFunc(strays, func(flags string) bool { return flags == "SA" })
	}
	for i := range 20 {
		b.expectTo(b.frame(web, i, "S"), server(byte(i%2+1), 1))
		for _, flags := range strays {
			b.expect(b.frame(web, 1000+i, flags), Outcome{Verdict: Passed})
		}
	}
	if opens {
		b.expectTo(b.frame(web, 2000, "SA"), server(1, 1))
	}
}

func testFlowStays(b *bench) {
	b.apply(snapshot(dataplane.Active, servers(3)...))
	for i := range 3 {
		b.expectTo(b.frame(web, i, "S"), server(byte(i+1), 1))
	}
	for _, rs := range [][]dataplane.RealServer{
		{server(1, 1), server(2, 1), server(3, 1), server(4, 1)},
		{server(4, 1), server(3, 1), server(2, 1), server(1, 1)},
		{server(1, 0), server(2, 5), server(3, 0)},
		{server(3, 1), server(2, 1), server(1, 1)},
	} {
		b.apply(snapshot(dataplane.Active, rs...))
		for i := range 3 {
			b.expectTo(b.frame(web, i, "A"), server(byte(i+1), 1))
			b.expectTo(b.frame(web, i, "S"), server(byte(i+1), 1)) // a repetition
		}
	}
}

func testQuiesce(b *bench) {
	b.apply(snapshot(dataplane.Active, servers(2)...))
	b.expectTo(b.frame(web, 0, "S"), server(1, 1))
	b.apply(snapshot(dataplane.Active, server(1, 0), server(2, 1)))
	for i := 1; i < 5; i++ {
		b.expectTo(b.frame(web, i, "S"), server(2, 1))
	}
	b.expectTo(b.frame(web, 0, "A"), server(1, 0))
}

func testRemove(b *bench) {
	b.apply(snapshot(dataplane.Active, server(1, 1)))
	b.expectTo(b.frame(web, 0, "S"), server(1, 1))
	b.apply(snapshot(dataplane.Active, server(2, 1)))
	if b.deviates(LostDrops) {
		for _, flags := range []string{"A", "S"} {
			b.expect(b.frame(web, 0, flags), Outcome{Verdict: Dropped})
		}
		b.expectTo(b.frame(web, 1, "S"), server(2, 1))
		return
	}
	b.expect(b.frame(web, 0, "A"), Outcome{Verdict: Passed}) // the kernel resets it
	b.expectTo(b.frame(web, 0, "S"), server(2, 1))
	b.expectTo(b.frame(web, 0, "A"), server(2, 1))
}

func testNoMAC(b *bench) {
	silent := server(1, 1)
	silent.MAC = nil
	zero := server(3, 1)
	zero.MAC = make(net.HardwareAddr, 6)
	b.apply(snapshot(dataplane.Active, silent, server(2, 1), zero))
	if b.deviates(OwnNeighbours) {
		for i := range 6 {
			b.expectTo(b.frame(web, i, "S"), server(byte(i%3+1), 1))
		}
		return
	}
	for i := range 4 {
		b.expectTo(b.frame(web, i, "S"), server(2, 1))
	}
	lost := server(2, 1)
	lost.MAC = nil
	b.apply(snapshot(dataplane.Active, server(1, 1), lost))
	b.expect(b.frame(web, 0, "A"), Outcome{Verdict: Dropped})
	b.apply(snapshot(dataplane.Active, server(1, 1), server(2, 1)))
	b.expectTo(b.frame(web, 0, "A"), server(2, 1)) // and the flow is still there
}

func testNoServer(b *bench) {
	pass := Outcome{Verdict: Passed}
	b.apply(snapshot(dataplane.Active))
	b.expect(b.frame(web, 1, "S"), pass)
	b.apply(snapshot(dataplane.Active, server(1, 0)))
	b.expect(b.frame(web, 1, "S"), pass)
	b.expect(b.frame(dns, 1, ""), pass)
}

func testReconnect(b *bench) {
	b.apply(snapshot(dataplane.Active, servers(2)...))
	turns := []byte{1, 2, 1}
	if b.deviates(PortKeepsServer) {
		turns = []byte{1, 1, 2}
	}
	for round, end := range []string{"FA", "R", "RA"} {
		r := server(turns[round], 1)
		b.expectTo(b.frame(web, 0, "S"), r)
		b.expectTo(b.frame(web, 0, "A"), r)
		b.expectTo(b.frame(web, 0, end), r)
		b.expectTo(b.frame(web, 0, "A"), r) // the last acknowledgement
	}
}

func testUDP(b *bench) {
	b.apply(snapshot(dataplane.Active, servers(2)...))
	for range 3 {
		b.expectTo(b.frame(dns, 0, ""), server(1, 1))
		b.expectTo(b.frame(dns, 1, ""), server(2, 1))
	}
	b.expectTo(b.frame(web, 0, "S"), server(1, 1)) // another service, its own turn
}

func testStandby(b *bench) {
	s := snapshot(dataplane.Standby, servers(2)...)
	s.SecondChance = true
	b.apply(s)
	for _, flags := range []string{"S", "A"} {
		b.expect(b.frame(web, 1, flags), Outcome{Verdict: Passed})
	}
}

func testDraining(b *bench) {
	b.apply(snapshot(dataplane.Active, servers(2)...))
	b.expectTo(b.frame(web, 0, "S"), server(1, 1))
	b.apply(snapshot(dataplane.Draining, servers(2)...))
	if b.deviates(OwnersOnly) {
		b.expect(b.frame(web, 0, "A"), Outcome{Verdict: Passed})
		return
	}
	b.expectTo(b.frame(web, 0, "A"), server(1, 1))
	b.expectTo(b.frame(web, 1, "S"), server(2, 1))
}

func testSecondChance(b *bench) {
	s := snapshot(dataplane.Active, servers(2)...)
	s.SecondChance = true
	b.apply(s)
	if b.deviates(NoPeers) {
		b.expect(b.frame(web, 0, "A"), Outcome{Verdict: Passed})
		b.expectTo(b.frame(web, 0, "S"), server(1, 1))
		return
	}
	b.expect(b.frame(web, 0, "A"), Outcome{Forwarded, peerMAC})
	b.expectTo(b.frame(web, 1, "S"), server(1, 1))
	b.expectTo(b.frame(web, 1, "A"), server(1, 1))
	s.Peers = nil
	b.apply(s)
	b.expect(b.frame(web, 0, "A"), Outcome{Verdict: Passed})
}

func testFromPeer(b *bench) {
	b.apply(snapshot(dataplane.Active, servers(2)...))
	b.expectTo(b.frame(web, 0, "S"), server(1, 1))
	if b.deviates(NoPeers) {
		known, opening := b.frame(web, 0, "A"), b.frame(web, 1, "S")
		known.Src, opening.Src = peerMAC, peerMAC
		b.expectTo(known, server(1, 1))
		b.expectTo(opening, server(2, 1))
		return
	}
	for _, role := range []dataplane.Role{dataplane.Active, dataplane.Standby, dataplane.Draining} {
		s := snapshot(role, servers(2)...)
		s.SecondChance = true
		b.apply(s)
		known, unknown, opening := b.frame(web, 0, "A"), b.frame(web, 1, "A"), b.frame(web, 2, "S")
		known.Src, unknown.Src, opening.Src = peerMAC, peerMAC, peerMAC
		b.expectTo(known, server(1, 1))
		b.expect(unknown, Outcome{Verdict: Passed})
		b.expect(opening, Outcome{Verdict: Passed})
	}
}

func testLease(b *bench) {
	if !b.Plane.Info().Lease {
		if err := b.Plane.Renew(time.Second); !errors.Is(err, dataplane.ErrNoLease) {
			b.Fatalf("Renew of a plane without lease: %v, want ErrNoLease", err)
		}
		b.Skip("this plane keeps no lease")
	}
	renew := func(d time.Duration) {
		b.Helper()
		if err := b.Plane.Renew(d); err != nil {
			b.Fatalf("Renew(%s): %v", d, err)
		}
	}
	drop := Outcome{Verdict: Dropped}
	b.apply(snapshot(dataplane.Active, servers(1)...))
	b.expect(b.frame(web, 0, "S"), drop) // not granted yet
	renew(dataplane.Unlimited)
	b.expectTo(b.frame(web, 0, "S"), server(1, 1))

	const lease = 100 * time.Millisecond
	begin := time.Now()
	renew(lease)
	if out := b.Send(b.frame(web, 0, "A")); out.Verdict != Forwarded && time.Since(begin) < lease/2 {
		b.Fatalf("within the lease: %s", out)
	}
	for b.Send(b.frame(web, 0, "A")).Verdict == Forwarded {
		if late := time.Since(begin); late > lease+10*time.Second {
			b.Fatalf("forwards %s after a lease of %s began", late, lease)
		}
		time.Sleep(time.Millisecond)
	}
	if early := time.Since(begin); early < lease*8/10 {
		b.Errorf("a lease of %s ended after %s", lease, early)
	}
	b.expect(b.frame(web, 0, "A"), drop)
	ping := b.frame(web, 0, "")
	ping.Protocol = 1
	b.expect(ping, drop) // nothing answers for the address

	// The owner asks us for a flow that it has not.
	asked := b.frame(web, 0, "A")
	asked.Src = peerMAC
	b.expectTo(asked, server(1, 1))
	asked = b.frame(web, 5, "A")
	asked.Src = peerMAC
	b.expect(asked, drop)

	renew(dataplane.Unlimited)
	b.expectTo(b.frame(web, 0, "A"), server(1, 1))
	renew(0)
	b.expect(b.frame(web, 0, "A"), drop)
}

func testStats(b *bench) {
	b.apply(snapshot(dataplane.Active, servers(2)...))
	f := b.frame(web, 0, "S")
	f.Payload = 10
	b.expectTo(f, server(1, 1))
	b.expectTo(b.frame(web, 0, "A"), server(1, 1))
	b.expectTo(b.frame(web, 1, "S"), server(2, 1))
	want := func(what string, got, want dataplane.Counters) {
		b.Helper()
		if got != want {
			b.Errorf("%s: %+v, want %+v", what, got, want)
		}
	}
	b.deviates(LateCounts)
	st := b.stats(func(st dataplane.Stats) bool { return st.Services[web].Packets == 3 })
	want("service", st.Services[web], dataplane.Counters{Packets: 3, Bytes: 130, Connections: 2})
	want("server 1", st.Servers[dataplane.ServerKey{Service: web, Server: server(1, 1).Addr}], dataplane.Counters{Packets: 2, Bytes: 90, Connections: 1})
	want("server 2", st.Servers[dataplane.ServerKey{Service: web, Server: server(2, 1).Addr}], dataplane.Counters{Packets: 1, Bytes: 40, Connections: 1})
	conns := func(n byte) dataplane.Conns {
		return st.Conns[dataplane.ServerKey{Service: web, Server: server(n, 1).Addr}]
	}
	// Half open connections are active, as in IPVS.
	if conns(1) != (dataplane.Conns{Active: 1}) || conns(2) != (dataplane.Conns{Active: 1}) {
		b.Errorf("server 1 %+v, want one active; server 2 %+v, want one that only opened, which is active too", conns(1), conns(2))
	}
	want("idle service", st.Services[dns], dataplane.Counters{})
	if st.Flows != 2 && st.Flows != -1 {
		b.Errorf("%d flows, want 2", st.Flows)
	}
	if len(st.Services) != 2 || len(st.Servers) != 4 {
		b.Errorf("%d services and %d servers, want 2 and 4", len(st.Services), len(st.Servers))
	}

	b.expectTo(b.frame(web, 1, "FA"), server(2, 1))
	b.expectTo(b.frame(dns, 1, ""), server(1, 1))
	st = b.stats(func(st dataplane.Stats) bool { return st.Services[web].Packets == 4 })
	if conns(2) != (dataplane.Conns{Inactive: 1}) {
		b.Errorf("server 2 %+v, want one inactive that is closing", conns(2))
	}
	if c := st.Conns[dataplane.ServerKey{Service: dns, Server: server(1, 1).Addr}]; c != (dataplane.Conns{Inactive: 1}) {
		b.Errorf("%s: %+v, want one inactive", dns, c)
	}

	// A service's counters never go back, whoever leaves it.
	b.apply(snapshot(dataplane.Active, server(2, 1)))
	st = b.stats(func(st dataplane.Stats) bool { return true })
	want("service after a server left", st.Services[web], dataplane.Counters{Packets: 4, Bytes: 170, Connections: 2})
	if slices.ContainsFunc(servers(1), func(r dataplane.RealServer) bool {
		_, ok := st.Servers[dataplane.ServerKey{Service: web, Server: r.Addr}]
		return ok
	}) {
		b.Error("a server that left is still listed")
	}
}

func testClosed(b *bench) {
	if err := b.Plane.Close(); err != nil {
		b.Fatal(err)
	}
	if _, err := b.Plane.Apply(snapshot(dataplane.Active)); !errors.Is(err, dataplane.ErrUnavailable) {
		b.Errorf("Apply: %v, want ErrUnavailable", err)
	}
	if err := b.Plane.Renew(time.Second); !errors.Is(err, dataplane.ErrUnavailable) && !errors.Is(err, dataplane.ErrNoLease) {
		b.Errorf("Renew: %v, want ErrUnavailable", err)
	}
	if _, err := b.Plane.Stats(); !errors.Is(err, dataplane.ErrUnavailable) {
		b.Errorf("Stats: %v, want ErrUnavailable", err)
	}
	if err := b.Plane.Close(); err != nil {
		b.Errorf("second Close: %v", err)
	}
}
