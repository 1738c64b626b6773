package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Summary is what a configuration says, for people: what "systole check"
// prints of a file that is right. Defaults are filled in.
func Summary(c *Config) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }

	cl := c.Cluster
	line("cluster %s: %s of %s (this is %s)", cl.Name, count(len(cl.Nodes), "director"), strings.Join(cl.Nodes, ", "), c.Node)
	if len(cl.Witnesses) > 0 {
		line("  %s, which vote and own nothing: %s", count(len(cl.Witnesses), "witness"), strings.Join(cl.Witnesses, ", "))
	}
	line("  a beat every %s, late after %s, dead after %s, %s at the start",
		short(cl.Keepalive), short(cl.Warntime), short(cl.Deadtime), short(cl.Initdead))
	if !cl.Suspicion {
		line("  no director is declared dead before that, whatever the network says")
	}
	for _, m := range cl.Media {
		if m.Type == "ucast" {
			line("  medium %s: %s", m, nodeAddrs(cl.Members(), m.Peers))
		} else {
			line("  medium %s", m)
		}
	}
	if cl.Partition == AtMostOne {
		line("  in a partition %s: who has no quorum lets go", AtMostOne)
	}
	for _, p := range cl.Ping {
		line("  ping node %s, dead after %s", p, short(cl.DeadPing))
	}
	if cl.Quorum.Kind != "none" {
		line("  quorum: %s", cl.Quorum)
	}
	if cl.Autojoin != "none" {
		line("  nodes that are not listed may join (autojoin %s)", cl.Autojoin)
	}
	if cl.Addresses != nil {
		line("  addresses: %s", nodeAddrs(cl.Nodes, cl.Addresses))
	}
	back := "goes back to its preferred director by itself"
	switch {
	case cl.Legacy:
		back += ", as auto_failback legacy has it to an old heartbeat"
	case !cl.AutoFailback:
		back = "stays where it is until told"
	}
	for _, g := range c.Groups {
		line("group %s: prefers %s, %s", g.Name, g.Preferred, back)
		for _, v := range g.VIPs {
			line("  %s/%d on %s", v.Addr, v.PrefixLen, v.Interface)
		}
	}
	for _, s := range c.Services {
		line("service %s: %s over %s, %s", s.Name(), s.scheduling(), count(len(s.Servers), "real server"), s.Check)
		for _, text := range s.traits() {
			line("  %s", text)
		}
		for _, r := range s.Servers {
			own := ""
			if how := r.How(); how != "gate" {
				own = ", " + how
			}
			own += r.named()
			if r.Check != nil {
				own += ", " + r.Check.String()
			}
			line("  %s weight %d%s", r.Addr, r.Weight, own)
		}
		if s.Fallback != nil {
			how := s.Fallback.How()
			if how == "gate" {
				line("  %s as fallback%s", s.Fallback.Addr, s.Fallback.named())
			} else {
				line("  %s as fallback, %s%s", s.Fallback.Addr, how, s.Fallback.named())
			}
		}
		if s.Quiescent {
			line("  a server that fails its check keeps its connections (quiescent)")
		}
	}
	on := ""
	if nics := c.DataPlane.NICs(); len(nics) > 0 {
		on = " on " + strings.Join(nics, ", ")
	}
	line("data plane: %s%s, %d flows, pinned in %s", c.DataPlane.Mode, on, c.DataPlane.Flows, c.DataPlane.Pin)
	if c.Sync != nil {
		line("flows are carried %s", c.Sync)
	}
	line("metrics: %s", cmp.Or(c.Metrics.Listen, "none"))
	line("control: %s", c.Control.Socket)
	return b.String()
}

func count(n int, what string) string {
	switch {
	case n == 1:
	case strings.HasSuffix(what, "s"):
		what += "es"
	default:
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// Name is "192.0.2.101:80/tcp", as a service is called in logs and metrics.
func (s *Service) Name() string { return s.Key().String() }

// String is "10m" or "10m of a /24"; "none".
func (p Persistent) String() string {
	switch {
	case p.Timeout == 0:
		return "none"
	case p.PrefixLen == 0:
		return short(p.Timeout)
	}
	return fmt.Sprintf("%s of a /%d", short(p.Timeout), p.PrefixLen)
}

// scheduling is the scheduler with its flags: "sh (sh-port)".
func (s *Service) scheduling() string {
	if len(s.SchedulerFlags) == 0 {
		return s.Scheduler
	}
	return s.Scheduler + " (" + strings.Join(s.SchedulerFlags, ", ") + ")"
}

// traits are what a service does beyond the rule, a sentence each.
func (s *Service) traits() []string {
	var out []string
	if p := s.Persistent; p.Timeout != 0 {
		whose := "each client address"
		if p.PrefixLen != 0 {
			whose = fmt.Sprintf("all clients of a /%d", p.PrefixLen)
		}
		out = append(out, fmt.Sprintf("%s keeps its server for %s (persistent)", whose, short(p.Timeout)))
	}
	if s.OnePacket {
		out = append(out, "each datagram is scheduled by itself (one_packet)")
	}
	if s.QUIC != (QUIC{}) {
		out = append(out, fmt.Sprintf("a QUIC connection stays on the server that its ID names when its client's address changes (%s)", s.QUIC))
	}
	if t := s.Timeouts; t != (Timeouts{}) {
		out = append(out, "timeouts: "+t.String())
	}
	if s.Lost != "reset" {
		out = append(out, "connections of a server that is removed: "+s.Lost)
	}
	return out
}

// String is "tcp 5m, udp 10s"; "" if all are IPVS's.
func (t Timeouts) String() string {
	var out []string
	for _, v := range []struct {
		name string
		time time.Duration
	}{{"tcp", t.TCP}, {"tcpfin", t.TCPFin}, {"udp", t.UDP}} {
		if v.time != 0 {
			out = append(out, v.name+" "+short(v.time))
		}
	}
	return strings.Join(out, ", ")
}

// String describes a check in a few words.
func (c Check) String() string {
	if c.Type == "none" {
		return "not checked"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "checked by %s port %d", c.Type, c.Port)
	if c.Type == "http" {
		fmt.Fprintf(&b, " %s %s", c.Method, c.Path)
		if c.VirtualHost != "" {
			fmt.Fprintf(&b, " of %s", c.VirtualHost)
		}
		if c.Expect != "" {
			fmt.Fprintf(&b, " for %q", c.Expect)
		}
	}
	fmt.Fprintf(&b, " every %s, timeout %s, rise %d, fall %d", short(c.Interval), short(c.Timeout), c.Rise, c.Fall)
	return b.String()
}

// advice are sentences about what works and is likely not meant; the part of
// Warnings that needs nothing but the file.
func advice(c *Config) []string {
	var w []string
	say := func(format string, args ...any) { w = append(w, fmt.Sprintf(format, args...)) }

	cl := c.Cluster
	// heartbeat-wire.md section 7: three beats to a deadtime gave false deaths
	// at 25 % loss, ten did well at 20 %.
	if len(cl.Members()) > 1 && cl.Deadtime < 5*cl.Keepalive {
		say("cluster.deadtime %s is less than five times keepalive %s: a few lost packets look like a dead director; ten times is better",
			short(cl.Deadtime), short(cl.Keepalive))
	}
	if cl.Warntime <= cl.Keepalive {
		say("cluster.warntime %s is not more than keepalive %s: every beat will be logged as late", short(cl.Warntime), short(cl.Keepalive))
	}
	if len(cl.Members()) > 1 && len(cl.Media) == 1 {
		say("cluster.media has one path: if it fails both directors think the other dead; a second one over another NIC is better")
	}
	w = append(w, mediaAdvice(c)...)
	used := make(map[netip.Addr]bool)
	for _, s := range c.Services {
		used[s.VIP] = true
		weights := make(map[uint32]bool)
		for _, r := range s.Servers {
			if r.Weight > 0 {
				weights[r.Weight] = true
			}
		}
		if len(weights) > 1 && slices.Contains(unweighted, s.Scheduler) {
			say("service %s: scheduler %s ignores that the weights differ: %s goes by them", s.Name(), s.Scheduler,
				map[string]string{"rr": "wrr", "lc": "wlc", "dh": "sh"}[s.Scheduler])
		}
		if len(weights) == 0 {
			say("service %s: every server has weight 0: only a fallback would serve", s.Name())
		}
		if s.QUIC != (QUIC{}) && c.DataPlane.Mode == "ipvs" {
			say("service %s: quic has no effect with dataplane.mode ipvs, which keeps a connection only while its client's address stays", s.Name())
		}
		if s.Protocol == "udp" && s.Check.Type != "none" && s.Check.Port == s.Port {
			say("service %s: the check asks tcp port %d, which must be open on the servers beside the udp port", s.Name(), s.Check.Port)
		}
	}
	for _, g := range c.Groups {
		for _, v := range g.VIPs {
			if nics := c.DataPlane.NICs(); used[v.Addr] && len(nics) > 0 && !slices.Contains(nics, v.Interface) {
				say("group %s: %s lives on %s, but dataplane.interface is %s: packets that come in by %s take the kernel's way",
					g.Name, v.Addr, v.Interface, strings.Join(nics, ", "), v.Interface)
			}
			delete(used, v.Addr)
		}
	}
	return w
}

// beatSize is about what a beat takes on a serial line, in bytes; it grows with
// the names of the nodes.
const beatSize = 300

// mediaAdvice is the advice about several paths, and about what only some kinds
// of path give.
func mediaAdvice(c *Config) []string {
	var w []string
	say := func(format string, args ...any) { w = append(w, fmt.Sprintf(format, args...)) }
	cl := c.Cluster
	if len(cl.Members()) < 2 {
		return nil
	}
	same := len(cl.Media) > 1
	for _, m := range cl.Media {
		same = same && m.Interface != "" && m.Interface == cl.Media[0].Interface
		if m.Type != "serial" {
			continue
		}
		if t := beatSize * 10 * time.Second / time.Duration(m.Baud); 2*t > cl.Keepalive {
			say("cluster.media: a beat takes %s on %s at %d bit/s, more than half of keepalive %s: raise baud, or keepalive",
				short(t.Round(time.Millisecond)), m.Device, m.Baud, short(cl.Keepalive))
		}
	}
	if same {
		say("cluster.media: all paths go over %s: if it fails both directors think the other dead; one over another NIC is better", cl.Media[0].Interface)
	}
	if names := c.WithoutAddr(); len(names) > 0 {
		say("cluster.addresses: the address of %s on the LAN of %s is not known: connections that are open when a group moves are reset (no second chance)",
			strings.Join(names, " and "), strings.Join(c.DataPlane.NICs(), " or "))
	}
	return w
}

// interfaces are the names of all NICs the file speaks of that we need.
func (c *Config) interfaces() []string {
	var names []string
	for _, m := range c.Cluster.Media {
		if m.Interface != "" {
			names = append(names, m.Interface)
		}
	}
	c = c.Own()
	for _, g := range c.Groups {
		for _, v := range g.VIPs {
			names = append(names, v.Interface)
		}
	}
	names = append(names, c.DataPlane.NICs()...)
	if c.Sync != nil {
		names = append(names, c.Sync.Interfaces...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
