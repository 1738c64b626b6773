package membership

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"systole/hb/wire"
)

func machine(t *testing.T, rule Rule, nodes ...string) *Machine {
	t.Helper()
	m, err := New(Config{Node: nodes[0], Generation: 7, Nodes: nodes, Rule: rule, Deadtime: time.Second}, simTime(0))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// good is a report of b.
func good() report {
	return report{
		about: "b", gen: 3, serial: 4, alive: []string{"a", "b"}, votes: 2,
		accepted: ID{5, 3, "b"}, members: []string{"a", "b"}, installed: ID{2, 3, "b"},
	}
}

func TestMessageRoundTrip(t *testing.T) {
	r := good()
	r.ask, r.echo = true, []echo{{"a", 9}, {"with:colon", 1}}
	got, err := parse("b", r.message(true))
	if err != nil || !reflect.DeepEqual(*got, r) {
		t.Fatalf("%+v, %v; want %+v", got, err, r)
	}
	// Passed on it neither asks nor answers.
	got, err = parse("c", r.message(false))
	r.ask, r.echo = false, nil
	if err != nil || !reflect.DeepEqual(*got, r) {
		t.Fatalf("passed on: %+v, %v; want %+v", got, err, r)
	}
}

func TestBadMessages(t *testing.T) {
	many := strings.TrimSpace(strings.Repeat("n ", maxNodes+1))
	for _, c := range []struct{ field, value, want string }{
		{"about", "", "field about"},
		{"about", "c", "field alive lacks c"},
		{"about", "B", "field about"},
		{"gen", "0", "field gen"},
		{"gen", "9223372036854775807", "field gen"},
		{"serial", "-1", "field serial"},
		{"serial", "0x4", "field serial"},
		{"alive", "a", "field alive lacks b"},
		{"alive", "a b b", "field alive"},
		{"alive", "a b C", "field alive"},
		{"alive", many, "field alive"},
		{"alive", "b " + strings.Repeat("n", maxNameLen+1), "field alive"},
		{"votes", "many", "field votes"},
		{"accepted", "5:3", "field accepted"},
		{"accepted", "5:x:b", "field accepted"},
		{"accepted", "5:3:c", "field members lacks"},
		{"members", "a", "field members lacks"},
		{"members", " ", "field members"},
		{"installed", "2", "field installed"},
		{"ask", "yes", "field ask"},
		{"echo", "a", "field echo"},
		{"echo", "a:0", "field echo"},
		{"echo", " ", "field echo"},
	} {
		m := machine(t, Rule{Kind: Majority}, "a", "b", "c")
		m.Node(simTime(0), "b", Seen{Alive: true, Systole: true})
		m.Drain()
		r := good()
		msg := r.message(true)
		msg.Set(c.field, c.value)
		err := m.Receive(simTime(1), "b", msg)
		if !errors.Is(err, ErrMessage) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s=%.20q: %v, want %q", c.field, c.value, err, c.want)
		}
		if m.peers["b"].rep != nil || len(m.Drain().Views) > 0 {
			t.Errorf("%s=%.20q has had an effect", c.field, c.value)
		}
	}
	r := good()
	r.ask = true
	if err := machine(t, Rule{}, "a", "b", "c").Receive(simTime(1), "c", r.message(true)); !errors.Is(err, ErrMessage) {
		t.Errorf("a report passed on that asks: %v", err)
	}
}

func FuzzReceive(f *testing.F) {
	f.Add("b", "3", "a b", "5:3:b", "a b", "2:3:b", "a:1")
	f.Add("c", "1", "c", "9:1:c", "c b a", "9:1:c", "")
	f.Fuzz(func(t *testing.T, about, number, alive, accepted, members, installed, echo string) {
		m := machine(t, Rule{Kind: Majority}, "a", "b", "c")
		m.Node(simTime(0), "b", Seen{Alive: true, Systole: true})
		msg := wire.New(Type, "about", about, "gen", number, "serial", number, "votes", number,
			"alive", alive, "accepted", accepted, "members", members, "installed", installed)
		if echo != "" {
			msg.Set("echo", echo)
		}
		if m.Receive(simTime(1), "b", msg) != nil {
			return
		}
		for i := range 20 {
			m.Tick(simTime(time.Duration(i) * time.Second))
			for _, msg := range m.Drain().Messages {
				from, _ := msg.Get("about")
				if _, err := parse(from, msg); err != nil {
					t.Fatalf("our own message is refused: %v", err)
				}
			}
		}
		if v := m.View(); !v.Has("a") || !slices.IsSorted(v.Members) {
			t.Fatalf("%v", v)
		}
	})
}

func TestConfig(t *testing.T) {
	good := Config{Node: "a", Generation: 1, Nodes: []string{"a", "b"}, Deadtime: time.Second}
	for want, spoil := range map[string]func(*Config){
		"Nodes":             func(c *Config) { c.Nodes = []string{"b"} },
		"each once":         func(c *Config) { c.Nodes = []string{"a", "b", "B"} },
		"not a node name":   func(c *Config) { c.Nodes = []string{"a", "b c"} },
		"Generation":        func(c *Config) { c.Generation = 0 },
		"Deadtime":          func(c *Config) { c.Deadtime = 0 },
		"Rule.Kind":         func(c *Config) { c.Rule.Kind = 9 },
		"Rule.TieBreaker":   func(c *Config) { c.Rule.Kind = TieBreaker },
		"Rule.Weights have": func(c *Config) { c.Rule.Weights = map[string]uint32{"a": 1} },
		"weigh nothing":     func(c *Config) { c.Rule = Rule{Kind: Weight, Weights: map[string]uint32{"a": 0, "b": 0}} },
	} {
		c := good
		spoil(&c)
		if _, err := New(c, simTime(0)); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, err := New(good, simTime(0)); err != nil {
		t.Error(err)
	}
}

func TestRules(t *testing.T) {
	all := []string{"a", "b", "c", "d"}
	for _, c := range []struct {
		rule  Rule
		nodes string
		seen  bool
		want  bool
		why   string
	}{
		{Rule{}, "a", false, true, "not asked for"},
		{Rule{Kind: Majority}, "a b", false, false, "no quorum with 2 of 4"},
		{Rule{Kind: Majority}, "a b c", false, true, "3 of 4 votes"},
		{Rule{Kind: Weight, Weights: map[string]uint32{"a": 4}}, "a", false, true, "4 of 7 votes"},
		{Rule{Kind: Weight, Weights: map[string]uint32{"a": 4}}, "b c d", false, false, "3 of 7 votes"},
		{Rule{Kind: TieBreaker, TieBreaker: "a"}, "a b", false, true, "preferred node a"},
		{Rule{Kind: TieBreaker, TieBreaker: "a"}, "c d", true, false, "without the preferred node a"},
		{Rule{Kind: TieBreaker, TieBreaker: "a"}, "a", true, false, "1 of 4"},
		{Rule{Kind: TieBreaker, TieBreaker: "gateway"}, "c d", true, true, "the tie-breaker gateway"},
		{Rule{Kind: TieBreaker, TieBreaker: "gateway"}, "c d", false, false, "gateway is not seen"},
		{Rule{Kind: TieBreaker, TieBreaker: "gateway"}, "b c d", false, true, "3 of 4 votes"},
	} {
		got, why := c.rule.judge(strings.Fields(c.nodes), c.rule.total(all), slices.Contains(all, c.rule.TieBreaker), c.seen)
		if got != c.want || !strings.Contains(why, c.why) {
			t.Errorf("%+v with %s, seen %v: %v, %s", c.rule, c.nodes, c.seen, got, why)
		}
	}
}

// TestOldNode: it is a member as long as we hear it, has no vote, and a view
// that lacks nobody has quorum all the same.
func TestOldNode(t *testing.T) {
	m := machine(t, Rule{Kind: Majority}, "a", "b")
	if v := m.View(); v.Quorum || !slices.Equal(v.Members, []string{"a"}) {
		t.Fatalf("alone: %v", v)
	}
	m.Node(simTime(1), "b", Seen{Alive: true})
	v := m.View()
	if !v.Quorum || !v.Settled || !slices.Equal(v.Members, []string{"a", "b"}) || !slices.Equal(v.Old, []string{"b"}) {
		t.Fatalf("with an old node: %v", v)
	}
	m.Node(simTime(2), "b", Seen{})
	if v := m.View(); v.Quorum || v.Has("b") || v.Number <= 2 {
		t.Fatalf("after its death: %v", v)
	}
}

// TestUnknownNode: who was heard is no old node before its status says so, and
// costs nobody the view.
func TestUnknownNode(t *testing.T) {
	m := machine(t, Rule{Kind: Majority}, "a", "b")
	m.Node(simTime(1), "b", Seen{Alive: true, Unknown: true})
	if v := m.View(); v.Number != 1 || v.Has("b") {
		t.Fatalf("with a node of no known kind: %v", v)
	}
	m.Node(simTime(2), "b", Seen{Alive: true, Systole: true})
	if v := m.View(); v.Number != 1 || v.Has("b") {
		t.Fatalf("with one that has not reported: %v", v)
	}
	m.Node(simTime(3), "b", Seen{Alive: true})
	if v := m.View(); !v.Has("b") || !slices.Equal(v.Old, []string{"b"}) {
		t.Fatalf("with an old node: %v", v)
	}
}

// TestNodesChange: votes count among the nodes there are now.
func TestNodesChange(t *testing.T) {
	m := machine(t, Rule{Kind: Majority}, "a", "b", "c")
	if err := m.Nodes(simTime(1), []string{"b"}); !errors.Is(err, ErrConfig) {
		t.Errorf("a list without ourselves: %v", err)
	}
	if v := m.View(); v.Quorum {
		t.Fatal(v)
	}
	if err := m.Nodes(simTime(2), []string{"A"}); err != nil {
		t.Fatal(err)
	}
	if v := m.View(); !v.Quorum || !v.Settled {
		t.Fatalf("the only node: %v", v)
	}
}

// TestCutInOneDirection: b hears us only long after we asked it the first time.
// It could not answer before, and is not held for deaf, but asked again.
func TestCutInOneDirection(t *testing.T) {
	for _, cut := range []time.Duration{0, time.Second / 2, 2 * time.Second, 10 * time.Second} {
		m := machine(t, Rule{Kind: Majority}, "a", "b")
		m.Node(simTime(0), "b", Seen{Alive: true, Systole: true})
		r := good()
		r.accepted, r.members, r.installed = ID{1, 3, "b"}, []string{"b"}, ID{1, 3, "b"}
		r.alive = []string{"b"}
		if err := m.Receive(simTime(0), "b", r.message(true)); err != nil {
			t.Fatal(err)
		}
		m.Tick(simTime(m.cfg.Delay)) // the question that is not heard
		m.Drain()
		r.serial, r.alive = r.serial+1, []string{"a", "b"}
		if err := m.Receive(simTime(cut), "b", r.message(true)); err != nil {
			t.Fatal(err)
		}
		asked := false
		for at := m.Deadline(); !at.IsZero() && at.Before(simTime(cut+2*m.cfg.Deadtime)); at = m.Deadline() {
			m.Tick(at)
			for _, msg := range m.Drain().Messages {
				if _, ask := msg.Get("ask"); ask {
					asked = true
				}
			}
		}
		if !asked || !m.own.hears("b") {
			t.Errorf("after %v: asked again %v, hears %q", cut, asked, m.own.alive)
		}
	}
}

// TestHeardAtLast: b heard us all the time, but its first report comes long after
// we asked it: it did not know us when we did. It is no deaf one.
func TestHeardAtLast(t *testing.T) {
	m := machine(t, Rule{Kind: Majority}, "a", "b")
	m.Node(simTime(0), "b", Seen{Alive: true, Systole: true})
	m.Drain()
	late := 2 * deafAfter * m.cfg.Deadtime
	r := good()
	r.accepted, r.members, r.installed = ID{1, 3, "b"}, []string{"b"}, ID{1, 3, "b"}
	if err := m.Receive(simTime(late), "b", r.message(true)); err != nil {
		t.Fatal(err)
	}
	m.Tick(simTime(late + m.cfg.Delay))
	asked := slices.ContainsFunc(m.Drain().Messages, func(msg wire.Message) bool {
		_, ask := msg.Get("ask")
		return ask
	})
	if !asked || !m.own.hears("b") {
		t.Errorf("asked again %v, hears %q", asked, m.own.alive)
	}
}

// TestUnsent: who was not asked, as there was no room for the question, is not
// deaf, and is asked again.
func TestUnsent(t *testing.T) {
	for _, unsent := range []bool{true, false} {
		m := machine(t, Rule{Kind: Majority}, "a", "b")
		m.Node(simTime(0), "b", Seen{Alive: true, Systole: true})
		r := good()
		r.accepted, r.members, r.installed = ID{1, 3, "b"}, []string{"b"}, ID{1, 3, "b"}
		if err := m.Receive(simTime(0), "b", r.message(true)); err != nil {
			t.Fatal(err)
		}
		asks := 0
		for at := m.Deadline(); at.Before(simTime(2 * deafAfter * m.cfg.Deadtime)); at = m.Deadline() {
			m.Tick(at)
			for _, msg := range m.Drain().Messages {
				if _, ask := msg.Get("ask"); ask {
					asks++
				}
				if unsent {
					m.Unsent(at)
				}
			}
			if m.Deadline().IsZero() {
				break
			}
		}
		if m.own.hears("b") != unsent || asks < deafAfter {
			t.Errorf("unsent %v: hears %q, asked %d times", unsent, m.own.alive, asks)
		}
	}
}

// TestSixteenBegin: with so few messages that hb lets them all out, though none
// is acknowledged for a while (heartbeat-wire.md section 6.4).
func TestSixteenBegin(t *testing.T) {
	s := &sim{t: t, rnd: rand.New(rand.NewPCG(1, 5)), cut: map[[2]string]time.Duration{},
		held: map[[2]string][]func(){}, made: map[ID]string{}, rule: Rule{Kind: Majority}}
	for i := range 16 {
		n := &simNode{name: fmt.Sprintf("n%02d", i)}
		s.nodes, s.names = append(s.nodes, n), append(s.names, n.name)
	}
	for _, n := range s.nodes {
		s.after(s.upTo(3*simDead), func() { s.start(n) })
	}
	s.calm()
	most := uint64(0)
	for _, n := range s.nodes {
		most = max(most, n.m.own.serial)
	}
	if v := s.nodes[0].view; len(v.Members) != 16 || !v.Settled {
		t.Errorf("the view in the end: %v", v)
	}
	if s.messages > 16*100 || most > 100 {
		t.Errorf("%d messages, up to %d of them reports of one node on itself", s.messages, most)
	}
	t.Logf("%d messages, up to %d of them reports of one node on itself", s.messages, most)
}

// TestEachViewIsInstalled: the others have agreed on a view without a node that
// restarts, and some know that all have. It is there again, and the next view
// waits until the last of them knows: with one left out nobody would confirm.
func TestEachViewIsInstalled(t *testing.T) {
	m := machine(t, Rule{Kind: Majority}, "a", "b", "c")
	reports := map[string]*report{}
	at := time.Second
	say := func(name string, change func(r *report)) {
		t.Helper()
		r := reports[name]
		r.serial++
		change(r)
		r.echo = []echo{{"a", m.own.serial}}
		if err := m.Receive(simTime(at), name, r.message(true)); err != nil {
			t.Fatal(err)
		}
	}
	all := []string{"a", "b", "c"}
	for _, name := range all[1:] {
		alone := ID{1, 3, name}
		reports[name] = &report{about: name, gen: 3, alive: all, votes: 3, accepted: alone, members: []string{name}, installed: alone}
		m.Node(simTime(0), name, Seen{Alive: true, Systole: true})
		m.Tick(simTime(at))
		say(name, func(*report) {})
	}
	follows := func(r *report) { r.accepted, r.members, r.installed = m.own.accepted, m.own.members, m.own.accepted }
	for range 2 {
		at += m.cfg.Deadtime
		m.Tick(simTime(at))
		say("b", follows)
		say("c", follows)
	}
	if v := m.View(); len(v.Members) != 3 || !v.Quorum {
		t.Fatalf("at first: %v", v)
	}

	// b begins anew, hears nobody yet; a makes a view without it.
	at += m.cfg.Deadtime
	reports["b"] = &report{about: "b", gen: 4, alive: []string{"b"}, votes: 3, accepted: ID{1, 4, "b"}, members: []string{"b"}, installed: ID{1, 4, "b"}}
	m.Node(simTime(at), "b", Seen{Alive: true, Restarted: true, Systole: true})
	say("b", func(*report) {})
	without := m.own.accepted
	if !slices.Equal(m.own.members, []string{"a", "c"}) || m.own.installed == without {
		t.Fatalf("a has accepted %v of %v, installed %v", without, m.own.members, m.own.installed)
	}
	m.Tick(simTime(at + m.cfg.Delay))
	say("b", func(r *report) { r.alive = all })
	if m.own.accepted != without || m.growAt.IsZero() {
		t.Fatalf("a made %v before %v was installed", m.own.accepted, without)
	}
	say("c", func(r *report) { r.accepted, r.members, r.installed = without, []string{"a", "c"}, without })
	if v := m.View(); v.ID != without || !v.Quorum {
		t.Errorf("c has followed: %v", v)
	}
	m.Tick(simTime(at + m.cfg.Deadtime/2))
	if m.own.accepted == without || !slices.Equal(m.own.members, all) {
		t.Errorf("the next view: %v of %v", m.own.accepted, m.own.members)
	}
	if v := m.View(); !v.Quorum {
		t.Errorf("in between: %v", v)
	}
	for _, v := range m.Drain().Views {
		if len(v.Members) > 1 && !v.Quorum && v.Number >= without.Number {
			t.Errorf("lost for a moment: %v", v)
		}
	}
}

// TestLateTickSettlesNothing: a stall may be told only after it.
func TestLateTickSettlesNothing(t *testing.T) {
	for late, want := range map[time.Duration]bool{0: true, time.Second / 4: true, 2 * time.Second: false} {
		m := machine(t, Rule{Kind: Majority}, "a", "b", "c")
		m.Node(simTime(0), "b", Seen{Alive: true, Systole: true})
		m.Tick(simTime(m.cfg.Delay))
		r := good()
		r.accepted, r.members, r.installed, r.echo = ID{1, 3, "b"}, []string{"b"}, ID{1, 3, "b"}, []echo{{"a", m.own.serial}}
		for range 2 {
			if err := m.Receive(simTime(m.cfg.Delay), "b", r.message(true)); err != nil {
				t.Fatal(err)
			}
			r.serial, r.accepted, r.members, r.installed = r.serial+1, m.own.accepted, m.own.members, m.own.accepted
		}
		m.Tick(m.Deadline()) // the report
		if v := m.View(); !v.Quorum || v.Settled {
			t.Fatalf("before: %v", v)
		}
		for m.Deadline().Before(simTime(m.cfg.Delay + m.cfg.Settle)) {
			m.Tick(m.Deadline())
		}
		m.Tick(m.Deadline().Add(late))
		if v := m.View(); v.Settled != want {
			t.Errorf("%v late: %v", late, v)
		}
	}
}

// TestStall: whoever stood still has no quorum before the others have answered
// something that was asked since.
func TestStall(t *testing.T) {
	m := machine(t, Rule{Kind: Majority}, "a", "b", "c")
	m.Node(simTime(0), "b", Seen{Alive: true, Systole: true})
	r := good()
	answer := func(at time.Duration, serial uint64, echoed ...echo) {
		t.Helper()
		r.serial, r.accepted, r.installed = serial, m.own.accepted, m.own.installed
		r.members, r.echo = m.own.members, echoed
		if err := m.Receive(simTime(at), "b", r.message(true)); err != nil {
			t.Fatal(err)
		}
	}
	r.accepted, r.members, r.installed = ID{1, 3, "b"}, []string{"b"}, ID{1, 3, "b"}
	if err := m.Receive(simTime(1), "b", r.message(true)); err != nil {
		t.Fatal(err)
	}
	m.Tick(simTime(time.Second))
	answer(time.Second, 5, echo{"a", m.own.serial})
	if v := m.View(); !v.Quorum {
		t.Fatalf("before: %v", v)
	}
	before := m.own.serial
	m.Stalled(simTime(2 * time.Second))
	if v := m.View(); v.Quorum {
		t.Fatalf("after a stall: %v", v)
	}
	answer(2*time.Second, 6) // was under way
	answer(2*time.Second, 7, echo{"a", before})
	if v := m.View(); v.Quorum {
		t.Fatalf("with old answers: %v", v)
	}
	m.Tick(simTime(2*time.Second + m.cfg.Delay))
	asked := slices.ContainsFunc(m.Drain().Messages, func(msg wire.Message) bool {
		_, ask := msg.Get("ask")
		serial, _ := msg.GetUint("serial", 10)
		return ask && serial > before
	})
	if !asked {
		t.Fatal("nobody was asked")
	}
	answer(3*time.Second, 8, echo{"a", m.own.serial})
	if v := m.View(); !v.Quorum || v.Settled {
		t.Fatalf("after the answer: %v", v)
	}
	m.Tick(m.Deadline())
	if v := m.View(); !v.Settled {
		t.Fatalf("%v later: %v", m.cfg.Settle, v)
	}
}
