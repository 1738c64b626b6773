package config

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// write is the inverse of Parse: every field, in the form of the file.
func write(c *Config) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	q := strconv.Quote
	check := func(c Check) string {
		s := "{type: " + c.Type
		if c.Type != "none" {
			s += fmt.Sprintf(", port: %d, interval: %s, timeout: %s, rise: %d, fall: %d", c.Port, c.Interval, c.Timeout, c.Rise, c.Fall)
		}
		if c.Type == "http" {
			s += fmt.Sprintf(", path: %s, method: %s", q(c.Path), c.Method)
			if c.VirtualHost != "" {
				s += ", virtual_host: " + q(c.VirtualHost)
			}
			if c.Expect != "" {
				s += ", expect: " + q(c.Expect)
			}
		}
		return s + "}"
	}
	forward := func(s Server) string {
		out := ", forward: " + s.Forward
		for _, v := range []struct {
			key string
			n   int
		}{{"port", int(s.Port)}, {"tunnel_port", int(s.TunnelPort)}, {"upper", int(s.Upper)}, {"lower", int(s.Lower)}} {
			if v.n != 0 {
				out += fmt.Sprintf(", %s: %d", v.key, v.n)
			}
		}
		if s.ServerID != "" {
			out += ", server_id: " + s.ServerID // unquoted, though YAML takes some for numbers
		}
		return out
	}
	cl := c.Cluster
	p("node: %s\ncluster:", q(c.Node))
	p("  {name: %s, keepalive: %s, deadtime: %s, warntime: %s, initdead: %s, suspicion: %v, auto_failback: %v, partition: %s, authkeys: %s, state_dir: %s, realtime: %v,",
		q(cl.Name), cl.Keepalive, cl.Deadtime, cl.Warntime, cl.Initdead, cl.Suspicion, cl.Failback(), cl.Partition, q(cl.Authkeys), q(cl.StateDir), cl.Realtime)
	nodes := make([]string, len(cl.Nodes))
	for i, n := range cl.Nodes {
		nodes[i] = q(n)
	}
	witnesses := ""
	if len(cl.Witnesses) > 0 {
		witnesses = `  witnesses: ["` + strings.Join(cl.Witnesses, `", "`) + "\"],\n"
	}
	p("  nodes: [%s],\n%s  media: [", strings.Join(nodes, ", "), witnesses)
	for _, m := range cl.Media {
		var peers []string
		for n, a := range m.Peers {
			peers = append(peers, q(n)+": "+a.String())
		}
		sort.Strings(peers)
		switch m.Type {
		case "ucast":
			p("    {type: ucast, interface: %s, port: %d, peers: {%s}},", q(m.Interface), m.Port, strings.Join(peers, ", "))
		case "bcast":
			p("    {type: bcast, interface: %s, port: %d},", q(m.Interface), m.Port)
		case "mcast":
			p("    {type: mcast, interface: %s, port: %d, group: %s, ttl: %d},", q(m.Interface), m.Port, m.Group, m.TTL)
		case "serial":
			p("    {type: serial, device: %s, baud: %d},", q(m.Device), m.Baud)
		}
	}
	p("  ],")
	p("  autojoin: %s, deadping: %s,", cl.Autojoin, cl.DeadPing)
	if len(cl.Ping) > 0 {
		p("  ping: [")
		for _, n := range cl.Ping {
			var hosts []string
			for _, h := range n.Hosts {
				hosts = append(hosts, q(h.String()))
			}
			if hosts[0] == q(n.Name) {
				p("    %s,", hosts[0])
			} else {
				p("    {name: %s, hosts: [%s]},", q(n.Name), strings.Join(hosts, ", "))
			}
		}
		p("  ],")
	}
	if cl.Quorum.Kind != "none" {
		rest := ""
		if cl.Quorum.TieBreaker != "" {
			rest += ", tie_breaker: " + q(cl.Quorum.TieBreaker)
		}
		if cl.Quorum.Weights != nil {
			var ws []string
			for n, w := range cl.Quorum.Weights {
				ws = append(ws, fmt.Sprintf("%s: %d", q(n), w))
			}
			rest += ", weights: {" + strings.Join(ws, ", ") + "}"
		}
		p("  quorum: {kind: %s%s},", cl.Quorum.Kind, rest)
	}
	if cl.Addresses != nil {
		var addrs []string
		for n, a := range cl.Addresses {
			addrs = append(addrs, q(n)+": "+a.String())
		}
		p("  addresses: {%s},", strings.Join(addrs, ", "))
	}
	p("  }\ngroups: [")
	for _, g := range c.Groups {
		p("  {name: %s, preferred: %s, vips: [", q(g.Name), q(g.Preferred))
		for _, v := range g.VIPs {
			p("    {address: '%s/%d', interface: %s},", v.Addr, v.PrefixLen, q(v.Interface))
		}
		key := ""
		if g.Haresources != "" {
			key = ", haresources: " + q(g.Haresources)
		}
		p("  ]%s},", key)
	}
	p("  ]\nservices: [")
	for _, s := range c.Services {
		if s.FWMark != 0 {
			p("  {fwmark: %d,", s.FWMark)
		} else {
			p(`  {virtual: "%s", protocol: %s,`, strings.TrimSuffix(s.Name(), "/"+s.Protocol), s.Protocol)
		}
		p("   scheduler: %s, scheduler_flags: [%s], one_packet: %v, quiescent: %v, check: %s,", s.Scheduler, strings.Join(s.SchedulerFlags, ", "), s.OnePacket, s.Quiescent, check(s.Check))
		if !s.OnePacket {
			p("   lost: %s,", s.Lost)
		}
		if s.QUIC != (QUIC{}) {
			p("   quic: {server_id_length: %d},", s.QUIC.ServerIDLength)
		}
		if s.Persistent.Timeout != 0 {
			mask := ""
			if s.Persistent.PrefixLen != 0 {
				mask = fmt.Sprintf(", netmask: %d", s.Persistent.PrefixLen)
			}
			p("   persistent: {timeout: %s%s},", s.Persistent.Timeout, mask)
		}
		if s.Timeouts != (Timeouts{}) {
			p("   timeouts: {%s},", strings.NewReplacer("tcp ", "tcp: ", "tcpfin ", "tcpfin: ", "udp ", "udp: ").Replace(s.Timeouts.String()))
		}
		if s.Fallback != nil {
			p("   fallback: {address: '%s'%s},", s.Fallback.Addr, forward(*s.Fallback))
		}
		p("   servers: [")
		for _, r := range s.Servers {
			own := ""
			if r.Check != nil {
				own = ", check: " + check(*r.Check)
			}
			p("    {address: '%s', weight: %d%s%s},", r.Addr, r.Weight, forward(r), own)
		}
		p("  ]},")
	}
	p("  ]\ndataplane: {mode: %s, pin: %s, flows: %d, evict: %v}", c.DataPlane.Mode, q(c.DataPlane.Pin), c.DataPlane.Flows, c.DataPlane.Evict)
	s := b.String()
	if c.DataPlane.Interface != "" {
		nics := "interface: " + q(c.DataPlane.Interface)
		if n := len(c.DataPlane.Interfaces); n > 0 {
			nics = "interfaces: ["
			for _, name := range c.DataPlane.Interfaces {
				nics += q(name) + ", "
			}
			nics += "]"
		}
		s = strings.Replace(s, "dataplane: {", "dataplane: {"+nics+", ", 1)
	}
	s += writeSync(c.Sync)
	if c.Metrics.Listen != "" {
		s += "metrics: {listen: " + q(c.Metrics.Listen) + "}\n"
	}
	return s + "control: {socket: " + q(c.Control.Socket) + "}\n"
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(base))
	f.Add(Reference)
	for _, c := range badWhole {
		f.Add([]byte(c.file))
	}
	f.Add([]byte("cluster: {nodes: [node1, node2], media: &m [*m]}\nnode: &n [*n]\n"))
	f.Add([]byte("? a\n: b\n<<: *x\n!!a &b c: |\n  d\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("f", data, "node1")
		if err != nil {
			var errs Errors
			if c != nil || !errors.As(err, &errs) || len(errs) == 0 {
				t.Fatalf("%v and %T %v", c, err, err)
			}
			for i, e := range errs {
				if e.Line < 1 || e.Col < 1 || e.Msg == "" || strings.Contains(e.Msg, "\n") {
					t.Errorf("%q", e)
				}
				if i > 0 && (e == errs[i-1] || e.Line < errs[i-1].Line) {
					t.Errorf("%q after %q", e, errs[i-1])
				}
			}
			return
		}
		again, err := Parse("f", []byte(write(c)), "")
		if err != nil {
			t.Fatalf("accepted, and not when written anew: %v\n%s", err, write(c))
		}
		// Both forms of no value mean the same.
		if diff := cmp.Diff(Summary(c), Summary(again)); diff != "" {
			t.Error(diff)
		}
		if lines := Diff(c, again); len(lines) > 0 {
			t.Errorf("%q", lines)
		}
	})
}

// genConfig draws configurations that obey every rule.
func genConfig(t *rapid.T) *Config {
	ms := func(label string, min, max time.Duration) time.Duration {
		return time.Duration(rapid.Int64Range(int64(min/time.Millisecond), int64(max/time.Millisecond)).Draw(t, label)) * time.Millisecond
	}
	iface := rapid.StringMatching(`[a-z]{2,4}[0-9]`)
	path := rapid.StringMatching(`(/[a-z .]{1,9}){1,3}`)
	addr := func(net string, i int) netip.Addr {
		return netip.MustParseAddr(fmt.Sprintf("10.%s.%d.%d", net, i/250, 1+i%250))
	}
	port := rapid.Uint16Range(1, 65535)
	check := func() Check {
		c := Check{Type: rapid.SampledFrom([]string{"tcp", "http"}).Draw(t, "check"), Port: port.Draw(t, "port"),
			Interval: ms("interval", 10*time.Millisecond, time.Hour), Rise: rapid.IntRange(1, 1000).Draw(t, "rise"), Fall: rapid.IntRange(1, 1000).Draw(t, "fall")}
		c.Timeout = ms("timeout", time.Millisecond, c.Interval)
		if c.Type == "http" {
			c.Path, c.Method = rapid.StringMatching(`/[a-z0-9/.?=&%]{0}[a-z0-9/.?=&]{0,20}`).Draw(t, "path"), "GET"
			c.Expect = rapid.SampledFrom([]string{"", "ok", `^a\s+"b"$`, "ü: #x", "200"}).Draw(t, "expect")
			c.VirtualHost = rapid.SampledFrom([]string{"", "www.a.com", "b:8080"}).Draw(t, "host")
		}
		return c
	}
	keepalive := ms("keepalive", 10*time.Millisecond, time.Minute)
	deadtime := ms("deadtime", 2*keepalive+time.Millisecond, time.Hour)
	cl := Cluster{
		Name: rapid.StringMatching(`[A-Za-z][A-Za-z0-9._-]{0,10}`).Draw(t, "name"), Keepalive: keepalive, Deadtime: deadtime,
		Warntime: ms("warntime", time.Millisecond, deadtime-time.Millisecond), Initdead: ms("initdead", deadtime, 2*time.Hour),
		Suspicion: rapid.Bool().Draw(t, "suspicion"), AutoFailback: rapid.Bool().Draw(t, "failback"), Partition: AtLeastOne, Authkeys: path.Draw(t, "keys"), StateDir: path.Draw(t, "state"), Realtime: rapid.Bool().Draw(t, "realtime"),
		Nodes: rapid.SampledFrom([][]string{{"node1"}, {"node1", "b-2"}, {"10", "node1"}}).Draw(t, "nodes"),
	}
	cl.Witnesses = rapid.SampledFrom([][]string{nil, {"w"}, {"w", "2", "x.y"}}).Draw(t, "witnesses")
	cl.Legacy = cl.AutoFailback && rapid.Bool().Draw(t, "legacy")
	for i := range rapid.IntRange(1, 2).Draw(t, "media") {
		m := Medium{Type: rapid.SampledFrom([]string{"ucast", "bcast", "mcast", "serial"}).Draw(t, "medium")}
		if m.Type == "serial" {
			m.Device, m.Baud = fmt.Sprintf("/dev/ttyS%d", i), rapid.SampledFrom(bauds).Draw(t, "baud")
		} else {
			m.Interface, m.Port = iface.Draw(t, "iface"), uint16(1000+i)
		}
		if m.Type == "mcast" {
			m.Group, m.TTL = netip.AddrFrom4([4]byte{byte(rapid.IntRange(225, 239).Draw(t, "group")), 1, 2, 3}), rapid.IntRange(1, 255).Draw(t, "ttl")
			if rapid.Bool().Draw(t, "mcast6") {
				m.Group = netip.MustParseAddr("ff15::694")
			}
		}
		if m.Type == "ucast" {
			m.Peers = map[string]netip.Addr{}
			v6 := rapid.Bool().Draw(t, "ucast6")
			for j, n := range cl.Members() {
				m.Peers[n] = addr(strconv.Itoa(100+i), j)
				if v6 {
					m.Peers[n] = netip.MustParseAddr(fmt.Sprintf("2001:db8::%d:%d", i+1, j+1))
				}
			}
		}
		cl.Media = append(cl.Media, m)
	}
	cl.Autojoin = rapid.SampledFrom([]string{"none", "other", "any"}).Draw(t, "autojoin")
	cl.DeadPing = ms("deadping", max(2*keepalive, 20*time.Millisecond), time.Hour)
	if rapid.Bool().Draw(t, "ping") {
		cl.Ping = []Ping{
			{Name: "2001:db8::9", Hosts: []netip.Addr{netip.MustParseAddr("2001:db8::9")}},
			{Name: "gw", Hosts: []netip.Addr{addr("120", 0), addr("120", 1)}},
		}
	}
	cl.Quorum.Kind = rapid.SampledFrom([]string{"none", "majority", "weight", "tie_breaker"}).Draw(t, "quorum")
	switch cl.Quorum.Kind {
	case "weight":
		cl.Quorum.Weights = map[string]uint32{"node1": uint32(rapid.IntRange(1, 1000).Draw(t, "weight"))}
	case "tie_breaker":
		cl.Quorum.TieBreaker = "node1"
		if cl.Ping != nil {
			cl.Quorum.TieBreaker = "gw"
		}
	}
	if len(cl.Nodes) > 1 && rapid.Bool().Draw(t, "addresses") {
		cl.Addresses = map[string]netip.Addr{}
		for j, n := range cl.Nodes {
			cl.Addresses[n] = addr("110", j)
		}
	}
	c := &Config{File: "f", Node: rapid.SampledFrom(cl.Members()).Draw(t, "node"), Cluster: cl,
		DataPlane: DataPlane{Interface: iface.Draw(t, "nic"), Mode: rapid.SampledFrom([]string{"auto", "native", "generic", "ipvs"}).Draw(t, "mode"),
			Pin: path.Draw(t, "pin"), Flows: 1 << rapid.IntRange(10, 24).Draw(t, "flows"), Evict: rapid.Bool().Draw(t, "evict")},
		Metrics: Metrics{Listen: rapid.SampledFrom([]string{"", ":9101", "[::1]:1", "localhost:65535"}).Draw(t, "listen")},
		Control: Control{Socket: path.Draw(t, "socket")},
	}
	if rapid.Bool().Draw(t, "several NICs") {
		c.DataPlane.Interfaces = rapid.SliceOfNDistinct(iface, 1, maxNICs, rapid.ID[string]).Draw(t, "nics")
		c.DataPlane.Interface = c.DataPlane.Interfaces[0]
	}
	vips := 0
	vip := func(i int) netip.Addr { // every other is IPv6
		if i%2 == 1 {
			return netip.MustParseAddr(fmt.Sprintf("2001:db8:1::%x", i))
		}
		return addr("1", i)
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "groups") {
		g := Group{Name: fmt.Sprintf("g%d", i), Preferred: rapid.SampledFrom(cl.Nodes).Draw(t, "preferred"),
			Haresources: rapid.SampledFrom([]string{"", "IPaddr::192.0.2.1", "192.0.2.1/24"}).Draw(t, "haresources")}
		for range rapid.IntRange(1, 3).Draw(t, "vips") {
			a := vip(vips)
			g.VIPs = append(g.VIPs, VIP{Addr: a, PrefixLen: rapid.IntRange(1, a.BitLen()).Draw(t, "len"), Interface: iface.Draw(t, "on")})
			vips++
		}
		c.Groups = append(c.Groups, g)
	}
	for i := 0; vips > 0 && i < rapid.IntRange(0, 4).Draw(t, "services"); i++ {
		s := Service{VIP: vip(rapid.IntRange(0, vips-1).Draw(t, "vip")), Port: uint16(80 + i), Protocol: rapid.SampledFrom([]string{"tcp", "udp", "sctp"}).Draw(t, "proto"),
			Scheduler: rapid.SampledFrom(schedulers).Draw(t, "sched"), Quiescent: rapid.Bool().Draw(t, "q"), Check: check(), Lost: "reset"}
		genTraffic(t, &s, i)
		for j := range rapid.IntRange(1, 4).Draw(t, "servers") {
			r := genServer(t, &s, addr("2", j), j)
			// A check of another type than the service's takes nothing from it
			// that write would not write.
			if own := check(); rapid.Bool().Draw(t, "own") && (own.Type != s.Check.Type || own.Type == "tcp") {
				r.Check = &own
			}
			s.Servers = append(s.Servers, r)
		}
		if rapid.Bool().Draw(t, "fallback") {
			f := genServer(t, &s, addr("3", 0), 250)
			f.Weight, f.Upper, f.Lower = 1, 0, 0
			s.Fallback = &f
		}
		c.Services = append(c.Services, s)
	}
	c.Sync = genSync(t, cl.Nodes, iface, port)
	return c
}

// genTraffic draws what concerns the connections of the service, the i-th.
func genTraffic(t *rapid.T, s *Service, i int) {
	switch rapid.SampledFrom([]string{"port", "range", "all", "mark"}).Draw(t, "kind") {
	case "range":
		s.Port = uint16(1000 + 10*i)
		s.LastPort = s.Port + rapid.Uint16Range(1, 9).Draw(t, "ports")
	case "all":
		if i == 0 {
			s.Port = 0
		}
	case "mark":
		s.FWMark, s.Port, s.Protocol = uint32(i+1), 0, ""
		v4 := s.VIP.Is4()
		if s.VIP = netip.IPv6Unspecified(); v4 {
			s.VIP = netip.IPv4Unspecified()
		}
	}
	if s.Scheduler == "sh" || s.Scheduler == "mh" {
		s.SchedulerFlags = rapid.SampledFrom([][]string{nil, {s.Scheduler + "-port"}, {s.Scheduler + "-port", s.Scheduler + "-fallback"}}).Draw(t, "flags")
	}
	second := func(label string) time.Duration {
		return time.Duration(rapid.IntRange(0, 86400).Draw(t, label)) * time.Second
	}
	if s.Protocol == "udp" && rapid.Bool().Draw(t, "one packet") {
		s.OnePacket = true
		return
	}
	s.Lost = rapid.SampledFrom([]string{"reset", "reschedule", "keep"}).Draw(t, "lost")
	if s.Protocol == "udp" && rapid.Bool().Draw(t, "quic") {
		s.QUIC.ServerIDLength = rapid.IntRange(1, 8).Draw(t, "server ids")
		s.Timeouts.UDP = second("udp")
		return
	}
	if s.Persistent.Timeout = second("persistent"); s.Persistent.Timeout != 0 {
		s.Persistent.PrefixLen = rapid.IntRange(0, s.VIP.BitLen()-1).Draw(t, "mask")
	}
	if s.Protocol == "tcp" || s.FWMark != 0 {
		s.Timeouts.TCP, s.Timeouts.TCPFin = second("tcp"), second("tcpfin")
	}
	if s.Protocol == "udp" || s.FWMark != 0 {
		s.Timeouts.UDP = second("udp")
	}
}

// genServer draws a server at a, or at an IPv6 address where it must be one.
func genServer(t *rapid.T, s *Service, a netip.Addr, j int) Server {
	v6 := netip.MustParseAddr(fmt.Sprintf("2001:db8:2::%x", j))
	r := Server{Addr: a, Weight: rapid.Uint32Range(0, 65535).Draw(t, "weight"), Forward: rapid.SampledFrom([]string{"gate", "ipip", "gue", "masq"}).Draw(t, "forward")}
	tunnel := r.Forward == "ipip" || r.Forward == "gue"
	if s.VIP.Is6() || s.FWMark == 0 && tunnel && rapid.Bool().Draw(t, "other family") {
		r.Addr = v6
	}
	switch {
	case r.Forward == "gue":
		r.TunnelPort = rapid.Uint16Range(1, 65535).Draw(t, "tunnel port")
	case r.Forward == "masq" && s.LastPort == 0 && (s.Port != 0 || s.FWMark != 0):
		// Not the service's, which would be no port of its own.
		r.Port = rapid.SampledFrom([]uint16{0, 8080}).Draw(t, "port")
	}
	if n := s.QUIC.ServerIDLength; n != 0 {
		id := rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, "server id")
		id[0] = byte(j) // each its own
		r.ServerID = hex.EncodeToString(id)
	}
	if rapid.Bool().Draw(t, "full") {
		r.Upper = rapid.Uint32Range(2, 1<<31-1).Draw(t, "upper")
		r.Lower = rapid.Uint32Range(0, r.Upper-1).Draw(t, "lower")
	}
	return r
}

func TestWrittenIsRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := genConfig(t)
		got, err := Parse("f", []byte(write(want)), "")
		if err != nil {
			t.Fatalf("%v\n%s", err, write(want))
		}
		if diff := cmp.Diff(want, got, cmpAddr); diff != "" {
			t.Fatal(diff)
		}
	})
}
