package hb

import (
	"strings"
	"testing"
	"time"

	"systole/hb/wire"
)

// TestBeatsAreAbsolute: late ticks do not shift the schedule.
func TestBeatsAreAbsolute(t *testing.T) {
	c := joined(t, testConfig())
	for _, ms := range []int{1000, 2300, 3000, 3900, 4700, 5001, 6000} {
		c.Tick(at(time.Duration(ms) * time.Millisecond))
		if want := at(time.Duration(ms) * time.Millisecond).Truncate(time.Second).Add(time.Second); !c.nextBeat.Equal(want) {
			t.Errorf("after a tick at %d ms the next beat is at %v", ms, c.nextBeat.Sub(testTime))
		}
	}
	// 1.0, 2.3, 3.0, 4.7 (late for 4), 5.001, 6.0.
	n := 0
	for _, p := range c.Drain().Packets {
		if p.Beat {
			n++
		}
	}
	if n != 6 {
		t.Errorf("%d beats", n)
	}
}

// TestDeathIsExact: not a nanosecond early, at the deadline, once.
func TestDeathIsExact(t *testing.T) {
	c := joined(t, testConfig())
	b := nodeB(t)
	for s := 1; s <= 3; s++ {
		c.Tick(at(time.Duration(s) * time.Second))
	}
	heard := at(3*time.Second + 123*time.Microsecond)
	c.Receive(heard, "eth0", b.status(5, "active"))
	for s := 4; s <= 8; s++ {
		c.Tick(at(time.Duration(s) * time.Second))
	}
	dead := heard.Add(5 * time.Second)
	c.Drain()
	if !c.Deadline().Equal(dead) {
		t.Fatalf("deadline %v", c.Deadline().Sub(testTime))
	}
	c.Tick(dead.Add(-1))
	expect(t, c)
	if c.PeersAlive() != 1 {
		t.Error("not alive before its dead time")
	}
	c.Tick(dead)
	expect(t, c, "node b active -> dead: silent for 5s, its dead time is 5s", "link b:eth0 dead, silent for 5s")
	c.Tick(dead)
	expect(t, c)
	if c.PeersAlive() != 0 {
		t.Error("alive")
	}
}

// TestStatusInTime: at the last moment it counts, one later the node was dead
// though nobody had noticed.
func TestStatusInTime(t *testing.T) {
	for late, want := range map[time.Duration]bool{0: false, 1: true} {
		c := joined(t, testConfig())
		for s := 1; s <= 4; s++ {
			c.Tick(at(time.Duration(s) * time.Second))
		}
		c.Drain()
		c.Receive(at(5*time.Second+late), "eth0", nodeB(t).status(5, "active"))
		got := strings.Join(drained(t, c), "\n")
		if died := strings.Contains(got, "active -> dead"); died != want || died != strings.Contains(got, "dead -> active, returned") {
			t.Errorf("%v late:\n%s", late, got)
		}
	}
}

// TestOnlyStatusProvesLife: other messages keep the link up, not the node.
func TestOnlyStatusProvesLife(t *testing.T) {
	c := joined(t, testConfig())
	b := nodeB(t)
	for s := 1; s <= 5; s++ {
		now := at(time.Duration(s) * time.Second)
		c.Receive(now, "eth0", b.packet(uint64(4+s), "resource"))
		c.Tick(now)
	}
	got := strings.Join(drained(t, c), "\n")
	if !strings.Contains(got, "node b active -> dead") || strings.Contains(got, "link") {
		t.Error(got)
	}
}

// TestOldStatus: a retransmitted status proves life, but does not bring its old
// word and dead time back.
func TestOldStatus(t *testing.T) {
	c := joined(t, testConfig())
	b := nodeB(t)
	c.Receive(testTime, "eth0", b.status(6, "active"))
	for s := 1; s <= 4; s++ {
		c.Tick(at(time.Duration(s) * time.Second))
	}
	c.Drain()
	c.Receive(at(4*time.Second), "eth0", b.packet(5, "status", "st", "up", "dt", "1", "protocol", "1"))
	for _, line := range drained(t, c) {
		if strings.HasPrefix(line, "node") {
			t.Error(line)
		}
	}
	if v, _ := c.Snapshot(at(4 * time.Second)).Peer("b"); v.Status != Active || v.Age != 0 || v.Deadtime != 5*time.Second {
		t.Errorf("%+v", v)
	}
}

// TestStatusFromBeforeDeath: a packet that was under way does not wake the
// dead (section 6.2).
func TestStatusFromBeforeDeath(t *testing.T) {
	c := joined(t, testConfig())
	b := nodeB(t)
	c.Receive(testTime, "eth0", b.status(6, "active"))
	for s := 1; s <= 5; s++ {
		c.Tick(at(time.Duration(s) * time.Second))
	}
	c.Drain()
	for _, seq := range []uint64{5, 6} {
		c.Receive(at(5*time.Second), "eth0", b.status(seq, "active"))
	}
	expect(t, c, "link b:eth0 up")
	c.Receive(at(5*time.Second), "eth0", b.status(7, "active"))
	expect(t, c, "node b dead -> active, returned: heard again with the same generation")
}

// TestAnnouncedDeadtime: each node is judged by what it announces, and ours is
// longer in the first 5 s unless the configuration says no.
func TestAnnouncedDeadtime(t *testing.T) {
	cfg := testConfig()
	cfg.StartGrace = 0 // the default
	c := newCore(t, cfg)
	c.Receive(testTime, "eth0", nodeB(t).packet(1, "status", "st", "up", "dt", "80e8", "protocol", "1"))
	if v, _ := c.Snapshot(testTime).Peer("b"); v.Deadtime != 33*time.Second {
		t.Errorf("b announced 33 s, we take %v", v.Deadtime)
	}
	c.Drain()
	for ms := 1000; ms < 5000; ms += 1000 {
		c.Tick(at(time.Duration(ms) * time.Millisecond))
		got := strings.Join(drained(t, c), "\n")
		if !strings.Contains(got, "dt=1b58") { // 7000
			t.Errorf("at %d ms: %s", ms, got)
		}
	}
	// At 5 s, where a beat is due anyway: one status is enough.
	c.Tick(at(5 * time.Second))
	n := 0
	for _, line := range drained(t, c) {
		if strings.HasPrefix(line, "> status") {
			if n++; !strings.Contains(line, "dt=1388") {
				t.Error(line)
			}
		}
	}
	if n != 1 {
		t.Errorf("%d status messages at the end of the grace", n)
	}

	cfg.Keepalive = 1900 * time.Millisecond
	c = newCore(t, cfg)
	c.Tick(at(1900 * time.Millisecond))
	c.Tick(at(3800 * time.Millisecond))
	c.Drain()
	if !c.Deadline().Equal(at(5 * time.Second)) {
		t.Errorf("deadline %v, want the end of the grace", c.Deadline().Sub(testTime))
	}
	c.Tick(at(5 * time.Second))
	expect(t, c, "> status st=up dt=1388 seq=6")
}

// TestInitdeadIsForOthers: while we wait for c a Systole node that was heard is
// held to its dead time, an old one to initdead.
func TestInitdeadIsForOthers(t *testing.T) {
	for _, test := range []struct {
		kv   []string
		dead time.Duration
	}{
		{[]string{"systole", "1", "ka", "3e8"}, 6 * time.Second},
		{nil, 12 * time.Second},
	} {
		cfg := testConfig()
		cfg.Nodes, cfg.Initdead = []string{"a", "b", "c"}, 12*time.Second
		c := newCore(t, cfg)
		c.Receive(at(time.Second), "eth0", nodeB(t).packet(1, "status", append([]string{"st", "up", "dt", "1388", "protocol", "1"}, test.kv...)...))
		var died, gaveUp time.Duration
		for now := time.Second; now <= 13*time.Second; now += 500 * time.Millisecond {
			c.Tick(at(now))
			for _, e := range c.Drain().Events {
				if e, ok := e.(NodeChanged); ok && e.To == Dead {
					switch e.Node {
					case "b":
						died = now
					case "c":
						gaveUp = now
					}
				}
			}
		}
		if died != test.dead || gaveUp != 12*time.Second {
			t.Errorf("%q, heard last after 1 s: b dead at %v, want %v; c, never heard, at %v", test.kv, died, test.dead, gaveUp)
		}
	}
}

// TestTimeGoesBack: the core's time does not.
func TestTimeGoesBack(t *testing.T) {
	c := joined(t, testConfig())
	c.Tick(at(time.Second))
	c.Drain()
	c.Tick(at(-time.Hour))
	c.Receive(at(-time.Hour), "eth0", nodeB(t).status(5, "active"))
	expect(t, c, "> NS_ackmsg dest=b ackseq=5")
	if !c.Deadline().Equal(at(2 * time.Second)) {
		t.Errorf("deadline %v", c.Deadline().Sub(testTime))
	}
}

// TestStall: see Stalled. A call that is late by less than a keepalive is none.
func TestStall(t *testing.T) {
	c := joined(t, testConfig())
	c.Tick(at(1999 * time.Millisecond)) // due at 1 s
	expect(t, c, "> status st=active...")
	c.Tick(at(2 * time.Second))
	c.Drain()
	now := at(8 * time.Second) // due at 3 s: deaf for 5 s; the last beat was 6 s ago
	c.Receive(now, "eth0", nodeB(t).packet(5, "resource"))
	expect(t, c, "> NS_ackmsg...", "stood still for 5s: the others have declared us dead", "delivered resource from b")
	c.Receive(now, "eth0", nodeB(t).packet(6, "resource")) // a stall is told once
	c.Tick(now)
	expect(t, c, "> status st=active...", "delivered resource from b")
	// b was silent for 3 s as far as we know, so it is dead 2 s later.
	if !c.Deadline().Equal(at(9 * time.Second)) {
		t.Fatal(c.Deadline().Sub(testTime))
	}
	c.Tick(at(9 * time.Second))
	c.Tick(at(10 * time.Second))
	got := strings.Join(drained(t, c), "\n")
	if !strings.Contains(got, "node b active -> dead: silent for 5s") {
		t.Error(got)
	}
}

// TestFirstPacketNoStatus: a node whose first packet is no status is alive from
// then on, not silent since our start.
func TestFirstPacketNoStatus(t *testing.T) {
	cfg := testConfig()
	cfg.Initdead = 60 * time.Second
	c := newCore(t, cfg)
	for s := 1; s <= 20; s++ {
		c.Tick(at(time.Duration(s) * time.Second))
	}
	c.Receive(at(20*time.Second), "eth0", nodeB(t).packet(9, "reqnodes", "dest", "a"))
	c.Drain()
	c.Tick(at(21 * time.Second))
	expect(t, c, "> status...", "> reqnodes...")
	if c.PeersAlive() != 1 {
		t.Error("dead")
	}
}

// TestRestartSeenByAnyMessage: the generation of any numbered message shows a
// restart, and an NS_ message of a generation not seen yet has no effect.
func TestRestartSeenByAnyMessage(t *testing.T) {
	c := joined(t, testConfig())
	b := nodeB(t)
	b.gen++
	c.Receive(testTime, "eth0", b.packet(0, "NS_ackmsg", "dest", "a", "ackseq", "1"))
	if v, _ := c.Snapshot(testTime).Peer("b"); v.Acked != 0 || v.Generation != 3 {
		t.Errorf("%+v", v)
	}
	c.Receive(testTime, "eth0", b.packet(2, "resource"))
	expect(t, c, "node b active -> init, restarted: generation 4 after 3", "delivered resource from b")
	c.Receive(testTime, "eth0", b.status(1, "init"))
	c.Receive(testTime, "eth0", b.status(3, "up"))
	expect(t, c, "node b init -> up: it says so")
}

// TestOldProtocol: a node that does not know protocol 1 switches
// acknowledgements, flow control and reqnodes off (section 4).
func TestOldProtocol(t *testing.T) {
	c := newCore(t, testConfig())
	b := nodeB(t)
	c.peers[0].trigger = 2
	c.Drain()
	c.Receive(testTime, "eth0", b.packet(1, "status", "st", "up", "dt", "1388"))
	expect(t, c, "> status st=active...", "link b:eth0 up", "INFO...", "node b init -> up...", "membership is complete...")
	c.Receive(testTime, "eth0", b.packet(2, "resource"))
	expect(t, c, "delivered resource from b") // and no ACK of 2
	for i := range 600 {
		if err := c.Submit(testTime, wire.New("resource")); err != nil {
			t.Fatal(i, err)
		}
	}
}
