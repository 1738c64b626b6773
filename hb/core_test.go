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

// TestFieldOrder: the common fields in the order of section 4.
func TestFieldOrder(t *testing.T) {
	c := joined(t, testConfig())
	c.SetLoad("0.1 0.2 0.3 1/9 99\n")
	if err := c.Submit(testTime, wire.New("ip-request", "dest", "B", "ipaddr", "10.0.0.1")); err != nil {
		t.Fatal(err)
	}
	m, _, err := wire.Decode(c.Drain().Packets[0].Data, testKeys)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range m.Fields {
		names = append(names, f.Name)
	}
	want := "t dest ipaddr destuuid src srcuuid seq hg ts ld ttl"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for name, want := range map[string]string{
		"dest": "b", "src": "a", "hg": "7", "ttl": "3", "ld": "0.1 0.2 0.3 1/9 99",
		"ts": fmt.Sprintf("%x", testTime.Unix()),
	} {
		if got, _ := m.Get(name); got != want {
			t.Errorf("%s=%q, want %q", name, got, want)
		}
	}
	if u, _ := m.GetBinary("destuuid"); len(u) != 16 || u[0] != 0xb {
		t.Errorf("destuuid %x", u)
	}
}

// TestClockAtZero: a machine that starts in 1970 must not send ts=0, which
// receivers drop.
func TestClockAtZero(t *testing.T) {
	c, err := New(testConfig(), time.Unix(0, 0), newCore(t, testConfig()).rnd)
	if err != nil {
		t.Fatal(err)
	}
	m, _, _ := wire.Decode(c.Drain().Packets[0].Data, testKeys)
	if ts, _ := m.Get("ts"); ts != "1" {
		t.Errorf("ts=%s", ts)
	}
}

// TestMessagesOfOthers: who gets what (section 4: destuuid decides, then dest).
func TestMessagesOfOthers(t *testing.T) {
	b := nodeB(t)
	for _, test := range []struct {
		name string
		kv   []string
		want bool
	}{
		{"for all", nil, true},
		{"for us", []string{"dest", "a"}, true},
		{"for us in capitals", []string{"dest", "A"}, true},
		{"for b", []string{"dest", "b"}, false},
		{"for nobody known", []string{"dest", "x"}, false},
	} {
		c := joined(t, testConfig())
		c.Receive(testTime, "eth0", b.packet(5, "resource", test.kv...))
		out := c.Drain()
		n := 0
		for _, e := range out.Events {
			if d, ok := e.(Delivered); ok && d.Node == "b" && !d.FromSelf && d.Message.Type() == "resource" {
				n++
			}
		}
		if (n == 1) != test.want || len(out.Packets) != 1 { // b's 5 is acknowledged in any case
			t.Errorf("%s: delivered %d times, %d packets", test.name, n, len(out.Packets))
		}
	}
	// What b tells itself is for b, but for the word that it takes its groups.
	for dest, want := range map[string]string{"b": "[ip-request-resp]", "x": "[]"} {
		c := joined(t, testConfig())
		for i, kind := range []string{"ip-request", "ip-request-resp", "reqnodes"} {
			c.Receive(testTime, "eth0", b.packet(uint64(5+i), kind, "dest", dest, "ipaddr", "10.0.0.1"))
		}
		got := []string{}
		for _, e := range c.Drain().Events {
			if d, ok := e.(Delivered); ok {
				got = append(got, d.Message.Type())
			}
		}
		if fmt.Sprint(got) != want {
			t.Errorf("for %s: delivered %v, want %s", dest, got, want)
		}
	}
	// The uuid decides, whatever dest says.
	for uuid, want := range map[byte]int{0xa: 1, 0xb: 0} {
		c := joined(t, testConfig())
		m := wire.New("resource", "src", "b", "seq", "5", "hg", "3", "ts", "1", "dest", map[byte]string{0xa: "b", 0xb: "a"}[uuid])
		m.SetBinary("destuuid", append([]byte{uuid}, make([]byte, 15)...))
		p, _ := wire.Encode(nil, m, wire.Classic, testKeys)
		c.Receive(testTime, "eth0", p)
		if got := len(c.Drain().Events); got != want {
			t.Errorf("uuid %x: %d events, want %d", uuid, got, want)
		}
	}
}

func TestSubmit(t *testing.T) {
	c := joined(t, testConfig())
	for _, test := range []struct {
		m    wire.Message
		text string
	}{
		{wire.Message{}, "no type"},
		{wire.New("status"), "belongs to the protocol"},
		{wire.New("reqnodes"), "belongs to the protocol"},
		{wire.New("repnodes"), "belongs to the protocol"},
		{wire.New("NS_ackmsg"), "belongs to the protocol"},
		{wire.New("resource", "src", "b"), "field src"},
		{wire.New("resource", "auth", "1 00"), "field auth"},
		{wire.New("resource", "dest", "x"), `dest "x" is no node`},
		{wire.New("resource", "info", "a\x00b"), "NUL"},
		{wire.New("resource", "info", strings.Repeat("x", 70000)), "too long"},
	} {
		before := c.Snapshot(testTime)
		if err := c.Submit(testTime, test.m); !errors.Is(err, ErrMessage) || !strings.Contains(err.Error(), test.text) {
			t.Errorf("got %v, want %q", err, test.text)
		}
		expect(t, c)
		if after := c.Snapshot(testTime); after.Seq != before.Seq {
			t.Errorf("%q: a number was used up", test.text)
		}
	}
	m := wire.New("resource", "rsc_hold", "all")
	if err := c.Submit(testTime, m); err != nil {
		t.Fatal(err)
	}
	if len(m.Fields) != 2 {
		t.Errorf("the caller's message was changed: %v", m)
	}
	m.Fields[1].Value[0] = 'X'
	out := c.Drain()
	if d := out.Events[0].(Delivered); !d.FromSelf || d.Node != "a" || !strings.Contains(d.Message.String(), "rsc_hold=all src=a") {
		t.Errorf("loop-back: %v", d.Message)
	}
	if out.Packets[0].Beat {
		t.Error("a resource message is no beat")
	}
	// For the other one only: no loop-back. To ourselves: on the wire, too.
	c.Submit(testTime, wire.New("ip-request", "dest", "b"))
	expect(t, c, "> ip-request dest=b...")
	c.Submit(testTime, wire.New("ip-request-resp", "dest", "a"))
	expect(t, c, "> ip-request-resp dest=a...", "delivered ip-request-resp from ourselves")

	c.Stop(testTime)
	if err := c.Submit(testTime, m); !errors.Is(err, ErrStopped) {
		t.Errorf("after Stop: %v", err)
	}
	// What was submitted can still be had, and we still beat.
	c.Drain()
	c.Receive(testTime, "eth0", nodeB(t).packet(0, "NS_rexmit", "dest", "a", "firstseq", "6", "lastseq", "6"))
	c.Tick(at(time.Second))
	expect(t, c, "> resource seq=6", "> status st=active dt=1388 seq=9", "sent resource again to b")
}

// TestBadPackets change nothing and are reported.
func TestBadPackets(t *testing.T) {
	b := nodeB(t)
	other := wire.Keys{Send: 1, Keys: []wire.Key{{Index: 1, Method: wire.SHA1, Secret: []byte("other")}}}
	foreign, _ := wire.Encode(nil, wire.New("status", "src", "b"), wire.Netstring, other)
	twin, stranger, thief, second := b, b, b, b
	twin.name, twin.uuid, stranger.name, thief.uuid = "a", [16]byte{1}, "x", [16]byte{0xa}
	second.name, second.uuid, second.gen = "a", [16]byte{0xa}, 8
	old := b
	old.gen = 2
	for _, test := range []struct {
		packet []byte
		text   string
	}{
		{nil, "WARN bad packet on eth0: malformed"},
		{[]byte("hello"), "WARN bad packet on eth0: malformed"},
		{foreign, "WARN bad packet on eth0: authentication failed"},
		{b.packet(5, "status", "ts", ""), `WARN bad packet on eth0: message "status" from "b": field ts=""`},
		{b.packet(5, "status", "ts", "0"), "WARN bad packet on eth0: message"},
		{b.packet(5, "status", "src", ""), "WARN bad packet on eth0: message"},
		{b.packet(5, "status", "t", ""), "WARN bad packet on eth0: message"},
		{b.packet(5, "status", "hg", ""), "WARN bad packet on eth0: message"},
		{b.packet(5, "status", "hg", "0"), "WARN bad packet on eth0: message"},
		{b.packet(0, "status"), `WARN bad packet on eth0: message "status" from "b": field seq=""`},
		{b.packet(5, "status", "seq", "0"), "WARN bad packet on eth0: message"},
		{b.packet(5, "status", "seq", "-5"), "WARN bad packet on eth0: message"},
		{b.packet(5, "status", "seq", "10000000000000000"), "WARN bad packet on eth0: message"},
		{b.packet(5, "status", "srcuuid", "text"), "WARN bad packet on eth0: message"},
		{stranger.status(1, "up"), `ERROR packet on eth0 from "x", which is no node of this cluster`},
		{twin.status(9, "up"), "ERROR another machine on eth0 calls itself a"},
		{second.status(9, "up"), "ERROR heard a, our own name and uuid, on eth0 with generation 8"},
		{thief.status(9, "up"), "ERROR node b uses the uuid of node a"},
		{old.status(9, "up"), "WARN packet of node b has generation 2, older than 3"},
		{old.packet(0, "NS_ackmsg", "dest", "a", "ackseq", "1"), "WARN packet of node b has generation 2, older than 3"},
		{b.packet(0, "NS_rexmit", "dest", "a"), "WARN node b asks for messages without a proper range"},
		{b.packet(0, "NS_rexmit", "dest", "a", "firstseq", "2", "lastseq", "1"), "WARN node b asks"},
		{b.packet(0, "NS_rexmit", "dest", "a", "firstseq", "0", "lastseq", "1"), "WARN node b asks"},
		{b.packet(0, "NS_ackmsg", "dest", "a"), "WARN node b acknowledges without a number"},
		{b.packet(0, "NS_nak_rexmit", "dest", "a"), "WARN node b refuses a message without its number"},
	} {
		c := joined(t, testConfig())
		before := c.Snapshot(testTime)
		c.Receive(testTime, "eth0", test.packet)
		expect(t, c, test.text+"...")
		after := c.Snapshot(testTime)
		if after.Counters.Bad != before.Counters.Bad+1 {
			t.Errorf("%s: %d bad packets counted", test.text, after.Counters.Bad)
		}
		after.Counters = before.Counters
		if got, want := fmt.Sprint(after), fmt.Sprint(before); got != want {
			t.Errorf("%s: changed\n%s to\n%s", test.text, want, got)
		}
	}
}

// TestReportsAreLimited: one report of a kind in 10 s, and the next tells how
// many there were.
func TestReportsAreLimited(t *testing.T) {
	c := joined(t, testConfig())
	for i := range 100 {
		c.Receive(at(time.Duration(i)*time.Millisecond), "eth0", []byte("rubbish"))
	}
	expect(t, c, "WARN bad packet on eth0: malformed...")
	for s := 1; s < 10; s++ {
		c.Tick(at(time.Duration(s) * time.Second))
		c.Receive(at(time.Duration(s)*time.Second), "eth0", nodeB(t).status(uint64(4+s), "active"))
	}
	c.Drain()
	c.Tick(at(10 * time.Second))
	c.Receive(at(10*time.Second), "eth0", []byte("rubbish"))
	got := drained(t, c)
	if last := got[len(got)-1]; !strings.HasSuffix(last, "(and 99 more like this before)") {
		t.Errorf("%q", got)
	}
}

// TestStrangeStatus: a status that makes no sense proves life all the same.
func TestStrangeStatus(t *testing.T) {
	c := joined(t, testConfig())
	b := nodeB(t)
	c.Tick(at(time.Second))
	c.Drain()
	c.Receive(at(time.Second), "eth0", b.packet(5, "status", "st", "dead", "dt", "1388", "protocol", "1"))
	expect(t, c, "> NS_ackmsg dest=b ackseq=5", `WARN status of node b has an unknown status word (st="dead")`)
	c.Receive(at(time.Second), "eth0", b.packet(6, "status", "st", "up", "dt", "100000000", "protocol", "1"))
	got := drained(t, c)
	if len(got) != 1 || got[0] != "node b active -> up: it says so" {
		t.Errorf("%q", got) // the report about dt is left out: same kind as the one before
	}
	v, _ := c.Snapshot(at(3 * time.Second)).Peer("b")
	if v.Deadtime != 5*time.Second || v.Age != 2*time.Second {
		t.Errorf("%+v", v)
	}
}

// TestNewUUID: a known name with a new uuid is reported and learnt.
func TestNewUUID(t *testing.T) {
	c := joined(t, testConfig())
	b := nodeB(t)
	b.uuid = [16]byte{0xbb}
	c.Receive(testTime, "eth0", b.status(5, "active"))
	expect(t, c, "> NS_ackmsg dest=b ackseq=5", "WARN node b has a new uuid bb00000000000000...")
	if v, _ := c.Snapshot(testTime).Peer("b"); v.UUID != b.uuid {
		t.Errorf("%x", v.UUID)
	}
}

// TestHearingOurselves: on a broadcast medium our own packets come back. They
// show that the medium works, and nothing else.
func TestHearingOurselves(t *testing.T) {
	c := joined(t, testConfig())
	c.Submit(testTime, wire.New("resource"))
	own := bytes.Clone(c.Drain().Packets[0].Data)
	c.Receive(testTime, "eth0", own)
	c.Receive(testTime, "eth0", own)
	expect(t, c, "link a:eth0 up")
	for s := 1; s <= 5; s++ {
		c.Tick(at(time.Duration(s) * time.Second))
	}
	got := strings.Join(drained(t, c), "\n")
	if !strings.Contains(got, "link a:eth0 dead, silent for 5s") {
		t.Error(got)
	}
}

// TestNodeListsDiffer: what they have more we learn; what they lack is
// reported, and stays.
func TestNodeListsDiffer(t *testing.T) {
	c := newCore(t, testConfig())
	c.peers[0].trigger = 5
	b := nodeB(t)
	c.Receive(testTime, "eth0", b.status(1, "active"))
	c.Drain()
	c.Receive(testTime, "eth0", b.packet(2, "repnodes", "dest", "a", "nodelist", "b c "))
	expect(t, c, "> status st=active dt=1388 seq=5", "ERROR node b does not know a: make the configurations alike...", "nodes: added c, by b", "membership is complete...")
	// Later ones are of no interest.
	c.Receive(testTime, "eth0", b.packet(3, "repnodes", "dest", "a", "nodelist", "b c "))
	expect(t, c)
}

// TestAskAgain: reqnodes goes to the next live node each second (section 8).
func TestAskAgain(t *testing.T) {
	cfg := testConfig()
	cfg.Nodes = []string{"a", "b", "c"}
	c := newCore(t, cfg)
	c.Receive(testTime, "eth0", remote{t, "c", [16]byte{0xc}, 1}.status(1, "up"))
	c.Receive(testTime, "eth0", nodeB(t).status(1, "up"))
	asked := func() (names []string) {
		for _, line := range drained(t, c) {
			if name, ok := strings.CutPrefix(line, "> reqnodes dest="); ok {
				names = append(names, name[:1])
			}
		}
		return names
	}
	var all []string
	all = append(all, asked()...)
	for s := 1; s <= 3; s++ {
		c.Tick(at(time.Duration(s) * time.Second))
		all = append(all, asked()...)
	}
	if got := strings.Join(all, ""); got != "bcbc" {
		t.Errorf("asked %s", got)
	}
	// Both dead: nobody to ask.
	c.Tick(at(4 * time.Second))
	c.Tick(at(5 * time.Second))
	if c.status != Active {
		t.Error("not active though nobody is alive")
	}
}

// TestNeverHeard: a node that was never heard is not alive and owes no
// acknowledgement, though it is not dead yet.
func TestNeverHeard(t *testing.T) {
	c := newCore(t, testConfig())
	for range 300 {
		if err := c.Submit(testTime, wire.New("resource")); err != nil {
			t.Fatal(err)
		}
	}
	v := c.Snapshot(testTime)
	if p := v.Peers[0]; c.PeersAlive() != 0 || v.Unacked != 0 || p.Status != Init || p.Heard || p.Age >= 0 || p.Links[0].Up {
		t.Errorf("%+v", v)
	}
	if _, ok := v.Peer("c"); ok {
		t.Error("there is no node c")
	}
}

// TestAlone: a cluster of one is active at once.
func TestAlone(t *testing.T) {
	cfg := testConfig()
	cfg.Nodes = []string{"a"}
	c := newCore(t, cfg)
	expect(t, c, "> status st=init dt=1388 seq=1", "> status st=up dt=1388 seq=2", "> status st=up dt=1388 seq=3",
		"> status st=active dt=1388 seq=4", "membership is complete...")
	for range 1000 {
		if err := c.Submit(testTime, wire.New("resource")); err != nil {
			t.Fatal(err) // with nobody to acknowledge there is no limit
		}
	}
	// Output between two calls of Drain may exceed the history.
	for i, p := range c.Drain().Packets {
		m, _, err := wire.Decode(p.Data, testKeys)
		if seq, _ := m.GetUint("seq", 16); err != nil || seq != uint64(5+i) {
			t.Fatalf("packet %d: number %d, %v", i, seq, err)
		}
	}
}
