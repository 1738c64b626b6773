package hb_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"systole/hb"
	"systole/hb/hbtest"
	"systole/hb/wire"
)

// TestOrdered: whatever the network does, and whoever crashes, each life of a
// node sees the messages of each life of another in the order of their numbers,
// each once; what is missing in between is told by a Gap in its place; and
// nothing that was delivered is left out but what a Gap covers. On a network
// that only loses, doubles and reorders there is no Gap, and at the end nothing
// is left.
func TestOrdered(t *testing.T) {
	eachSeed(t, func(t *testing.T, seed uint64) {
		rnd := rand.New(rand.NewPCG(seed, 11))
		calm := seed%3 == 0 // no crashes, no cuts
		cfg := hb.Config{
			Keepalive: 100 * time.Millisecond, Deadtime: time.Second, Initdead: 2 * time.Second, StartGrace: -1,
			Media: []string{"eth0", "eth1"}, Format: wire.Netstring, Ordered: true,
		}
		if calm {
			cfg.Deadtime, cfg.Initdead = 10*time.Second, 10*time.Second
		}
		if seed%2 == 0 {
			cfg.Keys = sha256Keys(1)
		}
		s := newSim(t, seed, 2+rnd.IntN(3), cfg)
		s.Faults = hbtest.Faults{
			Loss: 0.3, Duplicate: 0.3 * rnd.Float64(), Reorder: rnd.Float64(),
			MinDelay: 100 * time.Microsecond, MaxDelay: time.Duration(1+rnd.IntN(10)) * time.Millisecond,
		}

		type stream struct{ at, from string } // of one life each, "from" only as far as "at" knows
		type number struct {
			stream
			seq uint64
		}
		lives := map[string]int{}
		at := func(node string) string { return fmt.Sprint(node, " ", lives[node]) }
		newest := map[stream]uint64{}
		delivered := map[number]bool{}
		covered := map[number]bool{} // by a Gap
		ordered := map[number]bool{}
		life := map[stream]string{} // at, name -> generation seen in order
		key := func(node, from string, m wire.Message) number {
			hg, _ := m.Get("hg")
			seq, _ := m.GetUint("seq", 16)
			return number{stream{at(node), from + " " + hg}, seq}
		}
		gaps := 0
		s.events = func(node string, e hb.Event) {
			who := stream{at: at(node)}
			switch e := e.(type) {
			case hb.Delivered:
				delivered[key(node, e.Node, e.Message)] = true
			case hb.Ordered:
				k := key(node, e.Node, e.Message)
				if k.seq <= newest[k.stream] {
					t.Errorf("%v %s: %v, number %d after %d", s.Since(), node, e, k.seq, newest[k.stream])
				}
				if !delivered[k] || ordered[k] || covered[k] {
					t.Errorf("%v %s: %v, number %d: delivered %v, there before %v, said to be missing %v",
						s.Since(), node, e, k.seq, delivered[k], ordered[k], covered[k])
				}
				newest[k.stream], ordered[k] = k.seq, true
				who.from = e.Node
				life[who] = k.from
			case hb.Gap:
				gaps++
				who.from = e.Node
				if e.Last < e.First {
					t.Errorf("%v %s: %+v", s.Since(), node, e)
				}
				if life[who] == "" {
					return // nothing of it was there yet
				}
				st := stream{at(node), life[who]}
				if e.First <= newest[st] {
					// Of its next life, of which nothing was there yet.
					delete(life, who)
					return
				}
				for n := e.First; n <= e.Last && n < e.First+600; n++ {
					covered[number{st, n}] = true
				}
				newest[st] = e.Last
			case hb.NodeChanged:
				if e.To == hb.Dead && calm {
					t.Errorf("%v %s: %v", s.Since(), node, e)
				}
			}
		}
		boot := func(name string) {
			lives[name]++
			s.boot(name)
		}
		for _, name := range s.names {
			boot(name)
		}
		s.RunUntil(20*time.Second, s.agreed)
		for range 300 {
			s.Run(time.Duration(rnd.IntN(60)) * time.Millisecond)
			a, b := s.names[rnd.IntN(len(s.names))], s.names[rnd.IntN(len(s.names))]
			action := rnd.IntN(40)
			switch {
			case action > 4 || calm:
				if s.Core(a) == nil {
					continue
				}
				m := wire.New("test")
				if rnd.IntN(3) == 0 {
					m.Set("dest", b)
				}
				if err := s.Submit(a, m); err != nil {
					t.Fatal(err)
				}
			case action == 0:
				s.Crash(a)
			case action == 1:
				s.Crash(a)
				boot(a)
			case action == 2 && s.Core(a) == nil:
				boot(a)
			case action == 3:
				s.Partition(a)
			case action == 4:
				s.HealAll()
			}
		}
		s.HealAll()
		s.Faults = hbtest.Faults{MinDelay: time.Millisecond, MaxDelay: time.Millisecond}
		s.Run(10 * time.Second)
		if len(ordered) < 20 {
			t.Errorf("only %d messages in order", len(ordered))
		}
		ended := func(at string) bool { // what it held went with it
			for _, name := range s.names {
				if s.Core(name) != nil && at == fmt.Sprint(name, " ", lives[name]) {
					return false
				}
			}
			return true
		}
		left := 0
		for k := range delivered {
			if !ordered[k] && !covered[k] && !ended(k.at) {
				left++
				// Its number is below the first that was heard of its node, or
				// it fell into a Gap of which no message was there to tell the
				// life: both only around a start.
				if calm || k.seq > newest[k.stream] {
					t.Errorf("%s: number %d of %s was delivered, but neither in order nor in a gap", k.at, k.seq, k.from)
				}
			}
		}
		if calm && gaps > 0 || left > len(ordered)/20 {
			t.Errorf("%d gaps, %d left out", gaps, left)
		}
	})
}
