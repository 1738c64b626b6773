package planetest

import (
	"math/rand/v2"
	"slices"

	"systole/dataplane"
	"systole/dataplane/scheduler"
)

// ledger is what a least-connection scheduler goes by: each server's
// connections, as their packets made them.
type ledger struct {
	*bench
	service          dataplane.Service
	active, inactive map[string]uint64 // by the server's address
}

// next is the server that a new connection must get.
func (l *ledger) next() dataplane.RealServer {
	servers := make([]scheduler.Server, len(l.service.Servers))
	overheads := make([]int64, len(servers))
	for i, r := range l.service.Servers {
		servers[i] = scheduler.Server{Addr: r.Addr, Weight: r.Weight}
		overheads[i] = scheduler.Overhead(l.active[r.Addr.String()], l.inactive[r.Addr.String()])
	}
	return l.service.Servers[scheduler.Fewest(l.service.Scheduler, servers, overheads)]
}

// Every connection goes where IPVS's rule says, while others come, go, change
// their state and say again what they said, and while weights and servers change.
func testLeast(b *bench, s dataplane.Snapshot) {
	l := ledger{bench: b, service: s.Services[0], active: map[string]uint64{}, inactive: map[string]uint64{}}
	l.service.Servers = []dataplane.RealServer{server(1, 2), server(2, 3), server(3, 1)}
	b.serve(l.service)
	type conn struct {
		client int
		server dataplane.RealServer
	}
	var open []conn
	random := rand.New(rand.NewPCG(3, 4))
	clients := 0
	for step := range 360 {
		switch step {
		case 60:
			// To the head, where the kernel puts it, too. It gets all new
			// ones until it has its share.
			l.service.Servers = append([]dataplane.RealServer{server(4, 2)}, l.service.Servers...)
			b.serve(l.service)
		case 160:
			l.service.Servers = slices.Clone(l.service.Servers)
			l.service.Servers[2].Weight = 0
			b.serve(l.service)
		case 260:
			l.service.Servers = slices.Clone(l.service.Servers)
			l.service.Servers[2].Weight = 5
			l.service.Servers[1].Weight = 1
			b.serve(l.service)
		}
		if what := random.IntN(10); what < 5 || len(open) == 0 {
			r := l.next()
			b.expectTo(b.frame(web, clients, "S"), r)
			open = append(open, conn{clients, r})
			l.active[r.Addr.String()]++
			clients++
		} else {
			i := random.IntN(len(open))
			c := open[i]
			switch what {
			case 5, 6:
				b.expectTo(b.frame(web, c.client, "A"), c.server)
			case 7:
				b.expectTo(b.frame(web, c.client, "S"), c.server) // again
			default:
				b.expectTo(b.frame(web, c.client, "FA"), c.server)
				b.expectTo(b.frame(web, c.client, "A"), c.server)
				open = slices.Delete(open, i, i+1)
				l.active[c.server.Addr.String()]--
				l.inactive[c.server.Addr.String()]++
			}
		}
	}
}

// Datagrams make connections that are never active, and are shared all the same.
func testLeastDatagrams(b *bench, s dataplane.Snapshot) {
	l := ledger{bench: b, service: s.Services[1], inactive: map[string]uint64{}}
	l.service.Servers = []dataplane.RealServer{server(1, 3), server(2, 2)}
	b.serve(l.service)
	for client := range 40 {
		r := l.next()
		b.expectTo(b.frame(dns, client, ""), r)
		b.expectTo(b.frame(dns, client, ""), r)
		l.inactive[r.Addr.String()]++
	}
}

// A persistent client's connections count where they are.
func testLeastPersistent(b *bench, s dataplane.Snapshot) {
	svc := s.Services[0]
	svc.Servers = servers(2)
	b.serve(svc)
	for port := range uint16(5) {
		b.expectTo(from(b.frame(web, 1, "S"), 1000+port), server(1, 1))
	}
	for client := range 5 {
		b.expectTo(from(b.frame(web, 2+client, "S"), 1000), server(2, 1))
	}
	b.expectTo(from(b.frame(web, 20, "S"), 1000), server(1, 1))
}
