package sim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"systole/hb"
)

// failures is how many failures TestMillion simulates: SYSTOLE_SIM_FAILURES, or
// a hundred thousand, or with -short five thousand.
func failures(t *testing.T) uint64 {
	text, ok := os.LookupEnv("SYSTOLE_SIM_FAILURES")
	if !ok {
		if testing.Short() {
			return 5_000
		}
		return 100_000
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("SYSTOLE_SIM_FAILURES=%q: %v", text, err)
	}
	return n
}

// firstSeed is where the seeds begin: SYSTOLE_SIM_SEED, else 0.
func firstSeed(t *testing.T) uint64 {
	text, ok := os.LookupEnv("SYSTOLE_SIM_SEED")
	if !ok {
		return 0
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("SYSTOLE_SIM_SEED=%q: %v", text, err)
	}
	return n
}

// TestMillion runs seed after seed, on all processors, until there were enough
// failures. What breaks is written down as a script, as short as it could
// quickly be made.
func TestMillion(t *testing.T) {
	want := failures(t)
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	begin := time.Now()
	var (
		mu     sync.Mutex
		sum    Stats
		seed   = firstSeed(t)
		broken int
	)
	next := func() (uint64, bool) {
		mu.Lock()
		defer mu.Unlock()
		seed++
		return seed - 1, sum.Failures < want && broken < 10
	}
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for s, more := next(); more; s, more = next() {
				p := Generate(s)
				stats, why := Run(p, nil)
				mu.Lock()
				sum.Add(stats)
				if why != "" {
					broken++
				}
				mu.Unlock()
				if why != "" {
					t.Error(report(p))
				}
			}
		})
	}
	workers.Wait()
	took := time.Since(begin)
	t.Logf("%v\n%d invariants broken, in %v: %.2f ms for a failure",
		sum, broken, took.Round(time.Millisecond), took.Seconds()*1000/float64(max(1, sum.Failures)))
}

// report makes a script of a plan that fails and says where it is.
func report(p Plan) string {
	seed := p.Seed
	p = Shrink(p, 200)
	_, why := Run(p, nil)
	text := fmt.Sprintf("# %s\n%v", why, p)
	file := filepath.Join(os.TempDir(), fmt.Sprintf("systole-sim-%d.txt", seed))
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return fmt.Sprintf("seed %d: %s\n%s", seed, why, text)
	}
	return fmt.Sprintf("seed %d: %s\n%s(SYSTOLE_SIM_SCRIPT=%s go test ./test/sim -run Replay -v tells all that happens)", seed, why, text, file)
}

// TestReplay runs the script that SYSTOLE_SIM_SCRIPT names and writes down all
// that happens.
func TestReplay(t *testing.T) {
	file := os.Getenv("SYSTOLE_SIM_SCRIPT")
	if file == "" {
		return // there is nothing to replay
	}
	if _, why := Run(readScript(t, file), os.Stdout); why != "" {
		t.Fatal(why)
	}
}

func readScript(t *testing.T, file string) Plan {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Parse(string(text))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return p
}

// TestScripts runs what has once been found: each script broke an invariant
// before the cause was removed.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts: ", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			if _, why := Run(readScript(t, f), nil); why != "" {
				t.Error(why)
			}
		})
	}
}

// TestPlanIsItsScript: a plan can be had again from its text, and gives the same
// run.
func TestPlanIsItsScript(t *testing.T) {
	for seed := range uint64(20) {
		p := Generate(seed)
		again, err := Parse("# a comment\n\n" + p.String())
		if err != nil {
			t.Fatal(err)
		}
		if again.String() != p.String() {
			t.Fatalf("%v\nread again:\n%v", p, again)
		}
		one, why1 := Run(p, nil)
		two, why2 := Run(again, nil)
		if one.String() != two.String() || why1 != why2 {
			t.Errorf("seed %d gave two different runs:\n%v %s\n%v %s", seed, one, why1, two, why2)
		}
	}
}

// TestBadScripts: a script that is wrong says where.
func TestBadScripts(t *testing.T) {
	const head = "seed=1 nodes=3\n"
	for _, test := range []struct{ script, text string }{
		{"", "does not describe a cluster"},
		{"nodes=1", "line 1: \"nodes=1\": 1 nodes: want 2 to 16"},
		{"nodes=2 media=3", "3 media"},
		{"nodes=2 hosts=some", "invalid syntax"},
		{"nodes=2 colour=red", "unknown option colour"},
		{"nodes=2 keepalive=1s", "want deadtime > 2 x keepalive"},
		{"nodes=x", "invalid syntax"},
		{head + "crash a 1s", "line 2: \"crash a 1s\": want +WAIT KIND"},
		{head + "+1 crash a 1s", "missing unit"},
		{head + "+1s jump a 1s", "want one of rest crash"},
		{head + "+1s crash a", "1 arguments, want 2"},
		{head + "+1s crash d 1s", `"d" is no node of this cluster: want a to c`},
		{head + "+1s crash a soon", "invalid duration"},
		{head + "+1s crash a -1s", "a negative number"},
		{head + "+1s loss many 1s", "invalid syntax"},
		{head + "+1s standby a some", "not a class"},
		{head + "+1s hang c 1s", "c is no director"},
		{head + "+1s link a b eth1 1s", `"eth1" is no medium of this cluster: want one of eth0`},
	} {
		_, err := Parse(test.script)
		if !errors.Is(err, ErrScript) || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%q: got %v, want %q", test.script, err, test.text)
		}
	}
}

// TestBroken: the invariants can be broken. A data plane without a lease, or a
// death that nobody notices, would be found.
func TestBroken(t *testing.T) {
	const head = "nodes=2\n"
	for name, spoil := range map[string]func(*cluster){
		"two owners": func(c *cluster) { c.dirs[0].plane.roles = [2]role{active, active} },
		"no owner": func(c *cluster) {
			c.dirs[0].plane.roles, c.dirs[1].plane.roles = [2]role{}, [2]role{}
			c.checks.client = [2]*director{}
		},
		"is lost":       func(c *cluster) { c.dirs[1].plane.until = 0; c.dirs[1].plane.roles[1] = standby },
		"have neither":  func(c *cluster) { c.msgs.owed[1] = append(c.msgs.owed[1], 1<<20) },
		"sends at rest": func(c *cluster) { c.net.Drop = dropOnce() },
	} {
		c := atRest(t, head)
		spoil(c)
		if name == "sends at rest" {
			c.quiet()
		} else {
			c.rest()
		}
		if !strings.Contains(c.failed, name) {
			t.Errorf("%s: not noticed, but: %q", name, c.failed)
		}
	}
}

// atRest is a cluster of two that has come to rest.
func atRest(t *testing.T, head string) *cluster {
	t.Helper()
	p, err := Parse(head)
	if err != nil {
		t.Fatal(err)
	}
	c := newCluster(p, nil)
	for _, n := range c.members {
		c.start(n)
	}
	if c.rest(); c.failed != "" {
		t.Fatal(c.failed)
	}
	return c
}

// TestTakeoverTimes: b takes what a owned before the dead time where the
// evidence allows it, and not before the dead time where it does not.
func TestTakeoverTimes(t *testing.T) {
	const ka, dead = 100 * time.Millisecond, time.Second
	for _, test := range []struct {
		kind        Kind
		hosts, ends bool
		early       bool
	}{
		{Die, false, false, false},
		{Die, true, false, true},
		{Freeze, true, false, true},
		{Freeze, false, true, false},
		{Crash, true, true, true},
		{Crash, true, false, false},
		{Crash, false, true, false},
		{Stall, true, true, false},
		{Hang, true, true, false},
	} {
		for phase := range 7 {
			c := atRest(t, fmt.Sprintf("nodes=2 keepalive=%v deadtime=%v hosts=%v ends=%v", ka, dead, test.hosts, test.ends))
			c.run(time.Duration(phase) * ka / 7)
			begin := c.now()
			c.do(Step{Kind: test.kind, For: 10 * dead})
			for !c.dirs[1].serves(0, c.now()) && c.failed == "" && c.now()-begin < 5*dead {
				c.run(100 * time.Microsecond)
			}
			took := c.now() - begin
			least, most := dead-ka, dead+4*time.Millisecond
			switch {
			case test.kind == Hang: // beats go on for a dead time
				least, most = 2*dead-2*ka, 2*dead+ka
			case test.early:
				least, most = ka/8, 2*ka
			}
			if c.failed != "" || took < least || took > most {
				t.Errorf("%v, hosts %v, ends %v: taken over after %v, want %v to %v; %s",
					test.kind, test.hosts, test.ends, took, least, most, c.failed)
			}
		}
	}
}

// TestFalseEvidence: a director that promises what its data plane does not
// keep, and a machine that says nothing though it runs, would be found.
func TestFalseEvidence(t *testing.T) {
	for name, spoil := range map[string]func(*cluster){
		"b declares a dead early, whose machine runs, and which did not promise": func(c *cluster) {
			c.net.SetEnds("a", true)
			c.run(c.plan.Keepalive)
			c.do(Step{Kind: Crash, For: time.Second})
		},
		"b declares a dead early, which runs": func(c *cluster) {
			c.net.Freeze("a")
			c.do(Step{Kind: Stall, For: time.Second})
		},
	} {
		c := atRest(t, "nodes=2 hosts=true")
		spoil(c)
		c.run(time.Second)
		if !strings.Contains(c.failed, name) {
			t.Errorf("%s: not noticed, but: %q", name, c.failed)
		}
	}
	c := atRest(t, "nodes=2 hosts=true ends=true")
	a := c.dirs[0]
	c.do(Step{Kind: Crash, For: time.Second})
	a.plane.until = c.now() + time.Second // the hook did not work
	c.run(time.Second)
	if want := "b declares a dead, whose last beat"; !strings.Contains(c.failed, want) {
		t.Errorf("%s: not noticed, but: %q", want, c.failed)
	}
}

// dropOnce loses one beat, which is then asked for.
func dropOnce() func(from, to, medium string, p hb.Packet) bool {
	done := false
	return func(_, _, _ string, p hb.Packet) bool {
		drop := !done && p.Beat
		done = done || drop
		return drop
	}
}

// BenchmarkFailure is one simulated failure, on one processor.
func BenchmarkFailure(b *testing.B) {
	n, seed := uint64(0), uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		if n > 0 { // of the last run
			n--
			continue
		}
		s, why := Run(Generate(seed), nil)
		if why != "" {
			b.Fatal(why)
		}
		n, seed = s.Failures-1, seed+1
	}
}
