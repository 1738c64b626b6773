package chaos

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"systole/dataplane"
	"systole/dataplane/flowsync"
	"systole/test/flood"
)

// wideGeneration is generation beside ten thousand services of one real server,
// of which each generation has other addresses, too.
func wideGeneration(g uint32) dataplane.Snapshot {
	s := generation(g)
	const ports = 100
	for i := range 10_000 {
		addr := netip.AddrFrom4([4]byte{192, 168, 147, byte(i / ports)})
		if i%ports == 0 {
			s.VIPs = append(s.VIPs, dataplane.VIP{Addr: addr, Role: dataplane.Active})
		}
		r := dataplane.RealServer{Addr: netip.AddrFrom4([4]byte{172, 17, byte(i >> 8), byte(i)}), Weight: 1, MAC: flood.Passing(g, byte(i))}
		if i%16 == int(g%16) {
			r.Addr = netip.AddrFrom4([4]byte{172, byte(18 + g%8), byte(i >> 8), byte(i)})
		}
		s.Services = append(s.Services, dataplane.Service{
			ServiceKey: dataplane.ServiceKey{VIP: addr, Port: uint16(1 + i%ports), Protocol: dataplane.TCP}, Scheduler: "rr",
			Servers: []dataplane.RealServer{r},
		})
	}
	return s
}

// The same with ten thousand services, whose identities run out and are taken
// back all the time.
func TestWideAppliesUnderTraffic(t *testing.T) { applies(t, wideGeneration, 1) }

// A flow table of sixteen million entries, three quarters full: while it is
// counted, swept and has the ids of servers taken back that are gone, no packet
// is lost and no connection moves.
func TestLargeFlowTable(t *testing.T) {
	w := newWire(t)
	entries := size(1<<20, 1<<24)
	began := time.Now()
	p := w.loaded(generation(1), entries)
	st, err := p.Stats()
	w.must(err)
	if want := int64(entries*16 + entries/2*32); st.FlowTableBytes != want || st.FlowTableSize != entries*3/2 {
		t.Errorf("%d entries in %d bytes, want %d", st.FlowTableSize, st.FlowTableBytes, want)
	}
	t.Logf("loaded in %v: %d MiB for %d entries, and half as many of IPv6", time.Since(began).Round(time.Millisecond), st.FlowTableBytes>>20, entries)
	w.establish()

	began = time.Now()
	last := began
	stored, want := 0, entries*3/4
	flows := make([]dataplane.Flow, 4096)
	for n := 0; n < want; n += len(flows) {
		for i := range flows {
			flows[i] = dataplane.Flow{
				Client:  netip.AddrPortFrom(flood.Client(netip.MustParseAddr("11.0.0.0"), n+i), 40000),
				Service: web, Server: servers(1)[0].Addr, State: dataplane.FlowEstablished, Expires: 10 * time.Minute,
			}
		}
		k, _, err := p.Insert(flows)
		w.must(err)
		stored += k
		w.progress(began, &last, "%d flows", stored)
	}
	t.Logf("%d flows put in, %d found room, in %v", want, stored, time.Since(began).Round(time.Millisecond))
	if stored < want*95/100 {
		t.Error("want 95 % of them at least")
	}

	stop := w.background(w.cpus[0], func() error { return w.on.Send(100_000) })
	busy, look := make(chan struct{}), make(chan error, 1)
	var count, sweep, call time.Duration // the longest of each
	calls := 0
	go func() { // as status and sync do, beside what follows
		s := p.NewSweep()
		look <- func() error {
			for pass := 0; ; pass++ {
				began := time.Now()
				st, err := p.Stats()
				if err != nil {
					return err
				}
				count = max(count, time.Since(began))
				if st.Flows < int64(stored) {
					return errors.New("flows are missing")
				}
				began, calls = time.Now(), 0
				for end := false; !end; calls++ {
					at := time.Now()
					if end, err = s.Sweep(func(uint32, dataplane.Flow) flowsync.Answer { return flowsync.Sent }); err != nil {
						return err
					}
					call = max(call, time.Since(at))
				}
				sweep = max(sweep, time.Since(began))
				select {
				case <-busy:
					if pass > 0 {
						return nil
					}
				default:
				}
			}
		}()
	}()
	var applied, renewed []time.Duration
	for g := uint32(2); g < 60; g++ {
		s := generation(g)
		for i := range 1000 { // of this generation alone, so that ids run out
			s.Services[0].Servers = append(s.Services[0].Servers, dataplane.RealServer{Addr: netip.AddrFrom4([4]byte{172, byte(g), byte(i >> 8), byte(i)})})
		}
		at := time.Now()
		_, err := p.Apply(s)
		w.must(err)
		applied = append(applied, time.Since(at))
		at = time.Now()
		w.must(p.Renew(dataplane.Unlimited))
		renewed = append(renewed, time.Since(at))
		w.goOn(1000) // packets, by each of them
	}
	close(busy)
	w.must(<-look)
	stop()
	slices.Sort(applied)
	slices.Sort(renewed)
	sent, err := w.on.Sent()
	w.must(err)
	b, moved := w.balance(), w.tally().Moved
	t.Logf("counted in %v, swept in %v and %d calls of %v, at worst; Apply took %v in the median and %v with ids taken back, Renew %v at worst; %d packets: %v, %d moved",
		count.Round(time.Millisecond), sweep.Round(time.Millisecond), calls, call.Round(time.Microsecond), applied[len(applied)/2], applied[len(applied)-1],
		renewed[len(renewed)-1], sent, b, moved)
	if b.Lost() != 0 || moved != 0 || sent < established {
		t.Error("no packet may be lost or go to another server")
	}
	if calls > 33 {
		t.Errorf("a sweep of %d calls", calls)
	}
}

// goOn waits until the stream of established connections has sent n more frames.
func (w *wire) goOn(n uint64) {
	w.Helper()
	sent := func() uint64 {
		sent, err := w.on.Sent()
		w.must(err)
		return sent
	}
	end := time.Now().Add(10 * time.Second)
	for from := sent(); sent() < from+n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			w.Fatalf("%d frames not sent within 10 s", n)
		}
	}
}
