package hb

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"systole/hb/wire"
)

// pass lets time pass without a stall.
func pass(c *Core, from, to time.Duration) {
	for d := from; d < to; d += 500 * time.Millisecond {
		c.Tick(at(d))
	}
	c.Tick(at(to))
}

// TestNodeMessages: the forms of section 5, and what is remembered.
func TestNodeMessages(t *testing.T) {
	c := joined(t, testConfig())
	if err := c.AddNodes(testTime, []string{"D", "e", "b"}); err != nil {
		t.Fatal(err)
	}
	expect(t, c, "> addnode seq=6 nodelist=d e ", "nodes: added d e, by a")
	// They have a dead time to be heard; b goes on.
	pass(c, 0, 4*time.Second)
	c.Receive(at(4*time.Second), "eth0", nodeB(t).status(5, "active"))
	c.Receive(at(4*time.Second), "eth0", remote{t, "d", [16]byte{0xd}, 1}.status(1, "active"))
	pass(c, 4*time.Second, 5*time.Second)
	c.Drain()
	if err := c.RemoveNodes(at(5*time.Second), []string{"e", "E"}); err != nil {
		t.Fatal(err)
	}
	expect(t, c, "> delnode seq=c nodelist=e ", "nodes: removed e, by a")
	c.Receive(at(5*time.Second), "eth0", nodeB(t).packet(6, "reqnodes", "dest", "a"))
	for _, p := range c.Drain().Packets {
		m, _, _ := wire.Decode(p.Data, testKeys)
		if m.Type() != "repnodes" {
			continue
		}
		list, _ := m.Get("nodelist")
		gone, _ := m.Get("delnodelist")
		if ttl, _ := m.Get("ttl"); list != "a b d " || gone != "e " || ttl != "4" {
			t.Errorf("%v", m)
		}
	}
	if v := c.Snapshot(at(5 * time.Second)); !slices.Equal(v.Nodes, []string{"a", "b", "d"}) || !slices.Equal(v.Deleted, []string{"e"}) {
		t.Errorf("%+v", v)
	}
	// Added again it is not deleted any more.
	if err := c.AddNodes(at(5*time.Second), []string{"e"}); err != nil {
		t.Fatal(err)
	}
	if v := c.Snapshot(at(5 * time.Second)); len(v.Deleted) > 0 {
		t.Errorf("%+v", v)
	}
	if err := c.Submit(at(5*time.Second), wire.New("addnode", "nodelist", "f")); !errors.Is(err, ErrMessage) {
		t.Errorf("Submit of addnode: %v", err)
	}
}

func TestNodesRefused(t *testing.T) {
	cfg := testConfig()
	cfg.Nodes = []string{"a", "b", "c"}
	cfg.Pings = []PingNode{{"gw", "ping gw"}}
	c := joined(t, cfg)
	b := nodeB(t)
	pass(c, 0, 4*time.Second)
	c.Receive(at(4*time.Second), "eth0", b.status(5, "active"))
	pass(c, 4*time.Second, 5*time.Second) // c is dead, b lives
	c.Drain()
	var many []string
	for i := range maxNodes {
		many = append(many, fmt.Sprintf("n%d", i))
	}
	for _, r := range []struct {
		err  error
		want string
	}{
		{c.AddNodes(at(5*time.Second), []string{"b"}), "no new node among them"},
		{c.AddNodes(at(5*time.Second), []string{"d", "e f"}), "printable ASCII"},
		{c.AddNodes(at(5*time.Second), []string{"GW"}), "name of a ping node"},
		{c.AddNodes(at(5*time.Second), many), "above the limit of 100"},
		{c.RemoveNodes(at(5*time.Second), nil), "no node is named"},
		{c.RemoveNodes(at(5*time.Second), []string{"a"}), "is this node"},
		{c.RemoveNodes(at(5*time.Second), []string{"x"}), "is no node"},
		{c.RemoveNodes(at(5*time.Second), []string{"c", "b"}), "node b is active"},
	} {
		if !errors.Is(r.err, ErrNodes) || !strings.Contains(r.err.Error(), r.want) {
			t.Errorf("%v, want %q", r.err, r.want)
		}
	}
	expect(t, c)
	// Of others.
	c.Receive(at(5*time.Second), "eth0", b.packet(6, "addnode", "nodelist", "d "+strings.Repeat("x", maxNameLen+1)))
	expect(t, c, "WARN node b adds nodes: nothing done: name...")
	clear(c.limits)
	c.Receive(at(5*time.Second), "eth0", b.packet(7, "delnode", "nodelist", "b"))
	expect(t, c, "ERROR node b removes node b, which is alive here: not removed...")
	clear(c.limits)
	c.Receive(at(5*time.Second), "eth0", b.packet(8, "delnode", "nodelist", "nobody"))
	expect(t, c, "WARN node b removes nodes (\"nobody\"): none of them is here")
	c.report(at(5*time.Second), reportNodes, 2, Warn, "of c")
	c.Drain()
	c.Receive(at(5*time.Second), "eth0", b.packet(9, "delnode", "nodelist", "c "))
	expect(t, c, "nodes: removed c, by b")
	c.Receive(at(5*time.Second), "eth0", b.packet(10, "delnode", "nodelist", "A "))
	expect(t, c, "this node was removed from the cluster by b")
	// All is gone of c but its name.
	for key := range c.limits {
		if key.peer == 2 {
			t.Errorf("limit %v is kept", key)
		}
	}
	c.Stop(at(6 * time.Second))
	if err := c.AddNodes(at(6*time.Second), []string{"d"}); !errors.Is(err, ErrStopped) {
		t.Errorf("after Stop: %v", err)
	}
}

// TestRemoveNeedsTheOthers: a node that is down would keep the old list.
func TestRemoveNeedsTheOthers(t *testing.T) {
	cfg := testConfig()
	cfg.Nodes = []string{"a", "b", "c"}
	c := joined(t, cfg)
	pass(c, 0, 20*time.Second)
	c.Drain()
	if err := c.RemoveNodes(at(20*time.Second), []string{"c"}); !errors.Is(err, ErrNodes) || !strings.Contains(err.Error(), "b is not alive") {
		t.Errorf("%v", err)
	}
	if err := c.RemoveNodes(at(20*time.Second), []string{"c", "b"}); err != nil {
		t.Error(err)
	}
}

// TestAutojoin: who joins, who does not, and that it is bounded.
func TestAutojoin(t *testing.T) {
	stranger := remote{t, "s", [16]byte{0x5}, 1}
	c := joined(t, testConfig())
	c.Receive(testTime, "eth0", stranger.status(1, "up"))
	expect(t, c, "ERROR packet on eth0 from \"s\", which is no node...")

	cfg := testConfig()
	cfg.Autojoin, cfg.Deleted = OthersJoin, []string{"S"}
	c = joined(t, cfg)
	c.Receive(testTime, "eth0", stranger.status(1, "up"))
	expect(t, c, "ERROR packet on eth0 from \"s\", which is no node...")

	cfg.Deleted = nil
	c = joined(t, cfg)
	c.Receive(testTime, "eth0", stranger.packet(0, "NS_ackmsg", "dest", "a", "ackseq", "1"))
	c.Receive(testTime, "eth0", stranger.packet(1, "status", "st", "up", "srcuuid", ""))
	c.Receive(testTime, "eth0", stranger.packet(1, "status", "st", "up", "src", "s s"))
	if v := c.Snapshot(testTime); len(v.Nodes) != 2 {
		t.Errorf("joined with too little: %v", v.Nodes)
	}
	c.Drain()
	c.Receive(testTime, "eth0", stranger.status(1, "up"))
	expect(t, c, "nodes: added s, joined by itself", "link s:eth0 up")
	c.Receive(testTime, "eth0", stranger.status(2, "up"))
	expect(t, c, "node s init -> up: it says so")
	for i := range 2 * maxNodes {
		c.Receive(testTime, "eth0", remote{t, fmt.Sprintf("s%d", i), [16]byte{1, byte(i)}, 1}.status(1, "up"))
	}
	if v := c.Snapshot(testTime); len(v.Nodes) != maxNodes || len(c.limits) > maxNodes*16 {
		t.Errorf("%d nodes, %d limits", len(v.Nodes), len(c.limits))
	}
}

// TestPingNode: what is asked, what counts as an answer and what does not.
func TestPingNode(t *testing.T) {
	cfg := testConfig()
	cfg.Pings, cfg.DeadPing = []PingNode{{"GW", "ping gw"}}, 3*time.Second
	c := newCore(t, cfg)
	var question []byte
	statuses := 0
	for _, p := range c.Drain().Packets {
		m, _, err := wire.Decode(p.Data, testKeys)
		if err != nil {
			t.Fatal(err)
		}
		if p.Medium == "" {
			statuses++
			continue
		}
		statuses--
		if question = p.Data; m.String() != fmt.Sprintf("t=NS_st st=ping info=ping src=gw ts=%x", testTime.Unix()) || p.Medium != "ping gw" || p.Beat {
			t.Errorf("on %s: %v", p.Medium, m)
		}
	}
	if question == nil || statuses != 0 {
		t.Fatalf("%d statuses more than questions", statuses)
	}
	question = slices.Clone(question)
	ping := remote{t, "gw", [16]byte{}, 1}
	for _, bad := range [][]byte{
		nodeB(t).status(1, "up"),
		ping.packet(0, "NS_st", "st", "up"),
		ping.packet(0, "NS_st", "st", "ping", "src", "b"),
		ping.packet(0, "NS_st", "st", "ping", "ts", "1"),
		ping.packet(0, "NS_st", "st", "ping", "ts", "ffffffffffffffff"),
	} {
		c.Receive(testTime, "ping gw", bad)
	}
	c.Receive(testTime, "eth0", question) // from where anybody may send
	v := c.Snapshot(testTime)
	if v.Counters.Bad != 6 || v.Pings[0].Status != Init || v.Pings[0].Age != -1 {
		t.Errorf("%d bad, %+v", v.Counters.Bad, v.Pings)
	}
	c.Drain()
	c.Receive(testTime, "ping gw", question)
	expect(t, c, "node gw init -> ping: it answers")
	// It is no part of joining.
	c.Receive(testTime, "eth0", nodeB(t).status(1, "up"))
	if !c.complete {
		t.Error("not complete")
	}
	c.Drain()
	pass(c, 0, 2999*time.Millisecond)
	c.Drain()
	if d := c.Deadline(); !d.Equal(at(3 * time.Second)) {
		t.Errorf("deadline %v", d.Sub(testTime))
	}
	c.Tick(at(3 * time.Second))
	if got := strings.Join(drained(t, c), "\n"); !strings.Contains(got, "node gw ping -> dead: no answer for 3s") {
		t.Error(got)
	}
	pass(c, 3*time.Second, 6*time.Second)
	// An old answer proves nothing.
	c.Receive(at(6*time.Second), "ping gw", question)
	if v := c.Snapshot(at(6 * time.Second)); v.Pings[0].Status != Dead {
		t.Errorf("%+v", v.Pings)
	}
}

// TestPingAnswerOfAnotherLife: with sha256 an answer to what we asked in this
// life counts, one to a question of the life before does not.
func TestPingAnswerOfAnotherLife(t *testing.T) {
	life := func(nonce byte) (*Core, []byte) {
		cfg := testConfig()
		cfg.Nonce = [8]byte{nonce}
		cfg.Keys = wire.Keys{Send: 1, Keys: []wire.Key{{Index: 1, Method: wire.SHA256, Secret: []byte("secret")}}}
		cfg.Pings = []PingNode{{"gw", "ping gw"}}
		c, err := New(cfg, testTime, rand.New(rand.NewPCG(1, 2)))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range c.Drain().Packets {
			if p.Medium == "ping gw" {
				return c, bytes.Clone(p.Data)
			}
		}
		t.Fatal("nothing was asked")
		return nil, nil
	}
	_, old := life(1)
	c, own := life(2)
	c.Receive(testTime, "ping gw", old)
	if v := c.Snapshot(testTime); v.Pings[0].Status != Init || v.Counters.Stale != 1 {
		t.Errorf("an answer to another life: %+v, %d stale", v.Pings, v.Counters.Stale)
	}
	c.Receive(testTime, "ping gw", own)
	if v := c.Snapshot(testTime); v.Pings[0].Status != Ping {
		t.Errorf("our own answer: %+v", v.Pings)
	}
}

// TestRemovedBeforeItsDeath: who removes a node has seen it dead; here it may be
// so a little later, and then it dies of the removal. One that was heard just
// now stays.
func TestRemovedBeforeItsDeath(t *testing.T) {
	c := joined(t, testConfig())
	b, d := nodeB(t), remote{t, "d", [16]byte{0xd}, 1}
	if err := c.AddNodes(testTime, []string{"d"}); err != nil {
		t.Fatal(err)
	}
	c.Receive(testTime, "eth0", d.status(1, "active"))
	pass(c, 0, time.Second)
	c.Drain()
	c.Receive(at(time.Second), "eth0", b.packet(5, "delnode", "nodelist", "d "))
	if v := c.Snapshot(at(time.Second)); len(v.Peers) != 2 {
		t.Errorf("a node that lives was removed: %+v", v.Nodes)
	}
	pass(c, time.Second, 3*time.Second)
	c.Drain()
	c.Receive(at(3*time.Second), "eth0", b.packet(6, "delnode", "nodelist", "d "))
	expect(t, c, "node d active -> dead: removed by b", "link d:eth0 dead, silent for 3s: its node was removed", "nodes: removed d, by b")
}
