package bpf_test

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"systole/dataplane"
	"systole/dataplane/planetest"
	"systole/dataplane/xdp"
	"systole/test/need"
)

// The directors' addresses in outer headers, and where the tunnels lead. The
// MAC addresses are of the next hops.
var (
	director  = netip.MustParseAddr("192.168.145.2")
	director6 = netip.MustParseAddr("2001:db8:2::2")

	tunnels = map[uint16]dataplane.RealServer{ // by the port of their services
		1001: {Addr: netip.MustParseAddr("198.51.100.1"), MAC: rs(1), Source: director, Forward: dataplane.IPIP},
		1002: {Addr: netip.MustParseAddr("2001:db8:5::2"), MAC: rs(2), Source: director6, Forward: dataplane.IPIP, MTU: 1500},
		1003: {Addr: netip.MustParseAddr("198.51.100.3"), MAC: rs(3), Source: director, Forward: dataplane.GUE, MTU: 1500},
		1004: {Addr: netip.MustParseAddr("2001:db8:5::4"), MAC: rs(4), Source: director6, Forward: dataplane.GUE, TunnelPort: 5555, MTU: 1500},
		1005: {Addr: netip.MustParseAddr("198.51.100.5"), MAC: rs(5), Source: director, Forward: dataplane.IPIP, MTU: 600},
	}
)

// names of the rows, by the same ports.
var tunnelNames = map[uint16]string{1001: "in IPv4", 1002: "in IPv6", 1003: "GUE in IPv4", 1004: "GUE in IPv6"}

// tunnelled is a snapshot of services behind tunnels, each of TCP and UDP; as
// changed the services on port left have lost their server, and keep its flows.
func tunnelled(changed bool) dataplane.Snapshot {
	s := dataplane.Snapshot{
		VIPs:  []dataplane.VIP{{Addr: active, Role: dataplane.Active}, {Addr: active6, Role: dataplane.Active}},
		Peers: snapshot(false).Peers,
	}
	for _, vip := range []netip.Addr{active, active6} {
		for _, p := range []dataplane.Protocol{dataplane.TCP, dataplane.UDP} {
			add := func(port uint16, r dataplane.RealServer) {
				r.Weight = 1
				s.Services = append(s.Services, dataplane.Service{
					ServiceKey: dataplane.ServiceKey{VIP: vip, Port: port, Protocol: p}, Scheduler: "rr", Lost: dataplane.Keep,
					Servers: []dataplane.RealServer{r},
				})
			}
			for port, r := range tunnels {
				add(port, r)
			}
			r := tunnels[1003]
			if add(left, r); changed {
				s.Services[len(s.Services)-1].Servers = nil
			}
			if changed {
				r.Source = netip.Addr{}
			}
			add(unknown, r)
		}
	}
	return s
}

func loadTunnels(t testing.TB) *xdp.Plane {
	t.Helper()
	p := load(t)
	if _, err := p.Apply(tunnelled(false)); err != nil {
		t.Fatal(err)
	}
	if err := p.Renew(dataplane.Unlimited); err != nil {
		t.Fatal(err)
	}
	return p
}

// l3of is where IP begins in a frame.
func l3of(frame []byte) int {
	at := 12
	for slices.Contains([]uint16{0x8100, 0x88a8}, binary.BigEndian.Uint16(frame[at:])) {
		at += 4
	}
	return at + 2
}

// behind serializes layers after the head of frame, with a type of their own.
func behind(t testing.TB, frame []byte, kind layers.EthernetType, stack ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, stack...); err != nil {
		t.Fatal(err)
	}
	head := bytes.Clone(frame[:l3of(frame)])
	binary.BigEndian.PutUint16(head[len(head)-2:], uint16(kind))
	return append(head, buf.Bytes()...)
}

// throughTunnel is what becomes of frame on its way to r. What the director may
// choose (identification, source port) is as in out. The padding of a short frame
// stays behind it, outside of the packet.
func throughTunnel(t testing.TB, frame []byte, r dataplane.RealServer, out []byte) []byte {
	t.Helper()
	in := frame[l3of(frame):]
	length := int(binary.BigEndian.Uint16(in[2:]))
	if in[0]>>4 == 6 {
		length = 40 + int(binary.BigEndian.Uint16(in[4:]))
	}
	in, padding := in[:length], in[length:]
	inner, tos, ttl, df := layers.IPProtocolIPv4, in[1], in[8], in[6]&0x40 != 0
	if in[0]>>4 == 6 {
		inner, tos, ttl, df = layers.IPProtocolIPv6, in[0]<<4|in[1]>>4, in[7], false
	}
	next, payload := inner, in
	if r.Forward == dataplane.GUE {
		at := l3of(out) + r.Overhead() - 12
		if len(out) < at+12 {
			t.Fatalf("no room for UDP in %x", out)
		}
		source := binary.BigEndian.Uint16(out[at:])
		if source < 0xc000 {
			t.Errorf("source port %d is not dynamic", source)
		}
		next = layers.IPProtocolUDP
		payload = binary.BigEndian.AppendUint16(nil, source)
		payload = binary.BigEndian.AppendUint16(payload, cmp.Or(r.TunnelPort, 6080))
		payload = binary.BigEndian.AppendUint16(payload, uint16(8+4+len(in)))
		payload = append(payload, 0, 0, 0, byte(inner), 0, 0)
		payload = append(payload, in...)
	}
	head := patch(patch(frame, 0, r.MAC...), 6, own...)
	if r.Addr.Is6() {
		return append(behind(t, head, layers.EthernetTypeIPv6, &layers.IPv6{
			Version: 6, TrafficClass: tos, HopLimit: ttl, NextHeader: next, SrcIP: r.Source.AsSlice(), DstIP: r.Addr.AsSlice(),
		}, gopacket.Payload(payload)), padding...)
	}
	ip := &layers.IPv4{Version: 4, TOS: tos, TTL: ttl, Protocol: next, SrcIP: r.Source.AsSlice(), DstIP: r.Addr.AsSlice()}
	if df {
		ip.Flags = layers.IPv4DontFragment
	} else {
		ip.Id = binary.BigEndian.Uint16(out[l3of(out)+4:])
	}
	return append(behind(t, head, layers.EthernetTypeIPv4, ip, gopacket.Payload(payload)), padding...)
}

func df(f *planetest.Frame)                { f.DF = true }
func tos(n uint8) func(f *planetest.Frame) { return func(f *planetest.Frame) { f.TOS = n } }
func reasonsOf(t testing.TB, p *xdp.Plane) map[string]uint64 {
	t.Helper()
	st, err := p.Stats()
	if err != nil {
		t.Fatal(err)
	}
	return st.Reasons
}

// counts tells that nothing but the reasons was counted since before.
func counts(t testing.TB, p *xdp.Plane, before map[string]uint64, reasons ...string) {
	t.Helper()
	for reason, n := range reasonsOf(t, p) {
		want := uint64(0)
		if slices.Contains(reasons, reason) {
			want = 1
		}
		if grew := n - before[reason]; grew != want {
			t.Errorf("counter %s grew by %d, want %d", reason, grew, want)
		}
	}
}

// Every kind of packet that is forwarded goes through every kind of tunnel, byte
// for byte as it should.
func TestTunnels(t *testing.T) {
	p := loadTunnels(t)
	client := 0
	for _, vip := range []netip.Addr{active, active6} {
		family := "IPv4 "
		if vip.Is6() {
			family = "IPv6 "
		}
		for port, name := range tunnelNames {
			first, last := moreFragments, offset(20)
			for _, tt := range []struct {
				description string
				before      []packet
				in          packet
			}{
				{"SYN", nil, seg(vip, port, "S")},
				{"SYN that must not be fragmented", nil, seg(vip, port, "S", df)},
				{"segment of a flow", []packet{seg(vip, port, "S")}, seg(vip, port, "A", payload(700), df, tos(0xb9))},
				{"datagram", nil, dgram(vip, port, payload(3), tos(0x03))},
				{"with a tag", nil, seg(vip, port, "S", tags(5))},
				{"with two tags", nil, seg(vip, port, "S", tags(100, 5))},
				{"with options", nil, seg(vip, port, "S", options(10), with(hopByHop, options6))},
				{"first fragment", nil, dgram(vip, port, first, id(1), payload(8))},
				{"later fragment", []packet{dgram(vip, port, first, id(2), payload(8))}, dgram(vip, 9, last, id(2), payload(16))},
				{"ICMP error", []packet{seg(vip, port, "S")}, func(n int) []byte {
					if vip.Is6() {
						return icmpError(vip, port, dataplane.TCP, 2, 8)(n)
					}
					return icmpError(vip, port, dataplane.TCP, 3, 8)(n)
				}},
			} {
				client++
				n := client
				t.Run(family+name+", "+tt.description, func(t *testing.T) {
					for i, f := range tt.before {
						if verdict, _ := run(t, p.Program(), f(n)); verdict != tx {
							t.Fatalf("before, %d: verdict %d", i, verdict)
						}
					}
					before := reasonsOf(t, p)
					in := tt.in(n)
					verdict, out := run(t, p.Program(), in)
					if verdict != tx {
						t.Fatalf("verdict %d", verdict)
					}
					if want := throughTunnel(t, in, tunnels[port], out); !bytes.Equal(out, want) {
						t.Errorf("packet out\n%x, want\n%x", out, want)
					}
					counts(t, p, before, "tunnelled")
				})
			}
		}
	}
}

// All packets of a flow take one path, and those of many flows many.
func TestTunnelSourcePort(t *testing.T) {
	p := loadTunnels(t)
	for _, vip := range []netip.Addr{active, active6} {
		ports := map[uint16]bool{}
		for n := range 64 {
			var first uint16
			for i, flags := range []string{"S", "A", "PA"} {
				_, out := run(t, p.Program(), seg(vip, 1003, flags, payload(i))(n))
				source := binary.BigEndian.Uint16(out[14+20:])
				if i == 0 {
					first = source
				}
				if source != first {
					t.Fatalf("client %d: source port %d, then %d", n, first, source)
				}
			}
			ports[first] = true
		}
		// 64 of 16384: one pair alike in eight runs of ten at most.
		if len(ports) < 60 {
			t.Errorf("64 clients, %d source ports", len(ports))
		}
	}
}

// What is larger than the tunnel: the client is told, or it goes up.
func TestTooBig(t *testing.T) {
	p := loadTunnels(t)
	client := 3000
	for _, vip := range []netip.Addr{active, active6} {
		for _, port := range []uint16{1001, 1002, 1003, 1004, 1005} {
			r := tunnels[port]
			if r.Narrow(dataplane.ServiceKey{VIP: vip}) {
				continue // a tunnel of IPv6 has 1280 bytes
			}
			head := 40
			if vip.Is6() {
				head = 60
			}
			for _, vlans := range [][]uint16{nil, {5}, {100, 5}} {
				client++
				flow := func(change ...func(*planetest.Frame)) []byte {
					return seg(vip, port, "A", append(change, tags(vlans...))...)(client)
				}
				if verdict, _ := run(t, p.Program(), seg(vip, port, "S")(client)); verdict != tx {
					t.Fatalf("a SYN for port %d: verdict %d", port, verdict)
				}
				fits := flow(df, payload(r.Most()-head))
				verdict, out := run(t, p.Program(), fits)
				if want := throughTunnel(t, fits, r, out); verdict != tx || !bytes.Equal(out, want) {
					t.Errorf("port %d, %d bytes: verdict %d", port, r.Most(), verdict)
				}
				before := reasonsOf(t, p)
				in := flow(df, payload(r.Most()-head+1))
				verdict, out = run(t, p.Program(), in)
				if want := complaint(t, in, r.Most()); verdict != tx || !bytes.Equal(out, want) {
					t.Errorf("port %d, %d bytes: verdict %d,\n%x, want\n%x", port, r.Most()+1, verdict, out, want)
				}
				counts(t, p, before, "tunnel_too_big")
				if vip.Is6() {
					continue
				}
				before = reasonsOf(t, p)
				in = flow(payload(r.Most() - head + 1))
				if verdict, out = run(t, p.Program(), in); verdict != pass || !bytes.Equal(in, out) {
					t.Errorf("port %d, %d bytes that may be fragmented: verdict %d", port, r.Most()+1, verdict)
				}
				counts(t, p, before, "tunnel_fragment")
			}
		}
	}
}

// complaint is the ICMP error about a frame to a tunnel that most bytes fit into.
func complaint(t testing.TB, in []byte, most int) []byte {
	t.Helper()
	l3 := l3of(in)
	head := patch(patch(in, 0, in[6:12]...), 6, own...)
	if in[l3]>>4 == 6 {
		ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolICMPv6, SrcIP: in[l3+24 : l3+40], DstIP: in[l3+8 : l3+24]}
		icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypePacketTooBig, 0)}
		if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
		return behind(t, head, layers.EthernetTypeIPv6, ip, icmp,
			gopacket.Payload(binary.BigEndian.AppendUint32(nil, uint32(most))), gopacket.Payload(in[l3:l3+1280-48]))
	}
	return behind(t, head, layers.EthernetTypeIPv4,
		&layers.IPv4{Version: 4, TOS: 0xc0, TTL: 64, Flags: layers.IPv4DontFragment, Protocol: layers.IPProtocolICMPv4, SrcIP: in[l3+16 : l3+20], DstIP: in[l3+12 : l3+16]},
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodeFragmentationNeeded), Seq: uint16(most)},
		gopacket.Payload(in[l3:l3+576-28]))
}

// What is never answered, RFC 1122 section 3.2.2 and RFC 4443 section 2.4.
func TestTooBigUnanswered(t *testing.T) {
	p := loadTunnels(t)
	big := func(vip netip.Addr, change ...func(*planetest.Frame)) []byte {
		return dgram(vip, 1001, append([]func(*planetest.Frame){df, payload(1480)}, change...)...)(4000)
	}
	client := func(a string) func(*planetest.Frame) {
		return func(f *planetest.Frame) { f.From = netip.AddrPortFrom(netip.MustParseAddr(a), 7) }
	}
	at := func(vip netip.Addr, a string) []byte {
		f := tcp(vip, 1001, "", proto(dataplane.UDP), df, payload(1480), client(a))
		return f.Bytes()
	}
	for _, tt := range []struct {
		description string
		before      []byte
		in          []byte
		verdict     uint32
		reason      string
	}{
		{"a client 0.0.0.0", nil, at(active, "0.0.0.0"), drop, "tunnel_silent"},
		{"a client in a group", nil, at(active, "224.0.0.9"), drop, "tunnel_silent"},
		{"a client ::", nil, at(active6, "::"), drop, "tunnel_silent"},
		{"a client in an IPv6 group", nil, at(active6, "ff02::1"), drop, "tunnel_silent"},
		{"a later fragment", dgram(active, 1001, moreFragments, id(5), payload(8))(4000), big(active, offset(2), id(5)), pass, "tunnel_fragment"},
		{"an ICMP error", seg(active, 1001, "S")(4000), icmpError(active, 1001, dataplane.TCP, 3, 1480, payload(1480))(4000), pass, "tunnel_fragment"},
	} {
		t.Run(tt.description, func(t *testing.T) {
			if tt.before != nil {
				if verdict, _ := run(t, p.Program(), tt.before); verdict != tx {
					t.Fatalf("before: verdict %d", verdict)
				}
			}
			before := reasonsOf(t, p)
			verdict, out := run(t, p.Program(), tt.in)
			if verdict != tt.verdict || !bytes.Equal(out, tt.in) {
				t.Errorf("verdict %d, want %d", verdict, tt.verdict)
			}
			counts(t, p, before, tt.reason)
		})
	}
	// A flood of them is not answered by another.
	before, began := reasonsOf(t, p), time.Now()
	for range 5000 {
		run(t, p.Program(), big(active))
	}
	after := reasonsOf(t, p)
	// A unit of age is 256 jiffies, a quarter of a second at the shortest, and each
	// CPU has its own thousand.
	most := 1000 * uint64(runtime.NumCPU()) * uint64(2+time.Since(began)/(256*time.Millisecond))
	told, silent := after["tunnel_too_big"]-before["tunnel_too_big"], after["tunnel_silent"]-before["tunnel_silent"]
	if told+silent != 5000 || told > most || told < 1000 {
		t.Errorf("5000 packets too big: %d answers, %d times silence; want 1000 answers in a unit of age", told, silent)
	}
}

// Fragments that a tunnel is too small for go up together, also the small one at
// the end.
func TestTooBigFragments(t *testing.T) {
	p := loadTunnels(t)
	for i, f := range []packet{
		dgram(active, 1001, moreFragments, id(77), payload(1472-8)), dgram(active, 9, offset(184), id(77), payload(64)),
	} {
		in := f(4100)
		if i == 0 {
			in = dgram(active, 1001, moreFragments, id(77), payload(1472))(4100)
		}
		if verdict, out := run(t, p.Program(), in); verdict != pass || !bytes.Equal(in, out) {
			t.Errorf("fragment %d: verdict %d", i, verdict)
		}
	}
}

// What the tunnel's server is, and whether there is a way to it.
func TestTunnelChanges(t *testing.T) {
	p := loadTunnels(t)
	syn, ack := seg(active, left, "S")(1), seg(active, left, "A")(1)
	lost, segment := seg(active, unknown, "S")(2), seg(active, unknown, "A")(2)
	for _, in := range [][]byte{syn, lost} {
		if verdict, _ := run(t, p.Program(), in); verdict != tx {
			t.Fatalf("verdict %d", verdict)
		}
	}
	if _, err := p.Apply(tunnelled(true)); err != nil {
		t.Fatal(err)
	}
	verdict, out := run(t, p.Program(), ack)
	if want := throughTunnel(t, ack, tunnels[1003], out); verdict != tx || !bytes.Equal(out, want) {
		t.Errorf("a flow that is kept: verdict %d, %x, want\n%x", verdict, out, want)
	}
	for _, tt := range []struct {
		in      []byte
		verdict uint32
		reason  string
	}{
		{segment, drop, "no_mac"},
		{seg(active, unknown, "S")(3), pass, "no_server"},
		// An IPv6 packet may have 1280 bytes wherever it goes.
		{seg(active6, 1005, "S")(4), pass, "no_server"},
	} {
		before := reasonsOf(t, p)
		if verdict, out := run(t, p.Program(), tt.in); verdict != tt.verdict || !bytes.Equal(out, tt.in) {
			t.Errorf("%s: verdict %d, want %d", tt.reason, verdict, tt.verdict)
		}
		counts(t, p, before, tt.reason)
	}
	// The lease ended: nothing goes up for the address.
	if err := p.Renew(0); err != nil {
		t.Fatal(err)
	}
	before := reasonsOf(t, p)
	if verdict, _ := run(t, p.Program(), seg(active, left, "A", from(peer), payload(1480))(1)); verdict != drop {
		t.Errorf("too big without a lease: verdict %d", verdict)
	}
	counts(t, p, before, "lease_ended")
}

// The counters are of the packets that clients sent.
func TestTunnelCounters(t *testing.T) {
	p := loadTunnels(t)
	frames := []planetest.Frame{tcp(active, 1004, "S"), tcp(active, 1004, "A", payload(100))}
	want := dataplane.Counters{Connections: 1}
	for _, f := range frames {
		run(t, p.Program(), f.Bytes())
		want.Packets++
		want.Bytes += uint64(f.IPLength())
	}
	st, err := p.Stats()
	if err != nil {
		t.Fatal(err)
	}
	key := dataplane.ServerKey{Service: frames[0].Service(), Server: tunnels[1004].Addr}
	if got := st.Servers[key]; got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// FuzzTunnel: a packet is never changed but for what goes before it.
func FuzzTunnel(f *testing.F) {
	need.Root(f, "BPF programs")
	p := loadTunnels(f)
	for port := range tunnelNames {
		f.Add(tcp(active, port, "S").Bytes())
		f.Add(seg(active6, port, "S", with(hopByHop), tags(5))(1))
		f.Add(udp(active, port, payload(1500), df).Bytes())
		f.Add(dgram(active6, port, payload(1500), moreFragments)(1))
		f.Add(icmpError(active, port, dataplane.TCP, 3, 8)(1))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) < 14 || len(in) > 3000 {
			t.Skip("not a frame")
		}
		switch verdict, out := run(t, p.Program(), in); verdict {
		case pass, drop:
			if !bytes.Equal(in, out) {
				t.Errorf("verdict %d, but changed:\n%x\n%x", verdict, in, out)
			}
		case tx:
			packet := in[l3of(in):]
			told := bytes.Equal(out[:6], in[6:12]) && (len(out) == l3of(in)+576 || len(out) == l3of(in)+1280)
			if !bytes.Equal(out[6:12], own) || !told && !bytes.HasSuffix(out, packet) {
				t.Errorf("sent, but:\n%x\n%x", in, out)
			}
		default:
			t.Errorf("verdict %d for %x", verdict, in)
		}
	})
}
