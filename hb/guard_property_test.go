package hb_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"systole/hb"
	"systole/hb/hbtest"
	"systole/hb/wire"
)

func sha256Keys(index int) wire.Keys {
	return wire.Keys{Send: index, Keys: []wire.Key{{Index: index, Method: wire.SHA256, Secret: fmt.Appendf(nil, "secret %d", index)}}}
}

// TestReplayingAdversary: somebody records every packet and sends any of them
// to anybody again, at any time, most of them while nodes start. With sha256 no
// message is accepted twice, not even by two lives of a node; none reaches a
// life that began after it was sent; a dead node is not kept alive; and nobody
// is kept from joining within milliseconds, or made to look dead.
func TestReplayingAdversary(t *testing.T) {
	eachSeed(t, func(t *testing.T, seed uint64) {
		const keepalive, deadtime, initdead = time.Second, 3 * time.Second, 5 * time.Second
		s := newSim(t, seed, 2+int(seed%3), hb.Config{
			Keepalive: keepalive, Deadtime: deadtime, Initdead: initdead, StartGrace: -1,
			Media: []string{"eth0", "eth1"}, Format: wire.Format(seed % 3), Keys: sha256Keys(3),
		})
		s.MinDelay, s.MaxDelay = 50*time.Microsecond, time.Millisecond

		var tape [][]byte
		s.OnPacket = func(_ string, p hb.Packet, _ []hbtest.Fate) { tape = append(tape, bytes.Clone(p.Data)) }
		pick := func() string { return s.names[s.rnd.IntN(len(s.names))] }
		replayed := 0
		// Half of what is replayed is recent: that is where harm is likely.
		replay := func() {
			i := s.rnd.IntN(len(tape))
			if recent := min(len(tape), 60); s.rnd.IntN(2) == 0 {
				i = len(tape) - 1 - s.rnd.IntN(recent)
			}
			s.Inject(pick(), []string{"eth0", "eth1"}[s.rnd.IntN(2)], tape[i])
			replayed++
		}
		attackUntil := func(limit time.Duration, done func() bool) bool {
			for end, began := s.Now().Add(limit), s.Now(); s.Now().Before(end); {
				step := time.Duration(s.rnd.IntN(300)) * time.Microsecond
				if s.Now().Sub(began) > 20*time.Millisecond {
					step *= 300
				}
				if s.RunUntil(min(step, end.Sub(s.Now())), done) {
					return true
				}
				replay()
			}
			return done()
		}

		began := map[string]time.Time{}
		crashed := map[string]time.Time{}
		submitted := map[string]time.Time{}
		delivered := map[string]bool{}
		s.events = func(node string, e hb.Event) {
			switch e := e.(type) {
			case hb.Delivered:
				n, _ := e.Message.Get("info")
				if e.FromSelf {
					return
				}
				if key := node + " " + n; delivered[key] {
					t.Errorf("%v %s: delivered twice: %v", s.Since(), node, e.Message)
				} else {
					delivered[key] = true
				}
				if submitted[n].Before(began[node]) {
					t.Errorf("%v %s: delivered to a life that began %v after it was sent: %v", s.Since(), node, began[node].Sub(submitted[n]), e.Message)
				}
			case hb.NodeChanged:
				if died, ok := crashed[e.Node]; e.To == hb.Dead && !ok {
					t.Errorf("%v %s: %v, but it lives", s.Since(), node, e)
				} else if e.From == hb.Dead && ok {
					t.Errorf("%v %s: %v, but it is dead since %v", s.Since(), node, e, s.Now().Sub(died))
				}
			}
		}
		boot := func(name string) {
			began[name] = s.Now()
			delete(crashed, name)
			s.boot(name)
		}
		for _, name := range s.names {
			boot(name)
		}
		const soon = 100 * time.Millisecond // a tenth of a keepalive
		if !attackUntil(soon, s.agreed) {
			t.Fatal("the nodes do not find together")
		}
		for i := range 15 {
			a := pick()
			switch s.rnd.IntN(4) {
			case 0: // dies, and stays so
				s.Crash(a)
				crashed[a] = s.Now()
				if !attackUntil(deadtime+soon, s.agreed) {
					t.Fatalf("%v: %s crashed, and not everybody saw it within the dead time", s.Since(), a)
				}
				attackUntil(4*deadtime, func() bool { return !s.agreed() })
				boot(a)
			case 1: // is back at once
				s.Crash(a)
				boot(a)
			case 2: // all start anew
				for _, name := range s.names {
					s.Crash(name)
				}
				for _, name := range s.names {
					boot(name)
				}
			default:
				n := fmt.Sprint("message ", i)
				submitted[n] = s.Now()
				if err := s.Submit(a, wire.New("test", "info", n)); err != nil {
					t.Fatal(err)
				}
				attackUntil(soon, func() bool { return false })
				for _, name := range s.names {
					if name != a && !delivered[name+" "+n] {
						t.Errorf("%v %s: %s of %s has not arrived", s.Since(), name, n, a)
					}
				}
				continue
			}
			if !attackUntil(soon, s.agreed) {
				for _, name := range s.names {
					t.Logf("%+v", s.Core(name).Snapshot(s.Now()))
				}
				t.Fatalf("%v: %s is not back after %v", s.Since(), a, soon)
			}
		}
		if replayed < 1000 {
			t.Errorf("only %d packets replayed", replayed)
		}
	})
}

// TestKeyRollOver changes the key of a cluster that runs, node by node, between
// any two methods, while packets are lost: list the new one, sign with it,
// remove the old one. No beat of any node is refused by another, and every
// message arrives.
func TestKeyRollOver(t *testing.T) {
	eachSeed(t, func(t *testing.T, seed uint64) {
		methods := []wire.Method{wire.CRC, wire.MD5, wire.SHA1, wire.SHA256}
		key := func(index int, m wire.Method) wire.Key {
			k := wire.Key{Index: index, Method: m}
			if m != wire.CRC {
				k.Secret = fmt.Appendf(nil, "secret %d", index)
			}
			return k
		}
		was, becomes := key(1, methods[seed%4]), key(2, methods[seed/4%4])
		// Between sha256 and less a packet that the change has overtaken is
		// refused, and asked for again.
		weaker := was.Method == wire.SHA256 && becomes.Method != wire.SHA256
		stronger := was.Method != wire.SHA256 && becomes.Method == wire.SHA256
		s := newSim(t, seed, 2+int(seed%2), hb.Config{
			Keepalive: 100 * time.Millisecond, Deadtime: 2 * time.Second, StartGrace: -1,
			Media: []string{"eth0"}, Format: wire.Format(seed % 3), Keys: wire.Keys{Send: 1, Keys: []wire.Key{was}},
		})
		s.Faults = hbtest.Faults{Loss: 0.2, MinDelay: 100 * time.Microsecond, MaxDelay: 3 * time.Millisecond}
		got := map[string]int{}
		s.events = func(node string, e hb.Event) {
			switch e := e.(type) {
			case hb.NodeChanged:
				if e.To == hb.Dead {
					t.Errorf("%v %s: %v", s.Since(), node, e)
				}
			case hb.Lost:
				t.Errorf("%v %s: %v", s.Since(), node, e)
			case hb.Delivered:
				info, _ := e.Message.Get("info")
				got[node+" "+info]++
			case hb.Report:
				if e.Level != hb.Info && !weaker {
					t.Errorf("%v %s: %v", s.Since(), node, e)
				}
			}
		}
		for _, name := range s.names {
			s.boot(name)
		}
		if !s.RunUntil(10*time.Second, s.agreed) {
			t.Fatal("the nodes do not find together")
		}
		refused := func() (n uint64) {
			for _, name := range s.names {
				c := s.Core(name).Snapshot(s.Now()).Counters
				n += c.Bad
				if !weaker && !stronger {
					n += c.Stale
				}
			}
			return n
		}
		before, messages := refused(), 0
		step := func(send int, keys ...wire.Key) {
			for _, name := range s.names {
				if err := s.SetKeys(name, wire.Keys{Send: send, Keys: keys}); err != nil {
					t.Fatal(err)
				}
				for _, from := range s.names {
					s.Run(time.Duration(s.rnd.IntN(150)) * time.Millisecond)
					if err := s.Submit(from, wire.New("test", "info", fmt.Sprint(messages))); err != nil {
						t.Fatal(err)
					}
					messages++
				}
			}
			s.Run(500 * time.Millisecond) // the operator walks on
		}
		step(1, was, becomes)
		step(2, was, becomes)
		step(2, becomes)
		s.Run(3 * time.Second)
		if n := refused() - before; n != 0 {
			t.Errorf("%s -> %s: %d packets were refused", was, becomes, n)
		}
		for i := range messages {
			for _, name := range s.names {
				if n := got[fmt.Sprint(name, " ", i)]; n != 1 {
					t.Errorf("%s -> %s: message %d was delivered %d times to %s", was, becomes, i, n, name)
				}
			}
		}
		for _, name := range s.names {
			for _, p := range s.Core(name).Snapshot(s.Now()).Peers {
				if p.Key != becomes.String() {
					t.Errorf("%s: %s signs with %q, want %q", name, p.Name, p.Key, becomes)
				}
			}
		}
	})
}
