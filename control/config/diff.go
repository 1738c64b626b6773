package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// fixed are the keys that a running daemon cannot change: sockets, timers, the
// name and the kernel objects that were made from them.
var fixed = []struct {
	key   string
	value func(*Config) any
}{
	{"node", func(c *Config) any { return c.Node }},
	{"cluster.name", func(c *Config) any { return c.Cluster.Name }},
	{"cluster.keepalive", func(c *Config) any { return short(c.Cluster.Keepalive) }},
	{"cluster.deadtime", func(c *Config) any { return short(c.Cluster.Deadtime) }},
	{"cluster.warntime", func(c *Config) any { return short(c.Cluster.Warntime) }},
	{"cluster.initdead", func(c *Config) any { return short(c.Cluster.Initdead) }},
	{"cluster.suspicion", func(c *Config) any { return c.Cluster.Suspicion }},
	{"cluster.authkeys", func(c *Config) any { return c.Cluster.Authkeys }},
	{"cluster.state_dir", func(c *Config) any { return c.Cluster.StateDir }},
	{"cluster.realtime", func(c *Config) any { return c.Cluster.Realtime }},
	{"cluster.partition", func(c *Config) any { return c.Cluster.Partition }},
	{"cluster.nodes", func(c *Config) any { return c.Cluster.Nodes }},
	{"cluster.witnesses", func(c *Config) any { return strings.Join(c.Cluster.Witnesses, ", ") }},
	{"cluster.media", func(c *Config) any { return c.Cluster.Media }},
	{"cluster.autojoin", func(c *Config) any { return c.Cluster.Autojoin }},
	{"cluster.ping", func(c *Config) any { return c.Cluster.Ping }},
	{"cluster.deadping", func(c *Config) any { return short(c.Cluster.DeadPing) }},
	{"cluster.quorum", func(c *Config) any { return c.Cluster.Quorum.String() }},
	{"cluster.addresses", func(c *Config) any {
		return nodeAddrs(slices.Sorted(maps.Keys(c.Cluster.Addresses)), c.Cluster.Addresses)
	}},
	{"dataplane.interface", func(c *Config) any { return c.DataPlane.Interface }},
	{"dataplane.interfaces", func(c *Config) any { return c.DataPlane.Interfaces }},
	{"dataplane.mode", func(c *Config) any { return c.DataPlane.Mode }},
	{"dataplane.pin", func(c *Config) any { return c.DataPlane.Pin }},
	{"dataplane.flows", func(c *Config) any { return c.DataPlane.Flows }},
	{"dataplane.evict", func(c *Config) any { return c.DataPlane.Evict }},
	{"sync", func(c *Config) any { return c.Sync.String() }},
	{"metrics.listen", func(c *Config) any { return c.Metrics.Listen }},
	{"control.socket", func(c *Config) any { return c.Control.Socket }},
}

// LiveChange names the keys, by their path in the file, that differ between
// two configurations and take a restart to change. If there is none, new may
// replace old in a running daemon.
func LiveChange(old, new *Config) (blocked []string) {
	for _, f := range fixed {
		if !reflect.DeepEqual(f.value(old), f.value(new)) {
			blocked = append(blocked, f.key)
		}
	}
	return blocked
}

// Diff says what changes from old to new, a line each, for the log of a
// reload. It is empty if they mean the same; File is not compared.
func Diff(old, new *Config) []string {
	var lines []string
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }

	for _, f := range fixed {
		a, b := f.value(old), f.value(new)
		switch {
		case reflect.DeepEqual(a, b):
		case f.key == "cluster.media": // too long for a line
			say("%s changed (needs a restart)", f.key)
		default:
			say("%s: %s -> %s (needs a restart)", f.key, show(a), show(b))
		}
	}
	if a, b := old.Cluster.Failback(), new.Cluster.Failback(); a != b {
		say("cluster.auto_failback: %s -> %s", a, b)
	}
	diffBy(old.Groups, new.Groups, func(g Group) string { return "group " + g.Name }, say, func(what string, a, b Group) {
		if a.Preferred != b.Preferred {
			say("%s: preferred %s -> %s", what, a.Preferred, b.Preferred)
		}
		if a.Haresources != b.Haresources {
			say("%s: haresources %s -> %s", what, show(a.Haresources), show(b.Haresources))
		}
		diffBy(a.VIPs, b.VIPs, func(v VIP) string { return what + ": " + v.Addr.String() }, say, func(what string, a, b VIP) {
			if a != b {
				say("%s: /%d on %s -> /%d on %s", what, a.PrefixLen, a.Interface, b.PrefixLen, b.Interface)
			}
		})
	})
	diffBy(old.Services, new.Services, func(s Service) string { return "service " + s.Name() }, say, func(what string, a, b Service) {
		if x, y := a.scheduling(), b.scheduling(); x != y {
			say("%s: scheduler %s -> %s", what, x, y)
		}
		if a.Persistent != b.Persistent {
			say("%s: persistent %s -> %s", what, a.Persistent, b.Persistent)
		}
		if a.OnePacket != b.OnePacket {
			say("%s: one_packet %v -> %v", what, a.OnePacket, b.OnePacket)
		}
		if a.QUIC != b.QUIC {
			say("%s: quic %s -> %s", what, a.QUIC, b.QUIC)
		}
		if a.Timeouts != b.Timeouts {
			say("%s: timeouts %s -> %s", what, show(a.Timeouts.String()), show(b.Timeouts.String()))
		}
		if a.Lost != b.Lost {
			say("%s: lost %s -> %s", what, a.Lost, b.Lost)
		}
		if a.Quiescent != b.Quiescent {
			say("%s: quiescent %v -> %v", what, a.Quiescent, b.Quiescent)
		}
		if a.Check != b.Check {
			say("%s: %s -> %s", what, a.Check, b.Check)
		}
		diffBy(a.Servers, b.Servers, func(s Server) string { return what + ": server " + s.Addr.String() }, say, func(what string, x, y Server) {
			if x.Weight != y.Weight {
				say("%s: weight %d -> %d", what, x.Weight, y.Weight)
			}
			if a, b := x.How(), y.How(); a != b {
				say("%s: forward %s -> %s", what, a, b)
			}
			if x.ServerID != y.ServerID {
				say("%s: server_id %s -> %s", what, show(x.ServerID), show(y.ServerID))
			}
			// A check that only follows the service's has been reported there.
			if (x.Check != nil || y.Check != nil) && x.check(a) != y.check(b) {
				say("%s: %s -> %s", what, x.check(a), y.check(b))
			}
		})
		if x, y := fallbackOf(a), fallbackOf(b); x != y {
			say("%s: fallback %s -> %s", what, x, y)
		}
	})
	return lines
}

// check is the one that counts for the server.
func (s Server) check(of Service) Check {
	if s.Check != nil {
		return *s.Check
	}
	return of.Check
}

func fallbackOf(s Service) string {
	if s.Fallback == nil {
		return "none"
	}
	out := s.Fallback.Addr.String()
	if how := s.Fallback.How(); how != "gate" {
		out += " by " + how
	}
	return out + s.Fallback.named()
}

func show(v any) string {
	switch v := v.(type) {
	case []string:
		return "[" + strings.Join(v, ", ") + "]"
	case string:
		if v == "" {
			return "none"
		}
	}
	return fmt.Sprint(v)
}

// diffBy pairs the entries of two lists by name and reports those without a
// partner, then calls both with each pair, in the order of the new list.
func diffBy[T any](old, new []T, name func(T) string, say func(string, ...any), both func(string, T, T)) {
	before := make(map[string]T, len(old))
	for _, v := range old {
		before[name(v)] = v
	}
	seen := make(map[string]bool, len(new))
	for _, v := range new {
		n := name(v)
		seen[n] = true
		if was, ok := before[n]; ok {
			both(n, was, v)
		} else {
			say("%s added", n)
		}
	}
	for _, n := range slices.Sorted(maps.Keys(before)) {
		if !seen[n] {
			say("%s removed", n)
		}
	}
}
