package demo

import (
	"os"
	"path/filepath"
	"testing"

	"systole/control"
)

// status is a director that is well, in that role, beside a peer that is.
func status(role string) *control.State {
	s := &control.State{
		Role: role, Health: "ok",
		Takeover: control.TakeoverState{PeerStable: true, Standby: "idle"},
		Nodes:    []control.NodeState{{Name: "node1", Status: "active"}, {Name: "node2", Status: "active"}},
		Groups:   []control.GroupState{{Name: "web", Owner: "node1", Role: role, VIPs: []control.VIPState{{Present: role == "active"}}}},
	}
	return s
}

func TestConditions(t *testing.T) {
	one, two := &node{name: "node1"}, &node{name: "node2"}
	d := &demo{node1: one, node2: two}
	for _, tc := range []struct {
		name    string
		change  func(p pair)
		settled string // "" if it is
		alone   string
	}{
		{name: "all is well", change: func(pair) {}},
		{"one is silent", func(p pair) { delete(p, two) }, "node2 does not answer", "node2 does not answer"},
		{"handing over", func(p pair) { p[one].Takeover.Standby = "giving" }, "node1 is in a hand-over: giving", ""},
		{"draining", func(p pair) { p[two].Groups[0].Role = "draining" }, "node2 is draining for group web", ""},
		{"peer dead", func(p pair) { p[one].Nodes[1].Status = "dead" }, "node1 sees node2 dead", ""},
		{"peer unsettled", func(p pair) { p[two].Takeover.PeerStable = false }, "node2 does not see its peer settled", ""},
		{"nobody", func(p pair) { p[one] = status("standby") }, "nobody is active", "node1 is standby"},
		{"both", func(p pair) { p[two] = status("active") }, "both are active", "node2 has not let go"},
		{"active without the address", func(p pair) { p[one].Groups[0].VIPs[0].Present = false }, "node1 is active, address present: false", "node1 has not got the address"},
		{"the address left behind", func(p pair) { p[two].Groups[0].VIPs[0].Present = true }, "node2 is standby, address present: true", "node2 has not let go"},
		{"the other one", func(p pair) { p[one], p[two] = p[two], p[one] }, "node2 is active", "node1 is standby"},
		{"they disagree", func(p pair) { p[two].Groups[0].Owner = "" }, `node2 takes "" for the owner of web`, ""},
		{"a server is down", func(p pair) { p[two].Health, p[two].Problems = "degraded", []string{"x"} }, "node2 is degraded: [x]", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := pair{one: status("active"), two: status("standby")}
			tc.change(p)
			if got := d.settled(one)(p); got != tc.settled {
				t.Errorf("settled: %q, want %q", got, tc.settled)
			}
			if got := d.alone(one)(p); got != tc.alone {
				t.Errorf("alone: %q, want %q", got, tc.alone)
			}
		})
	}
	p := pair{one: status("active"), two: status("standby")}
	if got := d.settled(nil)(p); got != "" {
		t.Errorf("settled with any owner: %q", got)
	}
}

func TestServerConditions(t *testing.T) {
	svc := &control.ServiceState{Servers: []control.ServerState{
		{Address: "a", InTable: true, Effective: 1}, {Address: "b", InTable: true}, {Address: "c"},
	}}
	for _, tc := range []struct {
		addr   string
		weight int
		ok     bool
	}{
		{"a", 1, true}, {"a", 0, false}, {"a", -1, false},
		{"b", 0, true}, {"b", 1, false}, {"b", -1, false},
		{"c", -1, true}, {"c", 0, false}, {"d", -1, false},
	} {
		if missing := serverIs(tc.addr, tc.weight)(svc); (missing == "") != tc.ok {
			t.Errorf("%s, weight %d: %q", tc.addr, tc.weight, missing)
		}
	}
}

func TestTail(t *testing.T) {
	n := &node{logPath: filepath.Join(t.TempDir(), "log")}
	for content, want := range map[string]string{
		"": "", "a\n": "a\n", "a\nb\n": "a\nb\n", "a\nb\nc\n": "b\nc\n", "\n\n\n": "\n\n",
	} {
		if err := os.WriteFile(n.logPath, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := string(n.tail(2)); got != want {
			t.Errorf("the last two lines of %q are %q, want %q", content, got, want)
		}
	}
}
