package xdp

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"systole/dataplane"
	"systole/dataplane/planetest"
)

// with is a plane with one service of n servers, changed by edit.
func with(t *testing.T, cfg Config, n int, edit func(*dataplane.Service)) (*Plane, func(planetest.Frame) planetest.Outcome) {
	t.Helper()
	p := loadedWith(t, cfg)
	s := twoServices(n)
	edit(&s.Services[0])
	edit(&s.Services[1])
	apply(t, p, s)
	if err := p.Renew(dataplane.Unlimited); err != nil {
		t.Fatal(err)
	}
	return p, sender(t, p.Program(), ownMAC)
}

func (p *Plane) flowsNow(t *testing.T) int64 {
	t.Helper()
	st, err := p.Stats()
	if err != nil {
		t.Fatal(err)
	}
	return st.Flows
}

// The timeouts of a service are its own: the other's flows live on.
func TestTimeoutsOfAService(t *testing.T) {
	p, on := with(t, Config{Flows: 1024}, 2, func(svc *dataplane.Service) {
		if svc.Protocol == dataplane.TCP {
			svc.Timeouts = dataplane.Timeouts{TCP: 20 * time.Second, TCPFin: 10 * time.Second}
		}
	})
	udp := client(9, "")
	udp.Protocol, udp.To = dataplane.UDP, udpVIP
	on(udp)
	for i, flags := range []string{"S", "A", "FA"} {
		on(client(i, "S"))
		on(client(i, flags))
	}
	for _, step := range []struct {
		grow time.Duration
		want int64
	}{
		{8 * time.Second, 4},
		{5 * time.Second, 3},   // 13 s: FIN is over
		{10 * time.Second, 2},  // 23 s: established too
		{40 * time.Second, 1},  // 63 s: the SYN
		{230 * time.Second, 1}, // 293 s
		{10 * time.Second, 0},  // 303 s: UDP as ever
	} {
		p.grow(step.grow)
		if got := p.flowsNow(t); got != step.want {
			t.Fatalf("after %s more: %d flows, want %d", step.grow, got, step.want)
		}
	}
	if got := on(client(1, "S")); got.To.String() == "" {
		t.Errorf("a connection after the time: %s", got)
	}
}

// How long a client's server is remembered.
func TestPersistenceEnds(t *testing.T) {
	p, on := with(t, Config{Flows: 1024}, 3, func(svc *dataplane.Service) {
		svc.Persistence.Timeout = 100 * time.Second
	})
	from := func(port uint16, flags string) planetest.Frame {
		f := client(1, flags)
		f.From = netip.AddrPortFrom(f.From.Addr(), port)
		return f
	}
	first := on(from(1000, "S")).String()
	if got := p.flowsNow(t); got != 1 {
		t.Errorf("%d flows, want 1: the template is none", got)
	}
	// On probation the template lives as long as its SYN.
	p.grow(63 * time.Second)
	second := on(from(1001, "S")).String()
	if second == first {
		t.Errorf("a client that never answered: %s again", first)
	}
	on(from(1001, "A"))
	p.grow(95 * time.Second)
	if got := on(from(1002, "S")).String(); got != second {
		t.Errorf("after 95 s: %s, want %s", got, second)
	}
	p.grow(95 * time.Second)
	on(from(1001, "A")) // any packet of the client makes it young
	p.grow(95 * time.Second)
	if got := on(from(1003, "S")).String(); got != second {
		t.Errorf("95 s after a packet: %s, want %s", got, second)
	}
	p.grow(103 * time.Second)
	if got := on(from(1004, "S")).String(); got == second {
		t.Errorf("after 103 s of silence: %s again", got)
	}
}

// A flood above the limit costs no entries, evicts nobody, and still lets a
// client in. On one CPU: each has a bucket of its own.
func TestNewFlowLimit(t *testing.T) {
	p, on := with(t, Config{Flows: 1024, NewFlows: 100}, 3, func(*dataplane.Service) {})
	var wg sync.WaitGroup
	onCPU(t, &wg, cpus(t)[0], func() { floodSYNs(t, p, on) })
	wg.Wait()
}

func floodSYNs(t *testing.T, p *Plane, on func(planetest.Frame) planetest.Outcome) {
	const depth, established, flood = 100, 50, 5000
	begin := time.Now()
	where := map[int]string{}
	for i := range established {
		where[i] = on(client(i, "S")).String()
		on(client(i, "A"))
	}
	for i := range flood {
		if got := on(client(1<<20+i, "S")); got.Verdict != planetest.Forwarded {
			t.Errorf("SYN %d of the flood: %s", i, got)
			return
		}
	}
	st, err := p.Stats()
	if err != nil {
		t.Error(err)
		return
	}
	if most := depth + int64(depth*time.Since(begin).Seconds()) + 1; st.Flows > most {
		t.Errorf("%d flows stored within %s, want at most %d", st.Flows, time.Since(begin), most)
	}
	if got := st.Reasons["flow_limit"]; got < flood/2 {
		t.Errorf("flow_limit counted %d", got)
	}
	for i := range established {
		if got := on(client(i, "A")).String(); got != where[i] {
			t.Errorf("an established flow went from %s to %s", where[i], got)
		}
	}
	// A connection whose SYN was not stored: its segments follow the SYN.
	for i := range 50 {
		c := 1<<21 + i
		syn := on(client(c, "S"))
		for range 3 {
			if got := on(client(c, "A")); got.String() != syn.String() {
				t.Errorf("client %d: SYN %s, then %s", i, syn, got)
			}
		}
	}
}

// Without a flood nothing is guessed: a stray segment is nobody's.
func TestStraysWithoutFlood(t *testing.T) {
	_, on := with(t, Config{Flows: 1024}, 3, func(*dataplane.Service) {})
	if got := on(client(1, "A")); got.Verdict != planetest.Passed {
		t.Errorf("a stray segment: %s", got)
	}
}

// Two clients with one port on two addresses share a key, not a flow.
func TestSamePortsOfTwoAddresses(t *testing.T) {
	p, on := ready(t, 64, 2)
	s := twoServices(2)
	second := s.Services[0]
	second.VIP = netip.MustParseAddr("192.168.145.103")
	second.Servers = []dataplane.RealServer{server(5)}
	s.VIPs = append(s.VIPs, dataplane.VIP{Addr: second.VIP, Role: dataplane.Active})
	s.Services = append(s.Services, second)
	apply(t, p, s)
	there := func(flags string) planetest.Frame {
		f := client(1, flags)
		f.To = netip.AddrPortFrom(second.VIP, f.To.Port())
		return f
	}
	one, two := on(client(1, "S")).String(), on(there("S")).String()
	if one == two {
		t.Fatalf("both went to %s", one)
	}
	for _, flags := range []string{"A", "FA", "A"} {
		if a, b := on(client(1, flags)).String(), on(there("A")).String(); a != one || b != two {
			t.Errorf("%s: %s and %s, want %s and %s", flags, a, b, one, two)
		}
	}
	if got := p.flowsNow(t); got != 2 {
		t.Errorf("%d flows, want 2", got)
	}
}

// What a server that was kept had is given back when nothing needs it.
func TestKeptServerGoesWithItsFlows(t *testing.T) {
	p, on := with(t, Config{Flows: 1024}, 2, func(svc *dataplane.Service) { svc.Lost = dataplane.Keep })
	kept := on(client(0, "S")).String()
	on(client(0, "A"))
	s := twoServices(2)
	for i := range s.Services {
		s.Services[i].Lost = dataplane.Keep
		s.Services[i].Servers = []dataplane.RealServer{server(7)}
	}
	apply(t, p, s)
	apply(t, p, s)
	if got := on(client(0, "A")).String(); got != kept {
		t.Fatalf("the flow of a server that left: %s, want %s", got, kept)
	}
	st, err := p.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if len(st.Servers) != 2 {
		t.Errorf("%d servers in Stats, want the two that are in their services", len(st.Servers))
	}
	p.mu.Lock()
	<-p.grace
	err = p.takeBackIDs(s)
	left := p.left(s)
	p.mu.Unlock()
	if err != nil || len(left) != 1 {
		t.Errorf("kept with one flow: %v, %v, want one server", left, err)
	}
	p.grow(time.Hour)
	p.mu.Lock()
	err = p.takeBackIDs(s)
	left = p.left(s)
	p.mu.Unlock()
	if err != nil || len(left) != 0 {
		t.Errorf("kept without flows: %v, %v, want none", left, err)
	}
}
