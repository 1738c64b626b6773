package chaos

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"systole/dataplane"
	"systole/dataplane/planetest"
	"systole/dataplane/xdp"
	"systole/test/flood"
	"systole/test/need"
)

// full tells whether the tests have their full size.
var full = os.Getenv("SYSTOLE_SOAK") == "1"

// size is how much of something a test does.
func size[T int | time.Duration](short, long T) T {
	if full {
		return long
	}
	return short
}

var (
	vip     = netip.MustParseAddr("192.168.145.101")
	web     = dataplane.ServiceKey{VIP: vip, Port: 80, Protocol: dataplane.TCP}   // servers that stay
	rolling = dataplane.ServiceKey{VIP: vip, Port: 8080, Protocol: dataplane.TCP} // servers of one generation
)

// established is how many connections there are beside what a test does.
const established = 10_000

// servers are n that stay.
func servers(n int) []dataplane.RealServer {
	var all []dataplane.RealServer
	for i := range n {
		all = append(all, dataplane.RealServer{
			Addr: netip.AddrFrom4([4]byte{192, 168, 145, byte(10 + i)}), Weight: 1, MAC: flood.Steady(byte(i)),
		})
	}
	return all
}

func snapshot(n int) dataplane.Snapshot {
	return dataplane.Snapshot{
		VIPs:     []dataplane.VIP{{Addr: vip, Role: dataplane.Active}},
		Services: []dataplane.Service{{ServiceKey: web, Scheduler: "rr", Servers: servers(n)}},
	}
}

// wire is a wire with streams on it.
type wire struct {
	*testing.T
	*flood.Wire
	cpus []int
	open *flood.Stream // one SYN of each established connection
	on   *flood.Stream // and what follows
}

func newWire(t *testing.T) *wire {
	t.Helper()
	need.Root(t, "BPF programs and network namespaces")
	cpus, err := flood.CPUs()
	if err != nil {
		t.Fatal(err)
	}
	f, err := flood.New(len(cpus))
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{T: t, Wire: f, cpus: cpus}
	t.Cleanup(func() { w.must(f.Close()) })
	w.open = w.stream(web, flood.Tracked, "S", established, false)
	w.on = w.stream(web, flood.Tracked, "A", established, false)
	return w
}

func (w *wire) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// stream is of so many clients of a service, the first of which is given.
func (w *wire) stream(to dataplane.ServiceKey, first netip.Addr, flags string, clients int, fresh bool) *flood.Stream {
	w.Helper()
	s, err := w.Stream(flood.Traffic{
		Frame: planetest.Frame{
			From: netip.AddrPortFrom(first, 40000), To: netip.AddrPortFrom(to.VIP, to.Port), Protocol: to.Protocol, Flags: flags,
		},
		Clients: clients, Fresh: fresh,
	})
	w.must(err)
	return s
}

// loaded is a plane on the wire that does not outlive the test.
func (w *wire) loaded(s dataplane.Snapshot, flows int) *xdp.Plane {
	w.Helper()
	p, err := xdp.Load(xdp.Config{Flows: flows, NewFlows: -1}, flood.Own)
	w.must(err)
	w.Cleanup(func() { w.must(p.Close()) })
	_, err = p.Apply(s)
	w.must(err)
	w.must(p.Renew(dataplane.Unlimited))
	detach, err := w.Attach(p.Program())
	w.must(err)
	w.Cleanup(func() { w.must(detach()) })
	return p
}

// establish opens the connections: all of them, so again when the wire lost one.
func (w *wire) establish() {
	w.Helper()
	for range 10 {
		before := w.balance().Overrun
		w.must(w.Do(w.open.Round))
		if w.balance().Overrun == before {
			w.must(w.Do(w.on.Round))
			if b := w.balance(); b.Lost() != 0 {
				w.Fatalf("before anything happened: %v", b)
			}
			return
		}
	}
	w.Fatal("the wire lost something ten times: this machine is too busy")
}

// balance accounts for all frames, of streams that stand still.
func (w *wire) balance() flood.Balance {
	w.Helper()
	b, err := w.Balance()
	w.must(err)
	return b
}

func (w *wire) tally() flood.Tally {
	w.Helper()
	t, err := w.Tally()
	w.must(err)
	return t
}

// background repeats f in the wire's namespace on one CPU. The function
// returned ends it.
func (w *wire) background(cpu int, f func() error) (stop func()) {
	done, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- w.OnCPU(cpu, func() error {
			for {
				select {
				case <-done:
					return nil
				default:
				}
				if err := f(); err != nil {
					return err
				}
				runtime.Gosched()
			}
		})
	}()
	return func() {
		w.Helper()
		close(done)
		w.must(<-ended)
	}
}

// bpffs mounts a bpf file system for one test.
func bpffs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		t.Fatalf("mount a bpf file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, "systole")
}

// progress says how far a long test is, about every ten seconds.
func (w *wire) progress(begin time.Time, last *time.Time, format string, args ...any) {
	w.Helper()
	if time.Since(*last) >= 10*time.Second {
		*last = time.Now()
		w.Logf("%v: %s", time.Since(begin).Round(time.Second), fmt.Sprintf(format, args...))
	}
}
