package guest

import (
	"cmp"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"

	"systole/dataplane"
	"systole/dataplane/ipvs"
	"systole/dataplane/planetest"
	"systole/dataplane/xdp"
)

// deliberate are the kinds of packet of which XDP and IPVS do not do the same,
// and why. A kind of which they do the same has no place here.
var deliberate = map[string]string{
	"tcp SYN, bad IP checksum": "XDP leaves checksums to the real server, which drops it",
	"tcp SYN, TTL 1":           "IPVS is a router, XDP is none: it leaves the TTL",

	"tcp SYN again, its server removed": "IPVS drops packets of the flow until its time is over, XDP begins anew",

	"tcp SYN, from the port of one that ended": "a new connection is a new turn for XDP; IPVS remembers the port's server for a while",

	"state: after a RST":         "XDP has one state for all that is ending, and its time",
	"state: after SYN and RST":   "IPVS goes on waiting for the connection to open",
	"state: after sctp INIT":     "XDP gives SCTP the times of TCP",
	"state: after sctp SHUTDOWN": "XDP gives SCTP the times of TCP",

	"tcp SYN+ACK, no flow":                     "IPVS takes any segment with SYN for the first of a connection",
	"tcp SYN, a VLAN without a device":         "the kernel wants a device for a VLAN, XDP serves its MAC address in any",
	"udp in two fragments, the last one first": "a fragment that overtakes its first has no port for XDP, which passes it; IPVS waits for all",

	"ipv6 udp in two fragments, the last one first": "as of IPv4",
}

// row is the matrix's of one kind of packet.
type row struct {
	kind       string
	n, differ  int
	ours, ipvs map[string]int // outcomes
	example    string         // of a difference
}

// comparison sends each frame through both planes.
type comparison struct {
	*testing.T
	wire *wire
	ours *xdp.Plane
	ipvs *ipvs.Plane
	rows []*row
	// same is which server of IPVS's stands for ours, by service: strict
	// rotations may begin at any server, but then they must agree for good.
	same map[string]map[int]int
}

// send compares the outcomes of one frame. service is whose servers must be the
// same; if it is empty any server is as good as any other.
func (c *comparison) send(kind, service string, frame []byte) {
	c.Helper()
	c.datagram(kind, service, frame)
}

// datagram is send of one that comes in several frames: only all of it, to one
// server, is forwarded.
func (c *comparison) datagram(kind, service string, frames ...[]byte) {
	c.Helper()
	a, b := judgeXDP(c.T, c.ours.Program(), frames...), c.wire.judge(frames...)
	r := c.row(kind)
	r.n++
	r.ours[a.String()]++
	r.ipvs[b.String()]++
	ok := (a.server < 0) == (b.server < 0)
	if ok && a.server >= 0 && service != "" {
		ok = c.agree(service, a.server, b.server)
	}
	if !ok {
		r.differ++
		r.example = fmt.Sprintf("XDP: %s, server %d; IPVS: %s, server %d", a, a.server, b, b.server)
	}
}

func (c *comparison) row(kind string) *row {
	i := slices.IndexFunc(c.rows, func(r *row) bool { return r.kind == kind })
	if i < 0 {
		i = len(c.rows)
		c.rows = append(c.rows, &row{kind: kind, ours: map[string]int{}, ipvs: map[string]int{}})
	}
	return c.rows[i]
}

// agree notes that a of ours is b of IPVS's, one to one.
func (c *comparison) agree(service string, a, b int) bool {
	m := c.same[service]
	if m == nil {
		m = map[int]int{}
		c.same[service] = m
	}
	if have, ok := m[a]; ok {
		return have == b
	}
	for _, taken := range m {
		if taken == b {
			return false
		}
	}
	m[a] = b
	return true
}

// apply puts one configuration into force in each plane.
func (c *comparison) apply(ours, kernel dataplane.Snapshot) {
	c.Helper()
	_, err := c.ours.Apply(ours)
	must(c.T, err)
	_, err = c.ipvs.Apply(kernel)
	must(c.T, err)
}

// plan is the configuration: three servers by weight in every service but one.
func plan(weights ...uint32) dataplane.Snapshot {
	s := dataplane.Snapshot{VIPs: []dataplane.VIP{{Addr: vip, Role: dataplane.Active}, {Addr: vip6, Role: dataplane.Active}}}
	add := func(a netip.Addr, p dataplane.Protocol, port uint16, server func(int) netip.Addr, weights []uint32) {
		svc := dataplane.Service{ServiceKey: dataplane.ServiceKey{VIP: a, Port: port, Protocol: p}, Scheduler: "rr"}
		for n, w := range weights {
			if w != gone {
				svc.Servers = append(svc.Servers, dataplane.RealServer{Addr: server(n), Weight: w, MAC: serverMAC(n)})
			}
		}
		s.Services = append(s.Services, svc)
	}
	add(vip, dataplane.TCP, 80, serverAddr, weights)
	add(vip, dataplane.UDP, 53, serverAddr, weights)
	add(vip, dataplane.SCTP, 80, serverAddr, weights)
	add(vip6, dataplane.TCP, 80, serverAddr6, weights)
	add(vip6, dataplane.UDP, 53, serverAddr6, weights)
	for i, name := range leastNames {
		add(vip, dataplane.TCP, leastPort+uint16(i), serverAddr, []uint32{2, 1, 3})
		s.Services[len(s.Services)-1].Scheduler = name
	}
	add(vip, dataplane.TCP, 82, serverAddr, nil)
	add(vip, dataplane.TCP, 83, serverAddr, []uint32{0})
	return s
}

// The services by the fewest connections, and the port of the first.
var leastNames = []string{"lc", "wlc"}

const leastPort = 90

// gone is the weight of a server that is not there.
const gone = ^uint32(0)

// client is the n-th one's frame to a port of the virtual address.
func client(n int, p dataplane.Protocol, port uint16, flags string) planetest.Frame {
	return planetest.Frame{
		Dst: own, Src: routerMAC, From: from(n), To: netip.AddrPortFrom(vip, port), Protocol: p, Flags: flags,
	}
}

func from(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), uint16(20000+n))
}

// client6 is the n-th one's by IPv6.
func client6(n int, p dataplane.Protocol, port uint16, flags string) planetest.Frame {
	f := client(n, p, port, flags)
	a := netip.MustParseAddr("2001:db8:1::").As16()
	a[14], a[15] = byte(n>>8), byte(n)
	f.From = netip.AddrPortFrom(netip.AddrFrom16(a), f.From.Port())
	f.To = netip.AddrPortFrom(vip6, port)
	return f
}

func TestVerdicts(t *testing.T) {
	c := &comparison{T: t, wire: newWire(t), same: map[string]map[int]int{}}
	var err error
	c.ours, err = xdp.Load(xdp.Config{Flows: 1 << 14}, own)
	must(t, err)
	defer c.ours.Close()
	c.ipvs, err = ipvs.Open(ipvs.Config{Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	defer c.ipvs.Close()
	must(t, c.ours.Renew(dataplane.Unlimited))
	c.apply(plan(1, 1, 1), plan(1, 1, 1))

	c.conversations()
	c.least()
	c.strays()
	c.counters()
	c.endings()
	c.others()
	c.changes()
	c.print()
}

// step is one packet of a conversation.
type step struct{ kind, flags string }

// conversations are those of many clients at the same time, in an order that
// the seed makes. None ends in a state that IPVS forgets within a minute.
func (c *comparison) conversations() {
	scripts := [][]step{
		{{"tcp SYN", "S"}, {"tcp SYN again", "S"}, {"tcp ACK", "A"}, {"tcp data", "PA"}, {"tcp data", "PA"}, {"tcp FIN", "FA"}, {"tcp ACK after FIN", "A"}},
		{{"tcp SYN", "S"}, {"tcp ACK", "A"}, {"tcp data", "PA"}, {"tcp data", "PA"}, {"tcp data", "PA"}},
		{{"tcp SYN", "S"}},
		{{"udp", ""}, {"udp, of a flow", ""}, {"udp, of a flow", ""}},
		{{"udp", ""}},
	}
	random := rand.New(rand.NewPCG(1, 2))
	next := make([]int, 210) // step of each client
	for {
		var busy []int
		for n := range next {
			if next[n] < len(scripts[n%len(scripts)]) {
				busy = append(busy, n)
			}
		}
		if len(busy) == 0 {
			return
		}
		n := busy[random.IntN(len(busy))]
		s := scripts[n%len(scripts)][next[n]]
		next[n]++
		f := client(n, dataplane.TCP, 80, s.flags)
		if s.flags == "" {
			f = client(n, dataplane.UDP, 53, "")
		}
		f.Payload = random.IntN(200)
		if s.flags == "PA" && n%3 == 0 {
			f.Options = []byte{148, 4, 0, 0} // router alert
			s.kind += ", IP options"
		}
		c.send(s.kind, f.Service().String(), f.Bytes())
	}
}

// least opens and closes connections of the services by the fewest: each choice
// must be the same, to the last one.
func (c *comparison) least() {
	random := rand.New(rand.NewPCG(3, 4))
	for i, name := range leastNames {
		var open []int
		for n := 7000 + 100*i; n < 7060+100*i; n++ {
			send := func(kind string, n int, flags string) {
				f := client(n, dataplane.TCP, leastPort+uint16(i), flags)
				c.send(kind, f.Service().String(), f.Bytes())
			}
			send("tcp SYN, "+name, n, "S")
			if random.IntN(3) > 0 {
				send("tcp ACK", n, "A")
			}
			open = append(open, n)
			for random.IntN(5) < 2 && len(open) > 0 {
				at := random.IntN(len(open))
				send("tcp FIN", open[at], "FA")
				open = slices.Delete(open, at, at+1)
			}
		}
	}
}

// strays belong to no flow, and none may come of them.
func (c *comparison) strays() {
	for i := range 10 {
		n := 1000 + i
		for _, s := range []struct{ kind, flags string }{
			{"tcp ACK, no flow", "A"}, {"tcp FIN, no flow", "FA"},
			{"tcp RST, no flow", "R"}, {"tcp no flags, no flow", ""},
		} {
			f := client(n, dataplane.TCP, 80, s.flags)
			c.send(s.kind, "", f.Bytes())
		}
		c.send("tcp SYN, no service", "", client(n, dataplane.TCP, 8080, "S").Bytes())
		c.send("udp, no service", "", client(n, dataplane.UDP, 5353, "").Bytes())
		c.send("tcp SYN, no server", "", client(n, dataplane.TCP, 82, "S").Bytes())
		c.send("tcp SYN, all quiesced", "", client(n, dataplane.TCP, 83, "S").Bytes())
		c.send("ping", "", ipv4(from(n).Addr(), vip, 64, layers.IPProtocolICMPv4, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0)}))
		c.send("gre", "", ipv4(from(n).Addr(), vip, 64, layers.IPProtocolGRE))
		elsewhere := client(n, dataplane.TCP, 80, "S")
		elsewhere.To = netip.AddrPortFrom(director.Addr(), 80)
		c.send("tcp SYN, another address", "", elsewhere.Bytes())
		flooded := client(n, dataplane.TCP, 80, "S")
		flooded.Dst = serverMAC(9)
		c.send("tcp SYN, another station", "", flooded.Bytes())
		syn := client(n, dataplane.TCP, 80, "S").Bytes()
		long := slices.Clone(syn)
		long[16] = 9
		c.send("tcp SYN, longer than the frame", "", long)
	}
}

// counters compares what both planes count of all that was until now.
func (c *comparison) counters() {
	c.Helper()
	st, err := c.ours.Stats()
	must(c.T, err)
	var kernel dataplane.Stats
	total := func(st dataplane.Stats) (n uint64) {
		for _, s := range st.Services {
			n += s.Packets
		}
		return n
	}
	// IPVS brings its counters up to date every two seconds.
	for end := time.Now().Add(8 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		kernel, err = c.ipvs.Stats()
		must(c.T, err)
		if total(kernel) >= total(st) {
			break
		}
	}
	for key, ours := range st.Servers {
		if key.Service.VIP != vip || len(c.same[key.Service.String()]) == 0 {
			continue
		}
		a := int(key.Server.As4()[3]) - 200
		other := dataplane.ServerKey{Service: key.Service, Server: serverAddr(c.same[key.Service.String()][a])}
		theirs := kernel.Servers[other]
		for _, f := range []struct {
			name string
			a, b uint64
		}{
			{"connections", ours.Connections, theirs.Connections},
			{"packets", ours.Packets, theirs.Packets},
			{"bytes", ours.Bytes, theirs.Bytes},
			{"ActiveConn", st.Conns[key].Active, kernel.Conns[other].Active},
			{"InActConn", st.Conns[key].Inactive, kernel.Conns[other].Inactive},
		} {
			r := c.row("state: " + f.name + ", per server")
			r.n++
			r.ours["sum"] += int(f.a)
			r.ipvs["sum"] += int(f.b)
			if f.a != f.b {
				r.differ++
				r.example = fmt.Sprintf("%s: %d and %d", key.Service, f.a, f.b)
			}
		}
	}
}

// endings are conversations that end in a state of their own, and what either
// plane tells of it as "ipvsadm -lnc" does. IPVS forgets some of them within
// seconds, so each is looked at as soon as it has ended.
func (c *comparison) endings() {
	c.Helper()
	for i, e := range []struct {
		name     string
		protocol dataplane.Protocol
		steps    []step
	}{
		{"a SYN", dataplane.TCP, []step{{"tcp SYN", "S"}}},
		{"an ACK", dataplane.TCP, []step{{"tcp SYN", "S"}, {"tcp ACK", "A"}}},
		{"a FIN", dataplane.TCP, []step{{"tcp SYN", "S"}, {"tcp ACK", "A"}, {"tcp FIN", "FA"}, {"tcp ACK after FIN", "A"}}},
		{"a RST", dataplane.TCP, []step{{"tcp SYN", "S"}, {"tcp ACK", "A"}, {"tcp data", "PA"}, {"tcp RST", "R"}, {"tcp ACK after RST", "A"}}},
		{"SYN and RST", dataplane.TCP, []step{{"tcp SYN", "S"}, {"tcp RST", "RA"}}},
		{"a datagram", dataplane.UDP, []step{{"udp", ""}}},
		{"sctp INIT", dataplane.SCTP, []step{{"sctp INIT", "S"}}},
		{"sctp COOKIE ECHO", dataplane.SCTP, []step{{"sctp INIT", "S"}, {"sctp COOKIE ECHO", "E"}, {"sctp DATA, of an association", "A"}}},
		{"sctp SHUTDOWN", dataplane.SCTP, []step{{"sctp INIT", "S"}, {"sctp COOKIE ECHO", "E"}, {"sctp SHUTDOWN", "F"}}},
	} {
		r := c.row("state: after " + e.name)
		for n := range 3 {
			f := client(6000+10*i+n, e.protocol, 80, "")
			if e.protocol == dataplane.UDP {
				f.To = netip.AddrPortFrom(vip, 53)
			}
			for _, s := range e.steps {
				f.Flags = s.flags
				c.send(s.kind, "", f.Bytes())
			}
			c.ended(r, f)
		}
	}
}

// ended compares what the planes tell of the flow of f.
func (c *comparison) ended(r *row, f planetest.Frame) {
	c.Helper()
	var ours, theirs ipvs.Connection
	for flow := range c.ours.Flows() {
		if flow.Client == f.From {
			ours = ipvs.ConnectionOf(flow)
		}
	}
	for conn, err := range c.ipvs.Connections() {
		must(c.T, err)
		if conn.Client == f.From {
			theirs = conn
		}
	}
	tell := func(m map[string]int, conn ipvs.Connection) {
		m[fmt.Sprintf("%s for %s", conn.State, conn.Expires.Round(5*time.Second))]++
	}
	tell(r.ours, ours)
	tell(r.ipvs, theirs)
	r.n++
	late := (ours.Expires - theirs.Expires).Abs()
	if ours.Protocol != theirs.Protocol || ours.Virtual != theirs.Virtual || ours.State != theirs.State || late > 3*time.Second {
		r.differ++
		r.example = fmt.Sprintf("%+v and %+v", ours, theirs)
	}
}

// others are the rest of what arrives at a director.
func (c *comparison) others() {
	established := client(2, dataplane.TCP, 80, "") // conversation 2 goes on
	router, router6 := netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("2001:db8:2::1")
	with := func(f planetest.Frame, change func(*planetest.Frame)) []byte {
		change(&f)
		return f.Bytes()
	}
	fragments := func(f planetest.Frame, n int) (first, last []byte) {
		f.ID, f.Payload = uint32(n), 8 // 16 bytes with the header
		first = with(f, func(f *planetest.Frame) { f.MF = true })
		last = with(f, func(f *planetest.Frame) { f.Offset = 2 })
		return first, last
	}
	for i := range 5 {
		n := 2000 + i // who has no flow yet; nor have n+100, n+200 ...
		c.send("tcp SYN, TTL 1", "", ipv4(from(n).Addr(), vip, 1, layers.IPProtocolTCP, &layers.TCP{SrcPort: 7, DstPort: 80, SYN: true, DataOffset: 5}))
		bad := client(n, dataplane.TCP, 80, "S").Bytes()
		bad[24]++
		c.send("tcp SYN, bad IP checksum", "", bad)
		c.send("tcp SYN+ACK, no flow", "", client(n+100, dataplane.TCP, 80, "SA").Bytes())
		tagged := func(n int, id uint16) []byte {
			return with(client(n, dataplane.TCP, 80, "S"), func(f *planetest.Frame) { f.VLANs = []uint16{id} })
		}
		c.send("tcp SYN, in a VLAN", "", tagged(n+200, vlan))
		c.send("tcp SYN, a VLAN without a device", "", tagged(n+300, vlan+1))

		first, last := fragments(client(n, dataplane.UDP, 53, ""), n)
		c.datagram("udp in two fragments", "", first, last)
		first, last = fragments(client(n+100, dataplane.UDP, 53, ""), n)
		c.datagram("udp in two fragments, the last one first", "", last, first)
		c.send("icmp too big, of a flow", "", established.Error(router, 3, 4, 20))
		c.send("icmp too big, 8 bytes, of a flow", "", established.Error(router, 3, 4, 8))
		c.send("icmp unreachable, of a flow", "", established.Error(router, 3, 1, 20))
		c.send("icmp too big, no flow", "", client(n+400, dataplane.TCP, 80, "").Error(router, 3, 4, 20))

		c.again(client(n+500, dataplane.TCP, 80, "S"))
		c.send("sctp DATA, no association", "", client(n+100, dataplane.SCTP, 80, "A").Bytes())

		tcp6, udp6 := client6(i, dataplane.TCP, 80, "S"), client6(i, dataplane.UDP, 53, "")
		c.send("ipv6 tcp SYN", "v6 tcp", tcp6.Bytes())
		tcp6.Flags = "A"
		c.send("ipv6 tcp ACK", "v6 tcp", tcp6.Bytes())
		c.send("ipv6 tcp ACK, hop-by-hop options", "v6 tcp", with(tcp6, func(f *planetest.Frame) {
			f.Extensions = []planetest.Extension{{Type: 0, Body: []byte{1, 4, 0, 0, 0, 0}}}
		}))
		c.send("ipv6 udp", "v6 udp", udp6.Bytes())
		first, last = fragments(udp6, n)
		c.datagram("ipv6 udp in two fragments, of a flow", "v6 udp", first, last)
		first, last = fragments(udp6, n+100)
		c.datagram("ipv6 udp in two fragments, the last one first", "v6 udp", last, first)
		c.send("icmpv6 too big, of a flow", "", tcp6.Error(router6, 2, 0, 20))
		c.send("icmpv6 too big, 8 bytes, of a flow", "", tcp6.Error(router6, 2, 0, 8))
		c.send("icmpv6 too big, no flow", "", client6(i+400, dataplane.TCP, 80, "").Error(router6, 2, 0, 20))
		c.send("ipv6 tcp ACK, no flow", "", client6(i+100, dataplane.TCP, 80, "A").Bytes())
		c.send("ipv6 tcp SYN, no service", "", client6(i, dataplane.TCP, 8080, "S").Bytes())
	}
}

// again opens a connection from the port of one that has ended, and compares
// which server it gets.
func (c *comparison) again(f planetest.Frame) {
	c.Helper()
	r := c.row("tcp SYN, from the port of one that ended")
	r.n++
	var first, last [2]outcome
	for _, flags := range []string{"S", "A", "FA", "S"} {
		f.Flags = flags
		last = [2]outcome{judgeXDP(c.T, c.ours.Program(), f.Bytes()), c.wire.judge(f.Bytes())}
		if flags == "A" {
			first = last
		}
	}
	for i, m := range []map[string]int{r.ours, r.ipvs} {
		switch {
		case last[i].server < 0:
			m[last[i].String()]++
		case last[i].server == first[i].server:
			m["to the same"]++
		default:
			m["to the next"]++
		}
	}
	if (last[0] == first[0]) != (last[1] == first[1]) {
		r.differ++
	}
}

// changes are of the servers, under flows that go on. Where a rotation goes on
// after a change is each plane's own affair; flows stay where they are.
func (c *comparison) changes() {
	const web = "the web service, anew" // the rotations have drifted apart
	const flows = 30
	for n := range flows {
		for _, flags := range []string{"S", "A"} {
			c.send("tcp, to be kept", web, client(3000+n, dataplane.TCP, 80, flags).Bytes())
		}
	}
	// c.same has which server of IPVS's holds the flows of which of ours; each
	// plane is told to change those that hold the same flows.
	change := func(weights ...uint32) {
		theirs := make([]uint32, len(weights))
		for a, w := range weights {
			theirs[c.same[web][a]] = w
		}
		c.apply(plan(weights...), plan(theirs...))
	}
	on := func(kind string, flags string) {
		for n := range flows {
			c.send(kind, web, client(3000+n, dataplane.TCP, 80, flags).Bytes())
		}
	}
	change(0, 1, 1)
	on("tcp data, a server quiesced", "PA")
	on("tcp SYN again, a server quiesced", "S")
	before := c.held(0, c.same[web][0])
	for n := range flows {
		c.send("tcp SYN, a server quiesced", "", client(4000+n, dataplane.TCP, 80, "S").Bytes())
	}
	if after := c.held(0, c.same[web][0]); after != before {
		c.Errorf("a quiesced server had %d connections (XDP, IPVS) and has %d", before, after)
	}
	change(gone, 1, 1)
	on("tcp data, servers removed", "PA")
	// Each flow of the removed server once more, by a SYN.
	for n := range flows {
		frame := client(3000+n, dataplane.TCP, 80, "A").Bytes()
		if judgeXDP(c.T, c.ours.Program(), frame).server < 0 {
			c.send("tcp SYN again, its server removed", "", client(3000+n, dataplane.TCP, 80, "S").Bytes())
		}
	}
	change(1, 1, 1)
	for n := range flows {
		c.send("tcp SYN, a server back", "", client(5000+n, dataplane.TCP, 80, "S").Bytes())
	}
}

// held are the connections that server a of ours and b of IPVS's have for web.
func (c *comparison) held(a, b int) (n [2]uint64) {
	c.Helper()
	for i, p := range []dataplane.Plane{c.ours, c.ipvs} {
		st, err := p.Stats()
		must(c.T, err)
		h := st.Conns[dataplane.ServerKey{Service: client(0, dataplane.TCP, 80, "").Service(), Server: serverAddr([]int{a, b}[i])}]
		n[i] = h.Active + h.Inactive
	}
	return n
}

// print writes the matrix and judges it: what differs must be meant to, and what
// is meant to differ must.
func (c *comparison) print() {
	c.Helper()
	for kind := range deliberate {
		if !slices.ContainsFunc(c.rows, func(r *row) bool { return r.kind == kind && r.differ > 0 }) {
			c.Errorf("%s: no difference any more, take it out of the list", kind)
		}
	}
	fmt.Println("VERDICT\tkind\tpackets\tXDP\tIPVS\tdiffer\tnote")
	for _, r := range c.rows {
		why, meant := "", false
		if r.differ > 0 {
			if why, meant = deliberate[r.kind]; !meant {
				c.Errorf("%s: %d of %d differ: %s", r.kind, r.differ, r.n, r.example)
				why = "!"
			}
		}
		fmt.Printf("VERDICT\t%s\t%d\t%s\t%s\t%d\t%s\n", r.kind, r.n, outcomes(r.ours), outcomes(r.ipvs), r.differ, why)
	}
}

func outcomes(m map[string]int) string {
	type pair struct {
		what string
		n    int
	}
	var all []pair
	for what, n := range m {
		all = append(all, pair{what, n})
	}
	slices.SortFunc(all, func(a, b pair) int { return cmp.Or(b.n-a.n, cmp.Compare(a.what, b.what)) })
	var out []string
	for _, p := range all {
		out = append(out, fmt.Sprintf("%s %d", p.what, p.n))
	}
	return strings.Join(out, ", ")
}
