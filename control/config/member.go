package config

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// Ping is a ping node: a machine that answers echo requests, or a group of
// such machines, one of which is enough. In the file it is the address alone,
// or {name: NAME, hosts: [ADDRESS, ...]}.
type Ping struct {
	Name  string // of a single address: itself
	Hosts []netip.Addr
}

// String is the name, and for a group its hosts.
func (p Ping) String() string {
	if len(p.Hosts) == 1 && p.Hosts[0].String() == p.Name {
		return p.Name
	}
	var hosts []string
	for _, h := range p.Hosts {
		hosts = append(hosts, h.String())
	}
	return p.Name + " (" + strings.Join(hosts, ", ") + ")"
}

// Quorum is which part of the cluster may go on when it is parted.
type Quorum struct {
	Kind       string            // "none", "majority", "weight", "tie_breaker"; default none
	Weights    map[string]uint32 // weight, tie_breaker: by member, 0 to 1000; default 1
	TieBreaker string            // tie_breaker: a member, or the name of a ping node
}

// String is the rule in a few words.
func (q Quorum) String() string {
	s := q.Kind
	for _, n := range slices.Sorted(maps.Keys(q.Weights)) {
		s += fmt.Sprintf(" %s=%d", n, q.Weights[n])
	}
	if q.TieBreaker != "" {
		s += " " + q.TieBreaker
	}
	return s
}

// membership reads who belongs to the cluster beyond its list of nodes.
func (d *decoder) membership(m *mapping, c *Cluster, f *facts) {
	c.Autojoin = read(m, "autojoin", "none", oneOf([]string{"none", "other", "any"}, nil)).val
	deadping := read(m, "deadping", c.Deadtime, duration(20*time.Millisecond, time.Hour))
	c.DeadPing = deadping.val
	if deadping.set && deadping.val < 2*c.Keepalive {
		d.errorf(deadping.at, "deadping %s must be at least twice keepalive %s: a ping node is asked with each beat",
			short(deadping.val), short(c.Keepalive))
	}
	c.Ping = d.pings(m, f)
	c.Quorum = d.quorum(m, c, f)
}

func (d *decoder) pings(m *mapping, f *facts) []Ping {
	l := m.list("ping")
	var pings []Ping
	for _, n := range l.items {
		at, p := position(n), Ping{}
		if _, group := d.resolve(n).(*ast.MappingNode); group {
			p = d.pingGroup(d.item(n, "ping"))
		} else if a := readNode(d, n, "ping", l.at, peerAddress); !a.bad {
			p = Ping{Name: a.val.String(), Hosts: []netip.Addr{a.val}}
		}
		switch {
		case p.Name == "":
		case slices.Contains(f.members, p.Name):
			d.errorf(at, "ping: %s is a node: a ping node has its own name", p.Name)
		case slices.ContainsFunc(pings, func(q Ping) bool { return q.Name == p.Name }):
			d.errorf(at, "ping: %s is there twice: remove one", p.Name)
		default:
			pings = append(pings, p)
		}
	}
	return pings
}

func (d *decoder) pingGroup(m *mapping) Ping {
	name := need(m, "name", "what the group is called, such as name: routers", nodeName)
	l := m.list("hosts")
	p := Ping{Name: name.val}
	for _, n := range l.items {
		if a := readNode(d, n, "hosts", l.at, peerAddress); !a.bad {
			p.Hosts = append(p.Hosts, a.val)
		}
	}
	if !l.bad && len(l.items) == 0 {
		m.missing("hosts", "the addresses of its machines, such as hosts: [192.0.2.253, 192.0.2.254]")
	}
	m.done()
	if len(p.Hosts) == 0 {
		return Ping{}
	}
	return p
}

func (d *decoder) quorum(m *mapping, c *Cluster, f *facts) Quorum {
	q := Quorum{Kind: "none"}
	if m.bad || !m.has("quorum") {
		m.asked = append(m.asked, "quorum")
		return q
	}
	sub := m.sub("quorum")
	kind := need(sub, "kind", "one of none, majority, weight and tie_breaker, such as kind: tie_breaker",
		oneOf([]string{"none", "majority", "weight", "tie_breaker"}, nil))
	q.Kind = kind.val
	tie := read(sub, "tie_breaker", "", text)
	q.TieBreaker = tie.val
	var weightsAt pos
	if sub.has("weights") {
		w := sub.sub("weights")
		weightsAt = w.at
		q.Weights = make(map[string]uint32)
		for _, e := range w.entries {
			if f.nodesGood && !slices.Contains(f.members, e.key) {
				d.errorf(e.at, "weights: %q is not among nodes%s (%s)", e.key, f.orWitnesses(), f.memberList())
			} else if v := readNode(d, e.value, e.key, e.at, number(0, 1000)); !v.bad {
				q.Weights[e.key] = uint32(v.val)
			}
		}
	} else {
		sub.asked = append(sub.asked, "weights")
	}
	sub.done()
	if kind.bad || sub.bad {
		return q
	}
	isPing := slices.ContainsFunc(c.Ping, func(p Ping) bool { return p.Name == q.TieBreaker })
	total := 0
	for _, n := range f.members {
		w, ok := q.Weights[n]
		if !ok {
			w = 1
		}
		total += int(w)
	}
	switch {
	case c.Partition == AtMostOne && q.Kind == "none":
		d.errorf(kind.at, "kind none gives quorum to both sides of a partition, and partition is %s: write kind: tie_breaker", AtMostOne)
	case q.Weights != nil && q.Kind != "weight" && q.Kind != "tie_breaker":
		d.errorf(weightsAt, "weights have no effect with kind %s: remove them, or write kind: weight", q.Kind)
	case q.Weights != nil && f.nodesGood && total == 0:
		d.errorf(weightsAt, "weights: all nodes together weigh nothing: no part of the cluster could have quorum")
	case tie.bad:
	case tie.set && q.Kind != "tie_breaker":
		d.errorf(tie.at, "tie_breaker has no effect with kind %s: remove it, or write kind: tie_breaker", q.Kind)
	case !tie.set && q.Kind == "tie_breaker":
		d.errorf(sub.at, "quorum: kind tie_breaker needs the name of a node or of a ping node: write tie_breaker: NAME")
	case tie.set && f.nodesGood && !slices.Contains(f.members, q.TieBreaker) && !isPing:
		d.errorf(tie.at, "tie_breaker: %q is neither among nodes%s (%s) nor a ping node", q.TieBreaker, f.orWitnesses(), f.memberList())
	}
	return q
}
