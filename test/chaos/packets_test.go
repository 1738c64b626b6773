package chaos

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"systole/dataplane"
	"systole/dataplane/xdp"
	"systole/test/built"
	"systole/test/flood"
)

// daemon is what the test binary is when it runs with this variable set, which
// names the directory for its pins: a process that opens the plane, puts a
// configuration in force and waits to be killed.
const daemon = "SYSTOLE_CHAOS_DAEMON"

func runDaemon(pins string) error {
	p, err := xdp.Open(xdp.Config{Interface: flood.Director, PinDir: pins, Flows: 1 << 16, NewFlows: -1})
	if err != nil {
		return err
	}
	if _, err := p.Apply(snapshot(16)); err != nil {
		return err
	}
	if err := p.Renew(dataplane.Unlimited); err != nil {
		return err
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin) // until it is killed, or its parent ends
	return err
}

// startDaemon starts one and waits until its program is in place. It must be
// called in the wire's namespace.
func startDaemon(pins string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), daemon+"="+pins)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if _, err := cmd.StdinPipe(); err != nil { // it ends with us
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		err = fmt.Errorf("daemon says %q, %v", line, err)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, err
	}
	return cmd, nil
}

// Daemons are killed and their successors replace the program, under traffic at
// full rate: no packet is lost, no connection moves.
func TestProgramReplacements(t *testing.T) {
	w := newWire(t)
	pins := bpffs(t)
	n := size(20, 500)
	began := time.Now()
	err := w.Do(func() error {
		d, err := startDaemon(pins)
		if err != nil {
			return err
		}
		defer func() { _ = d.Process.Kill(); _ = d.Wait() }()
		w.establish()
		stop := w.background(w.cpus[0], func() error { return w.on.Send(100_000) })
		last := time.Now()
		for i := range n {
			_ = d.Process.Kill()
			_ = d.Wait()
			if d, err = startDaemon(pins); err != nil {
				stop()
				return fmt.Errorf("replacement %d: %w", i+1, err)
			}
			w.progress(began, &last, "%d of %d replacements", i+1, n)
		}
		stop()
		p, err := open(d, pins)
		if err != nil {
			return err
		}
		return p.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
	sent, err := w.on.Sent()
	w.must(err)
	b, moved := w.balance(), w.tally().Moved
	t.Logf("%d kills and replacements of the program in %v under %d connections: %v, %d moved",
		n, time.Since(began).Round(time.Millisecond), established, b, moved)
	if b.Lost() != 0 || moved != 0 || sent < 10*established {
		t.Error("no packet may be lost or go to another server")
	}
}

// open takes over from the last daemon, to remove what is pinned.
func open(d *exec.Cmd, pins string) (*xdp.Plane, error) {
	_ = d.Process.Kill()
	_ = d.Wait()
	return xdp.Open(xdp.Config{Interface: flood.Director, PinDir: pins, Flows: 1 << 16, NewFlows: -1})
}

// generation is a configuration that differs from the one before in all that
// may differ: the weights and the order of the servers that stay, and the
// addresses of the others.
func generation(g uint32) dataplane.Snapshot {
	s := snapshot(16)
	stay := s.Services[0].Servers
	for i := range stay {
		stay[i].Weight = (g + uint32(i)) % 4
	}
	if g%2 == 0 {
		slices.Reverse(stay)
	}
	s.Services[0].Scheduler = "wrr"
	passing := dataplane.Service{ServiceKey: rolling, Scheduler: "rr"}
	for i := range byte(1 + g%5) {
		passing.Servers = append(passing.Servers, dataplane.RealServer{
			Addr: netip.AddrFrom4([4]byte{192, 168, 146, 1 + i}), Weight: 1, MAC: flood.Passing(g, i),
		})
	}
	s.Services = append(s.Services, passing)
	if g%3 == 0 {
		slices.Reverse(s.Services)
	}
	return s
}

// A thousand times a second everything changes under traffic: every packet is
// forwarded, by a generation that was in force while it was under way, and no
// connection moves.
func TestAppliesUnderTraffic(t *testing.T) {
	applies(t, generation, 200) // by the kernel's own grace period it is at most some 50
}

// applies applies one generation after the other, a thousand times a second if
// that can be, and at least so often.
func applies(t *testing.T, generation func(uint32) dataplane.Snapshot, least float64) {
	w := newWire(t)
	p := w.loaded(generation(1), 1<<17)
	w.establish()
	anew := w.stream(rolling, netip.MustParseAddr("10.128.0.0"), "S", 1<<16, true)

	w.must(w.InForce(1, 1))
	stop := w.background(w.cpus[0], func() error {
		if err := anew.Send(100_000); err != nil {
			return err
		}
		return w.on.Send(100_000)
	})
	const every = time.Millisecond
	began := time.Now()
	last := began
	var took []time.Duration
	g := uint32(1)
	for next := began; time.Since(began) < size(3*time.Second, time.Minute); next = next.Add(every) {
		time.Sleep(time.Until(next))
		g++
		s := generation(g)
		w.must(w.InForce(g-1, g))
		call := time.Now()
		_, err := p.Apply(s)
		took = append(took, time.Since(call))
		w.must(err)
		w.must(w.InForce(g, g))
		w.progress(began, &last, "%d applied", len(took))
	}
	length := time.Since(began)
	stop()
	slices.Sort(took)
	packets, err := w.on.Sent()
	w.must(err)
	opened, err := anew.Sent()
	w.must(err)
	b, tally := w.balance(), w.tally()
	rate := float64(len(took)) / length.Seconds()
	t.Logf("%d configurations in %v, %.0f a second, Apply took %v in the median and %v at worst; %d packets and %d new connections: %v, %d by a configuration not in force, %d moved",
		len(took), length.Round(time.Millisecond), rate, took[len(took)/2], took[len(took)-1], packets, opened, b, tally.Outside, tally.Moved)
	if b.Lost() != 0 || tally.Outside != 0 || tally.Moved != 0 || tally.Elsewhere != 0 || packets < established {
		t.Errorf("want none; %d went elsewhere", tally.Elsewhere)
	}
	if rate < least {
		t.Errorf("%.0f a second", rate)
	}
}

// A flood of SYNs at full rate pushes out no established connection.
func TestFloodBesideEstablished(t *testing.T) {
	w := newWire(t)
	p := w.loaded(snapshot(16), xdp.DefaultFlows)
	w.establish()
	syns := w.stream(web, netip.MustParseAddr("11.0.0.0"), "S", 1<<24, true)
	began := time.Now()
	last := began
	stop := w.background(w.cpus[0], func() error { return syns.Send(1_000_000) })
	rounds := 0
	for time.Since(began) < size(3*time.Second, time.Minute) {
		w.must(w.OnCPU(w.cpus[len(w.cpus)-1], w.on.Round))
		rounds++
		time.Sleep(100 * time.Millisecond) // a connection has a packet now and then
		w.progress(began, &last, "%d rounds of the established", rounds)
	}
	stop()
	length := time.Since(began)
	sent, err := syns.Sent()
	w.must(err)
	st, err := p.Stats()
	w.must(err)
	b, moved := w.balance(), w.tally().Moved
	t.Logf("%d SYNs in %v (%.2f million a second) beside %d packets of %d connections: %v, %d moved; evicted %d on probation, %d others",
		sent, length.Round(time.Millisecond), float64(sent)/length.Seconds()/1e6, rounds*established, established, b, moved,
		st.Reasons["syn_evicted"], st.Reasons["flow_evicted"])
	if b.Lost() != 0 || moved != 0 || sent < 100_000 {
		t.Error("established connections were lost")
	}
}

// New connections from all CPUs at full rate: the servers get the same number
// of them, but for one.
func TestStrictRoundRobinOfAFlood(t *testing.T) {
	w := newWire(t)
	w.loaded(snapshot(16), xdp.DefaultFlows)
	each := size(400_000, 4_000_000) / len(w.cpus)
	var wg sync.WaitGroup
	for i, cpu := range w.cpus {
		s := w.stream(web, flood.Client(netip.MustParseAddr("11.0.0.0"), i*each), "S", each, true)
		wg.Go(func() {
			if err := w.OnCPU(cpu, s.Round); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	b, tally := w.balance(), w.tally()
	opened := tally.Opened[:16]
	least, most := slices.Min(opened), slices.Max(opened)
	t.Logf("%d new connections from %d CPUs over 16 servers: from %d to %d each; %v", each*len(w.cpus), len(w.cpus), least, most, b)
	if b.Lost() != 0 || most-least > 1+b.Overrun { // each that the wire lost may be one less at a server
		t.Errorf("not in turn: %v", opened)
	}
}

func TestMain(m *testing.M) {
	run := func(f func() error) {
		if err := f(); err != nil {
			fmt.Println(strings.ReplaceAll(err.Error(), "\n", " "))
			os.Exit(1)
		}
		os.Exit(0)
	}
	if pins := os.Getenv(daemon); pins != "" {
		run(func() error { return runDaemon(pins) })
	}
	if at := os.Getenv(realServer); at != "" {
		run(func() error { return runEcho(at) })
	}
	os.Exit(built.Run(m, &binary))
}
