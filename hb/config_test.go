package hb

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"systole/hb/wire"
)

// TestDefaults: heartbeat-wire.md sections 6.3 and 7.
func TestDefaults(t *testing.T) {
	for _, test := range []struct {
		dead, initdead time.Duration
	}{
		{0, 30 * time.Second},
		{3 * time.Second, 12 * time.Second},
		{6 * time.Second, 12 * time.Second},
		{8 * time.Second, 16 * time.Second},
		{10 * time.Second, 20 * time.Second},
		{11 * time.Second, 11 * time.Second},
	} {
		cfg, err := Config{
			Node: "A", UUID: [16]byte{1}, Generation: 1, Nodes: []string{"A", "B"}, Keys: testKeys, Deadtime: test.dead,
		}.normal()
		if err != nil {
			t.Fatal(err)
		}
		if cfg.Initdead != test.initdead {
			t.Errorf("deadtime %v: initdead %v, want %v", test.dead, cfg.Initdead, test.initdead)
		}
		if cfg.Warntime != cfg.Deadtime/2 || cfg.Keepalive != time.Second || cfg.MaxRexmitDelay != 250*time.Millisecond || cfg.StartGrace != 2*time.Second {
			t.Errorf("deadtime %v: %+v", test.dead, cfg)
		}
		if cfg.Node != "a" || cfg.Nodes[1] != "b" {
			t.Errorf("names are not folded: %q %q", cfg.Node, cfg.Nodes)
		}
	}
}

func TestBadConfig(t *testing.T) {
	for _, test := range []struct {
		change func(*Config)
		text   string
	}{
		{func(c *Config) { c.Node = "x" }, `our own name "x" is not among the nodes`},
		{func(c *Config) { c.Nodes = nil }, "is not among the nodes"},
		{func(c *Config) { c.Nodes = []string{"a", "b", "B"} }, `"b" is named twice`},
		{func(c *Config) { c.Nodes = []string{"a", "b c"} }, `name "b c"`},
		{func(c *Config) { c.Nodes = []string{"a", ""} }, `name ""`},
		{func(c *Config) { c.Nodes = []string{"a", strings.Repeat("b", 100)} }, "1 to 99"},
		{func(c *Config) { c.Nodes = make([]string, 101) }, "101 nodes, at most 100"},
		{func(c *Config) { c.Autojoin = 9 }, "Autojoin: 9"},
		{func(c *Config) { c.Autojoin, c.Node = AnyJoins, "x y" }, `Node: name "x y"`},
		{func(c *Config) { c.Deleted = []string{"B"} }, `Deleted: "b" is among the nodes`},
		{func(c *Config) { c.Deleted = make([]string, 101) }, "more than 100"},
		{func(c *Config) { c.Pings = []PingNode{{"g w", "p"}} }, `Pings: name "g w"`},
		{func(c *Config) { c.Pings = []PingNode{{"B", "p"}} }, "Pings: b on \"p\""},
		{func(c *Config) { c.Pings = []PingNode{{"g", "p"}, {"G", "q"}} }, "Pings: g on \"q\""},
		{func(c *Config) { c.Pings = []PingNode{{"g", "p"}, {"h", "p"}} }, "Pings: h on \"p\""},
		{func(c *Config) { c.Pings = []PingNode{{"g", "eth0"}} }, "must be its own"},
		{func(c *Config) { c.Pings = []PingNode{{"g", ""}} }, "must be its own"},
		{func(c *Config) { c.Pings = make([]PingNode, 101) }, "101 ping nodes"},
		{func(c *Config) { c.DeadPing = time.Second }, "below 2 x keepalive"},
		{func(c *Config) { c.UUID = [16]byte{} }, "UUID is zero"},
		{func(c *Config) { c.Generation = 0 }, "Generation is zero"},
		{func(c *Config) { c.Keepalive = -1 }, "Keepalive: -1ns"},
		{func(c *Config) { c.Keepalive = time.Microsecond }, "below 1 ms"},
		{func(c *Config) { c.Deadtime = 2 * time.Second }, "must exceed 2 x keepalive"},
		{func(c *Config) { c.Deadtime = 5*time.Second + 1 }, "whole milliseconds"},
		{func(c *Config) { c.Deadtime = 25 * time.Hour }, "Deadtime: 25h"},
		{func(c *Config) { c.StartGrace = 1 }, "whole milliseconds"},
		{func(c *Config) { c.StartGrace = 25 * time.Hour }, "StartGrace"},
		{func(c *Config) { c.Warntime = time.Millisecond }, "Warntime: 1ms"},
		{func(c *Config) { c.Warntime = 6 * time.Second }, "Warntime: 6s"},
		{func(c *Config) { c.Initdead = 4 * time.Second }, "Initdead: 4s is below deadtime"},
		{func(c *Config) { c.MaxRexmitDelay = time.Millisecond }, "MaxRexmitDelay: 1ms is below"},
		{func(c *Config) { c.Media = []string{"eth0", "eth0"} }, `Media: "eth0"`},
		{func(c *Config) { c.Media = []string{""} }, "Media"},
		{func(c *Config) { c.Format = 9 }, "packets cannot be written"},
		{func(c *Config) { c.Keys.Send = 2 }, "packets cannot be written"},
	} {
		cfg := testConfig()
		test.change(&cfg)
		_, err := New(cfg, testTime, rand.New(rand.NewPCG(1, 2)))
		if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), test.text) {
			t.Errorf("got %v, want %q", err, test.text)
		}
	}
	cfg := testConfig()
	cfg.Keys.Send = 2
	if _, err := New(cfg, testTime, rand.New(rand.NewPCG(1, 2))); !errors.Is(err, wire.ErrKey) {
		t.Errorf("got %v, want wire.ErrKey too", err)
	}
}

// TestConfigIsCopied: what the caller does to its lists later has no effect.
func TestConfigIsCopied(t *testing.T) {
	cfg := testConfig()
	c := newCore(t, cfg)
	cfg.Nodes[1], cfg.Media[0], cfg.Keys.Keys = "x", "x", nil
	c.Receive(testTime, "eth0", nodeB(t).status(1, "up"))
	if v, ok := c.Snapshot(testTime).Peer("b"); !ok || v.Status != Up || !v.Links[0].Up {
		t.Errorf("%+v", v)
	}
}
