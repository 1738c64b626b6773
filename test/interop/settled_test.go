package interop

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"systole/control"
)

// inverse gives heartbeat's word for the same groups from the other side.
func inverse(word string) string {
	switch word {
	case "local":
		return "foreign"
	case "foreign":
		return "local"
	}
	return word
}

// settled waits until each sees both nodes active and the link up, both are
// stable and agree that ours holds the one class and theirs the other (each in
// its own words), and the addresses are where they say.
func (p *pair) settled(weHold, theyHold string, patience time.Duration) {
	p.t.Helper()
	var seen string
	defer func() {
		if p.t.Failed() {
			p.t.Log("last seen: " + seen)
		}
	}()
	p.wait(fmt.Sprintf("ours holds %s, theirs holds %s, both stable", weHold, theyHold), patience, func() bool {
		s := p.status()
		if s == nil {
			seen = "our daemon does not answer"
			return false
		}
		seen = fmt.Sprintf("ours %s, standby %s, holds %s, theirs holds %s stable %v (says ours)", s.Takeover.State,
			s.Takeover.Standby, s.Holds, s.Takeover.PeerHolds, s.Takeover.PeerStable)
		if s.Takeover.State != "stable" || s.Takeover.Standby != "idle" || !s.Takeover.PeerStable ||
			s.Holds != weHold || s.Takeover.PeerHolds != theyHold {
			return false // and theirs, whose tools cost much, is not asked
		}
		rsc, where, unwell := p.real.Status("rscstatus"), p.where(s), p.unwell(s)
		seen += fmt.Sprintf("; theirs says it holds %q; addresses %s; %s", rsc, where, unwell)
		if p.setup.netstring && rsc == "transition" {
			rsc = theyHold // the word that ends it, of mach_down, is lost (insist)
		}
		return rsc == theyHold && where == p.should(weHold, theyHold) && unwell == ""
	})
	if p.status().Takeover.PeerSystole {
		p.t.Errorf("ours takes the real heartbeat for a Systole director")
	}
}

// unwell names the nodes and links that a side does not see active and up.
func (p *pair) unwell(s *control.State) string {
	var out []string
	for _, n := range s.Nodes {
		if n.Status != "active" {
			out = append(out, fmt.Sprintf("ours sees %s as %s", n.Name, n.Status))
		}
	}
	for _, n := range nodes {
		if got := p.real.Status("nodestatus", n); got != "active" {
			out = append(out, fmt.Sprintf("theirs sees %s as %q", n, got))
		}
	}
	for _, m := range p.paths {
		if we, they := p.link(s, m); !we || they != "up" {
			out = append(out, fmt.Sprintf("link %s up: ours %v, theirs %q", m.kind, we, they))
		}
	}
	return strings.Join(out, ", ")
}

// link is how each sees its link to the other.
func (p *pair) link(s *control.State, m path) (weSeeUp bool, theySee string) {
	we, they := m.names()
	links := peer(s).Links
	i := slices.IndexFunc(links, func(l control.LinkState) bool { return l.Medium == we })
	return i >= 0 && links[i].Up, p.real.Status("hblinkstatus", ours, they)
}

// where says which machine has which address.
func (p *pair) where(s *control.State) string {
	var out []string
	for _, a := range p.vips() {
		var at []string
		for _, g := range s.Groups {
			if g.VIPs[0].Present && g.Role == "active" && strings.HasPrefix(g.VIPs[0].Address, a.String()) {
				at = append(at, ours)
			}
		}
		if p.real.Holds(a) {
			at = append(at, theirs)
		}
		out = append(out, fmt.Sprintf("%s%v", a, at))
	}
	return strings.Join(out, " ")
}

// should is what where says when all is as both say.
func (p *pair) should(weHold, theyHold string) string {
	out := fmt.Sprintf("%s%v", vip, holders(weHold, theyHold, "local"))
	if p.setup.twoGroups {
		out += fmt.Sprintf(" %s%v", second, holders(weHold, theyHold, "foreign"))
	}
	return out
}

// holders are the nodes that hold a class, in our words.
func holders(weHold, theyHold, class string) []string {
	var out []string
	if weHold == class || weHold == "all" {
		out = append(out, ours)
	}
	if theyHold == inverse(class) || theyHold == "all" {
		out = append(out, theirs)
	}
	return out
}

func (p *pair) vips() []netip.Addr {
	if p.setup.twoGroups {
		return []netip.Addr{vip, second}
	}
	return []netip.Addr{vip}
}
