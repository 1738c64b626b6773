package hb

import (
	"testing"
	"time"

	"systole/hb/wire"
)

// TestBeatAllocates keeps the figure of BenchmarkBeat: a beat must not feed the
// garbage collector.
func TestBeatAllocates(t *testing.T) {
	c := joined(t, testConfig())
	c.flow = false // a fresh backlog report would allocate
	now := testTime
	beat := func() {
		now = c.nextBeat
		c.peers[0].since = now
		c.Tick(now)
		c.Drain()
	}
	for range 2*historySize + 2 { // until every slot of the history has its memory
		beat()
	}
	if n := testing.AllocsPerRun(1000, beat); n != 0 {
		t.Errorf("%v allocations for a beat, want 0", n)
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
// acknowledged. The decoder takes 2 allocations for it.
func BenchmarkReceiveStatus(b *testing.B) {
	c := joined(b, testConfig())
	r := nodeB(b)
	const n = 4096
	packets := make([][]byte, n)
	for i := range packets {
		packets[i] = r.status(uint64(5+i), "active")
	}
	now := testTime
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		if i%n == 0 {
			c.peers[0].win.last, c.peers[0].ackSent, c.peers[0].statusSeq = 4, 4, 4
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
