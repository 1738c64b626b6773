package hb

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"systole/hb/wire"
)

var (
	testKeys = wire.Keys{Send: 1, Keys: []wire.Key{{Index: 1, Method: wire.SHA1, Secret: []byte("secret")}}}
	testTime = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
)

// testConfig is node a of a and b.
func testConfig() Config {
	return Config{
		Node: "a", UUID: [16]byte{0xa}, Generation: 7, Nodes: []string{"a", "b"},
		Keepalive: time.Second, Deadtime: 5 * time.Second, StartGrace: -1,
		Format: wire.Netstring, Keys: testKeys, Media: []string{"eth0"},
	}
}

func at(d time.Duration) time.Time { return testTime.Add(d) }

func newCore(t testing.TB, cfg Config) *Core {
	t.Helper()
	c, err := New(cfg, testTime, rand.New(rand.NewPCG(1, 2)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// remote writes packets as another node would, any way a test wants them.
type remote struct {
	t    testing.TB
	name string
	uuid [16]byte
	gen  uint64
}

func nodeB(t testing.TB) remote { return remote{t, "b", [16]byte{0xb}, 3} }

// packet has the common fields, with seq 0 without a number. An empty value in
// kv removes a field.
func (r remote) packet(seq uint64, typ string, kv ...string) []byte {
	r.t.Helper()
	m := wire.New(typ)
	m.Set("src", r.name)
	m.SetBinary("srcuuid", r.uuid[:])
	if seq != 0 {
		m.Set("seq", fmt.Sprintf("%x", seq))
	}
	m.Set("hg", fmt.Sprintf("%x", r.gen))
	m.Set("ts", "1")
	m.Set("ttl", "3")
	for i := 0; i < len(kv); i += 2 {
		if m.Set(kv[i], kv[i+1]); kv[i+1] == "" {
			m.Del(kv[i])
		}
	}
	p, err := wire.Encode(nil, m, wire.Netstring, testKeys)
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

func (r remote) status(seq uint64, st string) []byte {
	return r.packet(seq, "status", "st", st, "dt", "1388", "protocol", "1")
}

// drained is the output in words: packets as "> type field=value ...", events
// as they print.
func drained(t testing.TB, c *Core) []string {
	t.Helper()
	var lines []string
	out := c.Drain()
	for _, p := range out.Packets {
		m, _, err := wire.Decode(p.Data, testKeys)
		if err != nil {
			t.Fatal(err)
		}
		line := "> " + m.Type()
		for _, name := range []string{"dest", "st", "dt", "seq", "ackseq", "firstseq", "lastseq", "info", "nodelist"} {
			if v, ok := m.Get(name); ok {
				line += " " + name + "=" + v
			}
		}
		lines = append(lines, line)
	}
	for _, e := range out.Events {
		lines = append(lines, e.String())
	}
	return lines
}

// expect compares the output since the last call with the lines wanted; a line
// that ends in "..." stands for all that begin so.
func expect(t testing.TB, c *Core, want ...string) {
	t.Helper()
	got := drained(t, c)
	ok := len(got) == len(want)
	for i := 0; ok && i < len(got); i++ {
		if prefix, cut := strings.CutSuffix(want[i], "..."); cut {
			ok = strings.HasPrefix(got[i], prefix)
		} else {
			ok = got[i] == want[i]
		}
	}
	if !ok {
		t.Fatalf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// joined is a core that is active with b, whose newest message is number 4.
func joined(t testing.TB, cfg Config) *Core {
	t.Helper()
	c := newCore(t, cfg)
	for _, p := range c.peers {
		p.trigger = 5 // no ACK in the way
		r := remote{t, p.name, [16]byte{0xb, byte(p.id)}, 3}
		if p.name == "b" {
			r = nodeB(t)
		}
		c.Receive(testTime, "eth0", r.status(1, "init"))
		c.Receive(testTime, "eth0", r.status(2, "up"))
		c.Receive(testTime, "eth0", r.status(4, "active"))
		c.Receive(testTime, "eth0", r.packet(3, "repnodes", "dest", "a", "nodelist", strings.Join(cfg.Nodes, " ")+" "))
	}
	// A repnodes before the last node was heard is no answer.
	if c.asking {
		c.activate(testTime)
	}
	if c.status != Active {
		t.Fatal("not active")
	}
	c.Drain()
	return c
}
