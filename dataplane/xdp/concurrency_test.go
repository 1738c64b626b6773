package xdp

import (
	"encoding/binary"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"systole/dataplane"
)

// onCPU runs f on a thread that stays on one CPU.
func onCPU(t *testing.T, wg *sync.WaitGroup, cpu int, f func()) {
	wg.Go(func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with us
		var set unix.CPUSet
		set.Set(cpu)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			t.Errorf("pin to CPU %d: %v", cpu, err)
			return
		}
		f()
	})
}

// cpus are the CPUs we may run on.
func cpus(t *testing.T) []int {
	t.Helper()
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
	var list []int
	for cpu := range 1024 {
		if set.IsSet(cpu) {
			list = append(list, cpu)
		}
	}
	return list
}

// DESIGN, promise 1.
func TestStrictRoundRobinOnAllCPUs(t *testing.T) {
	const connections = 10_000
	for _, n := range []int{2, 3, 7} {
		p := loaded(t, 1<<16)
		apply(t, p, twoServices(n))
		if err := p.Renew(dataplane.Unlimited); err != nil {
			t.Fatal(err)
		}
		all := cpus(t)
		counts := make([]map[[6]byte]int, len(all))
		var wg sync.WaitGroup
		var next atomic.Int64
		start := make(chan struct{})
		for i, cpu := range all {
			counts[i] = map[[6]byte]int{}
			onCPU(t, &wg, cpu, func() {
				<-start
				for c := next.Add(1); c <= connections; c = next.Add(1) {
					verdict, out := send(t, p.Program(), client(int(c), "S").Bytes())
					if verdict != xdpTX {
						t.Errorf("verdict %d", verdict)
						return
					}
					counts[i][[6]byte(out)]++
				}
			})
		}
		close(start)
		wg.Wait()
		total, least, most := map[[6]byte]int{}, connections, 0
		for _, c := range counts {
			for mac, k := range c {
				total[mac] += k
			}
		}
		for _, k := range total {
			least, most = min(least, k), max(most, k)
		}
		if len(total) != n || most-least > 1 {
			t.Errorf("%d connections over %d servers from %d CPUs: from %d to %d each on %d servers", connections, n, len(all), least, most, len(total))
		}
		t.Logf("%d servers: %d to %d connections each", n, least, most)
	}
}

// generationSnapshot is generation g: everything about it is different, the
// set of VIPs, the ports around the one we use, the servers and the seeds that
// follow; the MACs tell it.
func generationSnapshot(g uint32) dataplane.Snapshot {
	s := dataplane.Snapshot{VIPs: []dataplane.VIP{{Addr: testVIP, Role: dataplane.Active}}}
	for i := range g % 17 {
		s.VIPs = append(s.VIPs, dataplane.VIP{Addr: netip.AddrFrom4([4]byte{192, 168, byte(g), byte(1 + i)})})
	}
	for i := range g % 23 {
		key := web
		key.Port = uint16(1000 + 31*g + i)
		s.Services = append(s.Services, dataplane.Service{ServiceKey: key, Scheduler: "rr"})
	}
	svc := dataplane.Service{ServiceKey: web, Scheduler: "rr"}
	for i := range 1 + g%5 {
		mac := make(net.HardwareAddr, 6)
		mac[0], mac[1] = 6, byte(i)
		binary.BigEndian.PutUint32(mac[2:], g)
		addr := netip.AddrFrom4([4]byte{172, byte(16 + i), byte(g >> 8), byte(g)})
		svc.Servers = append(svc.Servers, dataplane.RealServer{Addr: addr, Weight: 1, MAC: mac})
	}
	s.Services = append(s.Services, svc)
	return s
}

// DESIGN, promise 3: each packet is forwarded by one generation, and by one
// that was in force while the packet was under way.
func TestApplyIsAtomic(t *testing.T) {
	p := loaded(t, 1<<12)
	apply(t, p, generationSnapshot(1))
	if err := p.Renew(dataplane.Unlimited); err != nil {
		t.Fatal(err)
	}
	var from, to atomic.Uint32 // generations that may be in force
	from.Store(1)
	to.Store(1)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var packets atomic.Int64
	for i, cpu := range cpus(t) {
		onCPU(t, &wg, cpu, func() {
			for c := i << 20; ; c++ {
				select {
				case <-stop:
					return
				default:
				}
				least := from.Load()
				verdict, out := send(t, p.Program(), client(c&0xffffff, "S").Bytes())
				most := to.Load()
				packets.Add(1)
				if verdict != xdpTX {
					t.Errorf("between generations %d and %d: verdict %d", least, most, verdict)
					return
				}
				g := binary.BigEndian.Uint32(out[2:])
				if g < least || g > most || uint32(out[1]) >= 1+g%5 {
					t.Errorf("a server of generation %d, in force were %d to %d", g, least, most)
					return
				}
			}
		})
	}
	const generations = 300
	for g := uint32(2); g <= generations && !t.Failed(); g++ {
		to.Store(g)
		apply(t, p, generationSnapshot(g))
		from.Store(g)
	}
	close(stop)
	wg.Wait()
	t.Logf("%d packets during %d generations", packets.Load(), generations)
}

// All methods at once, for the race detector.
func TestConcurrentUse(t *testing.T) {
	p := loaded(t, 1<<12)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for n := range 5 {
				if _, err := p.Apply(twoServices(n)); err != nil {
					t.Error(err)
				}
				if _, err := p.Stats(); err != nil {
					t.Error(err)
				}
				p.Info()
			}
		})
		wg.Go(func() {
			for range 100 {
				if err := p.Renew(dataplane.Unlimited); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// The idle half is not written while a packet may still be using it.
func TestApplyWaitsForTheGracePeriod(t *testing.T) {
	p := loaded(t, MinFlows)
	apply(t, p, generationSnapshot(1))
	<-p.grace
	grace := make(chan struct{})
	p.grace = grace
	state := &p.kernel.state.elements[0]
	idle := atomic.LoadUint32(&state.Active)&1 ^ 1
	before := state.Generation[idle]

	done := make(chan error, 1)
	go func() {
		_, err := p.Apply(generationSnapshot(2))
		done <- err
	}()
	select {
	case err := <-done:
		t.Errorf("Apply did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if state.Generation[idle] != before {
		t.Error("the idle half was written within the grace period")
	}
	close(grace)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := p.active().Number; got != 2 {
		t.Errorf("generation %d in force, want 2", got)
	}
}
