package xdp

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"systole/dataplane"
	"systole/dataplane/planetest"
	"systole/dataplane/scheduler"
)

// least is twoServices with a scheduler of the fewest connections.
func least(name string, n int, weights ...uint32) dataplane.Snapshot {
	s := twoServices(n)
	for i := range s.Services {
		s.Services[i].Scheduler = name
		for j, w := range weights {
			s.Services[i].Servers[j].Weight = w
		}
	}
	return s
}

// leastReady is a plane that has s, and what it does with a frame.
func leastReady(t testing.TB, flows int, s dataplane.Snapshot) (*Plane, func(planetest.Frame) planetest.Outcome) {
	t.Helper()
	p := loadedWith(t, Config{Flows: flows, NewFlows: -1})
	if _, err := p.Apply(s); err != nil {
		t.Fatal(err)
	}
	if err := p.Renew(dataplane.Unlimited); err != nil {
		t.Fatal(err)
	}
	return p, sender(t, p.Program(), ownMAC)
}

// loadOf is the load of a server of a service.
func (p *Plane) loadOf(key dataplane.ServiceKey, addr netip.Addr) int64 {
	id := p.ids.server(p.ids.service(key), addr)
	return atomic.LoadInt64(&p.kernel.loads.elements[0].Of[id])
}

// checkLoads holds all loads against the census.
func checkLoads(t *testing.T, p *Plane, s dataplane.Snapshot) {
	t.Helper()
	st, err := p.Stats()
	if err != nil {
		t.Fatal(err)
	}
	for _, svc := range s.Services {
		for _, r := range svc.Servers {
			n := st.Conns[dataplane.ServerKey{Service: svc.ServiceKey, Server: r.Addr}]
			if got, want := p.loadOf(svc.ServiceKey, r.Addr), scheduler.Overhead(n.Active, n.Inactive); got != want {
				t.Errorf("%s: server %s has the load %d, its connections (%+v) are %d", svc.ServiceKey, r.Addr, got, n, want)
			}
		}
	}
}

// Whatever connections do, also those that end and begin anew on the same port,
// the loads are what the census says, and weighing changes nothing.
func TestLoadsAreTheCensus(t *testing.T) {
	s := least("wlc", 5, 1, 2, 3, 0, 5)
	sctp := s.Services[0]
	sctp.Protocol = dataplane.SCTP
	s.Services = append(s.Services, sctp)
	kept := sctp
	kept.Port, kept.Persistence.Timeout = 81, time.Hour
	s.Services = append(s.Services, kept)
	for _, family := range []string{"IPv4", "IPv6"} {
		t.Run(family, func(t *testing.T) {
			var p *Plane
			now := s
			if family == "IPv6" {
				now = dataplane.Snapshot{VIPs: []dataplane.VIP{{Addr: to6(testVIP), Role: dataplane.Active}}}
				for _, svc := range s.Services {
					now.Services = append(now.Services, service6(svc))
				}
			}
			p, on := leastReady(t, 1<<14, now)
			r := rand.New(rand.NewPCG(5, 6))
			for range 3000 {
				svc := now.Services[r.IntN(len(now.Services))]
				f := client(r.IntN(60), []string{"S", "S", "A", "A", "FA", "R", "SA"}[r.IntN(7)])
				f.Protocol, f.To = svc.Protocol, netip.AddrPortFrom(svc.VIP, svc.Port)
				if family == "IPv6" {
					f.From = netip.AddrPortFrom(to6(f.From.Addr()), f.From.Port())
				}
				on(f)
			}
			checkLoads(t, p, now)
			before := p.kernel.loads.elements[0]
			if _, err := p.weighNow(); err != nil {
				t.Fatal(err)
			}
			if p.kernel.loads.elements[0] != before {
				t.Error("weighing changed loads that were right")
			}
		})
	}
}

// What no packet tells: the end of connections by their time, and connections
// from elsewhere.
func TestWeighing(t *testing.T) {
	s := least("lc", 2)
	p, on := leastReady(t, 1<<14, s)
	to := func(n int, want int) {
		t.Helper()
		if got := on(client(n, "S")); !slices.Equal(got.To, serverMAC(want)) {
			t.Fatalf("client %d: %s, want server %d", n, got, want)
		}
	}
	weigh := func() {
		t.Helper()
		if _, err := p.weighNow(); err != nil {
			t.Fatal(err)
		}
		checkLoads(t, p, s)
	}
	// Server 1 is left with what opened and no more, 2 with what is established.
	for n := range 6 {
		to(n, n%2+1)
		if n%2 == 1 {
			on(client(n, "A"))
		}
	}
	p.grow(timeoutSYN + 5*time.Second)
	weigh()
	for n := range 3 {
		to(10+n, 1)
	}
	to(13, 1) // of equal ones the first
	to(14, 2)

	// From another director: 3 for server 2, which has as many as the other.
	var flows []dataplane.Flow
	for n := range 3 {
		flows = append(flows, dataplane.Flow{
			Client: client(20+n, "S").From, Service: web, Server: server(2).Addr, State: dataplane.FlowEstablished,
		})
	}
	p.kernel.state.elements[0].LeaseUntil = 0
	if _, err := p.Apply(standby(s)); err != nil {
		t.Fatal(err)
	}
	if n, _, err := p.Insert(flows); n != 3 || err != nil {
		t.Fatalf("Insert: %d, %v", n, err)
	}
	weigh()
	if _, err := p.Apply(s); err != nil {
		t.Fatal(err)
	}
	if err := p.Renew(dataplane.Unlimited); err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		to(30+n, 1)
	}
	to(33, 1)
	to(34, 2)
}

// standby is s of a director that has none of its addresses.
func standby(s dataplane.Snapshot) dataplane.Snapshot {
	s.VIPs = slices.Clone(s.VIPs)
	for i := range s.VIPs {
		s.VIPs[i].Role = dataplane.Standby
	}
	return s
}

// A service that becomes one by the fewest connections knows those it has, and
// so does one whose server comes back.
func TestLoadsOfAChange(t *testing.T) {
	s := twoServices(3)
	p, on := leastReady(t, 1<<14, s)
	for n := range 9 {
		on(client(n, "S"))
		if n%3 != 2 { // the third server's connections end
			on(client(n, "A"))
		} else {
			on(client(n, "FA"))
		}
	}
	s = least("wlc", 3)
	apply(t, p, s)
	checkLoads(t, p, s)
	for n := range 2 {
		if got := on(client(20+n, "S")); !slices.Equal(got.To, serverMAC(3)) {
			t.Errorf("%s, want server 3", got)
		}
	}
	apply(t, p, least("wlc", 2))
	for n := range 10 {
		on(client(30+n, "S"))
	}
	apply(t, p, s)
	checkLoads(t, p, s)
	for n := range 5 {
		if got := on(client(50+n, "S")); !slices.Equal(got.To, serverMAC(3)) {
			t.Errorf("%s, want server 3", got)
		}
	}
	// Who is another server now begins with nothing.
	id := p.ids.server(p.ids.service(web), server(3).Addr)
	if err := p.settle(nil, []uint16{id}); err != nil {
		t.Fatal(err)
	}
	if n := p.loadOf(web, server(3).Addr); n != 0 {
		t.Errorf("an id that was taken back has the load %d", n)
	}
}

// openAll opens n connections from each CPU at the same time, as fast as the
// program goes, and returns how many each server got.
func openAll(t *testing.T, p *Plane, n, servers int) []int {
	t.Helper()
	count := func() []int {
		st, err := p.Stats()
		if err != nil {
			t.Fatal(err)
		}
		got := make([]int, servers)
		for i := range got {
			got[i] = int(st.Servers[dataplane.ServerKey{Service: web, Server: server(i + 1).Addr}].Connections)
		}
		return got
	}
	before := count()
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i, cpu := range cpus(t) {
		f := client(0, "S")
		f.From = netip.AddrPortFrom(f.From.Addr(), uint16(ports.Add(1)))
		frame := f.Bytes()
		prog := generator(t, frame, p.Program())
		onCPU(t, &wg, cpu, func() {
			<-start
			if verdict, _, err := prog.Benchmark(frame, n, nil); err != nil || verdict != xdpTX {
				t.Errorf("CPU %d: verdict %d, %v", i, verdict, err)
			}
		})
	}
	close(start)
	wg.Wait()
	after := count()
	for i := range after {
		after[i] -= before[i]
	}
	return after
}

// ports are the clients' of openAll: each time others.
var ports atomic.Int64

// Two CPUs that choose at the same moment may choose the same: nobody is ahead
// by more connections than there are CPUs.
func TestFewestOnAllCPUs(t *testing.T) {
	bound := len(cpus(t))
	for _, tt := range []struct{ servers, connections int }{{2, 40_000}, {7, 40_000}, {200, 20_000}} {
		n := tt.servers
		p, _ := leastReady(t, 1<<20, least("lc", n))
		total := openAll(t, p, tt.connections, n)
		fewest, most := slices.Min(total), slices.Max(total)
		if most-fewest > bound {
			t.Errorf("%d servers: %d to %d connections each, at most %d apart are wanted", n, fewest, most, bound)
		}
		t.Logf("%d servers: %d to %d connections each", n, fewest, most)
		// One that is new gets them all, until it has as many.
		apply(t, p, least("lc", n+1))
		k := fewest / 2 / bound // of each CPU
		if more := openAll(t, p, k, n+1); more[n] != k*bound {
			t.Errorf("%d servers with %d connections each, and one that is new: %d more were %v", n, fewest, k*bound, more)
		}
	}
}

func TestFewestForTheWeightOnAllCPUs(t *testing.T) {
	p, _ := leastReady(t, 1<<20, least("wlc", 4, 4, 2, 0, 1))
	all := len(cpus(t))
	total := openAll(t, p, 35_000, 4)
	for i, w := range []int{4, 2, 0, 1} {
		if want, bound := 5_000*w*all, 4*all; total[i] < want-bound || total[i] > want+bound {
			t.Errorf("weights 4, 2, 0, 1: %v, want %d of server %d, give or take %d", total, want, i+1, bound)
		}
	}
	t.Logf("weights 4, 2, 0, 1: %v", total)
}

// Weighing while connections begin: the loads are off by no more than began
// meanwhile, and what was off is right after the next one.
func TestWeighingInAFlood(t *testing.T) {
	const connections, servers = 100_000, 4
	s := least("lc", servers)
	p, _ := leastReady(t, 1<<20, s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.keepWeighing(time.Millisecond)
	}()
	total := openAll(t, p, connections, servers)
	fewest, most := slices.Min(total), slices.Max(total)
	if most-fewest > fewest/20 {
		t.Errorf("%v connections, at most a twentieth apart are wanted", total)
	}
	t.Logf("%v connections while the table was read again and again", total)
	deadline := time.Now().Add(5 * time.Second)
	for right := false; !right; {
		st, err := p.Stats()
		if err != nil {
			t.Fatal(err)
		}
		right = true
		for _, r := range s.Services[0].Servers {
			n := st.Conns[dataplane.ServerKey{Service: web, Server: r.Addr}]
			right = right && p.loadOf(web, r.Addr) == scheduler.Overhead(n.Active, n.Inactive)
		}
		if !right && time.Now().After(deadline) {
			t.Fatal("the loads are not right when nothing changes any more")
		}
	}
	p.mu.Lock()
	close(p.ended) // as Close does
	p.mu.Unlock()
	<-done
	p.ended = make(chan struct{})
}

// Above the limit of new flows a SYN goes by its client's address, to a server
// that has a weight.
func TestFewestAboveTheLimit(t *testing.T) {
	p := loadedWith(t, Config{Flows: 1 << 14, NewFlows: 1})
	apply(t, p, least("wlc", 4, 100, 0, 1, 1))
	if err := p.Renew(dataplane.Unlimited); err != nil {
		t.Fatal(err)
	}
	on := sender(t, p.Program(), ownMAC)
	got := map[string]int{}
	for n := range 300 {
		out := on(client(n, "S"))
		if out.Verdict != planetest.Forwarded {
			t.Fatal(out)
		}
		got[out.To.String()]++
	}
	if len(got) != 3 || got[serverMAC(2).String()] != 0 {
		t.Errorf("300 SYNs: %v, want all but the quiesced server", got)
	}
}

// After a restart the successor's first choice knows the flows that there are.
func TestLeastAfterARestart(t *testing.T) {
	l := newLAN(t)
	s := least("lc", 3)
	first := serving(t, l.config(t), s)
	on := sender(t, first.Program(), ownMAC)
	for n := range 8 {
		on(client(n, "S"))
	}
	on(client(1, "FA")) // of server 2
	on(client(4, "FA"))
	first.crash(t)
	second := open(t, l.config(t))
	checkLoads(t, second, s)
	if got := sender(t, second.Program(), ownMAC)(client(100, "S")); !slices.Equal(got.To, serverMAC(2)) {
		t.Errorf("%s, want server 2", got)
	}
	second.mu.Lock()
	defer second.mu.Unlock()
	if !second.watched {
		t.Error("nobody weighs the servers")
	}
}

func TestCarriesLeast(t *testing.T) {
	many := least("lc", MaxLeast+1).Services[0]
	if err := Carries(many); err == nil || !strings.Contains(err.Error(), "1025 real servers") {
		t.Errorf("%d servers: %v", len(many.Servers), err)
	}
	many.Servers = many.Servers[1:]
	if err := Carries(many); err != nil {
		t.Errorf("%d servers: %v", len(many.Servers), err)
	}
	heavy := least("wlc", 2, 65536, 1).Services[0]
	if err := Carries(heavy); err == nil || !strings.Contains(err.Error(), "weights are too large") {
		t.Errorf("weights: %v", err)
	}
	heavy.Scheduler = "lc"
	if err := Carries(heavy); err != nil {
		t.Errorf("weights that do not count: %v", err)
	}
	heavy.SchedulerFlags = []string{"sh-port"}
	if err := Carries(heavy); err == nil {
		t.Error("lc with sh-port is carried")
	}
}

// All of MaxLeast servers get their turn.
func TestMostServersOfLeast(t *testing.T) {
	s := least("lc", MaxLeast)
	s.Services = s.Services[:1]
	_, on := leastReady(t, 1<<14, s)
	for n := range MaxLeast + 1 {
		if got := on(client(n, "S")); !slices.Equal(got.To, serverMAC(n%MaxLeast+1)) {
			t.Fatalf("connection %d: %s", n, got)
		}
	}
}
