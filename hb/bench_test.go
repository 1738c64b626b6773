package hb

import (
	"fmt"
	"testing"
	"time"

	"systole/hb/wire"
)

// TestSteadyStateAllocatesNothing: neither a beat nor a packet received feeds
// the garbage collector: statuses, acknowledgements, and packets that come a
// second time, in every form, with the weakest and the strongest method.
func TestSteadyStateAllocatesNothing(t *testing.T) {
	for _, key := range []wire.Key{{Index: 1, Method: wire.CRC}, {Index: 1, Method: wire.SHA256, Secret: []byte("secret")}} {
		for f := wire.Classic; f <= wire.Both; f++ {
			t.Run(fmt.Sprintf("%v %s", f, key.Method), func(t *testing.T) {
				cfg := testConfig()
				cfg.Keys, cfg.Nonce, cfg.Format = wire.Keys{Send: 1, Keys: []wire.Key{key}}, [8]byte{1}, f
				cfg.Media, cfg.Ordered = []string{"eth0", "eth1"}, true
				a := newCore(t, cfg)
				cfg.Node, cfg.UUID, cfg.Nonce = "b", [16]byte{0xb}, [8]byte{2}
				b := newCore(t, cfg)
				exchange(at(0), a, b)
				acks := 0
				round := func() {
					now := a.nextBeat
					if now.Before(b.nextBeat) {
						now = b.nextBeat
					}
					for _, c := range [][2]*Core{{a, b}, {b, a}, {a, b}, {b, a}} {
						c[0].Tick(now)
						for _, p := range c[0].Drain().Packets {
							if !p.Beat {
								acks++
							}
							c[1].Receive(now, "eth0", p.Data)
							c[1].Receive(now, "eth1", p.Data)
						}
					}
				}
				for range 2*historySize + 2 { // until every slot of the history has its memory
					round()
				}
				acks = 0
				if n := testing.AllocsPerRun(200, round); n != 0 {
					t.Errorf("%v allocations for a beat of either, want 0", n)
				}
				if !a.peers[0].live() || a.status != Active || acks < 30 {
					t.Errorf("that was not what it should be: %d acknowledgements, %+v", acks, a.Snapshot(a.lastCall))
				}
			})
		}
	}
}

// TestSystoleBeatAllocates: nor do the calm probes of Systole nodes, with their
// answers.
func TestSystoleBeatAllocates(t *testing.T) {
	c := joined(t, testConfig())
	c.Receive(testTime, "eth0", nodeB(t).systole(5))
	c.flow = false
	p := c.peers[0]
	probes := 0
	beat := func() {
		p.since, p.links[0].since = c.nextBeat, c.nextBeat
		c.Tick(c.nextBeat)
		for _, p := range c.Drain().Packets {
			if !p.Beat {
				probes++
			}
		}
	}
	for range 2*historySize + 2 {
		beat()
	}
	probes = 0
	if n := testing.AllocsPerRun(1000, beat); n != 0 {
		t.Errorf("%v allocations for a beat, want 0", n)
	}
	if probes < 100 {
		t.Errorf("%d probes in 1001 beats", probes)
	}
}

// BenchmarkBeat is one keepalive: Tick with a beat, Drain.
func BenchmarkBeat(b *testing.B) {
	c := joined(b, testConfig())
	c.flow = false
	b.ReportAllocs()
	for b.Loop() {
		now := c.nextBeat
		c.peers[0].since = now
		c.Tick(now)
		c.Drain()
	}
}

// BenchmarkReceiveStatus is one status of a peer, with every tenth one
// acknowledged.
func BenchmarkReceiveStatus(b *testing.B) {
	c := joined(b, testConfig())
	r := nodeB(b)
	const n = 4096
	packets := make([][]byte, n)
	for i := range packets {
		packets[i] = r.systole(uint64(5 + i))
	}
	now := testTime
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		if i%n == 0 {
			c.peers[0].win.last, c.peers[0].ackSent, c.peers[0].statusSeq = 4, 4, 4
			c.peers[0].newest = 4
		}
		now = now.Add(time.Microsecond)
		c.nextBeat = now.Add(time.Second)
		c.Receive(now, "eth0", packets[i%n])
		c.Drain()
		i++
	}
}

// BenchmarkDecode is the part of BenchmarkReceiveStatus that is package
// wire's.
func BenchmarkDecode(b *testing.B) {
	p := nodeB(b).status(5, "active")
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := wire.Decode(p, testKeys); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSubmit is one control message with its loop-back.
func BenchmarkSubmit(b *testing.B) {
	c := joined(b, testConfig())
	c.flow = false
	m := wire.New("resource", "rsc_hold", "all", "rtype", "full", "isstable", "1")
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Submit(testTime, m); err != nil {
			b.Fatal(err)
		}
		c.Drain()
	}
}
