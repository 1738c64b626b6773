package flowsync

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"systole/dataplane"
	"systole/dataplane/flowsync/wire"
)

// table is a flow table in memory.
type table struct {
	flows      []dataplane.Flow
	at         map[netip.AddrPort]int
	sent       []bool
	owner      bool // its addresses are active
	next       int
	part       int // places a Sweep
	refuse     bool
	room       int // for so many flows; 0: for all
	generation uint64
}

func newTable(owner bool) *table {
	return &table{at: map[netip.AddrPort]int{}, owner: owner, part: 1000, generation: 1}
}

func (t *table) put(f dataplane.Flow) {
	i, ok := t.at[f.Client]
	if !ok {
		i = len(t.flows)
		t.at[f.Client] = i
		t.flows, t.sent = append(t.flows, f), append(t.sent, false)
	}
	t.flows[i], t.sent[i] = f, !t.owner
}

func (t *table) Sweep(offer func(uint32, dataplane.Flow) Answer) (bool, error) {
	for stop := min(t.next+t.part, len(t.flows)); t.next < stop; t.next++ {
		if t.sent[t.next] || !t.owner {
			continue
		}
		switch offer(uint32(t.next), t.flows[t.next]) {
		case Sent:
			t.sent[t.next] = true
		case Full:
			return false, nil
		}
	}
	if t.next >= len(t.flows) {
		t.next = 0
		return true, nil
	}
	return false, nil
}

func (t *table) Again(places []uint32) {
	for _, p := range places {
		t.sent[p] = false
	}
}
func (t *table) AgainAll()          { clear(t.sent); t.next = 0 }
func (t *table) Generation() uint64 { return t.generation }
func (t *table) Insert(flows []dataplane.Flow) (stored, noRoom int, err error) {
	if t.refuse {
		return 0, 0, nil
	}
	for _, f := range flows {
		if _, here := t.at[f.Client]; !here && t.room > 0 && len(t.flows) == t.room {
			noRoom++
			continue
		}
		f.Age = 0
		t.put(f)
	}
	return len(flows) - noRoom, noRoom, nil
}

// same: each flow of t is in o.
func (t *table) missing(o *table) int {
	n := 0
	for _, f := range t.flows {
		i, ok := o.at[f.Client]
		if !ok || o.flows[i].Server != f.Server || o.flows[i].State != f.State || o.flows[i].Service != f.Service {
			n++
		}
	}
	return n
}

var (
	secret = Keys{Send: 1, Keys: []Key{Derive(1, []byte("secret"))}}
	start  = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
)

func testConfig(session uint64) Config {
	return Config{SyncID: 3, MaxSize: 1472, Bandwidth: 100 << 20, Keys: secret, Session: session}
}

func flow(n int) dataplane.Flow {
	return dataplane.Flow{
		Client:  netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 40000),
		Service: dataplane.ServiceKey{VIP: netip.MustParseAddr("192.0.2.1"), Port: 80, Protocol: dataplane.TCP}, Port: 80,
		Server: netip.MustParseAddr("192.0.2.9"), State: dataplane.FlowEstablished, Expires: 900 * time.Second,
	}
}

// link is two nodes and what is between them.
type link struct {
	t      *testing.T
	now    time.Time
	nodes  [2]*Core
	tables [2]*table
	lose   func(from int, msg []byte) bool // nil: nothing is lost
	delay  func(from int) int              // ticks a message takes; nil: it is there with the next one
	wire   [2][]flying                     // by receiver
	bytes  [2]int
	tick   int
}

type flying struct {
	msg []byte
	at  int
}

func newLink(t *testing.T) *link {
	l := &link{t: t, now: start, tables: [2]*table{newTable(true), newTable(false)}}
	for i := range l.nodes {
		l.restart(i)
	}
	return l
}

var sessions uint64 = 100

func (l *link) restart(i int) {
	sessions++
	c, err := New(testConfig(sessions), l.now)
	if err != nil {
		l.t.Fatal(err)
	}
	l.nodes[i] = c
}

// run lets time pass.
func (l *link) run(d time.Duration) {
	l.t.Helper()
	for end := l.now.Add(d); l.now.Before(end); l.now = l.now.Add(Period) {
		l.tick++
		for i, c := range l.nodes {
			var later []flying
			for _, f := range l.wire[i] {
				if f.at > l.tick {
					later = append(later, f)
					continue
				}
				if err := c.Receive(l.now, f.msg, l.tables[i]); err != nil {
					l.t.Fatalf("node %d: %v", i, err)
				}
			}
			l.wire[i] = later
		}
		for i, c := range l.nodes {
			out, err := c.Tick(l.now, l.tables[i])
			if err != nil {
				l.t.Fatal(err)
			}
			for _, msg := range out {
				if len(msg) > 1472 {
					l.t.Fatalf("a message of %d bytes", len(msg))
				}
				l.bytes[i] += len(msg)
				if l.lose != nil && l.lose(i, msg) {
					continue
				}
				at := l.tick
				if l.delay != nil {
					at += l.delay(i)
				}
				l.wire[1-i] = append(l.wire[1-i], flying{bytes.Clone(msg), at})
			}
		}
	}
}

func (l *link) synced() {
	l.t.Helper()
	if n := l.tables[0].missing(l.tables[1]); n != 0 {
		l.t.Errorf("%d of %d flows are not at the peer", n, len(l.tables[0].flows))
	}
	if a, b := l.nodes[0].State(l.now), l.nodes[1].State(l.now); !a.InSync || !b.Complete || !a.Peer || a.Lag != 0 {
		l.t.Errorf("sender %+v, receiver %+v", a, b)
	}
}

func TestJoinAndChanges(t *testing.T) {
	l := newLink(t)
	for i := range 5000 {
		l.tables[0].put(flow(i))
	}
	l.run(500 * time.Millisecond)
	l.synced()
	if s := l.nodes[0].State(l.now); s.Passes != 1 || s.Resent != 0 {
		t.Errorf("%+v", s)
	}
	// A new one, and a new state, are there 100 ms later.
	for i := 4990; i < 5010; i++ {
		f := flow(i)
		f.State = dataplane.FlowFin
		l.tables[0].put(f)
	}
	l.run(100 * time.Millisecond)
	l.synced()
	if s := l.nodes[0].State(l.now); s.Passes != 1 {
		t.Errorf("%d whole tables for 20 changes", s.Passes)
	}
	// Nothing to say: a hello a second each, no talk.
	before := l.nodes[0].stats.Sent.Messages + l.nodes[1].stats.Sent.Messages
	l.run(10 * time.Second)
	if n := l.nodes[0].stats.Sent.Messages + l.nodes[1].stats.Sent.Messages - before; n < 18 || n > 24 {
		t.Errorf("%d messages in 10 s of silence, want 20", n)
	}
	// The peer is restarted, and empty.
	l.tables[1] = newTable(false)
	l.restart(1)
	l.run(2 * time.Second)
	l.synced()
	if s := l.nodes[0].State(l.now); s.Passes != 2 || s.Bad+s.Unsigned+s.Replayed != 0 {
		t.Errorf("%+v", s)
	}
	// We are.
	l.tables[0].AgainAll()
	l.restart(0)
	l.run(2 * time.Second)
	l.synced()
	// The peer is gone.
	l.lose = func(int, []byte) bool { return true }
	l.run(4 * time.Second)
	if s := l.nodes[0].State(l.now); s.Peer || s.InSync {
		t.Errorf("a peer that is silent for 4 s: %+v", s)
	}
}

// Whatever is lost, delayed and overtaken, the table is there in the end.
func TestLoss(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		lossy(t, rt, rapid.Float64Range(0, 0.4).Draw(rt, "loss"), rapid.IntRange(0, 6).Draw(rt, "late"),
			rapid.Uint64().Draw(rt, "seed"), rapid.IntRange(0, 1000).Draw(rt, "flows"), rapid.IntRange(0, 5).Draw(rt, "steps"), rapid.SampledFrom([]int{1500, 30, 3}).Draw(rt, "changing"))
	})
}

// TestLateSession: both were restarted, and a message of the one's earlier
// session comes after the first of its present one, which is then taken for the
// earlier.
func TestLateSession(t *testing.T) {
	lossy(t, t, 0.00048828125, 4, 0x1aaa0d4a4219, 1000, 3, 1500)
}

// TestOvertaken: of two messages that carry the same flow the earlier one comes
// last.
func TestOvertaken(t *testing.T) {
	lossy(t, t, 0.0234375, 3, 0x1c66790faf99, 698, 5, 1500)
}

func lossy(t *testing.T, rt interface{ Fatalf(string, ...any) }, loss float64, late int, seed uint64, n, steps, changing int) {
	l := newLink(t)
	rnd := rand.New(rand.NewPCG(seed, 1))
	l.lose = func(int, []byte) bool { return rnd.Float64() < loss }
	l.delay = func(int) int { return rnd.IntN(late + 1) }
	for i := range n {
		l.tables[0].put(flow(i))
	}
	for range steps {
		for range 20 {
			f := flow(rnd.IntN(changing))
			f.State = []dataplane.FlowState{dataplane.FlowEstablished, dataplane.FlowFin}[rnd.IntN(2)]
			l.tables[0].put(f)
		}
		switch rnd.IntN(6) {
		case 0:
			l.tables[1] = newTable(false)
			l.restart(1)
		case 1:
			l.tables[0].AgainAll()
			l.restart(0)
		}
		l.run(time.Duration(rnd.IntN(400)) * time.Millisecond)
	}
	l.lose, l.delay = nil, nil
	l.run(3 * time.Second)
	if n := l.tables[0].missing(l.tables[1]); n != 0 {
		rt.Fatalf("%d flows are missing", n)
	}
	if a, b := l.nodes[0].State(l.now), l.nodes[1].State(l.now); !a.InSync || !b.Complete {
		rt.Fatalf("sender %+v %+v, receiver %+v", a, l.nodes[0].send, b)
	}
}

// InSync is not said before the flows are there, whatever is lost.
func TestInSyncIsTrue(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := newLink(t)
		loss := rapid.Float64Range(0, 0.6).Draw(rt, "loss")
		late := rapid.IntRange(0, 6).Draw(rt, "late")
		rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		l.lose = func(int, []byte) bool { return rnd.Float64() < loss }
		l.delay = func(int) int { return rnd.IntN(late + 1) }
		for i := range rapid.IntRange(1, 500).Draw(rt, "flows") {
			l.tables[0].put(flow(i))
		}
		for range 100 {
			l.run(Period)
			if n := l.tables[0].missing(l.tables[1]); n > 0 && l.nodes[0].State(l.now).InSync {
				rt.Fatalf("in sync after %v with %d flows missing", l.now.Sub(start), n)
			}
		}
	})
}

func TestBandwidth(t *testing.T) {
	l := newLink(t)
	const bandwidth = 1 << 20
	l.nodes[0].cfg.Bandwidth = bandwidth
	for i := range 100_000 {
		l.tables[0].put(flow(i))
	}
	l.run(100 * time.Millisecond)
	for range 3 {
		l.bytes[0] = 0
		l.run(time.Second)
		if b := l.bytes[0]; b > bandwidth*11/10 || b < bandwidth*9/10 {
			t.Errorf("%d bytes in a second, want %d", b, bandwidth)
		}
	}
	l.run(2 * time.Second)
	l.synced()
}

// A peer that is slow to confirm is not run over.
func TestFlowControl(t *testing.T) {
	l := newLink(t)
	l.run(time.Second)
	l.nodes[0].cfg.Bandwidth = 1 << 40
	for i := range 400_000 {
		l.tables[0].put(flow(i))
	}
	l.tables[0].part = 1 << 20
	l.delay = func(int) int { return 10 }
	most := uint64(0)
	for range 300 {
		l.run(Period)
		most = max(most, l.nodes[0].send.number-l.nodes[0].send.floor)
	}
	if most > Window/2 {
		t.Errorf("%d messages ahead of what was confirmed", most)
	}
	l.run(2 * time.Second)
	l.synced()
	if s := l.nodes[0].State(l.now); s.Resent > 0 || s.Passes != 1 {
		t.Errorf("%+v", s)
	}
}

// A flood of SYNs does not delay what is established.
func TestSYNsHaveAQuarter(t *testing.T) {
	l := newLink(t)
	l.nodes[0].cfg.Bandwidth = 1 << 20
	l.run(time.Second)
	for i := range 50_000 {
		f := flow(i)
		f.State = dataplane.FlowSyn
		l.tables[0].put(f)
	}
	l.tables[0].part = 1 << 20
	l.bytes[0] = 0
	l.run(time.Second)
	if b := l.bytes[0]; b > 1<<20*35/100 {
		t.Errorf("%d bytes of SYNs in a second, want a quarter of %d", b, 1<<20)
	}
	est := flow(60_000)
	l.tables[0].put(est)
	l.run(50 * time.Millisecond)
	if _, ok := l.tables[1].at[est.Client]; !ok {
		t.Error("an established flow waits behind SYNs")
	}
	l.run(10 * time.Second)
	l.synced()
}

// What was refused because its server was not known is asked for again when
// the configuration has changed, and not before.
func TestRefusedFlowsAreAskedForAgain(t *testing.T) {
	l := newLink(t)
	for i := range 100 {
		l.tables[0].put(flow(i))
	}
	l.tables[1].refuse = true
	l.run(3 * time.Second)
	if a, b := l.nodes[0].State(l.now), l.nodes[1].State(l.now); b.Refused != 100 || len(l.tables[1].flows) != 0 || a.InSync || b.Complete {
		t.Errorf("%+v, %+v", a, b)
	}
	l.tables[1].refuse, l.tables[1].generation = false, 2
	l.run(500 * time.Millisecond)
	l.synced()
	if s := l.nodes[0].State(l.now); s.Passes != 2 {
		t.Errorf("%d whole tables, want 2", s.Passes)
	}
	// What cannot be stored at all does not make it wait for ever.
	l.tables[1] = newTable(false)
	l.tables[1].refuse = true
	l.restart(1)
	l.run(9 * time.Second)
	if l.nodes[0].State(l.now).InSync {
		t.Error("in sync, and nothing was stored")
	}
	l.run(5 * time.Second)
	if s := l.nodes[0].State(l.now); !s.InSync || s.Passes != 3 {
		t.Errorf("%+v", s)
	}
}

// A joiner whose table is too small for all has what it can have at once: it
// neither waits nor asks again, and says how much it has not.
func TestAJoinerWithoutRoomIsDoneAtOnce(t *testing.T) {
	l := newLink(t)
	const flows, room = 1000, 300
	for i := range flows {
		l.tables[0].put(flow(i))
	}
	l.tables[1].room = room
	l.run(time.Second)
	a, b := l.nodes[0].State(l.now), l.nodes[1].State(l.now)
	if !a.InSync || !b.Complete || len(l.tables[1].flows) != room || b.NoRoom != flows-room || b.Refused != 0 || b.Received.Flows != room {
		t.Errorf("after a second: %+v, %+v, %d flows", a, b, len(l.tables[1].flows))
	}
	// Nor does another configuration have it ask again, as it may know more servers,
	// but has no larger table.
	l.tables[1].generation++
	l.run(2 * time.Second)
	if s := l.nodes[0].State(l.now); !s.InSync || s.Passes != 1 {
		t.Errorf("another configuration: %+v, want one pass", s)
	}
	// What is of an unknown server beside those is waited for.
	l.tables[1] = newTable(false)
	l.tables[1].refuse = true
	l.restart(1)
	l.run(2 * time.Second)
	if l.nodes[0].State(l.now).InSync {
		t.Error("in sync, and the servers are not known")
	}
}

// An adversary who hears everything and sends it again changes nothing.
func TestReplays(t *testing.T) {
	l := newLink(t)
	var heard [2][][]byte // by receiver
	l.lose = func(from int, msg []byte) bool {
		heard[1-from] = append(heard[1-from], bytes.Clone(msg))
		return false
	}
	replay := func() {
		for i, c := range l.nodes {
			for _, msg := range heard[i] {
				if err := c.Receive(l.now, msg, l.tables[i]); err != nil {
					t.Fatal(err)
				}
			}
			for _, msg := range heard[1-i] { // to whom it did not go
				if err := c.Receive(l.now, msg, l.tables[i]); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for i := range 200 {
		l.tables[0].put(flow(i))
	}
	l.run(time.Second)
	old := flow(7)
	moved := old
	moved.Server = netip.MustParseAddr("192.0.2.10")
	l.tables[0].put(moved)
	l.run(time.Second)
	check := func(when string) {
		t.Helper()
		replay()
		if got := l.tables[1].flows[l.tables[1].at[old.Client]].Server; got != moved.Server {
			t.Errorf("%s: an old message moved the flow back to %s", when, got)
		}
		peers := [2]uint64{l.nodes[0].peer, l.nodes[1].peer}
		l.run(time.Second)
		if l.nodes[0].peer != peers[0] || l.nodes[1].peer != peers[1] {
			t.Errorf("%s: another peer is believed", when)
		}
		l.synced()
	}
	check("in the same sessions")
	l.tables[0].AgainAll()
	l.restart(0)
	l.run(2 * time.Second)
	check("after a restart of the sender")
	l.restart(1)
	l.run(2 * time.Second)
	check("after a restart of the receiver")
	if s := l.nodes[1].State(l.now); s.Bad != 0 {
		t.Errorf("%+v", s)
	}
}

func TestSignatures(t *testing.T) {
	l := newLink(t)
	l.tables[0].put(flow(1))
	var last []byte
	l.lose = func(from int, msg []byte) bool {
		if from == 0 {
			last = bytes.Clone(msg)
		}
		return false
	}
	l.run(time.Second)
	b, first := l.nodes[1], last
	for at := range last {
		bad := bytes.Clone(last)
		bad[at] ^= 0x10
		if err := b.Receive(l.now, bad, l.tables[1]); err == nil {
			t.Fatalf("byte %d is another one, and the message counted", at)
		}
	}
	if err := b.Receive(l.now, last[:len(last)-1], l.tables[1]); !errors.Is(err, ErrUnsigned) {
		t.Errorf("cut short: %v", err)
	}
	// Keys change one node after the other.
	both := Keys{Send: 1, Keys: []Key{secret.Keys[0], Derive(2, []byte("new"))}}
	next := Keys{Send: 2, Keys: both.Keys}
	for i, step := range []struct {
		node int
		keys Keys
	}{{0, both}, {1, next}, {0, next}, {0, Keys{Send: 2, Keys: both.Keys[1:]}}, {1, Keys{Send: 2, Keys: both.Keys[1:]}}} {
		if err := l.nodes[step.node].SetKeys(step.keys); err != nil {
			t.Fatal(err)
		}
		l.tables[0].put(flow(10 + i))
		l.run(300 * time.Millisecond)
		l.synced()
	}
	if err := b.SetKeys(Keys{Send: 5}); err == nil {
		t.Error("keys without the one that signs were taken")
	}
	if err := b.Receive(l.now, first, l.tables[1]); !errors.Is(err, ErrAuth) {
		t.Errorf("signed with a key that is gone: %v", err)
	}
	if s := Derive(1, []byte("secret")).String(); strings.Contains(s, "secret") || s != "key 1" {
		t.Error(s)
	}
}

// kernelMessage is one that a kernel's master daemon sent.
func kernelMessage(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile("wire/testdata/master-6.1.hex")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	msg, err := hex.DecodeString(lines[len(lines)-1])
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

func TestKernelMaster(t *testing.T) {
	msg := kernelMessage(t)
	for _, tt := range []struct {
		kernel bool
		id     uint8
		want   int
	}{{false, 7, 0}, {true, 7, 7}, {true, 0, 7}, {true, 8, 0}} {
		cfg := testConfig(1)
		cfg.Kernel, cfg.SyncID = tt.kernel, tt.id
		c, err := New(cfg, start)
		if err != nil {
			t.Fatal(err)
		}
		tab := newTable(false)
		err = c.Receive(start, msg, tab)
		if got := errors.Is(err, ErrUnsigned); got == tt.kernel {
			t.Errorf("%+v: %v", tt, err)
		}
		if len(tab.flows) != tt.want { // six connections, the end of each, one of UDP
			t.Errorf("%+v: %d flows", tt, len(tab.flows))
		}
		for i, f := range tab.flows {
			want := dataplane.FlowFin
			if i == 6 {
				want = dataplane.FlowUDP
			}
			if f.State != want || f.Service.VIP.String() != "192.168.145.101" || f.Expires < 120*time.Second {
				t.Errorf("%+v", f)
			}
		}
	}
}

// What a kernel sees of ours: a message whose connections it understands.
func TestEntriesForAKernel(t *testing.T) {
	fin, syn, udp, v6 := flow(2), flow(3), flow(4), flow(5)
	fin.State, syn.State, udp.State, udp.Service.Protocol = dataplane.FlowFin, dataplane.FlowSyn, dataplane.FlowUDP, dataplane.UDP
	v6.Client, v6.Service.VIP, v6.Server = netip.MustParseAddrPort("[2001:db8::5]:7"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::9")
	v6.Service.Protocol = dataplane.SCTP
	mixed := flow(6) // no message can say it
	mixed.Server = v6.Server
	tab := newTable(true)
	for _, f := range []dataplane.Flow{flow(1), fin, syn, udp, v6, mixed} {
		f.Expires -= 500 * time.Millisecond
		tab.put(f)
	}
	c, err := New(testConfig(1), start)
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.Tick(start.Add(time.Second), tab)
	if err != nil || len(out) == 0 {
		t.Fatal(len(out), err)
	}
	var m wire.Message
	if err := wire.Decode(out[0], &m); err != nil {
		t.Fatal(err)
	}
	if m.SyncID != 3 || len(m.Entries) != 5 || len(out[0])%4 != 0 {
		t.Fatalf("%+v", m)
	}
	for i, want := range []struct {
		state uint16
		flags uint32
	}{{1, 0x83}, {4, 0x183}, {3, 0x183}, {0, 0x183}, {8, 0x83}} {
		e := m.Entries[i]
		if e.State != want.state || e.Flags != want.flags || e.Timeout != 900 || e.Server.Port() != 80 || e.VIP.Port() != 80 {
			t.Errorf("%+v, want state %d, flags %#x", e, want.state, want.flags)
		}
		f, ok := fromEntry(&e)
		if back := tab.flows[i]; !ok || f.Client != back.Client || f.State != back.State || f.Server != back.Server || f.Service != back.Service {
			t.Errorf("%+v came back as %+v", back, f)
		}
	}
}

// The template of a persistent client, as a kernel has it; of a range of ports
// none has.
func TestTemplates(t *testing.T) {
	for _, f := range []dataplane.Flow{flow(1), func() dataplane.Flow { f := flow(2); f.Service.Port = 0; return f }()} {
		f.Client, f.Port, f.State = netip.AddrPortFrom(f.Client.Addr(), 0), 0, dataplane.FlowTemplate
		e, ok := toEntry(f)
		if !ok || e.Flags != 0x1003 || e.State != templateAssured || e.Client.Port() != 0 || e.VIP.Port() != f.Service.Port || e.Timeout != 900 {
			t.Errorf("%v, %+v", ok, e)
		}
		if back, ok := fromEntry(&e); !ok || back != f {
			t.Errorf("%+v came back as %+v", f, back)
		}
		e.State = 2
		if _, ok := fromEntry(&e); ok {
			t.Error("a template of a state that is none")
		}
		e.State, e.Protocol = 0, 0
		if _, ok := fromEntry(&e); ok {
			t.Error("a template of a firewall mark")
		}
		f.Service.Port, f.Service.LastPort = 80, 89
		if _, ok := toEntry(f); ok {
			t.Error("a template of a range of ports")
		}
	}
}

func TestWhatIsNoFlow(t *testing.T) {
	good, _ := toEntry(flow(1))
	for name, change := range map[string]func(*wire.Entry){
		"template":       func(e *wire.Entry) { e.Flags |= wire.Template },
		"protocol":       func(e *wire.Entry) { e.Protocol = 50 },
		"state":          func(e *wire.Entry) { e.State = 11 },
		"unknown option": func(e *wire.Entry) { e.Options = []wire.Option{{Type: 9, Data: []byte{1}}} },
		"no client port": func(e *wire.Entry) { e.Client = netip.AddrPortFrom(e.Client.Addr(), 0) },
	} {
		e := good
		change(&e)
		if f, ok := fromEntry(&e); ok {
			t.Errorf("%s: taken for %+v", name, f)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"session":   func(c *Config) { c.Session = 0 },
		"key":       func(c *Config) { c.Keys.Send = 9 },
		"too small": func(c *Config) { c.MaxSize = 200 },
		"too large": func(c *Config) { c.MaxSize = 70000 },
		"bandwidth": func(c *Config) { c.Bandwidth = 1000 },
	} {
		cfg := testConfig(1)
		change(&cfg)
		if _, err := New(cfg, start); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// Nothing that arrives makes it panic, and nothing unsigned counts.
func FuzzReceive(f *testing.F) {
	f.Add(kernelMessage(f), true)
	s, err := newSealer(secret)
	if err != nil {
		f.Fatal(err)
	}
	for _, tr := range []trailer{
		{session: 2, echo: 1, number: 1},
		{session: 2, echo: 1, number: 1 << 40, floor: 7, upto: 3, wants: 1, missed: []run{{1, 2}, {3, 1}}},
		{session: 3, number: 5},
	} {
		e, _ := toEntry(flow(1))
		msg := tr.append(wire.AppendEntry(wire.Begin(nil, 3), &e), 1)
		size := len(msg) + 32
		msg[2], msg[3] = byte(size>>8), byte(size)
		f.Add(s.sign(msg)[:len(msg)], false) // the fuzzer changes it, and we sign
	}
	f.Fuzz(func(t *testing.T, data []byte, raw bool) {
		cfg := testConfig(1)
		cfg.Kernel = raw
		c, err := New(cfg, start)
		if err != nil {
			t.Fatal(err)
		}
		tab := newTable(false)
		if !raw && len(data) > 0 && len(data) < 65000 {
			data = s.sign(bytes.Clone(data))
		}
		_ = c.Receive(start, data, tab)
		_ = c.Receive(start, data, tab)
		if _, err := c.Tick(start.Add(time.Second), tab); err != nil {
			t.Fatal(err)
		}
		if st := c.State(start.Add(time.Second)); st.Received.Messages > 2 {
			t.Errorf("%+v", st)
		}
	})
}

func BenchmarkReceive(b *testing.B) {
	cfg := testConfig(2)
	tab := newTable(true)
	for i := range 38 {
		tab.put(flow(i))
	}
	a, _ := New(testConfig(1), start)
	c, _ := New(cfg, start)
	a.peer, c.peer = 2, 1
	out, err := a.Tick(start.Add(time.Second), tab)
	if err != nil || len(out) == 0 {
		b.Fatal(err)
	}
	sink := sinkTable{newTable(false)}
	b.SetBytes(int64(len(out[0])))
	for b.Loop() {
		c.recv.restart(1)
		if err := c.Receive(start, out[0], sink); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/38, "ns/flow")
}

type sinkTable struct{ *table }

func (sinkTable) Insert(f []dataplane.Flow) (int, int, error) { return len(f), 0, nil }
