package hb

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"systole/hb/wire"
)

// Config is what a Core is told once. Zero durations mean the default.
type Config struct {
	// Node is our own name. Names are folded to lower case, as the original
	// does (section 4).
	Node string
	// UUID tells us from another node that was given our name by mistake. It
	// stays the same for the life of a node.
	UUID [16]byte
	// Generation must be higher at each start than at the one before, else the
	// peers drop our packets as replayed (section 6.5).
	Generation uint64
	// Nonce is random, and another at each start. It is needed with keys of
	// method sha256: the others prove with it that what they send is not
	// replayed.
	Nonce [8]byte
	// Nodes are the names of all nodes, our own included, in an order that is
	// the same everywhere. AddNodes, RemoveNodes and Autojoin change the list.
	Nodes []string
	// Autojoin says who may join without being among Nodes.
	Autojoin Autojoin
	// Deleted are nodes that were removed in an earlier start: they cannot join
	// by themselves. At most 100.
	Deleted []string
	// Pings are the ping nodes.
	Pings []PingNode

	// Keepalive is the period of our status messages. Default 1 s.
	Keepalive time.Duration
	// Deadtime is the silence after which the others shall hold us for dead:
	// each node announces its own (section 7). Default 30 s. It must exceed
	// 2 x Keepalive; take at least 5 x where packets may be lost, and 10 x to
	// survive 20 % loss. Whole milliseconds.
	Deadtime time.Duration
	// Warntime is the silence after which a beat is reported as late. Default
	// Deadtime/2. It lies between Keepalive and Deadtime.
	Warntime time.Duration
	// Initdead replaces Deadtime until every node was heard or declared dead
	// for the first time: networks start slowly. A Systole node that was heard
	// is held to its own dead time all the same. Default: Deadtime if above
	// 10 s, 12 s if Deadtime is below 6 s, else 2 x Deadtime. At least
	// Deadtime.
	Initdead time.Duration
	// DeadPing is the silence after which a ping node is dead. Default
	// Deadtime; at least 2 x Keepalive, as a ping node is asked with each
	// status.
	DeadPing time.Duration
	// StartGrace is added to the dead time we announce in our first 5 s
	// (section 7). Default 2 s, what the original does. A director that dies
	// within these seconds is noticed that much later; negative means none,
	// which suits a cluster of Systole nodes only.
	StartGrace time.Duration
	// MaxRexmitDelay is the longest delay until a missing packet is asked for,
	// and the period of asking again (section 6.3). Default 250 ms, at least
	// 10 ms.
	MaxRexmitDelay time.Duration

	// Ordered asks for the events Ordered and Gap besides Delivered.
	Ordered bool
	// Grace is by how much a Systole node's beat may be late before the node is
	// suspected, and Window how long it is then asked, if losses do not demand
	// longer: see suspicion in the package comment. Default: a quarter of the
	// keepalive that the node announces, and at least 1 and 2 ms.
	Grace, Window time.Duration
	// NoEarlyDeath: a suspected node is asked for a beat but dies at its dead
	// time only.
	NoEarlyDeath bool

	// Format and Keys are how packets are written and authenticated. Every
	// form is accepted whatever Format says.
	Format wire.Format
	Keys   wire.Keys

	// Media are the names of the media, for the state of links. Packets from a
	// medium not listed are accepted but have no link.
	Media []string
}

// The limits and periods of heartbeat-wire.md.
const (
	defaultKeepalive   = time.Second            // section 7
	defaultDeadtime    = 30 * time.Second       // section 7
	defaultStartGrace  = 2 * time.Second        // section 7
	defaultRexmitDelay = 250 * time.Millisecond // section 6.3
	leastRexmitDelay   = 10 * time.Millisecond

	graceTime = 5 * time.Second // how long StartGrace is announced, section 7
	askPeriod = time.Second     // reqnodes again, section 8

	firstRexmitDelay = 50 * time.Millisecond  // reordering is not loss, section 6.1
	smallRexmitDelay = 100 * time.Millisecond // below it the first delay may be 0, section 6.3
	rexmitSlack      = 10 * time.Millisecond  // section 6.3
	rexmitBurst      = 50                     // packets per request, section 6.3

	historySize = 500 // own messages kept, section 6.1
	gapLimit    = 250 // more at once are given up, section 6.2
	flowLimit   = 250 // unacknowledged own messages, section 6.4
	flowWarn    = 375 // section 6.4
	flowError   = 450 // section 6.4
	ackEvery    = 10  // section 6.4

	maxNodes   = 100 // heartbeat-behaviour.md section 5.1
	maxNameLen = 99  // section 4
	maxLoadLen = 64

	// maxPacket is what fits into a UDP datagram: the smallest limit of the
	// media there are.
	maxPacket = 65507
)

// ErrConfig is wrapped by every error of New; the text names the field.
var ErrConfig = errors.New("heartbeat configuration")

func badConfig(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrConfig, fmt.Sprintf(format, args...))
}

// normal returns the configuration checked, with defaults filled in and names
// folded, sharing no memory with cfg.
func (cfg Config) normal() (Config, error) {
	if err := cfg.normalNames(); err != nil {
		return Config{}, err
	}
	if cfg.UUID == ([16]byte{}) {
		return Config{}, badConfig("UUID is zero: give this node one that no other has")
	}
	if cfg.Generation == 0 {
		return Config{}, badConfig("Generation is zero: it counts the starts of this node, from 1")
	}
	if err := cfg.normalTimes(); err != nil {
		return Config{}, err
	}
	cfg.Media = slices.Clone(cfg.Media)
	for i, m := range cfg.Media {
		if m == "" || slices.Contains(cfg.Media[:i], m) {
			return Config{}, badConfig("Media: %q is empty or named twice", m)
		}
	}
	if err := cfg.normalPings(); err != nil {
		return Config{}, err
	}
	if err := cfg.normalKeys(); err != nil {
		return Config{}, err
	}
	return cfg, nil
}

func (cfg *Config) normalKeys() error {
	cfg.Keys.Keys = slices.Clone(cfg.Keys.Keys)
	probe := wire.New("status", "src", cfg.Node)
	if _, err := wire.Encode(nil, probe, cfg.Format, cfg.Keys); err != nil {
		return fmt.Errorf("%w: packets cannot be written: %w", ErrConfig, err)
	}
	if guarded(cfg.Keys) && cfg.Nonce == ([nonceLen]byte{}) {
		return badConfig("Nonce is zero: method sha256 needs a random one at each start")
	}
	return nil
}

func (cfg *Config) normalNames() error {
	cfg.Node = strings.ToLower(cfg.Node)
	cfg.Nodes = slices.Clone(cfg.Nodes)
	if len(cfg.Nodes) > maxNodes {
		return badConfig("Nodes: %d nodes, at most %d", len(cfg.Nodes), maxNodes)
	}
	for i, name := range cfg.Nodes {
		name = strings.ToLower(name)
		if err := goodName(name); err != nil {
			return badConfig("Nodes: %v", err)
		}
		if slices.Contains(cfg.Nodes[:i], name) {
			return badConfig("Nodes: %q is named twice", name)
		}
		cfg.Nodes[i] = name
	}
	if cfg.Autojoin > AnyJoins {
		return badConfig("Autojoin: %d is unknown", cfg.Autojoin)
	}
	if cfg.Autojoin == AnyJoins && !slices.Contains(cfg.Nodes, cfg.Node) {
		if err := goodName(cfg.Node); err != nil {
			return badConfig("Node: %v", err)
		}
		cfg.Nodes = append(cfg.Nodes, cfg.Node)
	}
	cfg.Deleted = slices.Clone(cfg.Deleted)
	for i, name := range cfg.Deleted {
		if name = strings.ToLower(name); slices.Contains(cfg.Nodes, name) || i >= maxNodes {
			return badConfig("Deleted: %q is among the nodes, or there are more than %d", name, maxNodes)
		}
		cfg.Deleted[i] = name
	}
	if !slices.Contains(cfg.Nodes, cfg.Node) {
		return badConfig("Node: our own name %q is not among the nodes (%s)", cfg.Node, strings.Join(cfg.Nodes, " "))
	}
	return nil
}

func (cfg *Config) normalPings() error {
	cfg.Pings = slices.Clone(cfg.Pings)
	if len(cfg.Pings) > maxNodes {
		return badConfig("Pings: %d ping nodes, at most %d", len(cfg.Pings), maxNodes)
	}
	for i := range cfg.Pings {
		p := &cfg.Pings[i]
		p.Name = strings.ToLower(p.Name)
		if err := goodName(p.Name); err != nil {
			return badConfig("Pings: %v", err)
		}
		same := func(q PingNode) bool { return q.Name == p.Name || q.Medium == p.Medium }
		if slices.Contains(cfg.Nodes, p.Name) || slices.ContainsFunc(cfg.Pings[:i], same) {
			return badConfig("Pings: %s on %q: a node, another ping node, or its medium has this name already", p.Name, p.Medium)
		}
		if p.Medium == "" || slices.Contains(cfg.Media, p.Medium) {
			return badConfig("Pings: %s: its medium %q must be its own", p.Name, p.Medium)
		}
	}
	return nil
}

func (cfg *Config) normalTimes() error {
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"Keepalive", cfg.Keepalive}, {"Deadtime", cfg.Deadtime}, {"Warntime", cfg.Warntime},
		{"Initdead", cfg.Initdead}, {"MaxRexmitDelay", cfg.MaxRexmitDelay}, {"DeadPing", cfg.DeadPing},
		{"Grace", cfg.Grace}, {"Window", cfg.Window},
	} {
		if d.value < 0 || d.value > maxDeadtime {
			return badConfig("%s: %v is not within 0 to %v", d.name, d.value, maxDeadtime)
		}
	}
	orDefault := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	orDefault(&cfg.Keepalive, defaultKeepalive)
	orDefault(&cfg.Deadtime, defaultDeadtime)
	orDefault(&cfg.Warntime, cfg.Deadtime/2)
	orDefault(&cfg.DeadPing, cfg.Deadtime)
	orDefault(&cfg.MaxRexmitDelay, defaultRexmitDelay)
	orDefault(&cfg.StartGrace, defaultStartGrace)
	switch {
	case cfg.Deadtime > 10*time.Second:
		orDefault(&cfg.Initdead, cfg.Deadtime)
	case cfg.Deadtime < 6*time.Second:
		orDefault(&cfg.Initdead, 12*time.Second)
	default:
		orDefault(&cfg.Initdead, 2*cfg.Deadtime)
	}
	cfg.StartGrace = max(0, cfg.StartGrace)

	switch {
	case cfg.Keepalive < time.Millisecond:
		return badConfig("Keepalive: %v is below 1 ms", cfg.Keepalive)
	case cfg.Deadtime <= 2*cfg.Keepalive:
		return badConfig("Deadtime: %v must exceed 2 x keepalive (%v): one lost beat would be a death", cfg.Deadtime, 2*cfg.Keepalive)
	case cfg.DeadPing < 2*cfg.Keepalive:
		return badConfig("DeadPing: %v is below 2 x keepalive (%v): one lost answer would be a death", cfg.DeadPing, 2*cfg.Keepalive)
	case cfg.Deadtime%time.Millisecond != 0 || cfg.StartGrace%time.Millisecond != 0:
		return badConfig("Deadtime: %v and StartGrace %v are announced in whole milliseconds", cfg.Deadtime, cfg.StartGrace)
	case cfg.StartGrace > maxDeadtime:
		return badConfig("StartGrace: %v is above %v", cfg.StartGrace, maxDeadtime)
	case cfg.Warntime < cfg.Keepalive || cfg.Warntime > cfg.Deadtime:
		return badConfig("Warntime: %v is not between keepalive (%v) and deadtime (%v)", cfg.Warntime, cfg.Keepalive, cfg.Deadtime)
	case cfg.Initdead < cfg.Deadtime:
		return badConfig("Initdead: %v is below deadtime (%v)", cfg.Initdead, cfg.Deadtime)
	case cfg.MaxRexmitDelay < leastRexmitDelay:
		return badConfig("MaxRexmitDelay: %v is below %v", cfg.MaxRexmitDelay, leastRexmitDelay)
	}
	return nil
}

// maxDeadtime is the longest time that can be configured. A peer may announce
// up to what 32 bits of milliseconds hold, about 49 days.
const maxDeadtime = 24 * time.Hour
