package planetest

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"systole/dataplane"
)

// property is something that a service may have and not every plane can do. A
// plane that says it carries the service is tested for it, any other must refuse
// the snapshot and go on with the one before.
type property struct {
	name   string
	change func(*dataplane.Service)
	udp    bool // of the UDP service, else of the TCP one
	test   func(b *bench, s dataplane.Snapshot)
}

var properties = []property{
	{"scheduler sh", func(s *dataplane.Service) { s.Scheduler = "sh" }, false, testHashed},
	{"scheduler mh", func(s *dataplane.Service) { s.Scheduler = "mh" }, false, testHashed},
	{"scheduler sh by port", func(s *dataplane.Service) { s.Scheduler, s.SchedulerFlags = "sh", []string{"sh-port"} }, false, testHashedPorts},
	{"a hashed flow stays on its server", func(s *dataplane.Service) { s.Scheduler = "mh" }, false, testHashedFlowStays},
	{"scheduler lc", func(s *dataplane.Service) { s.Scheduler = "lc" }, false, testLeast},
	{"scheduler wlc", func(s *dataplane.Service) { s.Scheduler = "wlc" }, false, testLeast},
	{"scheduler wlc of datagrams", func(s *dataplane.Service) { s.Scheduler = "wlc" }, true, testLeastDatagrams},
	{"scheduler lc and persistence", func(s *dataplane.Service) { s.Scheduler, s.Persistence.Timeout = "lc", time.Hour }, false, testLeastPersistent},
	{"persistence", func(s *dataplane.Service) { s.Persistence.Timeout = time.Hour }, false, testByAddress},
	{"persistence of a network", func(s *dataplane.Service) { s.Persistence = dataplane.Persistence{Timeout: time.Hour, PrefixLen: 24} }, false, testPersistence},
	{"one packet", func(s *dataplane.Service) { s.OnePacket = true }, true, testOnePacket},
	{"server IDs", serverIDs, true, testServerIDs},
	{"lost: keep", func(s *dataplane.Service) { s.Lost = dataplane.Keep }, false, testKeep},
	{"lost: reschedule", func(s *dataplane.Service) { s.Lost = dataplane.Reschedule }, false, testReschedule},
	{"lost: reschedule udp", func(s *dataplane.Service) { s.Lost = dataplane.Reschedule }, true, testLostRescheduled},
	{"a range of ports", func(s *dataplane.Service) { s.LastPort = s.Port + 9 }, false, testRange},
	{"ranges around each other", func(s *dataplane.Service) { s.LastPort = s.Port + 9 }, false, testRanges},
	{"all ports", func(s *dataplane.Service) { s.Port = 0 }, false, testAllPorts},
	{"timeouts", func(s *dataplane.Service) { s.Timeouts = dataplane.Timeouts{TCP: time.Hour, TCPFin: time.Minute} }, false, testStays},
}

// runProperties tests each property by itself.
func runProperties(t *testing.T, newPlane func(t *testing.T) Harness) {
	for _, p := range properties {
		t.Run(p.name, func(t *testing.T) {
			h := newPlane(t)
			if h.Carries == nil {
				t.Skip("the plane does not say what it carries")
			}
			if err := h.Plane.Renew(dataplane.Unlimited); err != nil && !errors.Is(err, dataplane.ErrNoLease) {
				t.Fatalf("Renew: %v", err)
			}
			b := &bench{t, h}
			s := snapshot(dataplane.Active, servers(3)...)
			at := 0
			if p.udp {
				at = 1
			}
			plain := clone(s)
			p.change(&s.Services[at])
			if why := h.Carries(s.Services[at]); why != nil {
				b.refused(plain, s)
				t.Skip("not carried:", why)
			}
			b.apply(s)
			p.test(b, s)
		})
	}
}

// refused applies plain, then s, which the plane does not carry.
func (b *bench) refused(plain, s dataplane.Snapshot) {
	b.Helper()
	b.apply(plain)
	if _, err := b.Plane.Apply(s); !errors.Is(err, dataplane.ErrInvalid) {
		b.Errorf("Apply of what the plane does not carry: %v, want ErrInvalid", err)
	}
	b.expectTo(b.frame(web, 0, "S"), server(1, 1))
}

// from is the frame with another client port.
func from(f Frame, port uint16) Frame {
	f.From = netip.AddrPortFrom(f.From.Addr(), port)
	return f
}

// All connections of one client address go to one server, and not all clients
// to the same.
func testByAddress(b *bench, s dataplane.Snapshot) {
	seen := map[string]bool{}
	for client := range 64 {
		first := b.Send(b.frame(web, client, "S"))
		if first.Verdict != Forwarded {
			b.Fatalf("client %d: %s", client, first)
		}
		seen[first.String()] = true
		for port := uint16(20_000); port < 20_004; port++ {
			b.expect(from(b.frame(web, client, "S"), port), first)
			b.expect(from(b.frame(web, client, "A"), port), first)
		}
	}
	if len(seen) < 2 {
		b.Errorf("64 clients went to %v", seen)
	}
}

// without is s without its first server.
func without(s dataplane.Snapshot) dataplane.Snapshot {
	s = clone(s)
	for i := range s.Services {
		s.Services[i].Servers = s.Services[i].Servers[1:]
	}
	return s
}

func testLostRescheduled(b *bench, s dataplane.Snapshot) {
	b.expectTo(b.frame(dns, 0, ""), server(1, 1))
	b.apply(without(s))
	second := b.Send(b.frame(dns, 0, ""))
	if second.Verdict != Forwarded || second.String() == (Outcome{Forwarded, server(1, 1).MAC}).String() {
		b.Fatalf("after its server left: %s", second)
	}
	for range 3 {
		b.expect(b.frame(dns, 0, ""), second)
	}
}

// at is the frame to another port.
func at(f Frame, port uint16) Frame {
	f.To = netip.AddrPortFrom(f.To.Addr(), port)
	return f
}

func testRange(b *bench, s dataplane.Snapshot) {
	for i := range uint16(10) { // in turn, whatever the port
		b.expectTo(at(b.frame(web, int(i), "S"), web.Port+i), server(byte(i%3+1), 1))
		b.expectTo(at(b.frame(web, int(i), "A"), web.Port+i), server(byte(i%3+1), 1))
	}
	for _, port := range []uint16{web.Port - 1, web.Port + 10} {
		b.expect(at(b.frame(web, 99, "S"), port), Outcome{Verdict: Passed})
	}
	// The same client port to another port is another connection.
	b.expect(at(b.frame(web, 0, "A"), web.Port+1), Outcome{Verdict: Passed})
}

func testStays(b *bench, s dataplane.Snapshot) {
	b.expectTo(b.frame(web, 0, "S"), server(1, 1))
	for range 3 {
		b.expectTo(b.frame(web, 0, "A"), server(1, 1))
	}
}

// What the owner of a snapshot does with it after Apply is nobody else's affair.
func testSnapshotIsTheCallers(b *bench) {
	s := snapshot(dataplane.Active, servers(2)...)
	b.apply(s)
	s.Services[0].Servers[0].MAC[5] = 99
	s.VIPs[0].Role = dataplane.Standby
	b.expectTo(b.frame(web, 0, "S"), server(1, 1))
}

// What happens to one service is nothing to another: neither its flows nor its
// turns.
func testServicesAreApart(b *bench) {
	s := snapshot(dataplane.Active, servers(3)...)
	b.apply(s)
	for i := range 9 {
		b.expectTo(b.frame(web, i, "S"), server(byte(i%3+1), 1))
		switch i % 3 {
		case 0:
			s.Services = append(clone(s).Services[:1:1], dataplane.Service{ServiceKey: dns, Scheduler: "wrr", Servers: servers(i % 2)})
		case 1:
			s.Services = clone(s).Services[:1]
		case 2:
			key := web
			key.Port = uint16(1000 + i)
			s.Services = append(clone(s).Services[:1:1], dataplane.Service{ServiceKey: key, Scheduler: "rr", Servers: servers(4)})
		}
		b.apply(s)
		for j := range i + 1 {
			b.expectTo(b.frame(web, j, "A"), server(byte(j%3+1), 1))
		}
	}
}

// A service or an address that is gone passes, and when it is back so are its
// flows, if they were not given up.
func testServiceComesAndGoes(b *bench) {
	s := snapshot(dataplane.Active, servers(2)...)
	b.apply(s)
	b.expectTo(b.frame(web, 0, "S"), server(1, 1))
	for name, gone := range map[string]dataplane.Snapshot{
		"service": {VIPs: s.VIPs, Services: s.Services[1:]},
		"address": {},
	} {
		b.apply(gone)
		want := Passed
		if name == "service" && b.deviates(LostDrops) {
			want = Dropped
		}
		for _, flags := range []string{"A", "S"} {
			if out := b.Send(b.frame(web, 0, flags)); out.Verdict != want {
				b.Errorf("without the %s: %s, want %s", name, out, want)
			}
		}
	}
	b.apply(s)
	out := b.Send(b.frame(web, 1, "S"))
	b.expect(b.frame(web, 1, "A"), out)
	if out.Verdict != Forwarded {
		b.Errorf("a new connection of a service that is back: %s", out)
	}
}

// Roles change, flows stay.
func testRolesKeepFlows(b *bench) {
	for i, role := range []dataplane.Role{dataplane.Active, dataplane.Draining, dataplane.Standby, dataplane.Active} {
		b.apply(snapshot(role, servers(2)...))
		if i == 0 {
			b.expectTo(b.frame(web, 0, "S"), server(1, 1))
		}
		want := Outcome{Forwarded, server(1, 1).MAC}
		if role == dataplane.Standby || role == dataplane.Draining && b.deviates(OwnersOnly) {
			want = Outcome{Verdict: Passed}
		}
		b.expect(b.frame(web, 0, "A"), want)
	}
}
