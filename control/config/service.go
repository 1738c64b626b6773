package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// standbyWords name sets of groups on the command line (those of hb_standby).
var standbyWords = []string{"all", "local", "foreign", "failback"}

func (d *decoder) groups(m *mapping, f *facts) []Group {
	l := m.list("groups")
	f.vips, f.vipsGood = make(map[netip.Addr]string), !l.bad && (l.set || !m.near("groups"))
	lines := make(map[string]int)
	var groups []Group
	for _, n := range l.items {
		e := d.item(n, "groups")
		name := need(e, "name", "a name for it, such as name: web", label)
		if !name.bad {
			switch line, twice := lines[name.val]; {
			case twice:
				d.errorf(name.at, "groups: the name %s is taken, in line %d: give each group its own", name.val, line)
			case slices.Contains(standbyWords, strings.ToLower(name.val)):
				d.errorf(name.at, "name: %q means a set of groups in commands: choose another name", name.val)
			}
			lines[name.val] = name.at.line
		}
		first := ""
		if len(f.nodes) > 0 {
			first = f.nodes[0]
		}
		preferred := read(e, "preferred", first, nodeName)
		if preferred.set && f.nodesGood && !slices.Contains(f.nodes, preferred.val) {
			d.errorf(preferred.at, "preferred: %q is not among cluster.nodes (%s)", preferred.val, f.nodeList())
		}
		groups = append(groups, Group{Name: name.val, Preferred: preferred.val, VIPs: d.vips(e, name.val, f),
			Haresources: read(e, "haresources", "", firstResource).val})
		e.done()
		f.vipsGood = f.vipsGood && !e.bad
	}
	return groups
}

func (d *decoder) vips(m *mapping, group string, f *facts) []VIP {
	l := m.list("vips")
	if !l.bad && len(l.items) == 0 {
		f.vipsGood = false
		m.missing("vips", "at least one address, such as vips: [{address: 192.0.2.101, interface: eth0}]")
	}
	f.vipsGood = f.vipsGood && !l.bad
	var vips []VIP
	for _, n := range l.items {
		e := d.item(n, "vips")
		p := need(e, "address", "the virtual address, such as address: 192.0.2.101", prefix)
		iface := need(e, "interface", "the NIC it lives on, such as interface: eth0", interfaceName)
		e.done()
		if p.bad {
			f.vipsGood = false
			continue
		}
		a := p.val.Addr()
		if other, twice := f.vips[a]; twice {
			d.errorf(p.at, "address: %s is a VIP of group %s already: an address is in one group only", a, other)
		} else {
			f.vips[a] = group
		}
		if node, ok := f.owners[a]; ok {
			d.errorf(p.at, "address: %s is the own address of %s: a VIP must be free to move", a, node)
		}
		vips = append(vips, VIP{Addr: a, PrefixLen: p.val.Bits(), Interface: iface.val})
	}
	return vips
}

// prefix is an address with or without "/length".
func prefix(s scalar) (netip.Prefix, error) {
	host, bits, cut := strings.Cut(s.text, "/")
	a, err := lanAddress(scalar{text: host, kind: ast.StringType})
	if err != nil {
		return netip.Prefix{}, err
	}
	most := a.BitLen()
	n := most
	if cut {
		if n, err = strconv.Atoi(bits); err != nil || n < 1 || n > most {
			return netip.Prefix{}, fmt.Errorf("the prefix length %q of %s is not 1 to %d: write %s/%d", bits, a, most, a, most)
		}
	}
	return netip.PrefixFrom(a, n), nil
}

func (d *decoder) services(m *mapping, f *facts) []Service {
	l := m.list("services")
	var services []Service
	var at []pos // of their names
	for _, n := range l.items {
		e := d.item(n, "services")
		s, named := d.named(e, f)
		d.traffic(e, &s)
		s.Quiescent = read(e, "quiescent", false, boolean).val
		// A udp or sctp port cannot be checked by itself.
		written := false
		if named.bad {
			s.Port = max(1, s.Port) // what the name lacks has been said
		}
		if e.has("check") || s.Protocol == "tcp" || s.FWMark != 0 || named.bad {
			c := e.sub("check")
			written = c.has("port")
			s.Check = d.check(c, Check{Port: s.Port})
		} else {
			e.asked = append(e.asked, "check")
			e.missing("check", fmt.Sprintf("check: {type: none}, or a check of a tcp port: a %s port cannot be checked by itself", s.Protocol))
		}
		s.Servers = d.servers(e, &s, f, written)
		s.Fallback = d.fallback(e, &s, f)
		if s.FWMark != 0 {
			d.markFamily(&s, named.at)
		}
		e.done()
		if !named.bad {
			d.unique(services, at, &s, named.at)
		}
		services, at = append(services, s), append(at, named.at)
	}
	return services
}

func (d *decoder) servers(m *mapping, s *Service, f *facts, checkPort bool) []Server {
	l := m.list("servers")
	if !l.bad && len(l.items) == 0 {
		m.missing("servers", "at least one real server, such as servers: [{address: 192.0.2.200}]")
	}
	lines := make(map[netip.Addr]int)
	var servers []Server
	for _, n := range l.items {
		e := d.item(n, "servers")
		addr := d.serverAddress(e, s, f)
		weight := read(e, "weight", 1, number(0, 65535))
		srv := Server{Addr: addr.val, Weight: uint32(weight.val)}
		d.forward(e, s, &srv, addr)
		d.thresholds(e, &srv)
		d.serverID(e, s, &srv, servers)
		if e.has("check") {
			own := e.sub("check")
			c := d.check(own, s.Check)
			srv.Check, checkPort = &c, checkPort || own.has("port")
		} else {
			e.asked = append(e.asked, "check")
		}
		// Without a port of its own a check asks where the server listens.
		if srv.Port != 0 && !checkPort && s.Check.Type != "none" {
			c := srv.check(*s)
			c.Port = srv.Port
			srv.Check = &c
		}
		if !addr.bad {
			if line, twice := lines[addr.val]; twice {
				d.errorf(addr.at, "address: %s is a server of this service already, in line %d: remove one", addr.val, line)
			} else {
				lines[addr.val] = addr.at.line
			}
		}
		e.done()
		servers = append(servers, srv)
	}
	return servers
}

func (d *decoder) fallback(m *mapping, s *Service, f *facts) *Server {
	if !m.has("fallback") {
		m.asked = append(m.asked, "fallback")
		return nil
	}
	e := m.sub("fallback")
	addr := d.serverAddress(e, s, f)
	srv := Server{Addr: addr.val, Weight: 1}
	d.forward(e, s, &srv, addr)
	d.serverID(e, s, &srv, s.Servers)
	for _, key := range []string{"weight", "check", "upper", "lower"} {
		if x := slices.IndexFunc(e.entries, func(x *entry) bool { return x.key == key }); x >= 0 {
			e.entries[x].used = true
			d.errorf(e.entries[x].at, "%s has no effect in fallback, which is alone and not checked: remove it", key)
		}
	}
	if !addr.bad && slices.ContainsFunc(s.Servers, func(o Server) bool { return o.Addr == addr.val }) {
		d.errorf(addr.at, "address: %s is a server of this service already: the fallback is another one", addr.val)
	}
	e.done()
	return &srv
}

// serverAddress reads where a real server is, and that it is not ourselves.
func (d *decoder) serverAddress(m *mapping, s *Service, f *facts) field[netip.Addr] {
	addr := need(m, "address", "the server's own address, such as address: 192.0.2.200", func(v scalar) (netip.Addr, error) {
		if isAddrPort(v.text) {
			return netip.Addr{}, fmt.Errorf("%q has a port: the packets keep the port of the service, write the address alone (with forward: masq the key port is the server's)", v.text)
		}
		return lanAddress(v)
	})
	if addr.bad {
		return addr
	}
	node := f.owners[addr.val]
	group, vip := f.vips[addr.val]
	switch {
	case addr.val == s.VIP:
		d.errorf(addr.at, "address: %s is the VIP itself: write the server's own address", addr.val)
	case vip:
		d.errorf(addr.at, "address: %s is a VIP, of group %s: write the server's own address", addr.val, group)
	case slices.Contains(f.nodes, node): // a witness may be one
		d.errorf(addr.at, "address: %s is the director %s: a director cannot be its own real server yet", addr.val, node)
	}
	return addr
}
