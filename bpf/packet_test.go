package bpf_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"

	"systole/dataplane"
	"systole/dataplane/planetest"
	"systole/dataplane/xdp"
	"systole/test/need"
)

// Verdicts of XDP, from linux/bpf.h.
const (
	drop = 1
	pass = 2
	tx   = 3
)

var (
	own    = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	peer   = net.HardwareAddr{2, 0, 0, 0, 0, 2}
	peer2  = net.HardwareAddr{2, 0, 0, 0, 0, 3}
	router = net.HardwareAddr{2, 0, 0, 0, 9, 9}
	all    = net.HardwareAddr{255, 255, 255, 255, 255, 255}

	active   = netip.MustParseAddr("192.168.145.101")
	standby  = netip.MustParseAddr("192.168.145.102")
	draining = netip.MustParseAddr("192.168.145.103")
	nobody   = netip.MustParseAddr("192.168.145.104")
	client   = netip.MustParseAddrPort("10.1.2.3:4567")
)

// rs is the MAC of the n-th real server.
func rs(n byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 1, 0, n} }

// Ports of the services on each address, by what is special about them.
const (
	plain   = 80   // one server, rs 1
	quiet   = 81   // only a quiesced server
	unknown = 82   // a server whose MAC was lost after it got a flow
	left    = 83   // a server that left after it got a flow
	unused  = 8080 // no service
)

func snapshot(changed bool) dataplane.Snapshot {
	s := dataplane.Snapshot{
		VIPs: []dataplane.VIP{
			{Addr: active, Role: dataplane.Active},
			{Addr: standby, Role: dataplane.Standby},
			{Addr: draining, Role: dataplane.Draining},
		},
		Peers:        []net.HardwareAddr{peer, peer2},
		SecondChance: true,
	}
	if !changed {
		s.VIPs[1].Role = dataplane.Active // to have a flow there
	}
	service := func(vip netip.Addr, port uint16, p dataplane.Protocol, servers ...dataplane.RealServer) {
		s.Services = append(s.Services, dataplane.Service{
			ServiceKey: dataplane.ServiceKey{VIP: vip, Port: port, Protocol: p}, Scheduler: "rr", Servers: servers,
		})
	}
	server := func(n byte, weight uint32, mac net.HardwareAddr) dataplane.RealServer {
		return dataplane.RealServer{Addr: netip.AddrFrom4([4]byte{192, 168, 145, 10 + n}), Weight: weight, MAC: mac}
	}
	for _, vip := range []netip.Addr{active, standby, draining} {
		service(vip, plain, dataplane.TCP, server(1, 1, rs(1)))
		service(vip, plain, dataplane.UDP, server(2, 1, rs(2)))
	}
	service(active, quiet, dataplane.TCP, server(1, 0, rs(1)))
	if changed {
		service(active, unknown, dataplane.TCP, server(3, 1, nil))
		service(active, left, dataplane.TCP, server(5, 1, rs(5)))
	} else {
		service(active, unknown, dataplane.TCP, server(3, 1, rs(3)))
		service(active, left, dataplane.TCP, server(4, 1, rs(4)))
	}
	return s
}

func load(t testing.TB) *xdp.Plane {
	t.Helper()
	need.Root(t, "BPF programs")
	p, err := xdp.Load(xdp.Config{Flows: 1024}, own)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func run(t testing.TB, prog *ebpf.Program, in []byte) (verdict uint32, out []byte) {
	t.Helper()
	return send(t, prog, in)
}

// send is run also for what only resembles a test.
func send(t interface{ Fatal(...any) }, prog *ebpf.Program, in []byte) (verdict uint32, out []byte) {
	opts := ebpf.RunOptions{Data: in, DataOut: make([]byte, len(in)+64)}
	verdict, err := prog.Run(&opts)
	if err != nil {
		t.Fatal(err)
	}
	return verdict, opts.DataOut
}

// tcp and udp are frames of the client; what follows changes them.
func tcp(vip netip.Addr, port uint16, flags string, change ...func(*planetest.Frame)) planetest.Frame {
	f := planetest.Frame{
		Dst: own, Src: router, From: client, To: netip.AddrPortFrom(vip, port), Protocol: dataplane.TCP, Flags: flags,
	}
	for _, c := range change {
		c(&f)
	}
	return f
}

func udp(vip netip.Addr, port uint16, change ...func(*planetest.Frame)) planetest.Frame {
	return tcp(vip, port, "", append([]func(*planetest.Frame){proto(dataplane.UDP)}, change...)...)
}

func proto(p dataplane.Protocol) func(*planetest.Frame) {
	return func(f *planetest.Frame) { f.Protocol = p }
}
func from(mac net.HardwareAddr) func(*planetest.Frame) {
	return func(f *planetest.Frame) { f.Src = mac }
}
func to(mac net.HardwareAddr) func(*planetest.Frame) { return func(f *planetest.Frame) { f.Dst = mac } }
func port(n uint16) func(*planetest.Frame) {
	return func(f *planetest.Frame) { f.From = netip.AddrPortFrom(f.From.Addr(), n) }
}
func options(n int) func(*planetest.Frame) {
	return func(f *planetest.Frame) { f.Options = bytes.Repeat([]byte{148, 4, 0, 0}, n) } // router alert
}
func payload(n int) func(*planetest.Frame) { return func(f *planetest.Frame) { f.Payload = n } }
func offset(n uint16) func(*planetest.Frame) {
	return func(f *planetest.Frame) { f.Offset = n }
}
func moreFragments(f *planetest.Frame) { f.MF = true }

// patch changes bytes of a finished frame.
func patch(frame []byte, at int, b ...byte) []byte {
	out := bytes.Clone(frame)
	copy(out[at:], b)
	return out
}

// The list of what the program does. Every row begins with the flows that
// `before` makes under snapshot(false) with a lease; then snapshot(true) is in
// force.
//
// With usual, flows are established before, and frames padded as on Ethernet:
// so the packets can take the short cut of fast.h. Nothing must be different.
func TestPackets(t *testing.T) {
	t.Run("new flows", func(t *testing.T) { testPackets(t, false) })
	t.Run("usual", func(t *testing.T) { testPackets(t, true) })
}

func testPackets(t *testing.T, usual bool) {
	need.Root(t, "BPF programs")
	syn := tcp(active, plain, "S")
	tests := []struct {
		description string
		before      []planetest.Frame
		ended       bool // the lease
		in          []byte
		verdict     uint32
		to          net.HardwareAddr // of TX
		reason      string           // counter that must have grown by one; "": none
	}{
		// Not ours.
		{description: "TCP for another address passes", in: tcp(nobody, plain, "S").Bytes(), verdict: pass},
		{description: "address 0.0.0.0 passes", in: tcp(netip.IPv4Unspecified(), plain, "S").Bytes(), verdict: pass},
		{description: "a frame flooded to another station passes", in: tcp(active, plain, "S", to(peer)).Bytes(), verdict: pass},
		{description: "a broadcast IP packet passes", in: tcp(active, plain, "S", to(all)).Bytes(), verdict: pass},
		{description: "the shortest frame passes", in: syn.Bytes()[:14], verdict: pass},
		{description: "half an IP header passes", in: syn.Bytes()[:33], verdict: pass},
		{description: "a port without service passes", in: tcp(active, unused, "S").Bytes(), verdict: pass, reason: "no_service"},
		{description: "the service's port of the other protocol passes", in: udp(active, quiet).Bytes(), verdict: pass, reason: "no_service"},
		{description: "ping passes", in: tcp(active, 0, "", proto(1)).Bytes(), verdict: pass, reason: "other_protocol"},
		{description: "a fragment before its first passes", in: udp(active, plain, offset(185)).Bytes(), verdict: pass, reason: "fragment"},
		{description: "IP length beyond the frame passes", in: patch(syn.Bytes(), 16, 1, 0), verdict: pass, reason: "malformed"},
		{description: "IP length below its header passes", in: patch(syn.Bytes(), 16, 0, 19), verdict: pass, reason: "malformed"},
		{description: "IP header length below 20 passes", in: patch(syn.Bytes(), 14, 0x44), verdict: pass, reason: "malformed"},
		{description: "IP header length beyond the packet passes", in: patch(syn.Bytes(), 14, 0x4f), verdict: pass, reason: "malformed"},
		{description: "version 5 in an IPv4 frame passes", in: patch(syn.Bytes(), 14, 0x55), verdict: pass, reason: "malformed"},
		{description: "half a TCP header passes", in: patch(syn.Bytes()[:53], 16, 0, 39), verdict: pass, reason: "malformed"},
		{description: "half a UDP header passes", in: patch(udp(active, plain).Bytes()[:41], 16, 0, 27), verdict: pass, reason: "malformed"},

		// Forwarding.
		{description: "a SYN is scheduled", in: syn.Bytes(), verdict: tx, to: rs(1)},
		{description: "a SYN with data and padding is scheduled", in: append(tcp(active, plain, "S", payload(3)).Bytes(), 0, 0, 0), verdict: tx, to: rs(1)},
		{description: "a SYN with IP options is scheduled", in: tcp(active, plain, "S", options(1)).Bytes(), verdict: tx, to: rs(1)},
		{description: "a SYN with all possible IP options is scheduled", in: tcp(active, plain, "S", options(10)).Bytes(), verdict: tx, to: rs(1)},
		{description: "UDP is scheduled", in: udp(active, plain).Bytes(), verdict: tx, to: rs(2)},
		{description: "empty UDP is scheduled", in: udp(active, plain, payload(0)).Bytes(), verdict: tx, to: rs(2)},
		{description: "don't fragment is no fragment", in: patch(syn.Bytes(), 20, 0x40), verdict: tx, to: rs(1)},
		{description: "a segment of a flow is forwarded", before: []planetest.Frame{syn}, in: tcp(active, plain, "A").Bytes(), verdict: tx, to: rs(1)},
		{description: "a datagram of a flow is forwarded", before: []planetest.Frame{udp(active, plain)}, in: udp(active, plain).Bytes(), verdict: tx, to: rs(2)},
		{description: "IP length beyond the frame passes also with a flow", before: []planetest.Frame{syn}, in: patch(tcp(active, plain, "A").Bytes(), 16, 1, 0), verdict: pass, reason: "malformed"},
		{description: "a segment flooded to another station passes", before: []planetest.Frame{syn}, in: tcp(active, plain, "A", to(peer)).Bytes(), verdict: pass},
		{description: "its MAC must be ours to the last byte", before: []planetest.Frame{syn}, in: tcp(active, plain, "A", to(net.HardwareAddr{2, 0, 0, 0, 0, 9})).Bytes(), verdict: pass},
		{description: "a flow's UDP port is no TCP port", before: []planetest.Frame{syn}, in: udp(active, plain).Bytes(), verdict: tx, to: rs(2)},
		{description: "a SYN that is repeated is forwarded", before: []planetest.Frame{syn}, in: syn.Bytes(), verdict: tx, to: rs(1)},
		{description: "the last ACK after FIN is forwarded", before: []planetest.Frame{syn, tcp(active, plain, "FA")}, in: tcp(active, plain, "A").Bytes(), verdict: tx, to: rs(1)},
		{description: "an address being drained forwards a flow", before: []planetest.Frame{tcp(draining, plain, "S")}, in: tcp(draining, plain, "A").Bytes(), verdict: tx, to: rs(1)},
		{description: "an address being drained schedules", in: tcp(draining, plain, "S").Bytes(), verdict: tx, to: rs(1)},

		// No flow, no server.
		{description: "a segment without flow gets its second chance", in: tcp(active, plain, "A").Bytes(), verdict: tx, to: peer, reason: "second_chance"},
		{description: "so does a SYN+ACK", in: tcp(active, plain, "SA").Bytes(), verdict: tx, to: peer, reason: "second_chance"},
		{description: "so does a SYN+FIN", in: tcp(active, plain, "SF").Bytes(), verdict: tx, to: peer, reason: "second_chance"},
		{description: "a client port is another flow", before: []planetest.Frame{syn}, in: tcp(active, plain, "A", port(4568)).Bytes(), verdict: tx, to: peer, reason: "second_chance"},
		{description: "another address is another flow", before: []planetest.Frame{syn}, in: tcp(draining, plain, "A").Bytes(), verdict: tx, to: peer, reason: "second_chance"},
		{description: "only a quiesced server: the kernel refuses", in: tcp(active, quiet, "S").Bytes(), verdict: pass, reason: "no_server"},
		{description: "a flow waits for its server's MAC", before: []planetest.Frame{tcp(active, unknown, "S")}, in: tcp(active, unknown, "A").Bytes(), verdict: drop, reason: "no_mac"},
		{description: "a new flow does not", in: tcp(active, unknown, "S").Bytes(), verdict: pass, reason: "no_server"},
		{description: "a segment whose server left is reset by the kernel", before: []planetest.Frame{tcp(active, left, "S")}, in: tcp(active, left, "A").Bytes(), verdict: pass, reason: "server_gone"},
		{description: "a SYN whose server left is scheduled anew", before: []planetest.Frame{tcp(active, left, "S")}, in: tcp(active, left, "S").Bytes(), verdict: tx, to: rs(5)},

		// Peers.
		{description: "standby passes", in: tcp(standby, plain, "S").Bytes(), verdict: pass, reason: "standby"},
		{description: "standby passes also with a flow", before: []planetest.Frame{tcp(standby, plain, "S")}, in: tcp(standby, plain, "A").Bytes(), verdict: pass, reason: "standby"},
		{description: "standby forwards a flow for a peer", before: []planetest.Frame{tcp(standby, plain, "S")}, in: tcp(standby, plain, "A", from(peer)).Bytes(), verdict: tx, to: rs(1)},
		{description: "also for the second peer", before: []planetest.Frame{tcp(standby, plain, "S")}, in: tcp(standby, plain, "A", from(peer2)).Bytes(), verdict: tx, to: rs(1)},
		{description: "standby without flow passes a peer's segment", in: tcp(standby, plain, "A", from(peer)).Bytes(), verdict: pass, reason: "peer_no_flow"},
		{description: "standby passes a peer's SYN", in: tcp(standby, plain, "S", from(peer)).Bytes(), verdict: pass, reason: "peer_no_flow"},
		{description: "active forwards a flow for a peer", before: []planetest.Frame{syn}, in: tcp(active, plain, "A", from(peer)).Bytes(), verdict: tx, to: rs(1)},
		{description: "active never sends back to a peer", in: tcp(active, plain, "A", from(peer)).Bytes(), verdict: pass, reason: "peer_no_flow"},
		{description: "active never schedules for a peer", in: tcp(active, plain, "S", from(peer)).Bytes(), verdict: pass, reason: "peer_no_flow"},
		{description: "nor after FIN", before: []planetest.Frame{syn, tcp(active, plain, "FA")}, in: tcp(active, plain, "S", from(peer)).Bytes(), verdict: pass, reason: "peer_no_flow"},
		{description: "nor UDP", in: udp(active, plain, from(peer2)).Bytes(), verdict: pass, reason: "peer_no_flow"},

		// The lease has ended.
		{description: "lease ended: TCP is dropped", ended: true, in: syn.Bytes(), verdict: drop, reason: "lease_ended"},
		{description: "lease ended: also with a flow", ended: true, before: []planetest.Frame{syn}, in: tcp(active, plain, "A").Bytes(), verdict: drop, reason: "lease_ended"},
		{description: "lease ended: also without service", ended: true, in: tcp(active, unused, "S").Bytes(), verdict: drop, reason: "lease_ended"},
		{description: "lease ended: ping is dropped", ended: true, in: tcp(active, 0, "", proto(1)).Bytes(), verdict: drop, reason: "lease_ended"},
		{description: "lease ended: a fragment is dropped", ended: true, in: udp(active, plain, offset(9)).Bytes(), verdict: drop, reason: "lease_ended"},
		{description: "lease ended: a broadcast packet is dropped", ended: true, in: tcp(active, plain, "S", to(all)).Bytes(), verdict: drop, reason: "lease_ended"},
		{description: "lease ended: standby drops too", ended: true, in: tcp(standby, plain, "S").Bytes(), verdict: drop, reason: "lease_ended"},
		{description: "lease ended: other addresses pass", ended: true, in: tcp(nobody, plain, "S").Bytes(), verdict: pass},
		{description: "lease ended: a flooded frame passes", ended: true, in: tcp(active, plain, "S", to(peer)).Bytes(), verdict: pass},
		{description: "lease ended: a flow is forwarded for a peer", ended: true, before: []planetest.Frame{syn}, in: tcp(active, plain, "A", from(peer)).Bytes(), verdict: tx, to: rs(1)},
		{description: "lease ended: nothing else is, for a peer", ended: true, in: tcp(active, plain, "A", from(peer)).Bytes(), verdict: drop, reason: "lease_ended"},
		{description: "lease ended: a peer's ping is dropped", ended: true, in: tcp(active, 0, "", proto(1), from(peer)).Bytes(), verdict: drop, reason: "lease_ended"},

		// ARP.
		{description: "ARP for our address passes: the kernel answers", in: planetest.ARP(router, client.Addr(), active), verdict: pass},
		{description: "ARP for a standby address passes", in: planetest.ARP(router, client.Addr(), standby), verdict: pass},
		{description: "ARP for an address being drained is dropped", in: planetest.ARP(router, client.Addr(), draining), verdict: drop, reason: "arp_draining"},
		{description: "ARP for another address passes", in: planetest.ARP(router, client.Addr(), nobody), verdict: pass},
		{description: "an announcement of an address being drained passes", in: planetest.ARP(peer, draining, draining), verdict: pass},
		{description: "lease ended: ARP is dropped", ended: true, in: planetest.ARP(router, client.Addr(), active), verdict: drop, reason: "arp_lease_ended"},
		{description: "lease ended: ARP for a standby address is dropped", ended: true, in: planetest.ARP(router, client.Addr(), standby), verdict: drop, reason: "arp_lease_ended"},
		{description: "lease ended: an ARP probe is dropped", ended: true, in: planetest.ARP(router, netip.IPv4Unspecified(), active), verdict: drop, reason: "arp_lease_ended"},
		{description: "lease ended: ARP for another address passes", ended: true, in: planetest.ARP(router, client.Addr(), nobody), verdict: pass},
		{description: "lease ended: an announcement passes", ended: true, in: planetest.ARP(peer, active, active), verdict: pass},
		{description: "lease ended: an ARP reply passes", ended: true, in: patch(planetest.ARP(peer, client.Addr(), active), 21, 2), verdict: pass},
		{description: "lease ended: half an ARP request passes", ended: true, in: planetest.ARP(router, client.Addr(), active)[:41], verdict: pass},
	}
	p := load(t)
	if _, err := p.Apply(snapshot(false)); err != nil {
		t.Fatal(err)
	}
	// Every row has its own clients, so that rows do not share flows.
	own := func(frame []byte, row int) []byte {
		if binary.BigEndian.Uint16(frame[12:]) == 0x0800 && len(frame) >= 34 {
			frame = patch(frame, 26, 10, 77, byte(row>>8), byte(row))
		}
		return frame
	}
	renew := func(t *testing.T, ended bool) {
		t.Helper()
		d := dataplane.Unlimited
		if ended {
			d = 0
		}
		if err := p.Renew(d); err != nil {
			t.Fatal(err)
		}
	}
	renew(t, false)
	for row, tt := range tests {
		for _, f := range tt.before {
			if verdict, _ := run(t, p.Program(), own(f.Bytes(), row)); verdict != tx {
				t.Fatalf("%s: before: verdict %d", tt.description, verdict)
			}
			if f.Flags = "A"; usual {
				run(t, p.Program(), own(f.Bytes(), row))
			}
		}
	}
	if _, err := p.Apply(snapshot(true)); err != nil {
		t.Fatal(err)
	}
	for row, tt := range tests {
		t.Run(tt.description, func(t *testing.T) {
			renew(t, tt.ended)
			before, err := p.Stats()
			if err != nil {
				t.Fatal(err)
			}
			in := own(tt.in, row)
			if usual && tt.reason != "malformed" {
				in = append(in, make([]byte, 20)...)
			}
			verdict, out := run(t, p.Program(), in)
			after, err := p.Stats()
			if err != nil {
				t.Fatal(err)
			}
			if verdict != tt.verdict {
				t.Errorf("verdict %d, want %d", verdict, tt.verdict)
			}
			want := in
			if tt.to != nil {
				want = patch(patch(in, 0, tt.to...), 6, 2, 0, 0, 0, 0, 1)
			}
			if !bytes.Equal(out, want) {
				t.Errorf("packet out\n%x, want\n%x", out, want)
			}
			for reason, n := range after.Reasons {
				grew := n - before.Reasons[reason]
				if reason == tt.reason && grew != 1 || reason != tt.reason && grew != 0 {
					t.Errorf("counter %s grew by %d", reason, grew)
				}
			}
		})
	}
}

// FuzzPacket holds the program to its promises on arbitrary bytes: a packet
// that passes is untouched, and of one that is sent only the MACs change.
func FuzzPacket(f *testing.F) {
	need.Root(f, "BPF programs")
	s := traffic(true)
	for _, svc := range quicSnapshot(true, dataplane.Keep).Services {
		if svc.ServerIDLength != 0 {
			s.Services = append(s.Services, svc)
		}
	}
	p := loadQUIC(f, s)
	f.Add(carrying(active, quicPort, short(0x40, cid(1, quicID(3, 4))))(1))
	f.Add(carrying(active6, quicPort, long(0xe0, quic1, cid(1, quicID(3, 4))), with(hopByHop))(1))
	f.Add(carrying(active6, quicLong, long(0xf0, quic2, cid(1, quicID(3, 8))), tags(3))(1))
	f.Add(tcp(active, plain, "S").Bytes())
	f.Add(tcp(active, plain, "A", options(3)).Bytes())
	f.Add(udp(active, plain, payload(9), moreFragments).Bytes())
	f.Add(planetest.ARP(router, client.Addr(), active))
	for _, frame := range seeds() {
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) < 14 || len(in) > 3000 {
			t.Skip("not a frame")
		}
		verdict, out := run(t, p.Program(), in)
		switch verdict {
		case pass, drop:
			if !bytes.Equal(in, out) {
				t.Errorf("verdict %d, but changed:\n%x\n%x", verdict, in, out)
			}
		case tx:
			if len(in) != len(out) || !bytes.Equal(in[12:], out[12:]) || !bytes.Equal(out[6:12], own) || !bytes.Equal(in[:6], own) {
				t.Errorf("sent, but:\n%x\n%x", in, out)
			}
		default:
			t.Errorf("verdict %d for %x", verdict, in)
		}
	})
}
