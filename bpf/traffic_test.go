package bpf_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"systole/dataplane"
	"systole/dataplane/planetest"
	"systole/dataplane/xdp"
)

// What a packet may be besides IPv4 TCP and UDP in one frame: the same
// addresses, by the same roles, in IPv6, and services of SCTP.
var (
	active6   = netip.MustParseAddr("2001:db8::101")
	standby6  = netip.MustParseAddr("2001:db8::102")
	draining6 = netip.MustParseAddr("2001:db8::103")
	nobody6   = netip.MustParseAddr("2001:db8::104")
	hop       = netip.MustParseAddr("10.200.0.1")
	hop6      = netip.MustParseAddr("2001:db8:ffff::1")
)

// traffic adds IPv6 and SCTP to snapshot: on port plain TCP has server 1, UDP
// server 2, SCTP server 4; on port 53 UDP has servers 2 and 3 by turns.
func traffic(changed bool) dataplane.Snapshot {
	s := snapshot(changed)
	role := dataplane.Active
	if changed {
		role = dataplane.Standby
	}
	s.VIPs = append(s.VIPs,
		dataplane.VIP{Addr: active6, Role: dataplane.Active},
		dataplane.VIP{Addr: standby6, Role: role},
		dataplane.VIP{Addr: draining6, Role: dataplane.Draining})
	add := func(vip netip.Addr, port uint16, p dataplane.Protocol, servers ...byte) {
		svc := dataplane.Service{ServiceKey: dataplane.ServiceKey{VIP: vip, Port: port, Protocol: p}, Scheduler: "rr"}
		for _, n := range servers {
			addr := netip.AddrFrom4([4]byte{192, 168, 145, 10 + n})
			if vip.Is6() {
				addr = netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", 10+n))
			}
			svc.Servers = append(svc.Servers, dataplane.RealServer{Addr: addr, Weight: 1, MAC: rs(n)})
		}
		s.Services = append(s.Services, svc)
	}
	for _, vip := range []netip.Addr{active6, standby6, draining6} {
		add(vip, plain, dataplane.TCP, 1)
		add(vip, plain, dataplane.UDP, 2)
		add(vip, plain, dataplane.SCTP, 4)
	}
	add(active, plain, dataplane.SCTP, 4)
	add(active, 53, dataplane.UDP, 2, 3)
	add(active6, 53, dataplane.UDP, 2, 3)
	if changed {
		add(active6, left, dataplane.TCP, 5)
	} else {
		add(active6, left, dataplane.TCP, 4)
	}
	return s
}

func loadTraffic(t testing.TB, changed bool) *xdp.Plane {
	t.Helper()
	p := load(t)
	if _, err := p.Apply(traffic(changed)); err != nil {
		t.Fatal(err)
	}
	if err := p.Renew(dataplane.Unlimited); err != nil {
		t.Fatal(err)
	}
	return p
}

// packet is a frame to be, of the client of a number.
type packet func(client int) []byte

// clientOf is the n-th client, of the family of vip.
func clientOf(n int, vip netip.Addr) netip.AddrPort {
	addr := netip.AddrFrom4([4]byte{10, 78, byte(n >> 8), byte(n)})
	if vip.Is6() {
		addr = netip.MustParseAddr(fmt.Sprintf("2001:db8:77::%x", n))
	}
	return netip.AddrPortFrom(addr, 4567)
}

func seg(vip netip.Addr, port uint16, flags string, change ...func(*planetest.Frame)) packet {
	return func(client int) []byte {
		f := tcp(vip, port, flags, change...)
		f.From = clientOf(client, vip)
		return f.Bytes()
	}
}

func dgram(vip netip.Addr, port uint16, change ...func(*planetest.Frame)) packet {
	return seg(vip, port, "", append([]func(*planetest.Frame){proto(dataplane.UDP)}, change...)...)
}

func sctp(vip netip.Addr, port uint16, flags string, change ...func(*planetest.Frame)) packet {
	return seg(vip, port, flags, append([]func(*planetest.Frame){proto(dataplane.SCTP)}, change...)...)
}

// icmpError quotes n bytes after the IP header of an answer to the client.
func icmpError(vip netip.Addr, port uint16, p dataplane.Protocol, kind uint8, n int, change ...func(*planetest.Frame)) packet {
	return func(client int) []byte {
		f := tcp(vip, port, "A", append([]func(*planetest.Frame){proto(p)}, change...)...)
		f.From = clientOf(client, vip)
		if vip.Is6() {
			return f.Error(hop6, kind, 0, n)
		}
		return f.Error(hop, kind, 4, n)
	}
}

func bytesOf(frame []byte) packet { return func(int) []byte { return frame } }

// cut shortens a frame by n bytes.
func cut(p packet, n int) packet {
	return func(client int) []byte { b := p(client); return b[:len(b)-n] }
}

func tags(ids ...uint16) func(*planetest.Frame) {
	return func(f *planetest.Frame) { f.VLANs = ids }
}

func id(n uint32) func(*planetest.Frame) { return func(f *planetest.Frame) { f.ID = n } }

func with(ext ...planetest.Extension) func(*planetest.Frame) {
	return func(f *planetest.Frame) { f.Extensions = ext }
}

var (
	hopByHop = planetest.Extension{Type: 0, Body: []byte{5, 2, 0, 0, 1, 0}} // router alert
	options6 = planetest.Extension{Type: 60, Body: append([]byte{1, 12}, make([]byte, 12)...)}
	arrived  = planetest.Extension{Type: 43, Body: []byte{4, 0, 0, 0, 0, 0}} // no segments left
	transit  = planetest.Extension{Type: 43, Body: []byte{4, 1, 0, 0, 0, 0}}
)

func TestTraffic(t *testing.T) {
	first, later, last := moreFragments, func(f *planetest.Frame) { f.Offset, f.MF = 10, true }, offset(20)
	tests := []struct {
		description string
		before      []packet // under traffic(false), with a lease
		ended       bool
		in          packet // under traffic(true)
		verdict     uint32
		to          byte // server that gets it, of TX
		peer        bool // or the first peer does
		reason      string
	}{
		// IPv6: not ours.
		{description: "IPv6 for another address passes", in: seg(nobody6, plain, "S"), verdict: pass},
		{description: "IPv6 for :: passes", in: seg(netip.IPv6Unspecified(), plain, "S"), verdict: pass},
		{description: "half an IPv6 header passes", in: cut(seg(active6, plain, "S"), 21), verdict: pass},
		{description: "an IPv6 port without service passes", in: seg(active6, unused, "S"), verdict: pass, reason: "no_service"},
		{description: "IPv6 with half a TCP header is malformed", in: cut(seg(active6, plain, "S"), 1), verdict: pass, reason: "malformed"},
		{description: "IPv6 flooded to another station passes", in: seg(active6, plain, "S", to(peer)), verdict: pass},
		{description: "ICMPv6 echo passes", in: icmpError(active6, plain, dataplane.TCP, 128, 20), verdict: pass, reason: "other_protocol"},
		{description: "a protocol nobody knows passes", in: seg(active6, 0, "", proto(99)), verdict: pass, reason: "other_protocol"},

		// IPv6: forwarding.
		{description: "an IPv6 SYN is scheduled", in: seg(active6, plain, "S"), verdict: tx, to: 1},
		{description: "IPv6 UDP is scheduled", in: dgram(active6, plain, payload(3)), verdict: tx, to: 2},
		{description: "an IPv6 segment of a flow", before: []packet{seg(active6, plain, "S")}, in: seg(active6, plain, "A"), verdict: tx, to: 1},
		{description: "an IPv6 segment after FIN", before: []packet{seg(active6, plain, "S"), seg(active6, plain, "FA")}, in: seg(active6, plain, "A"), verdict: tx, to: 1},
		{description: "an IPv6 segment without flow gets its second chance", in: seg(active6, plain, "A"), verdict: tx, peer: true, reason: "second_chance"},
		{description: "an IPv6 flow is of one address", before: []packet{seg(active6, plain, "S")}, in: seg(draining6, plain, "A"), verdict: tx, peer: true, reason: "second_chance"},
		{description: "IPv6 after its server left", before: []packet{seg(active6, left, "S")}, in: seg(active6, left, "A"), verdict: pass, reason: "server_gone"},
		{description: "an IPv6 SYN after its server left", before: []packet{seg(active6, left, "S")}, in: seg(active6, left, "S"), verdict: tx, to: 5},
		{description: "IPv6 standby passes", in: seg(standby6, plain, "S"), verdict: pass, reason: "standby"},
		{description: "IPv6 standby forwards a flow for a peer", before: []packet{seg(standby6, plain, "S")}, in: seg(standby6, plain, "A", from(peer)), verdict: tx, to: 1},
		{description: "IPv6 standby schedules nothing for a peer", in: seg(standby6, plain, "S", from(peer)), verdict: pass, reason: "peer_no_flow"},
		{description: "IPv6 never goes back to a peer", in: seg(active6, plain, "A", from(peer)), verdict: pass, reason: "peer_no_flow"},
		{description: "lease ended: IPv6 is dropped", ended: true, in: seg(active6, plain, "S"), verdict: drop, reason: "lease_ended"},
		{description: "lease ended: an IPv6 flow for a peer", ended: true, before: []packet{seg(active6, plain, "S")}, in: seg(active6, plain, "A", from(peer)), verdict: tx, to: 1},
		{description: "lease ended: IPv6 to a group is dropped", ended: true, in: seg(active6, plain, "S", to(all)), verdict: drop, reason: "lease_ended"},
		{description: "lease ended: other IPv6 passes", ended: true, in: seg(nobody6, plain, "S"), verdict: pass},

		// Extension headers.
		{description: "hop-by-hop options", in: seg(active6, plain, "S", with(hopByHop)), verdict: tx, to: 1},
		{description: "destination options", in: seg(active6, plain, "S", with(options6)), verdict: tx, to: 1},
		{description: "a routing header at its end", in: seg(active6, plain, "S", with(arrived)), verdict: tx, to: 1},
		{description: "all of them", in: seg(active6, plain, "S", with(hopByHop, options6, arrived, options6)), verdict: tx, to: 1},
		{description: "a routing header with a way to go passes", in: seg(active6, plain, "S", with(transit)), verdict: pass, reason: "other_protocol"},
		{description: "more headers than anyone sends pass", in: seg(active6, plain, "S", with(options6, options6, options6, options6, options6, options6, options6, options6, options6)), verdict: pass, reason: "other_protocol"},

		// Neighbour solicitations.
		{description: "NS for our address passes: the kernel answers", in: bytesOf(planetest.Solicitation(router, hop6, active6, netip.Addr{})), verdict: pass},
		{description: "NS for a standby address passes", in: bytesOf(planetest.Solicitation(router, hop6, standby6, netip.Addr{})), verdict: pass},
		{description: "NS for an address being drained is dropped", in: bytesOf(planetest.Solicitation(router, hop6, draining6, netip.Addr{})), verdict: drop, reason: "nd_draining"},
		{description: "NS to an address being drained is dropped", in: bytesOf(planetest.Solicitation(router, hop6, draining6, draining6)), verdict: drop, reason: "nd_draining"},
		{description: "NS for another address passes", in: bytesOf(planetest.Solicitation(router, hop6, nobody6, netip.Addr{})), verdict: pass},
		{description: "lease ended: NS is dropped", ended: true, in: bytesOf(planetest.Solicitation(router, hop6, active6, netip.Addr{})), verdict: drop, reason: "nd_lease_ended"},
		{description: "lease ended: is the address free?", ended: true, in: bytesOf(planetest.Solicitation(peer, netip.IPv6Unspecified(), active6, netip.Addr{})), verdict: drop, reason: "nd_lease_ended"},
		{description: "lease ended: NS for another address passes", ended: true, in: bytesOf(planetest.Solicitation(router, hop6, nobody6, netip.Addr{})), verdict: pass},
		{description: "lease ended: half an NS passes", ended: true, in: cut(bytesOf(planetest.Solicitation(router, hop6, active6, netip.Addr{})), 1), verdict: pass},

		// VLAN.
		{description: "a SYN with a tag", in: seg(active, plain, "S", tags(5)), verdict: tx, to: 1},
		{description: "a SYN with two tags", in: seg(active, plain, "S", tags(100, 5)), verdict: tx, to: 1},
		{description: "three tags pass", in: seg(active, plain, "S", tags(1, 2, 3)), verdict: pass},
		{description: "IPv6 with a tag", in: seg(active6, plain, "S", tags(5)), verdict: tx, to: 1},
		{description: "IPv6 with two tags", in: dgram(active6, plain, tags(100, 5)), verdict: tx, to: 2},
		{description: "a tagged segment of a flow", before: []packet{seg(active, plain, "S")}, in: seg(active, plain, "A", tags(7), options(2)), verdict: tx, to: 1},
		{description: "tagged for another address passes", in: seg(nobody, plain, "S", tags(5)), verdict: pass},
		{description: "half a tag passes", in: cut(seg(active, plain, "S", tags(5)), 43), verdict: pass},
		{description: "lease ended: a tagged SYN is dropped", ended: true, in: seg(active, plain, "S", tags(5)), verdict: drop, reason: "lease_ended"},
		{description: "tagged ARP for an address being drained", in: func(int) []byte {
			arp := planetest.ARP(router, client.Addr(), draining)
			return bytes.Join([][]byte{arp[:12], {0x81, 0, 0, 5}, arp[12:]}, nil)
		}, verdict: drop, reason: "arp_draining"},

		// SCTP.
		{description: "INIT is scheduled", in: sctp(active, plain, "S"), verdict: tx, to: 4},
		{description: "INIT over IPv6", in: sctp(active6, plain, "S"), verdict: tx, to: 4},
		{description: "a chunk of an association", before: []packet{sctp(active, plain, "S")}, in: sctp(active, plain, "A"), verdict: tx, to: 4},
		{description: "the last chunk of an association", before: []packet{sctp(active, plain, "S"), sctp(active, plain, "FA")}, in: sctp(active, plain, "FA"), verdict: tx, to: 4},
		{description: "a chunk of no association", in: sctp(active, plain, "A"), verdict: tx, peer: true, reason: "second_chance"},
		{description: "SCTP without a chunk is malformed", in: cut(sctp(active, plain, "S"), 11), verdict: pass, reason: "malformed"},
		{description: "SCTP on a port of UDP passes", in: sctp(active, 53, "S"), verdict: pass, reason: "no_service"},

		// Fragments.
		{description: "the first fragment is scheduled", in: dgram(active, plain, first, id(1)), verdict: tx, to: 2},
		{description: "a middle fragment goes where the first went", before: []packet{dgram(active, plain, first, id(2))}, in: dgram(active, 9, later, id(2)), verdict: tx, to: 2},
		{description: "so does the last", before: []packet{dgram(active, plain, first, id(3)), dgram(active, 9, later, id(3))}, in: dgram(active, 9, last, id(3)), verdict: tx, to: 2},
		{description: "another datagram's fragment passes", before: []packet{dgram(active, plain, first, id(4))}, in: dgram(active, 9, later, id(5)), verdict: pass, reason: "fragment"},
		{description: "another protocol's fragment passes", before: []packet{dgram(active, plain, first, id(4))}, in: seg(active, 9, "A", later, id(4)), verdict: pass, reason: "fragment"},
		{description: "fragments of no service pass", in: dgram(active, unused, first, id(6)), verdict: pass, reason: "no_service"},
		{description: "a fragment of TCP", before: []packet{seg(active, plain, "S"), seg(active, plain, "A", first, id(7))}, in: seg(active, 9, "", later, id(7)), verdict: tx, to: 1},
		{description: "a fragment of ping passes", in: seg(active, 9, "", proto(1), later), verdict: pass, reason: "other_protocol"},
		{description: "an IPv6 first fragment", in: seg(active6, plain, "S", first, id(1)), verdict: tx, to: 1},
		{description: "an IPv6 later fragment", before: []packet{seg(active6, plain, "S", first, id(1<<20))}, in: seg(active6, 9, "", last, id(1<<20), payload(8)), verdict: tx, to: 1},
		{description: "an IPv6 later fragment with more headers", before: []packet{seg(active6, plain, "S", first, id(9), with(hopByHop))}, in: seg(active6, 9, "", later, id(9), with(hopByHop), payload(8)), verdict: tx, to: 1},
		{description: "an IPv6 fragment of another datagram passes", before: []packet{seg(active6, plain, "S", first, id(1<<20))}, in: seg(active6, 9, "", later, id(2<<20)), verdict: pass, reason: "fragment"},
		{description: "an IPv6 fragment of another address passes", before: []packet{seg(active6, plain, "S", first, id(8))}, in: seg(draining6, 9, "", later, id(8)), verdict: pass, reason: "fragment"},
		{description: "a fragment whose server left passes", before: []packet{seg(active6, left, "S", first, id(8))}, in: seg(active6, 9, "", later, id(8)), verdict: pass, reason: "server_gone"},
		{description: "a tagged fragment", before: []packet{dgram(active6, plain, first, id(8), tags(1))}, in: dgram(active6, 9, later, id(8), tags(1)), verdict: tx, to: 2},
		{description: "lease ended: a later fragment is dropped", ended: true, before: []packet{dgram(active, plain, first, id(2))}, in: dgram(active, 9, later, id(2)), verdict: drop, reason: "lease_ended"},
		{description: "standby passes a fragment", before: []packet{dgram(standby6, plain, first, id(2))}, in: dgram(standby6, 9, later, id(2)), verdict: pass, reason: "standby"},

		// ICMP errors.
		{description: "fragmentation needed, eight bytes quoted", before: []packet{seg(active, plain, "S")}, in: icmpError(active, plain, dataplane.TCP, 3, 8), verdict: tx, to: 1},
		{description: "unreachable, all of TCP quoted", before: []packet{seg(active, plain, "S")}, in: icmpError(active, plain, dataplane.TCP, 3, 20, payload(40)), verdict: tx, to: 1},
		{description: "time exceeded for UDP", before: []packet{dgram(active, plain)}, in: icmpError(active, plain, dataplane.UDP, 11, 8), verdict: tx, to: 2},
		{description: "an error for SCTP", before: []packet{sctp(active, plain, "S")}, in: icmpError(active, plain, dataplane.SCTP, 3, 8), verdict: tx, to: 4},
		{description: "an error quoting IP options", before: []packet{seg(active, plain, "S")}, in: icmpError(active, plain, dataplane.TCP, 3, 16, options(2)), verdict: tx, to: 1},
		{description: "an error with a tag", before: []packet{seg(active, plain, "S")}, in: icmpError(active, plain, dataplane.TCP, 3, 8, tags(3)), verdict: tx, to: 1},
		{description: "an error without ports passes", before: []packet{seg(active, plain, "S")}, in: icmpError(active, plain, dataplane.TCP, 3, 3), verdict: pass, reason: "other_protocol"},
		{description: "an error for no flow gets its second chance", in: icmpError(active, plain, dataplane.TCP, 3, 8), verdict: tx, peer: true, reason: "second_chance"},
		{description: "an error from a peer for no flow passes", in: icmpError(active, plain, dataplane.TCP, 3, 8, from(peer)), verdict: pass, reason: "peer_no_flow"},
		{description: "an error for a peer's flow", before: []packet{seg(active, plain, "S")}, in: icmpError(active, plain, dataplane.TCP, 3, 8, from(peer)), verdict: tx, to: 1},
		{description: "an error for no service passes", in: icmpError(active, unused, dataplane.TCP, 3, 8), verdict: pass, reason: "no_service"},
		{description: "a redirect passes", before: []packet{seg(active, plain, "S")}, in: icmpError(active, plain, dataplane.TCP, 5, 8), verdict: pass, reason: "other_protocol"},
		{description: "an error for another protocol passes", in: icmpError(active, plain, 99, 3, 0), verdict: pass, reason: "other_protocol"},
		{description: "an error to another address passes", in: icmpError(nobody, plain, dataplane.TCP, 3, 8), verdict: pass},
		{description: "lease ended: an error is dropped", ended: true, before: []packet{seg(active, plain, "S")}, in: icmpError(active, plain, dataplane.TCP, 3, 8), verdict: drop, reason: "lease_ended"},
		{description: "packet too big, eight bytes quoted", before: []packet{seg(active6, plain, "S")}, in: icmpError(active6, plain, dataplane.TCP, 2, 8), verdict: tx, to: 1},
		{description: "ICMPv6 unreachable for UDP", before: []packet{dgram(active6, plain)}, in: icmpError(active6, plain, dataplane.UDP, 1, 8), verdict: tx, to: 2},
		{description: "packet too big for a fragment", before: []packet{dgram(active6, plain)}, in: icmpError(active6, plain, dataplane.UDP, 2, 16, first), verdict: tx, to: 2},
		{description: "packet too big for no flow", in: icmpError(active6, plain, dataplane.TCP, 2, 8), verdict: tx, peer: true, reason: "second_chance"},
		{description: "packet too big without ports passes", in: icmpError(active6, plain, dataplane.TCP, 2, 3), verdict: pass, reason: "other_protocol"},
		{description: "an ICMPv6 error with a tag", before: []packet{seg(active6, plain, "S")}, in: icmpError(active6, plain, dataplane.TCP, 2, 8, tags(9)), verdict: tx, to: 1},
	}
	p := loadTraffic(t, true)
	apply := func(t *testing.T, changed bool) {
		t.Helper()
		if _, err := p.Apply(traffic(changed)); err != nil {
			t.Fatal(err)
		}
	}
	for row, tt := range tests {
		t.Run(tt.description, func(t *testing.T) {
			if tt.before != nil {
				// Fragments are not remembered for long: each row has its own past.
				apply(t, false)
				if err := p.Renew(dataplane.Unlimited); err != nil {
					t.Fatal(err)
				}
				for i, f := range tt.before {
					if verdict, _ := run(t, p.Program(), f(row)); verdict != tx {
						t.Fatalf("before, %d: verdict %d", i, verdict)
					}
				}
				apply(t, true)
			}
			lease := dataplane.Unlimited
			if tt.ended {
				lease = 0
			}
			if err := p.Renew(lease); err != nil {
				t.Fatal(err)
			}
			before, err := p.Stats()
			if err != nil {
				t.Fatal(err)
			}
			in := tt.in(row)
			verdict, out := run(t, p.Program(), in)
			after, err := p.Stats()
			if err != nil {
				t.Fatal(err)
			}
			if verdict != tt.verdict {
				t.Errorf("verdict %d, want %d", verdict, tt.verdict)
			}
			want := in
			switch {
			case tt.peer:
				want = patch(patch(in, 0, peer...), 6, own...)
			case tt.verdict == tx:
				want = patch(patch(in, 0, rs(tt.to)...), 6, own...)
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

// Fragments of one datagram go to one server whatever their order, but for
// those that overtook the first.
func TestFragmentsStayTogether(t *testing.T) {
	p := loadTraffic(t, true)
	for n := range 200 {
		vip := []netip.Addr{active, active6}[n%2]
		frame := func(change ...func(*planetest.Frame)) string {
			verdict, out := run(t, p.Program(), dgram(vip, 53, append(change, id(uint32(n)))...)(1000+n))
			if verdict != tx {
				t.Fatalf("datagram %d: verdict %d", n, verdict)
			}
			return string(out[:6])
		}
		server := frame(moreFragments)
		for range 3 {
			if got := frame(offset(5)); got != server {
				t.Fatalf("datagram %d: a later fragment went to %x, the first to %x", n, got, server)
			}
		}
	}
}

// What is for none of our addresses passes as it came, whatever it is.
func TestForeignPassesUntouched(t *testing.T) {
	p := loadTraffic(t, true)
	vips := map[netip.Addr]bool{}
	for _, v := range traffic(true).VIPs {
		vips[v.Addr] = true
	}
	rapid.Check(t, func(t *rapid.T) {
		var from, to netip.Addr
		if rapid.Bool().Draw(t, "v6") {
			addr := rapid.Custom(func(t *rapid.T) netip.Addr {
				b := active6.As16()
				at := rapid.IntRange(0, 15).Draw(t, "byte")
				b[at] = rapid.Byte().Draw(t, "value")
				return netip.AddrFrom16(b)
			})
			from, to = addr.Draw(t, "from"), addr.Filter(func(a netip.Addr) bool { return !vips[a] && !a.Is4In6() }).Draw(t, "to")
		} else {
			addr := rapid.Custom(func(t *rapid.T) netip.Addr {
				b := active.As4()
				b[rapid.IntRange(0, 3).Draw(t, "byte")] = rapid.Byte().Draw(t, "value")
				return netip.AddrFrom4(b)
			})
			from, to = addr.Draw(t, "from"), addr.Filter(func(a netip.Addr) bool { return !vips[a] }).Draw(t, "to")
		}
		f := planetest.Frame{
			Dst: own, Src: router, From: netip.AddrPortFrom(from, rapid.Uint16().Draw(t, "sport")), To: netip.AddrPortFrom(to, plain),
			Protocol: dataplane.Protocol(rapid.SampledFrom([]uint8{1, 6, 17, 58, 132, 47}).Draw(t, "protocol")),
			Flags:    rapid.SampledFrom([]string{"S", "A", "FA"}).Draw(t, "flags"),
			VLANs:    rapid.SliceOfN(rapid.Uint16Range(1, 4094), 0, 3).Draw(t, "tags"),
			MF:       rapid.Bool().Draw(t, "more"),
			Offset:   rapid.Uint16Range(0, 100).Draw(t, "offset"),
			Payload:  rapid.IntRange(0, 100).Draw(t, "payload"),
		}
		if rapid.Bool().Draw(t, "options") {
			f.Options, f.Extensions = make([]byte, 8), []planetest.Extension{hopByHop, options6}
		}
		in := f.Bytes()
		if rapid.Bool().Draw(t, "error") && f.Protocol != 58 {
			in = f.Error(from, 3, 0, 0)
		}
		in = in[:len(in)-rapid.IntRange(0, len(in)-14).Draw(t, "cut")]
		verdict, out := send(t, p.Program(), in)
		if verdict != pass || !bytes.Equal(in, out) {
			t.Fatalf("verdict %d for\n%x\n%x", verdict, in, out)
		}
	})
}

// seeds are frames of all kinds, for the fuzzer.
func seeds() [][]byte {
	return [][]byte{
		seg(active, plain, "S", tags(5))(1),
		seg(active, plain, "S", tags(5, 6))(1),
		seg(active6, plain, "S")(1),
		seg(active6, plain, "S", with(hopByHop, arrived, options6), moreFragments, tags(5))(1),
		dgram(active6, plain, offset(5))(1),
		sctp(active, plain, "S")(1),
		icmpError(active, plain, dataplane.TCP, 3, 8)(1),
		icmpError(active6, plain, dataplane.TCP, 2, 8)(1),
		planetest.Solicitation(router, hop6, active6, netip.Addr{}),
	}
}
