package demo

import (
	"testing"

	"systole/control/config"
	"systole/dataplane"
)

func values(node string, s settings) configValues {
	return configValues{
		settings: s, Node: node, Node1: "192.168.145.10", Node2: "192.168.145.11", VIP: vip.String(),
		Server1: "192.168.145.200", Server2: "192.168.145.201", Name: siteName, CheckPath: "/.test.html",
		Authkeys: "/run/d/authkeys", StateDir: "/run/d/" + node + ".state", Pin: "/run/d/" + node + ".bpf/systole",
		Socket: "/run/d/" + node + ".sock", Mode: "auto",
	}
}

func parse(t *testing.T, v configValues) *config.Config {
	t.Helper()
	b, err := v.render()
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Parse("systole.yaml", b, v.Node)
	if err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	return c
}

// The demo's config is a good one, and what its steps change can change live.
func TestConfig(t *testing.T) {
	for _, node := range []string{"node1", "node2"} {
		first := parse(t, values(node, settings{AutoFailback: true}))
		if first.Node != node || first.Groups[0].Preferred != "node1" || len(first.Services) != 3 {
			t.Errorf("%s: %+v", node, first)
		}
		if c := first.Cluster; c.Deadtime != deadtime || c.Keepalive != keepalive || c.Initdead != initdead || !c.AutoFailback {
			t.Errorf("%s: %+v", node, c)
		}
		for _, s := range []settings{{}, {AutoFailback: true, Quiescent: true}} {
			next := parse(t, values(node, s))
			if next.Cluster.AutoFailback != s.AutoFailback || next.Services[0].Quiescent != s.Quiescent {
				t.Errorf("settings %+v are not in the config", s)
			}
			if blocked := config.LiveChange(first, next); len(blocked) != 0 {
				t.Errorf("settings %+v need a restart: %v", s, blocked)
			}
		}
	}
}

// The names the steps look for in a status are those a director uses.
func TestServiceName(t *testing.T) {
	key := dataplane.ServiceKey{VIP: vip, Port: 80, Protocol: dataplane.TCP}
	if webService != key.String() {
		t.Errorf("webService is %q, a director says %q", webService, key)
	}
}
