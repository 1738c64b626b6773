package takeover

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"systole/hb/wire"
)

func TestClass(t *testing.T) {
	for _, c := range []struct {
		class, inverse Class
		word           string
	}{
		{None, None, "none"}, {Local, Foreign, "local"}, {Foreign, Local, "foreign"}, {All, All, "all"},
	} {
		if got := c.class.Inverse(); got != c.inverse {
			t.Errorf("%s.Inverse() = %s, want %s", c.class, got, c.inverse)
		}
		if got, err := ParseClass(c.word); err != nil || got != c.class || c.class.String() != c.word {
			t.Errorf("%q is %v (%v), want %s", c.word, got, err, c.class)
		}
		text, err := json.Marshal(c.class)
		var back Class
		if err != nil || string(text) != `"`+c.word+`"` || json.Unmarshal(text, &back) != nil || back != c.class {
			t.Errorf("%s in JSON is %s, back it is %s", c.class, text, back)
		}
	}
	for _, bad := range []string{"", "ALL", "both", "failback", "local "} {
		if _, err := ParseClass(bad); !errors.Is(err, ErrClass) || !strings.Contains(err.Error(), "want none, local") {
			t.Errorf("ParseClass(%q): %v", bad, err)
		}
	}
	if json.Unmarshal([]byte(`"some"`), new(Class)) == nil {
		t.Error("a wrong word in JSON was taken")
	}
}

func TestOrderOfMessages(t *testing.T) {
	at := func(hg, seq string) order { return orderOf(wire.New("resource", "hg", hg, "seq", seq)) }
	for _, c := range []struct {
		o, p order
		want bool
	}{
		{at("1", "10"), at("1", "f"), true},
		{at("1", "f"), at("1", "10"), false},
		{at("1", "f"), at("1", "f"), false}, // a double
		{at("2", "1"), at("1", "ff"), true},
		{at("1", "ff"), at("2", "1"), false},
		{orderOf(wire.New("resource")), at("1", "1"), true},
		{at("1", "1"), order{}, true},
	} {
		if got := c.o.after(c.p); got != c.want {
			t.Errorf("%v after %v = %v", c.o, c.p, got)
		}
	}
}

// An unknown operation, a Done twice, an input after Stopped: nothing happens.
func TestInputsOutOfPlace(t *testing.T) {
	now := time.Unix(1, 0)
	m := New(Config{Node: "node1", Peer: "node2"})
	if out := m.Step(now, Done{Op: 7}); len(out) != 1 {
		t.Errorf("unknown operation: %v", out)
	}
	m.Step(now, Peer{})
	m.Step(now, Joined{})
	if out := m.Step(now, Joined{}); len(out) != 0 {
		t.Errorf("joined twice: %v", out)
	}
	if v := m.View(); v.Word() != "transition" {
		t.Errorf("held but not active is %q", v.Word())
	}
	m.Step(now, Done{Op: 1})
	if v := m.View(); v.Word() != "all" || !m.Deadline().IsZero() {
		t.Errorf("at rest: %+v, deadline %v", v, m.Deadline())
	}
	m.Step(now, Shutdown{})
	if out := m.Step(now, Done{Op: 2}); len(out) == 0 || out[len(out)-1] != (Stopped{}) {
		t.Errorf("stopping ends with %v", out)
	}
	if out := m.Step(now, Peer{Alive: true}); out != nil || !m.Deadline().IsZero() {
		t.Errorf("after Stopped: %v", out)
	}
}

// The lease comes before every message, and death acquires before it speaks.
func TestOrderOfOutputs(t *testing.T) {
	now := time.Unix(1, 0)
	m := New(Config{Node: "node1", Peer: "node2"})
	m.Step(now, Peer{})
	m.Step(now, Joined{})
	m.Step(now, Done{Op: 1})
	out := m.Step(now, Peer{Alive: true})
	if out[0] != (Lease{LeaseArmed}) {
		t.Errorf("the peer came: %v", out)
	}
	m.Step(now, Message{Msg: wire.New("resource", "rsc_hold", "none", "rtype", "full", "isstable", "1")})
	m.Step(now, Standby{All})
	m.Step(now, Message{Msg: wire.New("ask_resources", "rsc_hold", "all", "info", "other")})
	out = m.Step(now, Peer{Why: "silent"})
	if _, ok := out[1].(Acquire); out[0] != (Lease{LeaseUnlimited}) || !ok {
		t.Errorf("the peer died in a hand-over: %v", out)
	}
}

// A report that adds to the one before says nothing if a newer full one has
// come: what it added may be gone.
func TestLateAddition(t *testing.T) {
	now := time.Unix(1, 0)
	m := New(Config{Node: "node1", Peer: "node2"})
	m.Step(now, Peer{Alive: true})
	m.Step(now, Joined{})
	for _, test := range []struct {
		seq, held string
		full      bool
		want      Class
	}{
		{"1", "none", true, None},
		{"2", "local", false, Local},
		{"5", "none", true, None},
		{"4", "local", false, None}, // sent before, came late
		{"3", "all", true, None},
		{"6", "local", false, Local},
	} {
		msg := wire.New("resource", "rsc_hold", test.held, "hg", "1", "seq", test.seq)
		if test.full {
			msg.Set("rtype", "full")
			msg.Set("isstable", "1")
		}
		m.Step(now, Message{Msg: msg})
		if got := m.View().OtherHeld; got != test.want {
			t.Errorf("after number %s: the peer holds %v, want %v", test.seq, got, test.want)
		}
	}
}

// An answer may be lost without notice until the peer's first status has come:
// with that we ask again, until we are answered.
func TestHelloAgain(t *testing.T) {
	now := time.Unix(1, 0)
	m := New(Config{Node: "node1", Peer: "node2"})
	hello := func(in Input) (n string) {
		t.Helper()
		for _, out := range m.Step(now, in) {
			if s, ok := out.(Send); ok && s.Msg.Type() == typeSystole {
				if info, _ := s.Msg.Get("info"); info == infoHello {
					n, _ = s.Msg.Get("n")
				}
			}
		}
		return n
	}
	if n := hello(Peer{Alive: true}); n != "" {
		t.Errorf("greets before it has joined")
	}
	first := hello(Joined{})
	second := hello(Peer{Alive: true, Why: "it says so"})
	if first == "" || second == "" || first == second {
		t.Fatalf("greets with %q and, with the first status, with %q", first, second)
	}
	m.Step(now, Message{Msg: wire.New(typeSystole, "info", infoHold, "rsc_hold", "local", "epoch", "1/0", "isstable", "1", "re", second)})
	if v := m.View(); v.State != "stable" || v.Held != Local {
		t.Errorf("answered: %+v", v)
	}
	if n := hello(Peer{Alive: true, Why: "it says so"}); n != "" {
		t.Errorf("greets again though it was answered")
	}
}

// TestEndOvertaken: a peer that gives back what it has just taken says so right
// after its "done", which may come later. It ends the hand-over all the same; the
// "done" of an earlier one does not.
func TestEndOvertaken(t *testing.T) {
	now := time.Unix(1, 0)
	m := New(Config{Node: "node1", Peer: "node2"})
	say := func(typ, seq string, kv ...string) {
		m.Step(now, Message{Msg: wire.New(typ, append(kv, "hg", "1", "seq", seq)...)})
	}
	m.Step(now, Peer{Alive: true})
	m.Step(now, Joined{})
	say("resource", "1", "rsc_hold", "local", "rtype", "full", "isstable", "1")
	say(typeSystole, "2", "info", infoHold, "rsc_hold", "local", "epoch", "1/0", "isstable", "1")
	m.Step(now, Done{Op: 1})
	for _, round := range []struct{ other, done, me string }{{"4", "5", ""}, {"6", "8", "9"}} {
		m.Step(now, Standby{Local})
		say("ask_resources", round.other, "rsc_hold", "local", "info", "other")
		m.Step(now, Done{Op: m.lastOp})
		if m.phase != phaseGiving {
			t.Fatalf("%v, want giving", m.phase)
		}
		if round.me != "" {
			say("ask_resources", round.me, "rsc_hold", "foreign", "info", "me")
			say("ask_resources", "5", "rsc_hold", "local", "info", "done") // doubled
			if m.phase != phaseGiving {
				t.Fatalf("%v after a doubled message of the hand-over before", m.phase)
			}
		}
		say("ask_resources", round.done, "rsc_hold", "local", "info", "done")
		if m.phase != phaseIdle {
			t.Fatalf("%v after the peer's done", m.phase)
		}
		m.acquire(Local, forRetry, "for the next round")
		m.Step(now, Done{Op: m.lastOp})
		m.otherHeld = Foreign
	}
}

// TestAdoptAsks: with at most one owner groups that nobody seems to hold are taken
// when the peer has answered a question that it holds them no more, not before.
func TestAdoptAsks(t *testing.T) {
	for _, test := range []struct {
		re, holds string // "": the number that was asked
		want      Class
	}{{"", "local", Local}, {"", "all", None}, {"1", "local", None}} {
		now := time.Unix(1, 0)
		m := New(Config{Node: "node1", Peer: "node2", AtMostOne: true, Deadtime: 3 * time.Second})
		seq := 0
		say := func(holds string, kv ...string) {
			seq++
			m.Step(now, Message{Msg: wire.New(typeSystole, append(kv, "info", infoHold, "rsc_hold", holds, "epoch", "0/0", "isstable", "1",
				"hg", "1", "seq", strconv.Itoa(seq))...)})
		}
		m.Step(now, Peer{Alive: true, Systole: true})
		m.Step(now, Joined{})
		say("local", "re", strconv.FormatUint(m.claim, 16))
		m.Step(now, Quorum{Have: true})
		asked := ""
		for range 3 {
			now = now.Add(2 * time.Second)
			for _, out := range m.Step(now, Tick{}) {
				if s, ok := out.(Send); ok && s.Msg.Type() == typeSystole {
					asked, _ = s.Msg.Get("n")
				}
			}
		}
		if asked == "" || m.View().Held != None {
			t.Fatalf("asked with %q, holds %v", asked, m.View().Held)
		}
		re := test.re
		if re == "" {
			re = asked
		}
		say(test.holds, "re", re)
		if got := m.View().Held; got != test.want {
			t.Errorf("the peer holds %s (answer to %s of %s): we hold %v, want %v", test.holds, re, asked, got, test.want)
		}
	}
}

// TestReportForThePreviousIncarnation: who has just restarted may get what a
// peer that was busy answers to its previous incarnation. If the peer's beats say
// that it is a Systole director, only the answer to our own hello counts; an old
// node has no other answer than its report.
func TestReportForThePreviousIncarnation(t *testing.T) {
	for _, systole := range []bool{true, false} {
		now := time.Unix(1, 0)
		m := New(Config{Node: "node1", Peer: "node2"})
		m.Step(now, Peer{Alive: true, Systole: systole})
		hello := ""
		for _, out := range m.Step(now, Joined{}) {
			if s, ok := out.(Send); ok && s.Msg.Type() == typeSystole {
				hello, _ = s.Msg.Get("n")
			}
		}
		m.Step(now, Message{Msg: wire.New("resource", "rsc_hold", "foreign", "rtype", "full", "isstable", "1")})
		if v := m.View(); (v.State == "stable") == systole {
			t.Errorf("Systole %v: after a report: %+v", systole, v)
		}
		m.Step(now, Message{Msg: wire.New(typeSystole, "info", infoHold, "rsc_hold", "all", "epoch", "2/1", "isstable", "1", "re", hello)})
		if v := m.View(); v.State != "stable" || systole && v.Held != None {
			t.Errorf("Systole %v: after the answer: %+v", systole, v)
		}
	}
}

// step feeds whatever comes and checks what must hold after any input.
func stepAnyhow(t interface{ Fatalf(string, ...any) }, m *Machine, now time.Time, in Input) (ops []Done) {
	for _, out := range m.Step(now, in) {
		switch o := out.(type) {
		case Acquire:
			if o.Class == None || o.Class&^All != 0 {
				t.Fatalf("%T%+v acquires %d", in, in, o.Class)
			}
			ops = append(ops, Done{Op: o.Op})
			if v := m.View(); v.AtMostOne && !v.Quorum {
				t.Fatalf("%T%+v acquires %s without quorum", in, in, o.Class)
			}
		case Release:
			ops = append(ops, Done{Op: o.Op})
		case Fence:
			ops = append(ops, Done{Op: o.Op})
		case Lease:
			if v := m.View(); v.AtMostOne && (o.Mode == LeaseUnlimited || o.Mode == LeaseArmed && !v.Quorum) {
				t.Fatalf("%T%+v grants %s: %+v", in, in, o.Mode, v)
			}
		case Send:
			if o.Msg.Type() == "" {
				t.Fatalf("%T%+v sends a message without a type", in, in)
			}
		}
	}
	v := m.View()
	if v.Active&^v.Held != 0 || v.Held&v.Draining != 0 || v.Held&v.Failed != 0 {
		t.Fatalf("after %T%+v: %+v", in, in, v)
	}
	if at := m.Deadline(); !at.IsZero() && !at.After(now) {
		t.Fatalf("after %T%+v the deadline %v is past", in, in, at)
	}
	return ops
}

// Whatever comes in whatever order: no panic, no class held and draining at
// once, no deadline in the past, and after the peer's death all is ours.
func TestAnything(t *testing.T) {
	words := []string{"none", "local", "foreign", "all", "some"}
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1, 0)
		atMostOne := rapid.Bool().Draw(t, "at_most_one")
		m := New(Config{Node: "node1", Peer: "node2", AutoFailback: rapid.Bool().Draw(t, "auto_failback"), AtMostOne: atMostOne,
			Legacy: rapid.Bool().Draw(t, "legacy"), Keys: []string{"192.168.145.101"}, PeerKeys: []string{"192.168.145.102"}})
		var ops []Done
		pick := func(name string, from ...string) string { return rapid.SampledFrom(from).Draw(t, name) }
		for range rapid.IntRange(1, 60).Draw(t, "inputs") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(4*time.Second)).Draw(t, "pause")))
			word := pick("word", words...)
			class := Class(rapid.IntRange(0, 3).Draw(t, "class"))
			var in Input
			switch rapid.IntRange(0, 18).Draw(t, "kind") {
			case 0:
				in = Joined{}
			case 1:
				in = Peer{Alive: true, Returned: rapid.Bool().Draw(t, "returned"), Restarted: rapid.Bool().Draw(t, "restarted")}
			case 2:
				in = Peer{}
			case 3:
				in = Message{Msg: wire.New("starting")}
			case 4:
				in = Message{Msg: wire.New("resource", "rsc_hold", word, "rtype", "full", "isstable", pick("stable", "0", "1"))}
			case 5, 6:
				in = Message{Msg: wire.New("systole", "info", pick("info", "hello", "claim", "hold", "refuse"), "rsc_hold", word,
					"epoch", pick("epoch", "0/0", "3/1", "1/3", "ffffffff/0"), "isstable", pick("stable", "0", "1"), "n", "1", "re", pick("re", "1", "3b9aca00"))}
			case 7, 8:
				in = Message{Msg: wire.New("ask_resources", "rsc_hold", word, "info", pick("info", "me", "other", "done"))}
			case 9:
				in = Message{Msg: wire.New(pick("type", "hb_takeover", "shutdone"), "rsc_hold", word)}
			case 10:
				in = Standby{class}
			case 11:
				in = Takeover{class}
			case 12:
				in = LeaseLapsed{}
			case 13:
				in = Quorum{rapid.Bool().Draw(t, "quorum")}
			case 14:
				in = Pings{rapid.IntRange(-1, 3).Draw(t, "pings")}
			case 15:
				in = Message{Msg: wire.New(pick("type", "ip-request", "ip-request-resp"), "dest", "node1",
					"ipaddr", pick("ipaddr", "192.168.145.101", "IPaddr2::192.168.145.102/24/eth0", "web"), "weown", "yes", "ok", pick("ok", "OK", "no"))}
			case 16:
				in = Message{Msg: wire.New(pick("type", "num_ping_nodes", "you_are_dead", "abort_giveup"), "dest", "node1", "num_ping", pick("num_ping", "0", "2", "x"))}
			case 17:
				in = Kept{class}
			case 18:
				in = Heard{}
			}
			ops = append(ops, stepAnyhow(t, m, now, in)...)
			if rapid.Bool().Draw(t, "done") && len(ops) > 0 {
				d := ops[0]
				if rapid.IntRange(0, 4).Draw(t, "fails") == 0 {
					d.Err = errors.New("no")
				}
				ops = append(ops[1:], stepAnyhow(t, m, now, d)...)
			}
		}
		if m.View().State == "init" {
			return
		}
		ops = append(ops, stepAnyhow(t, m, now, Peer{})...)
		ops = append(ops, stepAnyhow(t, m, now, Quorum{Have: true})...)
		for i := 0; len(ops) > 0 || !m.Deadline().IsZero(); i++ {
			if i > 1000 {
				t.Fatalf("never comes to rest: %+v", m.View())
			}
			var in Input = Tick{}
			if len(ops) > 0 {
				in, ops = ops[0], ops[1:]
			} else {
				now = m.Deadline()
			}
			ops = append(ops, stepAnyhow(t, m, now, in)...)
		}
		want := LeaseUnlimited
		if atMostOne {
			want = LeaseArmed
		}
		if v := m.View(); v.Active != All || v.Lease != want || v.Fenced {
			t.Fatalf("alone, all done: %+v", v)
		}
	})
}

// FuzzMessage: whatever the fields are, a message is understood or reported,
// and what is reported changes nothing.
func FuzzMessage(f *testing.F) {
	f.Add("systole", "claim", "all", "2a/2a", "1", "full", "1", "")
	f.Add("systole", "hold", "foreign", "0/0", "0", "", "", "3b9aca00")
	f.Add("resource", "standby", "none", "", "0", "full", "", "")
	f.Add("resource", "mach_down", "foreign", "", "", "", "", "")
	f.Add("ask_resources", "me", "all", "", "", "", "", "")
	f.Add("hb_takeover", "", "failback", "", "", "", "", "")
	f.Fuzz(func(t *testing.T, typ, info, hold, epoch, stable, rtype, n, re string) {
		now := time.Unix(1, 0)
		m := New(Config{Node: "node1", Peer: "node2"})
		m.Step(now, Peer{Alive: true})
		m.Step(now, Joined{})
		m.Step(now, Message{Msg: wire.New("resource", "rsc_hold", "local", "rtype", "full", "isstable", "1")})
		m.Step(now, Done{Op: 1})
		before := *m
		msg := wire.New(typ, "info", info, "rsc_hold", hold, "epoch", epoch, "isstable", stable)
		for _, kv := range [][2]string{{"rtype", rtype}, {"n", n}, {"re", re}} {
			if kv[1] != "" {
				msg.Set(kv[0], kv[1])
			}
		}
		out := m.Step(now, Message{Msg: msg})
		for _, o := range out {
			if r, ok := o.(Report); ok && strings.Contains(r.Text, "ignored: field") {
				if len(out) != 1 || m.View() != before.View() || m.due != before.due || m.lastReport != before.lastReport {
					t.Fatalf("%s was reported, but had an effect: %v", msg, out)
				}
			}
		}
		stepAnyhow(t, m, now, Tick{})
	})
}

// A peer that is back gets its groups only when it had the time to look at its
// real servers again.
func TestFailbackWaitsForTheReturnedPeersChecks(t *testing.T) {
	m := New(Config{Node: "node1", Peer: "node2", AutoFailback: true, FailbackDelay: 3 * time.Second})
	now := time.Unix(1000, 0)
	says := func(hold string) Message {
		return Message{Msg: wire.New("systole", "info", "hold", "rsc_hold", hold, "epoch", "0/0", "isstable", "1")}
	}
	asked := func(out []Output) bool {
		for _, o := range out {
			if s, ok := o.(Send); ok && s.Msg.Type() == "ask_resources" {
				return true
			}
		}
		return false
	}
	m.Step(now, Peer{Alive: true})
	m.Step(now, Joined{})
	m.Step(now, says("local"))
	m.Step(now, Peer{Why: "silent"})
	for op := 1; op < 4; op++ {
		m.Step(now, Done{Op: op})
	}
	if v := m.View(); v.Active != All {
		t.Fatalf("after the peer's death: %+v", v)
	}
	now = now.Add(time.Minute)
	if asked(m.Step(now, Peer{Alive: true, Returned: true})) || asked(m.Step(now, says("none"))) {
		t.Fatal("given back to a peer that has just returned")
	}
	if at := m.Deadline(); at.IsZero() || at.After(now.Add(3*time.Second)) {
		t.Fatalf("next deadline %v", at)
	}
	if asked(m.Step(now.Add(2900*time.Millisecond), Tick{})) {
		t.Fatal("given back too early")
	}
	if !asked(m.Step(now.Add(3*time.Second), Tick{})) {
		t.Fatalf("not given back: %+v", m.View())
	}
}
