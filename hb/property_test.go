package hb_test

import (
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"systole/hb"
	"systole/hb/hbtest"
	"systole/hb/wire"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "run the simulations with this seed only")
	seedsFlag = flag.Int("seeds", 30, "number of seeds for each simulation; the environment variable SYSTOLE_SEEDS, too")
)

// eachSeed runs a simulation with many seeds. A failure names its seed.
func eachSeed(t *testing.T, f func(t *testing.T, seed uint64)) {
	first, n := uint64(1), *seedsFlag
	if s, err := strconv.Atoi(os.Getenv("SYSTOLE_SEEDS")); err == nil {
		n = s
	}
	if *seedFlag != 0 {
		first, n = *seedFlag, 1
	}
	for seed := first; seed < first+uint64(n) && !t.Failed(); seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("again with: go test ./hb -run '%s' -seed %d", t.Name(), seed)
				}
			}()
			f(t, seed)
		})
	}
}

// sim is a cluster and what happened in it.
type sim struct {
	*hbtest.Network
	t      *testing.T
	rnd    *rand.Rand
	names  []string
	joined map[string]bool
	status map[[2]string]hb.Status // what a node last learnt of another
	events func(node string, e hb.Event)
}

func newSim(t *testing.T, seed uint64, nodes int, cfg hb.Config) *sim {
	s := &sim{
		Network: hbtest.New(seed), t: t, rnd: rand.New(rand.NewPCG(seed, 99)),
		joined: map[string]bool{}, status: map[[2]string]hb.Status{},
	}
	for i := range nodes {
		s.names = append(s.names, string(rune('a'+i)))
	}
	cfg.Nodes = s.names
	for _, cfg.Node = range s.names {
		s.Add(cfg)
	}
	s.OnEvent = func(node string, e hb.Event) {
		switch e := e.(type) {
		case hb.Joined:
			if s.joined[node] {
				t.Errorf("%v %s: joined twice", s.Since(), node)
			}
			s.joined[node] = true
		case hb.NodeChanged:
			key := [2]string{node, e.Node}
			was, ok := s.status[key]
			if !ok {
				was = hb.Init
			}
			if e.From != was {
				t.Errorf("%v %s: %v, but before it was %s", s.Since(), node, e, was)
			}
			s.status[key] = e.To
		case hb.Stalled:
			t.Errorf("%v %s: %v, though it was called in time", s.Since(), node, e)
		case hb.Report:
			if e.Level == hb.Error {
				t.Errorf("%v %s: %v", s.Since(), node, e)
			}
		}
		if s.events != nil {
			s.events(node, e)
		}
	}
	return s
}

// boot starts a node and forgets what it knew before.
func (s *sim) boot(name string) {
	s.t.Helper()
	delete(s.joined, name)
	for _, other := range s.names {
		delete(s.status, [2]string{name, other})
	}
	if err := s.Start(name); err != nil {
		s.t.Fatal(err)
	}
}

// deadlines: what each core remembers of when something is due is what it is.
func (s *sim) deadlines() {
	for _, name := range s.names {
		if c := s.Core(name); c != nil {
			if at, want := c.Deadline(), c.FreshDeadline(); !at.Equal(want) {
				s.t.Fatalf("%v %s: deadline %v, found anew %v", s.Since(), name, at, want)
			}
		}
	}
}

// agreed: every running node is active and sees every running one so, and no
// other one alive.
func (s *sim) agreed() bool {
	for _, a := range s.names {
		if s.Core(a) == nil {
			continue
		}
		v := s.Core(a).Snapshot(s.Now())
		if v.Status != hb.Active {
			return false
		}
		for _, p := range v.Peers {
			if running := s.Core(p.Name) != nil; running != (p.Status == hb.Active) || !running && p.Status != hb.Dead {
				return false
			}
		}
	}
	return true
}

// TestEveryMessageArrives: on a network that loses 30 %, doubles and reorders,
// every control message is delivered exactly once to each live node it is
// for, or reported as lost there; asking for it is bounded; and when the network is
// good again there is silence but for beats and acknowledgements.
func TestEveryMessageArrives(t *testing.T) {
	eachSeed(t, func(t *testing.T, seed uint64) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		media := [][]string{{"eth0"}, {"eth0", "eth1"}}[rnd.IntN(2)]
		s := newSim(t, seed, 2+rnd.IntN(3), hb.Config{
			Keepalive: 200 * time.Millisecond, Deadtime: 8 * time.Second, Media: media, Format: wire.Format(rnd.IntN(3)),
		})
		bad := hbtest.Faults{
			Loss: 0.3, Duplicate: 0.3 * rnd.Float64(), Reorder: rnd.Float64(),
			MinDelay: 100 * time.Microsecond, MaxDelay: time.Duration(1+rnd.IntN(10)) * time.Millisecond,
		}
		s.Faults = bad

		type message struct {
			src string
			seq uint64
		}
		type receipt struct {
			message
			at string
		}
		delivered := map[receipt]int{}
		audience := map[message]string{} // "" for all
		lost := map[receipt]bool{}
		s.events = func(node string, e hb.Event) {
			switch e := e.(type) {
			case hb.Delivered:
				seq, _ := e.Message.GetUint("seq", 16)
				delivered[receipt{message{e.Node, seq}, node}]++
				if src, _ := e.Message.Get("src"); src != e.Node || e.FromSelf != (e.Node == node) {
					t.Errorf("%v %s: %v: %v", s.Since(), node, e, e.Message)
				}
			case hb.Lost:
				for n := e.First; n <= e.Last; n++ {
					lost[receipt{message{e.Node, n}, node}] = true
				}
			case hb.NodeChanged:
				if e.To == hb.Dead {
					t.Errorf("%v %s: %v", s.Since(), node, e)
				}
			}
		}
		for _, name := range s.names {
			s.boot(name)
		}
		if !s.RunUntil(30*time.Second, s.agreed) {
			t.Fatal("the nodes do not find together")
		}
		requestsBefore, lostBefore := s.requests(), s.Network.Lost
		for range 300 {
			s.RunUntil(time.Duration(rnd.IntN(100))*time.Millisecond, func() bool { s.deadlines(); return false })
			src := s.names[rnd.IntN(len(s.names))]
			m := wire.New("test", "info", strconv.Itoa(rnd.IntN(1000)))
			dest := ""
			if rnd.IntN(4) == 0 {
				dest = s.names[rnd.IntN(len(s.names))]
				m.Set("dest", dest)
			}
			if err := s.Submit(src, m); err != nil {
				t.Fatalf("%v %s: %v", s.Since(), src, err)
			}
			audience[message{src, s.Core(src).Snapshot(s.Now()).Seq}] = dest
		}
		// Each request beyond the first means that one packet was lost or
		// just sent for another node: no storm.
		requests, drops := s.requests()-requestsBefore, s.Network.Lost-lostBefore
		if requests > 2*drops+50 {
			t.Errorf("%d requests for %d lost packets", requests, drops)
		}
		s.Run(time.Second)
		s.Faults = hbtest.Faults{MinDelay: time.Millisecond, MaxDelay: time.Millisecond}
		s.Run(3 * time.Second)

		for m, dest := range audience {
			for _, node := range s.names {
				r := receipt{m, node}
				want := 0
				if dest == "" || dest == node {
					want = 1
				}
				if got := delivered[r]; got != want && !(got == 0 && lost[r]) || got > 0 && lost[r] {
					t.Errorf("message %d of %s for %q: delivered %d times to %s, lost %v", m.seq, m.src, dest, got, node, lost[r])
				}
				delete(delivered, r)
			}
		}
		if len(delivered) > 0 {
			t.Errorf("delivered what nobody sent: %v", delivered)
		}

		// At rest.
		const rest = 20 * time.Second
		types := map[string]int{}
		s.OnPacket = func(from string, p hb.Packet, _ []hbtest.Fate) {
			m, _, _ := wire.Decode(p.Data, hbtest.Keys())
			types[m.Type()]++
		}
		s.Run(rest)
		n := len(s.names)
		beats := n * int(rest/(200*time.Millisecond))
		calm := n * (n - 1) * (beats/n/10 + 1) // each node asks each other every ten beats at most
		if types["status"] < beats-n || types["status"] > beats+n || types["NS_ackmsg"] > (n-1)*(beats/10+n) ||
			types["NS_probe"] > calm || types["NS_alive"] > calm*len(media) || len(types) != 4 {
			t.Errorf("at rest for %v: %v, want %d beats, a tenth of it acknowledged by %d nodes, %d probes, and nothing else", rest, types, beats, n-1, calm)
		}
		for _, name := range s.names {
			for _, p := range s.Core(name).Snapshot(s.Now()).Peers {
				if p.Missing != 0 {
					t.Errorf("%s: %d of %s still missing", name, p.Missing, p.Name)
				}
			}
		}
	})
}

func (s *sim) requests() (n uint64) {
	for _, name := range s.names {
		n += s.Core(name).Snapshot(s.Now()).Counters.Requests
	}
	return n
}

// TestChaos: nodes crash and restart, cables are cut one way or both, packets
// are lost. Whatever happens, nothing is delivered twice, nobody is declared
// dead before its dead time, and a while after the network is whole again all
// who run agree.
func TestChaos(t *testing.T) {
	eachSeed(t, func(t *testing.T, seed uint64) {
		const keepalive, deadtime = 100 * time.Millisecond, time.Second
		s := newSim(t, seed, 2+int(seed%3), hb.Config{
			Keepalive: keepalive, Deadtime: deadtime, Initdead: 3 * time.Second, StartGrace: -1,
			Media: []string{"eth0", "eth1"}, Format: wire.Netstring,
		})
		s.Faults = hbtest.Faults{Loss: 0.1, Duplicate: 0.1, Reorder: 0.2, MinDelay: time.Millisecond, MaxDelay: 5 * time.Millisecond}
		lives := map[string]int{}
		once := map[string]bool{}
		s.events = func(node string, e hb.Event) {
			switch e := e.(type) {
			case hb.Delivered:
				seq, _ := e.Message.Get("seq")
				hg, _ := e.Message.Get("hg")
				key := fmt.Sprintf("%s %d: %s %s %s", node, lives[node], e.Node, hg, seq)
				if once[key] {
					t.Errorf("%v: delivered twice: %s", s.Since(), key)
				}
				once[key] = true
			case hb.NodeChanged:
				if e.To == hb.Dead && e.Silence < deadtime {
					t.Errorf("%v %s: %v, after a silence of %v", s.Since(), node, e, e.Silence)
				}
				if e.Returned && (e.Restarted || e.From != hb.Dead) {
					t.Errorf("%v %s: %+v", s.Since(), node, e)
				}
			}
		}
		boot := func(name string) {
			lives[name]++
			s.boot(name)
		}
		pick := func() string { return s.names[s.rnd.IntN(len(s.names))] }
		for _, name := range s.names {
			boot(name)
		}
		for range 100 {
			s.Run(time.Duration(s.rnd.IntN(600)) * time.Millisecond)
			a, b := pick(), pick()
			switch s.rnd.IntN(10) {
			case 0:
				s.Crash(a)
			case 1:
				s.Crash(a)
				boot(a)
			case 2, 3:
				if s.Core(a) == nil {
					boot(a)
				}
			case 4:
				s.Cut(a, b, []string{"eth0", "eth1", ""}[s.rnd.IntN(3)])
			case 5:
				s.Partition(a)
			case 6, 7:
				s.HealAll()
			default:
				if s.Core(a) != nil {
					if err := s.Submit(a, wire.New("test")); err != nil {
						t.Errorf("%v %s: %v", s.Since(), a, err)
					}
				}
			}
		}
		s.HealAll()
		s.Faults = hbtest.Faults{MinDelay: time.Millisecond, MaxDelay: time.Millisecond}
		if !s.RunUntil(10*time.Second, s.agreed) {
			for _, name := range s.names {
				if c := s.Core(name); c != nil {
					t.Logf("%+v", c.Snapshot(s.Now()))
				}
			}
			t.Fatal("no agreement within 10 s after the network was whole again")
		}
		// And it stays so.
		s.events = func(node string, e hb.Event) {
			if _, ok := e.(hb.NodeChanged); ok {
				t.Errorf("%v %s: %v, though nothing happens", s.Since(), node, e)
			}
		}
		s.Run(time.Minute)
	})
}

// TestDetectionTime: whoever crashes, everybody knows exactly one dead time
// after the last beat that arrived.
func TestDetectionTime(t *testing.T) {
	eachSeed(t, func(t *testing.T, seed uint64) {
		const keepalive, deadtime = 100 * time.Millisecond, 300 * time.Millisecond
		s := newSim(t, seed, 3, hb.Config{
			Keepalive: keepalive, Deadtime: deadtime, StartGrace: -1, Media: []string{"eth0"}, Format: wire.Netstring,
		})
		s.MinDelay, s.MaxDelay = 100*time.Microsecond, 3*time.Millisecond
		for _, name := range s.names {
			s.boot(name)
		}
		s.Run(time.Duration(s.rnd.IntN(2000)) * time.Millisecond)
		if !s.RunUntil(time.Second, s.agreed) {
			t.Fatal("the nodes do not find together")
		}
		s.Crash("b")
		crashed, found := s.Now(), 0
		s.events = func(node string, e hb.Event) {
			if n, ok := e.(hb.NodeChanged); ok {
				took := s.Now().Sub(crashed)
				if n.Node != "b" || n.To != hb.Dead || n.Silence != deadtime {
					t.Errorf("%s: %+v", node, n)
				}
				if took < deadtime-keepalive || took > deadtime+s.MaxDelay {
					t.Errorf("%s: found out after %v", node, took)
				}
				found++
			}
		}
		s.Run(deadtime + s.MaxDelay)
		if found != 2 {
			t.Errorf("%d nodes found out", found)
		}
	})
}

// TestDeterministic: a seed says everything (promise 1 of packages hb and
// hbtest).
func TestDeterministic(t *testing.T) {
	trace := func(seed uint64) uint64 {
		h := fnv.New64()
		s := newSim(t, seed, 3, hb.Config{Keepalive: 100 * time.Millisecond, Deadtime: time.Second, Media: []string{"eth0", "eth1"}})
		s.Faults = hbtest.Faults{Loss: 0.3, Duplicate: 0.2, Reorder: 0.3, MinDelay: 1, MaxDelay: 5 * time.Millisecond}
		s.events = func(node string, e hb.Event) { fmt.Fprintln(h, s.Since(), node, e) }
		s.OnPacket = func(from string, p hb.Packet, fates []hbtest.Fate) {
			fmt.Fprintln(h, s.Since(), from, fates)
			h.Write(p.Data)
		}
		for _, name := range s.names {
			s.boot(name)
		}
		s.Run(10 * time.Second)
		s.Crash("b")
		s.Run(5 * time.Second)
		return h.Sum64()
	}
	if a, b := trace(1), trace(1); a != b {
		t.Error("the same seed gave two different runs")
	}
	if a, b := trace(1), trace(2); a == b {
		t.Error("different seeds gave the same run")
	}
}
