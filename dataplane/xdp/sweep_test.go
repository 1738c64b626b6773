package xdp

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"systole/bpf"
	"systole/dataplane"
	"systole/dataplane/flowsync"
	"systole/dataplane/planetest"
)

// sorted are flows in a form to compare, without their times.
func sorted(flows []dataplane.Flow) []string {
	var out []string
	for _, f := range flows {
		out = append(out, fmt.Sprintf("%v %v %d %v %v", f.Client, f.Service, f.Port, f.Server, f.State))
	}
	slices.Sort(out)
	return out
}

func some(n int) []planetest.Frame {
	var out []planetest.Frame
	for i := range n {
		out = append(out, client(i, "S"))
		if i%2 == 0 {
			out = append(out, client(i, "A"))
		}
		if i%4 == 0 {
			out = append(out, client(i, "FA"))
		}
		udp := client(i, "")
		udp.Protocol, udp.To = dataplane.UDP, udpVIP
		out = append(out, udp)
	}
	return out
}

// What one plane lists another one stores, and forwards to the same servers.
func TestFlowsAndInsert(t *testing.T) { families(t, flowsAndInsert) }

func flowsAndInsert(t *testing.T, in family) {
	a, onA := in.ready(t, 4096, 5)
	b, onB := in.ready(t, 4096, 5)
	const n = 200
	for _, f := range some(n) {
		onA(f)
	}
	onB(client(n+7, "S")) // their round robins are not in step
	all := slices.Collect(a.Flows())
	if len(all) != 2*n {
		t.Fatalf("%d flows, want %d", len(all), 2*n)
	}
	for _, f := range all {
		if f.Age < 0 || f.Age > 2*time.Second || f.Expires < 50*time.Second || f.Expires > 902*time.Second || !f.Server.IsValid() || f.Port != f.Service.Port {
			t.Fatalf("%+v", f)
		}
	}
	stored, _, err := b.Insert(all)
	if err != nil || stored != len(all) {
		t.Fatalf("%d of %d stored, %v", stored, len(all), err)
	}
	want := sorted(all)
	got := slices.DeleteFunc(sorted(slices.Collect(b.Flows())), func(s string) bool { return !slices.Contains(want, s) })
	if !slices.Equal(got, want) {
		t.Errorf("%d flows are there, want %d", len(got), len(want))
	}
	for i := range n {
		if f := client(i, "A"); i%4 != 0 && onA(f).String() != onB(f).String() {
			t.Errorf("client %d: %s here, %s there", i, onA(f), onB(f))
		}
	}
}

func TestInsertRefuses(t *testing.T) { families(t, insertRefuses) }

func insertRefuses(t *testing.T, in family) {
	p, _ := in.ready(t, 1024, 2)
	good := in.flow(dataplane.Flow{
		Client: netip.MustParseAddrPort("10.9.8.7:1234"), Service: web, Port: web.Port, Server: serverAddr(1), State: dataplane.FlowEstablished,
	})
	for name, change := range map[string]func(*dataplane.Flow){
		"an unknown service": func(f *dataplane.Flow) { f.Service.Port++ },
		"an unknown server":  func(f *dataplane.Flow) { f.Server = netip.MustParseAddr("192.0.2.77") },
		"no state":           func(f *dataplane.Flow) { f.State = 0 },
		"an unknown state":   func(f *dataplane.Flow) { f.State = 77 },
		"two families":       func(f *dataplane.Flow) { f.Client = netip.MustParseAddrPort("[2001:db8::1]:1"); f.Service = web },
		"two families more": func(f *dataplane.Flow) {
			f.Client = netip.MustParseAddrPort("1.2.3.4:1")
			f.Service = family(to6).key(web)
		},
		"no address": func(f *dataplane.Flow) { f.Client = netip.AddrPort{} },
	} {
		f := good
		change(&f)
		if n, full, err := p.Insert([]dataplane.Flow{f, good}); n != 1 || full != 0 || err != nil {
			t.Errorf("%s: %d stored, %v; want the other one alone", name, n, err)
		}
	}
	if n := len(slices.Collect(p.Flows())); n != 1 {
		t.Errorf("%d flows, want 1", n)
	}
	// A server that has left, and with it its flows.
	apply(t, p, in.snapshot(twoServices(1)))
	gone := good
	gone.Client, gone.Server = in.port(netip.MustParseAddrPort("10.9.8.7:1235")), in(serverAddr(2))
	if n, full, err := p.Insert([]dataplane.Flow{gone}); n != 0 || full != 0 || err != nil {
		t.Errorf("a server that has left: %d stored, %v", n, err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.Insert([]dataplane.Flow{good}); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("a closed plane: %v", err)
	}
	for range p.Flows() {
		t.Error("a closed plane has flows")
	}
}

func asRole(s dataplane.Snapshot, r dataplane.Role) dataplane.Snapshot {
	s.VIPs = slices.Clone(s.VIPs)
	for i := range s.VIPs {
		s.VIPs[i].Role = r
	}
	return s
}

// The newer one stays; of an address that is active here, what is here.
func TestInsertTakesTheNewer(t *testing.T) { families(t, insertTakesTheNewer) }

func insertTakesTheNewer(t *testing.T, in family) {
	p, _ := in.ready(t, 1024, 3)
	apply(t, p, in.snapshot(asRole(twoServices(3), dataplane.Standby)))
	flow := func(server int, age time.Duration) dataplane.Flow {
		return in.flow(dataplane.Flow{
			Client: netip.MustParseAddrPort("10.9.8.7:1234"), Service: web, Server: serverAddr(server), State: dataplane.FlowEstablished, Age: age,
		})
	}
	for _, step := range []struct {
		server int
		age    time.Duration
		want   int
	}{{1, time.Minute, 1}, {2, 2 * time.Minute, 1}, {2, 30 * time.Second, 2}, {3, 0, 3}, {1, time.Minute, 3}} {
		if n, _, err := p.Insert([]dataplane.Flow{flow(step.server, step.age)}); n != 1 || err != nil {
			t.Fatalf("%d stored, %v", n, err)
		}
		got := slices.Collect(p.Flows())
		if len(got) != 1 || got[0].Server != in(serverAddr(step.want)) {
			t.Errorf("after server %d, %s old: %v, want server %d", step.server, step.age, got, step.want)
		}
	}
	apply(t, p, in.snapshot(twoServices(3))) // active
	if n, _, err := p.Insert([]dataplane.Flow{flow(1, 0)}); n != 1 || err != nil {
		t.Fatalf("%d stored, %v", n, err)
	}
	if got := slices.Collect(p.Flows()); len(got) != 1 || got[0].Server != in(serverAddr(3)) {
		t.Errorf("a flow of an active address was replaced: %v", got)
	}
	exp := flow(2, 0)
	exp.Client, exp.Expires = in.port(netip.MustParseAddrPort("10.9.8.7:1235")), 100*time.Second
	if _, _, err := p.Insert([]dataplane.Flow{exp}); err != nil {
		t.Fatal(err)
	}
	for f := range p.Flows() {
		if f.Client == exp.Client && (f.Expires < 98*time.Second || f.Expires > 102*time.Second) {
			t.Errorf("expires in %s, want 100 s", f.Expires)
		}
	}
}

// A full table takes in what fits, and evicts nothing established.
func TestInsertIntoAFullTable(t *testing.T) { families(t, insertIntoAFullTable) }

func insertIntoAFullTable(t *testing.T, in family) {
	const size = 256
	p, on := in.ready(t, size, 2)
	for i := range 10 * size {
		on(client(i, "S"))
		on(client(i, "A"))
	}
	before := sorted(slices.Collect(p.Flows()))
	var flows []dataplane.Flow
	for i := range size {
		flows = append(flows, dataplane.Flow{
			Client: netip.AddrPortFrom(netip.AddrFrom4([4]byte{172, 16, 1, byte(i)}), 99), Service: web, Server: serverAddr(1), State: dataplane.FlowEstablished,
		})
	}
	unknown := flows[0]
	unknown.Server = netip.MustParseAddr("192.0.2.77")
	n, noRoom, err := p.Insert(in.flows(append(flows, unknown)))
	if err != nil {
		t.Fatal(err)
	}
	if n+noRoom != size || noRoom == 0 {
		t.Errorf("%d of %d stored, %d without room, and one of an unknown server", n, size, noRoom)
	}
	after := sorted(slices.Collect(p.Flows()))
	for _, f := range before {
		if !slices.Contains(after, f) {
			t.Errorf("%s was evicted", f)
		}
	}
	if len(after) != len(before)+n {
		t.Errorf("%d flows before, %d stored, %d after", len(before), n, len(after))
	}
}

// sweepAll sweeps the whole table.
func sweepAll(t testing.TB, s *Sweep, answer flowsync.Answer) (out []dataplane.Flow, places []uint32) {
	t.Helper()
	for end := false; !end; {
		var err error
		end, err = s.Sweep(func(place uint32, f dataplane.Flow) flowsync.Answer {
			out, places = append(out, f), append(places, place)
			return answer
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out, places
}

func TestSweepOffersWhatHasChanged(t *testing.T) { families(t, sweepOffersWhatHasChanged) }

func sweepOffersWhatHasChanged(t *testing.T, in family) {
	p, on := in.ready(t, 1024, 3)
	s := p.NewSweep()
	expect := func(what string, answer flowsync.Answer, want int) []uint32 {
		t.Helper()
		got, places := sweepAll(t, s, answer)
		if len(got) != want {
			t.Errorf("%s: %d flows, want %d: %v", what, len(got), want, sorted(got))
		}
		return places
	}
	expect("an empty table", flowsync.Sent, 0)
	for i := range 10 {
		on(client(i, "S"))
	}
	expect("put off", flowsync.Later, 10)
	expect("new ones", flowsync.Sent, 10)
	expect("known ones", flowsync.Sent, 0)
	on(client(3, "S")) // a repetition
	expect("a repetition", flowsync.Sent, 0)
	on(client(3, "A"))
	on(client(4, "FA"))
	places := expect("two have changed", flowsync.Sent, 2)
	s.Again(places[:1])
	expect("once more", flowsync.Sent, 1)
	s.AgainAll()
	expect("all once more", flowsync.Sent, 10)

	// With traffic, each tenth of the timeout; without, never.
	older := func(d time.Duration) {
		p.grow(d)
		units := uint64((d + p.unit() - 1) / p.unit())
		for i := range s.shadow {
			for j := range s.shadow[i] {
				if flowServer(s.shadow[i][j]) != 0 {
					s.shadow[i][j] -= units << seenShift
				}
			}
		}
	}
	older(85 * time.Second)
	expect("old ones without traffic", flowsync.Sent, 0)
	on(client(3, "A"))
	expect("not a tenth of 900 s", flowsync.Sent, 0)
	older(10 * time.Second)
	on(client(3, "A"))
	expect("a tenth", flowsync.Sent, 1)
	older(910 * time.Second)
	expect("expired ones", flowsync.Sent, 0)
	on(client(3, "A"))
	expect("a revived one", flowsync.Sent, 1)

	// Only of active addresses; a flow that came by Insert is its sender's.
	apply(t, p, in.snapshot(asRole(twoServices(3), dataplane.Draining)))
	on(client(50, "S"))
	expect("of a draining address", flowsync.Sent, 0)
	apply(t, p, in.snapshot(twoServices(3)))
	expect("active again", flowsync.Sent, 0)
	on(client(51, "S"))
	expect("a new one of it", flowsync.Sent, 1)
}

func TestSweepStopsAndGoesOn(t *testing.T) { families(t, sweepStopsAndGoesOn) }

func sweepStopsAndGoesOn(t *testing.T, in family) {
	p, on := in.ready(t, 1024, 3)
	for i := range 100 {
		on(client(i, "S"))
	}
	s := p.NewSweep()
	seen := map[netip.AddrPort]int{}
	calls := 0
	for end := false; !end; calls++ {
		n := 0
		var err error
		end, err = s.Sweep(func(_ uint32, f dataplane.Flow) flowsync.Answer {
			if n++; n > 7 {
				return flowsync.Full
			}
			seen[f.Client]++
			return flowsync.Sent
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) != 100 || calls != 15 {
		t.Errorf("%d flows in %d calls, want 100 in 15", len(seen), calls)
	}
	for c, n := range seen {
		if n != 1 {
			t.Errorf("%v was offered %d times", c, n)
		}
	}
}

// A daemon was killed between two steps of store.
func TestAStuckEntryIsFreed(t *testing.T) { families(t, aStuckEntryIsFreed) }

func aStuckEntryIsFreed(t *testing.T, in family) {
	p, _ := in.ready(t, 64, 1)
	now, err := p.jiffies()
	if err != nil {
		t.Fatal(err)
	}
	val := p.kernel.tableOf(in(testVIP)).bucket(3).entry(1).val()
	busy := func(age uint32) {
		atomic.StoreUint64(val, flowValue(0, 0, uint8(bpf.DirectorFlowStateFLOW_BUSY), 1<<versionShift, uint32(now>>p.kernel.aging.shift)-age))
	}
	s := p.NewSweep()
	busy(stuckAfter / 2)
	sweepAll(t, s, flowsync.Sent)
	if flowState(*val) != uint8(bpf.DirectorFlowStateFLOW_BUSY) {
		t.Error("an entry that is being written was freed")
	}
	busy(stuckAfter + 1)
	sweepAll(t, s, flowsync.Sent)
	if flowState(*val) != uint8(bpf.DirectorFlowStateFLOW_FREE) {
		t.Error("a stuck entry was not freed")
	}
}

// Packets, both directions of sync and new generations at once.
func TestInsertAndSweepBesidePackets(t *testing.T) { families(t, insertAndSweepBesidePackets) }

func insertAndSweepBesidePackets(t *testing.T, in family) {
	p, _ := in.ready(t, 1<<10, 4)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i, cpu := range cpus(t) {
		onCPU(t, &wg, cpu, func() {
			for c := i << 20; ; c++ {
				select {
				case <-stop:
					return
				default:
				}
				send(t, p.Program(), in.frame(client(c&0xfffff, "S")).Bytes())
				send(t, p.Program(), in.frame(client(c&0xfffff, "A")).Bytes())
			}
		})
	}
	wg.Go(func() {
		s := p.NewSweep()
		for {
			select {
			case <-stop:
				return
			default:
				sweepAll(t, s, flowsync.Sent)
			}
		}
	})
	for i := range 200 {
		var flows []dataplane.Flow
		for j := range 64 {
			flows = append(flows, dataplane.Flow{
				Client: netip.AddrPortFrom(netip.AddrFrom4([4]byte{172, 16, byte(i), byte(j)}), 99), Service: web, Server: serverAddr(1 + j%2), State: dataplane.FlowEstablished,
			})
		}
		if _, _, err := p.Insert(in.flows(flows)); err != nil {
			t.Error(err)
		}
		if i%50 == 0 {
			apply(t, p, in.snapshot(twoServices(4)))
		}
	}
	close(stop)
	wg.Wait()
	service := p.ids.service(in.key(web))
	inserted := 0
	for i := range p.kernel.buckets() {
		for j := range ways {
			e := p.kernel.bucket(i).entry(j)
			val := *e.val()
			if flowState(val) == uint8(bpf.DirectorFlowStateFLOW_BUSY) {
				t.Error("an entry stayed busy")
			}
			if flowServer(val) == 0 {
				continue
			}
			// Inserted ones are all where their key says.
			c, _ := e.client(e.key())
			if c.Port() != 99 {
				continue
			}
			inserted++
			b := c.Addr().AsSlice()
			if want := p.ids.server(service, in(serverAddr(1+int(b[len(b)-1])%2))); flowServer(val) != want {
				t.Errorf("%v has the server of another flow", c)
			}
		}
	}
	if inserted == 0 {
		t.Error("nothing of what was inserted is there")
	}
}

// fillFlows inserts n flows.
func fillFlows(t testing.TB, p *Plane, n int) {
	t.Helper()
	var flows []dataplane.Flow
	stored := 0
	servers := [2]netip.Addr{serverAddr(1), serverAddr(2)}
	for i := range n {
		flows = append(flows, dataplane.Flow{
			Client:  netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), uint16(1024+i%60000)),
			Service: web, Server: servers[i%2], State: dataplane.FlowEstablished,
		})
		if len(flows) == 4096 || i == n-1 {
			k, _, err := p.Insert(flows)
			if err != nil {
				t.Fatal(err)
			}
			stored += k
			flows = flows[:0]
		}
	}
	if stored < n*999/1000 {
		t.Fatalf("%d of %d flows found room", stored, n)
	}
}

// BenchmarkSweep is one sweep of a table of 2 Mi entries with a million flows,
// nothing new; and its longest part.
func BenchmarkSweep(b *testing.B) {
	p, _ := ready(b, 1<<21, 2)
	fillFlows(b, p, 1_000_000)
	s := p.NewSweep()
	sweepAll(b, s, flowsync.Sent)
	var longest time.Duration
	for b.Loop() {
		for end := false; !end; {
			begin := time.Now()
			end, _ = s.Sweep(func(uint32, dataplane.Flow) flowsync.Answer { return flowsync.Sent })
			longest = max(longest, time.Since(begin))
		}
	}
	b.ReportMetric(float64(longest.Microseconds()), "us-longest-part")
}

func BenchmarkInsert(b *testing.B) {
	p, _ := ready(b, 1<<21, 2)
	b.ReportAllocs()
	for b.Loop() {
		fillFlows(b, p, 1_000_000)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1e6, "ns/flow")
}

func serverAddr(n int) netip.Addr { return twoServices(n).Services[0].Servers[n-1].Addr }
