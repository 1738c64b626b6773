package config

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// facts are what one section needs to know of another to check itself. A part
// that has errors is not complete, and what it may lack is not reported again.
type facts struct {
	nodes     []string              // the directors
	members   []string              // they and the witnesses
	nodesGood bool                  // and so are the witnesses
	owners    map[netip.Addr]string // a member's own address -> its name
	vips      map[netip.Addr]string // VIP -> group
	vipsGood  bool
}

func (f *facts) nodeList() string   { return strings.Join(f.nodes, ", ") }
func (f *facts) memberList() string { return strings.Join(f.members, ", ") }

// config reads the whole document. The sections are read in the order in which
// they need each other, whatever their order in the file.
func (d *decoder) config(root ast.Node, node string) *Config {
	m := d.mapping(root, "", pos{1, 1})
	if len(m.entries) > 0 {
		m.at = m.entries[0].at
	}
	f := &facts{}
	own := d.ownName(m, node)
	cfg := &Config{File: d.file}
	if !m.bad && !m.has("cluster") {
		m.asked = append(m.asked, "cluster")
		m.missing("cluster", `"cluster:" with at least "nodes: [...]"`)
	} else {
		cfg.Cluster = d.cluster(m.sub("cluster"), f)
	}
	cfg.Node = own(f)
	cfg.Groups = d.groups(m, f)
	cfg.Services = d.services(m, f)
	cfg.DataPlane = d.dataPlane(m, len(cfg.Services) > 0)
	cfg.Sync = d.sync(m, cfg.DataPlane, f)
	cfg.Metrics = d.metrics(m.sub("metrics"))
	cfg.Control = d.control(m.sub("control"))
	m.done()
	return cfg
}

func (d *decoder) cluster(m *mapping, f *facts) Cluster {
	name := read(m, "name", "systole", label)
	timers := d.timers(m)
	back := read(m, "auto_failback", failback{on: true}, failbackWord).val
	c := Cluster{
		Name:         name.val,
		Keepalive:    timers.Keepalive,
		Deadtime:     timers.Deadtime,
		Warntime:     timers.Warntime,
		Initdead:     timers.Initdead,
		Suspicion:    read(m, "suspicion", true, boolean).val,
		AutoFailback: back.on,
		Legacy:       back.legacy,
		Partition:    d.partition(m),
		Authkeys:     read(m, "authkeys", "/etc/systole/authkeys", absolute).val,
		StateDir:     read(m, "state_dir", "/var/lib/systole", absolute).val,
		Realtime:     read(m, "realtime", false, boolean).val,
	}
	d.nodeNames(m, f)
	c.Nodes = f.nodes
	c.Witnesses = d.witnesses(m, f)
	c.Media = d.media(m, f)
	c.Addresses = d.addresses(m, f)
	d.membership(m, &c, f)
	m.done()
	return c
}

// timers checks what heartbeat-wire.md section 7 says of them.
func (d *decoder) timers(m *mapping) Cluster {
	const most = time.Hour
	keepalive := read(m, "keepalive", time.Second, duration(10*time.Millisecond, time.Minute))
	deadtime := read(m, "deadtime", 10*time.Second, duration(20*time.Millisecond, most))
	dead := deadtime.val
	warntime := read(m, "warntime", dead/2, duration(time.Millisecond, most))
	initdead := read(m, "initdead", defaultInitdead(dead), duration(20*time.Millisecond, 2*most))

	// The complaint stands where something is written.
	at := deadtime.at
	if !deadtime.set {
		at = keepalive.at
	}
	if !keepalive.bad && !deadtime.bad && dead <= 2*keepalive.val {
		d.errorf(at, "deadtime %s must be more than twice keepalive %s: better is ten times, %s",
			short(dead), short(keepalive.val), short(10*keepalive.val))
	}
	if warntime.set && !deadtime.bad && warntime.val >= dead {
		d.errorf(warntime.at, "warntime %s must be less than deadtime %s: half of it, %s, is usual",
			short(warntime.val), short(dead), short(dead/2))
	}
	if initdead.set && !deadtime.bad && initdead.val < dead {
		d.errorf(initdead.at, "initdead %s must not be less than deadtime %s: twice as much, %s, is usual",
			short(initdead.val), short(dead), short(2*dead))
	}
	return Cluster{Keepalive: keepalive.val, Deadtime: dead, Warntime: warntime.val, Initdead: initdead.val}
}

// defaultInitdead is heartbeat's: heartbeat-wire.md section 7.
func defaultInitdead(deadtime time.Duration) time.Duration {
	switch {
	case deadtime > 10*time.Second:
		return deadtime
	case deadtime < 6*time.Second:
		return 12 * time.Second
	}
	return 2 * deadtime
}

func (d *decoder) nodeNames(m *mapping, f *facts) {
	l := m.list("nodes")
	if !l.set && !l.bad {
		m.missing("nodes", "the names of the directors, such as nodes: [node1, node2]")
	}
	f.nodesGood = l.set
	for i, n := range l.items {
		name := readNode(d, n, "nodes", l.at, nodeName)
		switch {
		case name.bad:
			f.nodesGood = false
		case slices.Contains(f.nodes, name.val):
			d.errorf(name.at, "nodes: %s is named twice: each director has its own name", name.val)
			f.nodesGood = false
		case i == 2:
			d.errorf(name.at, "nodes: there are one or two directors: a third node that is to vote goes under witnesses")
			f.nodes = append(f.nodes, name.val)
		default:
			f.nodes = append(f.nodes, name.val)
		}
	}
	if l.set && len(l.items) == 0 {
		f.nodesGood = false
		d.errorf(l.at, "nodes is empty: name one or two directors")
	}
}

// ownName decides who we are: the command line, else the file, else the host.
func (d *decoder) ownName(m *mapping, override string) func(*facts) string {
	written := read(m, "node", "", nodeName)
	return func(f *facts) string {
		if written.bad || !f.nodesGood {
			return ""
		}
		name, at, whose := override, m.at, "node"
		switch {
		case override != "":
			whose = "the node name given to this command"
		case written.set:
			name, at = written.val, written.at
		default:
			host, err := os.Hostname()
			if err != nil {
				d.errorf(at, "node is missing and this host's name is not known (%v): write node: NAME", err)
				return ""
			}
			name, whose = strings.ToLower(host), "this host's name"
		}
		if !slices.Contains(f.members, name) {
			hint := ": use one of these"
			if override == "" && !written.set {
				hint = ": write node: NAME, or name it on the command line"
			}
			d.errorf(at, "%s: %q is not among cluster.nodes%s (%s)%s", whose, name, f.orWitnesses(), f.memberList(), hint)
		}
		return name
	}
}
