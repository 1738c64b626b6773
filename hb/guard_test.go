package hb

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"systole/hb/wire"
)

var sealedKeys = wire.Keys{Send: 2, Keys: []wire.Key{
	{Index: 1, Method: wire.SHA1, Secret: []byte("old")},
	{Index: 2, Method: wire.SHA256, Secret: []byte("new")},
}}

// sealedPair is two cores that know each other, at testTime plus what the
// exchange took.
func sealedPair(t *testing.T, keys wire.Keys) (a, b *Core) {
	t.Helper()
	cfg := testConfig()
	cfg.Keys, cfg.Nonce = keys, [8]byte{1}
	a = newCore(t, cfg)
	cfg.Node, cfg.UUID, cfg.Nonce = "b", [16]byte{0xb}, [8]byte{2}
	b = newCore(t, cfg)
	exchange(at(0), a, b)
	if !a.peers[0].live() || !b.peers[0].live() {
		t.Fatal("the nodes do not find together")
	}
	return a, b
}

// packets are what c has sent since the last call, each with memory of its own.
func packets(c *Core) (list [][]byte) {
	for _, p := range c.Drain().Packets {
		list = append(list, append([]byte(nil), p.Data...))
	}
	return list
}

func give(now time.Time, c *Core, list ...[]byte) {
	for _, p := range list {
		c.Receive(now, "eth0", p)
	}
}

// exchange hands packets over until both are silent.
func exchange(now time.Time, a, b *Core) {
	for {
		fromA, fromB := packets(a), packets(b)
		if len(fromA)+len(fromB) == 0 {
			return
		}
		give(now, b, fromA...)
		give(now, a, fromB...)
		now = now.Add(answerPeriod)
		a.Tick(now)
		b.Tick(now)
	}
}

func delivered(c *Core) (types []string) {
	for _, e := range c.Drain().Events {
		if d, ok := e.(Delivered); ok && !d.FromSelf {
			types = append(types, d.Message.Type())
		}
	}
	return types
}

// TestRetransmissionFromBeforeTheReceiverWasKnown: b restarts in front of a,
// and what it sends before it knows a's nonce proves nothing to a. a asks for
// these numbers, and gets them signed anew.
func TestRetransmissionFromBeforeTheReceiverWasKnown(t *testing.T) {
	a, _ := sealedPair(t, sealedKeys)
	cfg := a.cfg
	cfg.Node, cfg.UUID, cfg.Nonce, cfg.Generation = "b", [16]byte{0xb}, [8]byte{3}, 8
	b := newCore(t, cfg)
	if err := b.Submit(at(20*time.Millisecond), wire.New("early")); err != nil {
		t.Fatal(err)
	}
	first := packets(b)
	give(at(20*time.Millisecond), a, first...)
	if got := a.counters.Stale; got < uint64(len(first)) {
		t.Fatalf("%d packets counted as stale, want %d", got, len(first))
	}
	if d := delivered(a); d != nil {
		t.Fatalf("delivered %q without proof", d)
	}
	// a's answer was drained with the events above: its next beat does it.
	now := a.nextBeat
	a.Tick(now)
	give(now, b, packets(a)...)
	give(now, a, packets(b)...)
	if a.peers[0].gen != 8 || len(a.peers[0].win.missing) == 0 {
		t.Fatalf("generation %d, %d missing", a.peers[0].gen, len(a.peers[0].win.missing))
	}
	a.Drain()
	var got []string
	for range 20 {
		now = now.Add(50 * time.Millisecond)
		a.Tick(now)
		give(now, b, packets(a)...)
		give(now, a, packets(b)...)
		got = append(got, delivered(a)...)
	}
	if strings.Join(got, " ") != "early" {
		t.Errorf("delivered %q, want the early one once", got)
	}
	if n := len(a.peers[0].win.missing); n != 0 {
		t.Errorf("%d numbers are still missing", n)
	}
}

// TestRetransmissionIsSignedAnewOnlyIfNeeded: as long as keys and nonces stay,
// it is the same byte for byte (section 6.1).
func TestRetransmissionIsSignedAnewOnlyIfNeeded(t *testing.T) {
	a, b := sealedPair(t, sealedKeys)
	now := at(time.Second)
	if err := a.Submit(now, wire.New("one")); err != nil {
		t.Fatal(err)
	}
	sent, number := packets(a)[0], a.history.newest
	again := func() []byte {
		now = now.Add(time.Second)
		bb := b.begin("NS_rexmit")
		bb.text("dest", "a")
		bb.number("firstseq", number, 10)
		bb.number("lastseq", number, 10)
		b.finish(bb, now, false, false, nil)
		a.Tick(a.lastCall)
		a.Drain()
		give(now, a, packets(b)...)
		for _, p := range packets(a) {
			if m, _, err := wire.Decode(p, sealedKeys); err != nil {
				t.Fatal(err)
			} else if m.Type() == "one" {
				return p
			}
		}
		t.Fatal("nothing sent again")
		return nil
	}
	if got := again(); string(got) != string(sent) {
		t.Errorf("sent again as\n%q, was\n%q", got, sent)
	}
	if err := a.SetKeys(now, wire.Keys{Send: 1, Keys: sealedKeys.Keys}); err != nil {
		t.Fatal(err)
	}
	got := again()
	var d wire.Decoder
	was, _, _ := wire.Decode(sent, sealedKeys)
	m, _, err := d.Decode(got, sealedKeys)
	if err != nil || d.Key().Index != 1 || m.String() != was.String() {
		t.Errorf("after a change of keys: signed with %v, %v\n got %v\nwant %v", d.Key(), err, m, was)
	}
}

// TestUnnumberedOnce: an NS_ message counts once on each medium.
func TestUnnumberedOnce(t *testing.T) {
	a, b := sealedPair(t, sealedKeys)
	now := at(time.Second)
	bb := b.begin("NS_rexmit")
	bb.text("dest", "a")
	bb.number("firstseq", 1, 10)
	bb.number("lastseq", 1, 10)
	b.Drain()
	b.finish(bb, now, false, false, nil)
	ask := packets(b)
	a.peers[0].acked = 0
	a.Receive(now, "eth0", ask[0])
	before := a.counters
	if before.Retransmitted != 1 {
		t.Fatalf("%d sent again", before.Retransmitted)
	}
	a.nextBeat = now.Add(time.Hour)
	a.peers[0].since = now.Add(time.Hour)
	for range 2 {
		now = now.Add(time.Minute)
		a.Receive(now, "eth0", ask[0])
	}
	if a.counters.Retransmitted != 1 || a.counters.Duplicates != before.Duplicates+2 {
		t.Errorf("after two copies: %+v", a.counters)
	}
	for range 2 { // a medium that is not listed is one, too
		now = now.Add(time.Minute)
		a.Receive(now, "eth9", ask[0])
	}
	if a.counters.Retransmitted != 2 || a.counters.Duplicates != before.Duplicates+3 {
		t.Errorf("after two copies on another medium: %+v", a.counters)
	}
}

// TestSealedNodeAndWeakerPackets: the rule of a roll-over.
func TestSealedNodeAndWeakerPackets(t *testing.T) {
	a, b := sealedPair(t, wire.Keys{Send: 1, Keys: sealedKeys.Keys})
	if a.peers[0].guard.sealed || a.peers[0].guard.life == 0 {
		t.Fatal("signed with sha1, but the nonce is learnt from it")
	}
	now := at(time.Second)
	weak := func(typ string) []byte {
		b.Drain()
		bb := b.begin(typ)
		b.finish(bb, now, !strings.HasPrefix(typ, "NS_"), false, nil)
		return packets(b)[0]
	}
	recorded, unnumbered := weak("recorded"), weak("NS_ackmsg")
	if err := b.SetKeys(now, sealedKeys); err != nil {
		t.Fatal(err)
	}
	a.Drain()
	give(now, a, packets(b)...)
	if !a.peers[0].guard.sealed {
		t.Fatal("the first packet signed with sha256 was not accepted")
	}
	// A moment later they may still be under way: refused without a word.
	give(now, a, recorded, unnumbered)
	expectStale(t, a, 2)
	now = now.Add(a.cfg.Warntime + time.Second)
	a.peers[0].since, a.nextBeat = now, now.Add(time.Second)
	give(now, a, recorded, unnumbered)
	expectStale(t, a, 4, "packet of node b on eth0 is signed with key 1 sha1 and not new")
	// Back to sha1: the first packet that is new shows it.
	if err := b.SetKeys(now, wire.Keys{Send: 1, Keys: sealedKeys.Keys}); err != nil {
		t.Fatal(err)
	}
	give(now, a, packets(b)...)
	give(now, a, weak("NS_ackmsg"))
	if a.peers[0].guard.sealed || a.counters.Stale != 4 {
		t.Errorf("the node has gone back to sha1, but its packets are not accepted: %+v", a.counters)
	}
}

// expectStale checks how many packets were refused so far, and what was reported.
func expectStale(t *testing.T, c *Core, stale uint64, reports ...string) {
	t.Helper()
	if c.counters.Stale != stale {
		t.Errorf("%d packets were refused, want %d", c.counters.Stale, stale)
	}
	var got []string
	for _, e := range c.Drain().Events {
		switch e := e.(type) {
		case Report:
			got = append(got, e.Text)
		case Delivered:
			t.Errorf("%v", e)
		}
	}
	if len(got) != len(reports) {
		t.Fatalf("reports %q, want %q", got, reports)
	}
	for i, want := range reports {
		if !strings.HasPrefix(got[i], want) {
			t.Errorf("report %q, want %q", got[i], want)
		}
	}
}

// TestSealedWithoutProof: a key holder that does not speak of nonces, as an
// older version would.
func TestSealedWithoutProof(t *testing.T) {
	cfg := testConfig()
	cfg.Keys, cfg.Nonce = wire.Keys{Send: 1, Keys: []wire.Key{{Index: 1, Method: wire.SHA256, Secret: []byte("secret")}}}, [8]byte{1}
	for name, fields := range map[string][]wire.Field{
		"nothing":     nil,
		"no nonce":    {{Name: "seen", Type: wire.Binary, Value: cfg.Nonce[:]}},
		"no seen":     {{Name: "nonce", Type: wire.Binary, Value: []byte("12345678")}},
		"short nonce": {{Name: "nonce", Type: wire.Binary, Value: []byte("1234567")}, {Name: "seen", Type: wire.Binary, Value: cfg.Nonce[:]}},
		"text nonce":  {{Name: "nonce", Value: []byte("12345678")}, {Name: "seen", Type: wire.Binary, Value: cfg.Nonce[:]}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCore(t, cfg)
			c.Drain()
			m := wire.New("status", "st", "up", "dt", "1388", "protocol", "1", "src", "b", "seq", "1", "hg", "3", "ts", "1")
			m.Fields = append(m.Fields, fields...)
			p, err := wire.Encode(nil, m, wire.Netstring, cfg.Keys)
			if err != nil {
				t.Fatal(err)
			}
			c.Receive(testTime, "eth0", p)
			if c.peers[0].heard || c.counters.Bad != 1 {
				t.Errorf("heard %v, %+v", c.peers[0].heard, c.counters)
			}
			expectStale(t, c, 0, "packet of node b on eth0 is signed with sha256 but has no fields nonce and seen")
		})
	}
}

// TestSetKeys: what cannot be used changes nothing.
func TestSetKeys(t *testing.T) {
	c := joined(t, testConfig())
	bad := map[string]wire.Keys{
		"packets cannot be written: no usable key: authkeys has no key 7": {Send: 7, Keys: testKeys.Keys},
		"Nonce is zero": sealedKeys,
	}
	for want, keys := range bad {
		if err := c.SetKeys(testTime, keys); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	expect(t, c) // not a word
	next := wire.Keys{Send: 4, Keys: []wire.Key{{Index: 4, Method: wire.MD5, Secret: []byte("x")}}}
	if err := c.SetKeys(testTime, next); err != nil {
		t.Fatal(err)
	}
	next.Keys[0].Index = 9 // the core has a copy
	out := c.Drain()
	if len(out.Packets) != 1 || len(out.Events) != 1 || out.Events[0].String() != "INFO keys replaced: signing with 4 md5, accepting 4 md5" {
		t.Fatalf("%d packets, want a status, and %v", len(out.Packets), out.Events)
	}
	p := [][]byte{bytes.Clone(out.Packets[0].Data)}
	if _, _, err := wire.Decode(p[0], c.cfg.Keys); err != nil || c.cfg.Keys.Keys[0].Index != 4 {
		t.Error(err, c.cfg.Keys)
	}
	if err := c.SetKeys(testTime, c.cfg.Keys); err != nil {
		t.Fatal(err)
	}
	expect(t, c) // nothing new
	c.Receive(testTime, "eth0", nodeB(t).status(5, "active"))
	expect(t, c, "WARN bad packet on eth0: no usable key: the packet is signed with key 1...")
}

// TestPlainPacketsAreAsEver: without a key of method sha256 nothing is added.
func TestPlainPacketsAreAsEver(t *testing.T) {
	cfg := testConfig()
	cfg.Nonce = [8]byte{1}
	c := newCore(t, cfg)
	for _, p := range packets(c) {
		m, _, err := wire.Decode(p, testKeys)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range m.Fields {
			switch f.Name {
			case "nonce", "seen", "nscount":
				t.Errorf("field %s in %v", f.Name, m)
			}
		}
	}
	for _, name := range []string{"nonce", "seen", "nscount"} {
		if err := c.Submit(testTime, wire.New("x", name, "1")); !errors.Is(err, ErrMessage) {
			t.Errorf("Submit with field %s: %v", name, err)
		}
	}
}
