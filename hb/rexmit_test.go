package hb

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"systole/hb/wire"
)

func rexmit(t *testing.T, first, last int) []byte {
	return nodeB(t).packet(0, "NS_rexmit", "dest", "a", "firstseq", fmt.Sprint(first), "lastseq", fmt.Sprint(last))
}

// TestRetransmitIsIdentical: the same bytes (section 6.1), and a status is a
// beat again.
func TestRetransmitIsIdentical(t *testing.T) {
	c := joined(t, testConfig())
	c.Submit(testTime, wire.New("resource"))
	c.Tick(at(time.Second))
	var sent []Packet
	for _, p := range c.Drain().Packets {
		sent = append(sent, Packet{Data: bytes.Clone(p.Data), Beat: p.Beat, Again: p.Again})
	}
	c.Receive(at(time.Second), "eth0", rexmit(t, 6, 7))
	again := c.Drain().Packets
	if len(sent) != 2 || len(again) != 2 {
		t.Fatalf("%d sent, %d again", len(sent), len(again))
	}
	for i := range sent {
		if !bytes.Equal(sent[i].Data, again[i].Data) || sent[i].Beat != again[i].Beat {
			t.Errorf("packet %d differs", i)
		}
		if sent[i].Again || !again[i].Again {
			t.Errorf("packet %d: again %v at first, %v the second time", i, sent[i].Again, again[i].Again)
		}
	}
	if sent[0].Beat || !sent[1].Beat {
		t.Errorf("beats: %v %v", sent[0].Beat, sent[1].Beat)
	}
}

// TestRetransmitLimits: section 6.3.
func TestRetransmitLimits(t *testing.T) {
	c := joined(t, testConfig()) // has sent 1 to 5
	for range 200 {
		c.Submit(testTime, wire.New("resource"))
	}
	c.Drain()
	count := func(first, last int, now time.Time) int {
		c.Receive(now, "eth0", rexmit(t, first, last))
		return len(c.Drain().Packets)
	}
	if n := count(1, 200, testTime); n != 50 {
		t.Errorf("%d packets for one request, want 50", n)
	}
	if n := count(1, 50, at(239*time.Millisecond)); n != 0 {
		t.Errorf("%d packets sent again within 239 ms", n)
	}
	if n := count(1, 50, at(240*time.Millisecond)); n != 50 {
		t.Errorf("%d packets sent again after 240 ms, want 50", n)
	}
	// What it acknowledged may have been another generation's.
	c.Receive(testTime, "eth0", nodeB(t).packet(0, "NS_ackmsg", "dest", "a", "ackseq", "64")) // 100
	if n := count(81, 110, at(500*time.Millisecond)); n != 30 {
		t.Errorf("%d packets, want all 30, acknowledged or not", n)
	}
	c.Drain()
	c.Receive(at(500*time.Millisecond), "eth0", rexmit(t, 205, 1<<40))
	expect(t, c, "> resource seq=cd", "WARN node b asks for message 1099511627776, our newest is 205", "sent resource again to b")
	// A request for another node is none of ours.
	c.Receive(at(900*time.Millisecond), "eth0", nodeB(t).packet(0, "NS_rexmit", "dest", "c", "firstseq", "120", "lastseq", "120"))
	expect(t, c)
}

// TestRepeatedIsToldOfOldNodes: only they take what comes late for new; beats
// are no news.
func TestRepeatedIsToldOfOldNodes(t *testing.T) {
	c := joined(t, testConfig())
	c.Submit(testTime, wire.New("resource", "isstable", "0"))
	c.Tick(at(time.Second))
	c.Drain()
	ask := func(now time.Time) (events []Event) {
		c.Receive(now, "eth0", rexmit(t, 6, 7))
		return c.Drain().Events
	}
	events := ask(at(time.Second))
	if len(events) != 1 {
		t.Fatalf("events %v, want one of the resource message", events)
	}
	e, ok := events[0].(Repeated)
	if word, _ := e.Message.Get("isstable"); !ok || e.Node != "b" || e.Message.Type() != "resource" || word != "0" {
		t.Errorf("%#v", events[0])
	}
	if events := ask(at(1100 * time.Millisecond)); len(events) != 0 {
		t.Errorf("not sent again so soon, but told: %v", events)
	}
	c.byName["b"].systole = true
	if events := ask(at(2 * time.Second)); len(events) != 0 {
		t.Errorf("a Systole node knows the order, but told: %v", events)
	}
}

// TestNak: what has left the history is refused, with a hexadecimal number.
func TestNak(t *testing.T) {
	c := joined(t, testConfig())
	c.flow = false // as many messages as we like
	for range 600 {
		c.Submit(testTime, wire.New("resource"))
	}
	c.Drain()
	c.Receive(testTime, "eth0", rexmit(t, 104, 107)) // 605 sent: 106 is the oldest
	expect(t, c,
		"> NS_nak_rexmit dest=b firstseq=68 info=seqno too low",
		"> NS_nak_rexmit dest=b firstseq=69 info=seqno too low",
		"> resource seq=6a", "> resource seq=6b", "sent resource again to b", "sent resource again to b")
	c.Receive(testTime, "eth0", rexmit(t, 1, 1<<50))
	if n := len(c.Drain().Packets); n != 50 {
		t.Errorf("%d NAKs for a huge range, want 50", n)
	}
}

// TestHeardNak: everybody gives the number up, whoever it was for, and that
// closes the gap.
func TestHeardNak(t *testing.T) {
	c := joined(t, testConfig())
	b := nodeB(t)
	c.Receive(testTime, "eth0", b.packet(7, "resource")) // 5 and 6 are missing
	expect(t, c, "delivered resource from b")
	next := b
	next.gen++ // says nothing about this generation's numbers
	c.Receive(testTime, "eth0", next.packet(0, "NS_nak_rexmit", "dest", "a", "firstseq", "5"))
	expect(t, c)
	c.Receive(testTime, "eth0", b.packet(0, "NS_nak_rexmit", "dest", "c", "firstseq", "5"))
	expect(t, c, "> NS_ackmsg dest=b ackseq=5", "message 5 of b is irretrievably lost")
	c.Receive(testTime, "eth0", b.packet(0, "NS_nak_rexmit", "dest", "a", "firstseq", "5"))
	expect(t, c) // known already
	c.Receive(testTime, "eth0", b.packet(6, "resource"))
	expect(t, c, "delivered resource from b")
	v, _ := c.Snapshot(testTime).Peer("b")
	if v.Lost != 1 || v.Missing != 0 {
		t.Errorf("%+v", v)
	}
}

// TestRequests: one number each, decimal; the first after 50 to 250 ms, then
// every 250 ms; never for what came meanwhile, nor of a dead node.
func TestRequests(t *testing.T) {
	c := joined(t, testConfig())
	b := nodeB(t)
	c.Receive(testTime, "eth0", b.packet(0x20, "resource")) // 5 to 31
	c.Drain()
	c.Tick(at(49 * time.Millisecond))
	expect(t, c)
	c.Tick(at(250 * time.Millisecond))
	first := drained(t, c)
	if len(first) != 27 || first[0] != "> NS_rexmit dest=b firstseq=5 lastseq=5" || first[26] != "> NS_rexmit dest=b firstseq=31 lastseq=31" {
		t.Errorf("%q", first)
	}
	for seq := uint64(6); seq < 0x20; seq++ {
		c.Receive(at(250*time.Millisecond), "eth0", b.packet(seq, "resource"))
	}
	c.Drain()
	c.Tick(at(499 * time.Millisecond))
	expect(t, c)
	c.Tick(at(500 * time.Millisecond))
	expect(t, c, "> NS_rexmit dest=b firstseq=5 lastseq=5")

	for s := 1; s <= 5; s++ {
		c.Tick(at(time.Duration(s) * time.Second))
	}
	c.Drain()
	c.Tick(at(6 * time.Second))
	expect(t, c, "> status...", "link b:eth0 dead...")
	// It returns: it still has number 5, and is asked again.
	c.Receive(at(6*time.Second), "eth0", b.status(0x21, "active"))
	expect(t, c, "link b:eth0 up", "node b dead -> active, returned...")
	c.Tick(at(6*time.Second + 250*time.Millisecond))
	expect(t, c, "> NS_rexmit dest=b firstseq=5 lastseq=5")
}

// TestRequestsAreLimited: no storm for a large gap.
func TestRequestsAreLimited(t *testing.T) {
	c := joined(t, testConfig())
	c.Receive(testTime, "eth0", nodeB(t).packet(4+1+gapLimit, "resource"))
	c.Drain()
	perTick := func(from, to time.Duration) (n int) {
		for {
			d := c.Deadline()
			if !d.Before(at(to)) {
				return n
			}
			c.Tick(d)
			for _, line := range drained(t, c) {
				if strings.HasPrefix(line, "> NS_rexmit") {
					n++
				}
			}
		}
	}
	// The first ones start a period of 250 ms each for 50 requests.
	total := 0
	for i := range 4 {
		from := time.Duration(i) * 250 * time.Millisecond
		n := perTick(from, from+250*time.Millisecond)
		if n > 2*rexmitBurst {
			t.Errorf("%d requests in 250 ms", n)
		}
		total += n
	}
	if total < 3*rexmitBurst || total > 5*rexmitBurst {
		t.Errorf("%d requests in 1 s", total)
	}
}

// TestAcknowledge: section 6.4.
func TestAcknowledge(t *testing.T) {
	c := joined(t, testConfig())
	b := nodeB(t)
	c.peers[0].trigger, c.peers[0].ackSent = 3, 3
	acks := func(seqs ...uint64) string {
		for _, seq := range seqs {
			c.Receive(testTime, "eth0", b.packet(seq, "resource"))
		}
		var got []string
		for _, line := range drained(t, c) {
			if ack, ok := strings.CutPrefix(line, "> NS_ackmsg dest=b ackseq="); ok {
				got = append(got, ack)
			}
		}
		return strings.Join(got, " ")
	}
	for _, test := range []struct {
		seqs []uint64
		want string
	}{
		{[]uint64{5, 6, 7, 8, 9, 10, 11, 12}, ""},
		{[]uint64{13}, "d"},
		{[]uint64{13, 14, 13}, ""},                             // duplicates
		{[]uint64{16, 17, 18, 19, 20, 21, 22, 23, 24, 34}, ""}, // 15 is missing, and 25 to 33
		{[]uint64{15}, "17"},                                   // 23: the highest below the next gap
		{[]uint64{25, 26, 27, 28, 29, 30, 31, 32}, ""},
		{[]uint64{33}, "21"},
	} {
		if got := acks(test.seqs...); got != test.want {
			t.Errorf("%v: acknowledged %q, want %q", test.seqs, got, test.want)
		}
	}
}

// TestFlowControl: a message is refused with more than 250 unacknowledged by
// any live node; acknowledgements that cannot be are ignored.
func TestFlowControl(t *testing.T) {
	cfg := testConfig()
	cfg.Nodes = []string{"a", "b", "c"}
	c := joined(t, cfg)
	submit := func() (n int) {
		for c.Submit(testTime, wire.New("resource")) == nil {
			n++
		}
		return n
	}
	n := submit()
	if v := c.Snapshot(testTime); v.Unacked != 251 || n == 0 {
		t.Errorf("stopped at %d after %d", v.Unacked, n)
	}
	if err := c.Submit(testTime, wire.New("resource")); !errors.Is(err, ErrFlow) {
		t.Errorf("got %v", err)
	}
	ack := func(name string, seq uint64) {
		r := nodeB(t)
		if name == "c" {
			r = remote{t, "c", [16]byte{0xb, 2}, 3}
		}
		c.Receive(testTime, "eth0", r.packet(0, "NS_ackmsg", "dest", "a", "ackseq", fmt.Sprintf("%x", seq)))
	}
	c.Drain()
	newest := c.Snapshot(testTime).Seq
	ack("b", newest+1)
	expect(t, c, "WARN node b acknowledges message...")
	ack("b", newest)
	if n := submit(); n != 0 {
		t.Errorf("%d accepted though c has acknowledged nothing", n)
	}
	ack("c", newest-250)
	ack("c", newest-251) // lower than before
	if n := submit(); n != 1 {
		t.Errorf("%d accepted, want 1", n)
	}
	ack("c", newest)
	if n := submit(); n != 250 {
		t.Errorf("%d accepted, want 250", n)
	}
	// Beats go on, and the backlog is reported.
	c.Drain()
	reports := ""
	for i := range 250 {
		c.Receive(at(time.Duration(i)*time.Second), "eth0", nodeB(t).status(uint64(5+i), "active"))
		c.Receive(at(time.Duration(i)*time.Second), "eth0", remote{t, "c", [16]byte{0xb, 2}, 3}.status(uint64(5+i), "active"))
		c.Tick(at(time.Duration(i) * time.Second))
		for _, line := range drained(t, c) {
			if strings.Contains(line, "unacknowledged") {
				reports += line[:5]
			}
		}
	}
	if !strings.HasPrefix(reports, "WARN WARN ") || !strings.HasSuffix(reports, "ERRORERROR") {
		t.Errorf("backlog reports: %q", reports)
	}
	// A node that is dead owes nothing.
	for i := range 6 {
		c.Tick(at(time.Duration(250+i) * time.Second))
	}
	if v := c.Snapshot(testTime); v.Unacked != 0 {
		t.Errorf("%d unacknowledged by the dead", v.Unacked)
	}
	if err := c.Submit(at(256*time.Second), wire.New("resource")); err != nil {
		t.Error(err)
	}
}
