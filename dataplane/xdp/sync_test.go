package xdp

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"systole/dataplane"
	"systole/dataplane/flowsync"
)

// carry synchronises two planes over the loopback interface until the test's
// end; a is the one whose addresses are active.
func carry(t testing.TB, a, b *Plane, ports uint16) (sa, sb *flowsync.Syncer) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	start := func(p *Plane, session uint64, from, to uint16) *flowsync.Syncer {
		core, err := flowsync.New(flowsync.Config{
			MaxSize: 1472, Bandwidth: 1 << 30, Session: session,
			Keys: flowsync.Keys{Send: 1, Keys: []flowsync.Key{flowsync.Derive(1, []byte("secret"))}},
		}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		s := flowsync.NewSyncer(flowsync.Options{
			Core: core, Table: p.NewSweep(), Log: slog.New(slog.DiscardHandler),
			Paths: []flowsync.Path{{Interface: "lo", Port: from, To: []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), to)}}},
		})
		wg.Go(func() { s.Run(ctx) })
		return s
	}
	sa, sb = start(a, 1, ports, ports+1), start(b, 2, ports+1, ports)
	t.Cleanup(func() { cancel(); wg.Wait() })
	return sa, sb
}

func await(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// Ten thousand connections through one plane, and then the other one has them.
func TestTwoPlanesInSync(t *testing.T) { families(t, twoPlanesInSync) }

func twoPlanesInSync(t *testing.T, in family) {
	const n = 10_000
	a, on := in.ready(t, 1<<16, 5)
	b, _ := in.ready(t, 1<<16, 5)
	standby := func(p *Plane) { apply(t, p, in.snapshot(asRole(twoServices(5), dataplane.Standby))) }
	standby(b)
	sa, sb := carry(t, a, b, 28850)
	await(t, "they know each other", func() bool { return sa.State().InSync && sb.State().Complete })
	begin := time.Now()
	for i := range n {
		on(client(i, "S"))
		on(client(i, "A"))
	}
	opened := time.Since(begin)
	time.Sleep(100 * time.Millisecond)
	share := 0
	there := slices.Collect(b.Flows())
	for _, f := range there {
		if f.State == dataplane.FlowEstablished {
			share++
		}
	}
	await(t, "all is confirmed", func() bool { s := sa.State(); return s.InSync && s.Lag == 0 && len(slices.Collect(b.Flows())) == n })
	if got, want := sorted(slices.Collect(b.Flows())), sorted(slices.Collect(a.Flows())); !slices.Equal(got, want) {
		t.Error("the tables differ")
	}
	st := sa.State()
	t.Logf("%d connections in %v; at the peer 100 ms after the last: %.2f %%; %.1f bytes a flow (%d flows sent)", n, opened.Round(time.Millisecond),
		100*float64(share)/n, float64(st.Sent.Bytes)/float64(st.Sent.Flows), st.Sent.Flows)
	if st.Passes > 1 || sb.State().Refused > 0 {
		t.Errorf("%+v", st)
	}

	// The roles change: the flows that came are not sent back.
	standby(a)
	apply(t, b, in.snapshot(twoServices(5)))
	before := sb.State().Sent.Flows
	time.Sleep(200 * time.Millisecond)
	if after := sb.State().Sent.Flows; after != before {
		t.Errorf("%d flows were sent back", after-before)
	}
}

// BenchmarkResync is the time until a director that joins has a million flows.
func BenchmarkResync(b *testing.B) {
	const n = 1_000_000
	from, _ := ready(b, 1<<21, 2)
	fillFlows(b, from, n)
	flows := len(slices.Collect(from.Flows()))
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		to, _ := ready(b, 1<<21, 2)
		if _, err := to.Apply(asRole(twoServices(2), dataplane.Standby)); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		sa, sb := carry(b, from, to, uint16(28860+2*i))
		await(b, "the table is across", func() bool { return sa.State().InSync && sb.State().Complete })
		b.StopTimer()
		st := sa.State()
		if got := len(slices.Collect(to.Flows())); got < flows*999/1000 {
			b.Errorf("%d of %d flows are there: %+v %+v", got, flows, st, sb.State())
		}
		b.ReportMetric(float64(st.Sent.Bytes)/float64(st.Sent.Flows), "B/flow")
		b.ReportMetric(float64(st.Resent), "resent")
		b.StartTimer()
	}
	b.ReportMetric(float64(flows)*float64(b.N)/b.Elapsed().Seconds(), "flows/s")
}
