package bpf_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"systole/dataplane"
	"systole/dataplane/planetest"
	"systole/dataplane/xdp"
)

const (
	quicPort  = 443 // server IDs of four bytes: servers 2 and 3, and 4 with weight 0
	quicShort = 444 // of one byte, one of them 0
	quicLong  = 445 // of eight bytes
)

// Versions of QUIC: RFC 9000, RFC 9369.
const (
	quic1 = 1
	quic2 = 0x6b3343cf
)

// quicID is the ID of the n-th server, of length bytes.
func quicID(n byte, length int) []byte {
	id := bytes.Repeat([]byte{0xa0 + n}, length)
	id[0] = n - 2
	return id
}

// quicSnapshot has services of both families. changed lacks server 2.
func quicSnapshot(changed bool, lost dataplane.Lost) dataplane.Snapshot {
	s := dataplane.Snapshot{
		VIPs:  []dataplane.VIP{{Addr: active, Role: dataplane.Active}, {Addr: active6, Role: dataplane.Active}},
		Peers: traffic(true).Peers,
	}
	for _, vip := range []netip.Addr{active, active6} {
		for port, length := range map[uint16]int{quicPort: 4, quicShort: 1, quicLong: 8, plain: 0} {
			svc := dataplane.Service{
				ServiceKey: dataplane.ServiceKey{VIP: vip, Port: port, Protocol: dataplane.UDP}, Scheduler: "rr", ServerIDLength: length, Lost: lost,
			}
			for n := byte(2); n <= 4; n++ {
				if changed && n == 2 {
					continue
				}
				addr := netip.AddrFrom4([4]byte{192, 168, 145, 10 + n})
				if vip.Is6() {
					addr = netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", 10+n))
				}
				r := dataplane.RealServer{Addr: addr, Weight: 1, MAC: rs(n)}
				if n == 4 {
					r.Weight = 0
				}
				if length > 0 {
					r.ServerID = quicID(n, length)
				}
				svc.Servers = append(svc.Servers, r)
			}
			s.Services = append(s.Services, svc)
		}
	}
	return s
}

func loadQUIC(t testing.TB, s dataplane.Snapshot) *xdp.Plane {
	t.Helper()
	p := load(t)
	if _, err := p.Apply(s); err != nil {
		t.Fatal(err)
	}
	if err := p.Renew(dataplane.Unlimited); err != nil {
		t.Fatal(err)
	}
	return p
}

// cid is a connection ID: first byte, server ID, and a nonce.
func cid(first byte, id []byte) []byte {
	return append(append([]byte{first}, id...), 0xee, 0xee, 0xee, 0xee)
}

// short is a packet with a short header, long one of a type (bits 0x30), with
// what a real one has behind the connection IDs.
func short(first byte, cid []byte) []byte {
	return append(append([]byte{first}, cid...), make([]byte, 20)...)
}

func long(first byte, version uint32, cid []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{first}, version)
	b = append(append(b, byte(len(cid))), cid...)
	return append(b, make([]byte, 40)...)
}

// carrying is a datagram of the service on a port with a payload.
func carrying(vip netip.Addr, port uint16, data []byte, change ...func(*planetest.Frame)) packet {
	return func(client int) []byte {
		b := dgram(vip, port, append(change, payload(len(data)))...)(client)
		return append(b[:len(b)-len(data)], data...)
	}
}

// TestQUIC holds the program to which server gets a datagram without a flow.
func TestQUIC(t *testing.T) {
	for _, vip := range []netip.Addr{active, active6} {
		t.Run(vip.String(), func(t *testing.T) { testQUIC(t, vip) })
	}
}

func testQUIC(t *testing.T, vip netip.Addr) {
	p := loadQUIC(t, quicSnapshot(false, dataplane.Reset))
	of := func(n byte) []byte { return cid(0x03, quicID(n, 4)) }
	in := func(data []byte, change ...func(*planetest.Frame)) packet {
		return carrying(vip, quicPort, data, change...)
	}
	endsEarly := long(0xe0, quic1, of(3))
	endsEarly[5] = 4 // and yet the next byte would be right
	tests := []struct {
		description string
		in          packet
		to          byte // 0: by turns
		reason      string
	}{
		{"a short header names its server", in(short(0x40, of(3))), 3, "quic_kept"},
		{"also one whose ID is zero in part", in(short(0x40, of(2))), 2, "quic_kept"},
		{"also one that gets no new connections", in(short(0x40, of(4))), 4, "quic_kept"},
		{"whatever the other bits of the first byte", in(short(0x7f, of(3))), 3, "quic_kept"},
		{"also without the fixed bit", in(short(0, of(3))), 3, "quic_kept"},
		{"any configuration", in(short(0x40, cid(0xd3, quicID(3, 4)))), 3, "quic_kept"},
		{"but the one that says there is no ID", in(short(0x40, cid(0xe3, quicID(3, 4)))), 0, "quic_unknown"},
		{"another ID is scheduled", in(short(0x40, of(5))), 0, "quic_unknown"},
		{"all bytes of it count", in(short(0x40, append(of(3)[:4], 0))), 0, "quic_unknown"},
		{"an ID of one byte", carrying(vip, quicShort, short(0x40, cid(9, quicID(3, 1)))), 3, "quic_kept"},
		{"an ID that is zero", carrying(vip, quicShort, short(0x40, cid(9, quicID(2, 1)))), 2, "quic_kept"},
		{"an ID of one byte nobody has", carrying(vip, quicShort, short(0x40, cid(9, []byte{77}))), 0, "quic_unknown"},
		{"an ID of eight bytes", carrying(vip, quicLong, short(0x40, cid(9, quicID(3, 8)))), 3, "quic_kept"},
		{"another in the last byte", carrying(vip, quicLong, short(0x40, cid(9, append(quicID(3, 8)[:7], 1)))), 0, "quic_unknown"},
		{"the ID of another service", in(short(0x40, cid(9, append(quicID(3, 1), 0, 0, 0)))), 0, "quic_unknown"},

		{"too short to have one", in(short(0x40, of(3))[:14]), 0, "quic_unknown"},
		{"too short, in a frame that is filled up", func(n int) []byte {
			return append(in(short(0x40, of(3))[:14])(n), bytes.Repeat([]byte{0xee}, 60)...)
		}, 0, "quic_unknown"},
		{"empty", in(nil), 0, "quic_unknown"},

		{"an Initial is scheduled, whatever its ID", in(long(0xc0, quic1, of(3))), 0, ""},
		{"0-RTT is scheduled", in(long(0xd0, quic1, of(3))), 0, ""},
		{"Handshake goes by its ID", in(long(0xe0, quic1, of(3))), 3, "quic_kept"},
		{"Handshake with an ID that is too short", in(endsEarly), 0, "quic_unknown"},
		{"an Initial of version 2", in(long(0xd0, quic2, of(3))), 0, ""},
		{"0-RTT of version 2", in(long(0xe0, quic2, of(3))), 0, ""},
		{"Handshake of version 2", in(long(0xf0, quic2, of(3))), 3, "quic_kept"},
		{"an unknown version", in(long(0xe0, 0x1a2a3a4a, of(3))), 0, ""},

		{"with a tag", in(short(0x40, of(3)), tags(5)), 3, "quic_kept"},
		{"with two tags", in(short(0x40, of(3)), tags(5, 6)), 3, "quic_kept"},
		{"a service without", carrying(vip, plain, short(0x40, of(4))), 0, ""},
	}
	if vip.Is4() {
		tests = append(tests, struct {
			description string
			in          packet
			to          byte
			reason      string
		}{"with IP options", in(short(0x40, of(3)), options(10)), 3, "quic_kept"})
	} else {
		tests = append(tests, struct {
			description string
			in          packet
			to          byte
			reason      string
		}{"with extension headers", in(short(0x40, of(3)), with(hopByHop, options6)), 3, "quic_kept"})
	}
	for row, tt := range tests {
		t.Run(tt.description, func(t *testing.T) {
			// Once more from other clients: by turns is never the same server.
			var got [2]byte
			for i := range got {
				before := reasons(t, p)
				verdict, out := run(t, p.Program(), tt.in(2*row+i))
				if verdict != tx {
					t.Fatalf("verdict %d", verdict)
				}
				got[i] = out[5]
				for name, n := range reasons(t, p) {
					grew := n - before[name]
					if name == tt.reason && grew != 1 || name != tt.reason && grew != 0 {
						t.Errorf("counter %s grew by %d", name, grew)
					}
				}
				// It has a flow now, which the next datagram goes by, whatever is in it.
				next := dgram(vip, binary.BigEndian.Uint16(portOf(t, tt.in(2*row+i))), payload(30))(2*row + i)
				if _, out := run(t, p.Program(), next); out[5] != got[i] {
					t.Errorf("a datagram later the server is %d, not %d", out[5], got[i])
				}
			}
			if tt.to != 0 && got != [2]byte{tt.to, tt.to} || tt.to == 0 && (got[0] == got[1] || got[0] == 4 || got[1] == 4) {
				t.Errorf("servers %v, want %d", got, tt.to)
			}
		})
	}
}

func reasons(t *testing.T, p *xdp.Plane) map[string]uint64 {
	t.Helper()
	st, err := p.Stats()
	if err != nil {
		t.Fatal(err)
	}
	return st.Reasons
}

// portOf is the destination port of a datagram, in wire order.
func portOf(t *testing.T, frame []byte) []byte {
	t.Helper()
	for _, port := range []uint16{quicPort, quicShort, quicLong, plain} {
		// The source port of all clients stands before it.
		want := binary.BigEndian.AppendUint16([]byte{0x11, 0xd7}, port)
		if bytes.Contains(frame, want) {
			return want[2:]
		}
	}
	t.Fatalf("no port in %x", frame)
	return nil
}

// Services may have the same IDs, and each has its own only.
func TestQUICManyServices(t *testing.T) {
	const services = 1000
	idOf := func(port uint16) byte { return byte(uint32(port) * 0x9e3779b1 >> 30) } // of four
	s := dataplane.Snapshot{VIPs: []dataplane.VIP{{Addr: active, Role: dataplane.Active}}}
	for port := uint16(1); port <= services; port++ {
		r := dataplane.RealServer{Addr: netip.MustParseAddr("192.168.145.12"), Weight: 1, MAC: rs(2), ServerID: []byte{idOf(port)}}
		s.Services = append(s.Services, dataplane.Service{
			ServiceKey: dataplane.ServiceKey{VIP: active, Port: port, Protocol: dataplane.UDP}, Scheduler: "rr", ServerIDLength: 1,
			Servers: []dataplane.RealServer{r},
		})
	}
	p := loadQUIC(t, s)
	for other, counted := range []string{"quic_kept", "quic_unknown", "quic_unknown", "quic_unknown"} {
		before := reasons(t, p)[counted]
		for port := uint16(1); port <= services; port++ {
			run(t, p.Program(), carrying(active, port, short(0x40, cid(1, []byte{idOf(port) ^ byte(other)})))(other))
		}
		if n := reasons(t, p)[counted] - before; n != services {
			t.Errorf("%d of %d services: %s", n, services, counted)
		}
	}
}

// A client whose address changes again and again stays on the server of its
// connection; one that had a flow elsewhere does not.
func TestQUICMigration(t *testing.T) {
	for _, vip := range []netip.Addr{active, active6} {
		p := loadQUIC(t, quicSnapshot(false, dataplane.Reset))
		_, out := run(t, p.Program(), carrying(vip, quicPort, long(0xc0, quic1, []byte{1, 2, 3, 4, 5, 6, 7, 8}))(0))
		server := out[5]
		for client := range 100 {
			_, out := run(t, p.Program(), carrying(vip, quicPort, short(0x40, cid(byte(client), quicID(server, 4))))(client))
			if out[5] != server {
				t.Fatalf("%s: client %d is on %d, its connection on %d", vip, client, out[5], server)
			}
			// Strangers between do not matter.
			run(t, p.Program(), carrying(vip, quicPort, long(0xc0, quic1, []byte{8, 8, 8, 8, 8, 8, 8, 8}))(1000+client))
		}
		st, err := p.Stats()
		if err != nil {
			t.Fatal(err)
		}
		if n := st.Reasons["quic_kept"]; n != 99 {
			t.Errorf("%s: %d were kept by their IDs, want 99", vip, n)
		}
	}
}

// A datagram of a peer that has no flow is not scheduled, whatever its ID.
func TestQUICFromPeer(t *testing.T) {
	p := loadQUIC(t, quicSnapshot(false, dataplane.Reset))
	for _, vip := range []netip.Addr{active, active6} {
		verdict, _ := run(t, p.Program(), carrying(vip, quicPort, short(0x40, cid(1, quicID(3, 4))), from(peer))(0))
		if verdict != pass || reasons(t, p)["quic_kept"] != 0 {
			t.Errorf("%s: verdict %d, reasons %v", vip, verdict, reasons(t, p))
		}
	}
}

// A server that has left keeps its connections, by their IDs too, if the
// service says so.
func TestQUICServerLeft(t *testing.T) {
	for _, lost := range []dataplane.Lost{dataplane.Reset, dataplane.Reschedule, dataplane.Keep} {
		p := loadQUIC(t, quicSnapshot(false, lost))
		client := 0
		for generation := range 4 { // both halves, and what was left before
			for _, vip := range []netip.Addr{active, active6} {
				client++
				_, out := run(t, p.Program(), carrying(vip, quicPort, short(0x40, cid(1, quicID(2, 4))))(client))
				if stays := generation == 0 || lost == dataplane.Keep; stays != (out[5] == 2) {
					t.Errorf("lost %s, generation %d: %s went to server %d", lost, generation, vip, out[5])
				}
				_, out = run(t, p.Program(), carrying(vip, quicPort, short(0x40, cid(1, quicID(3, 4))))(1000+client))
				if out[5] != 3 {
					t.Errorf("lost %s, generation %d: %s of server 3 went to %d", lost, generation, vip, out[5])
				}
			}
			if _, err := p.Apply(quicSnapshot(true, lost)); err != nil {
				t.Fatal(err)
			}
		}
		// Without IDs nothing of them is left in either half.
		for range 2 {
			s := quicSnapshot(true, lost)
			for i := range s.Services {
				s.Services[i].ServerIDLength = 0
			}
			if _, err := p.Apply(s); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := p.Apply(quicSnapshot(true, dataplane.Reset)); err != nil {
			t.Fatal(err)
		}
		if _, out := run(t, p.Program(), carrying(active, quicPort, short(0x40, cid(1, quicID(2, 4))))(5000)); out[5] == 2 {
			t.Errorf("lost %s: server 2 has come back", lost)
		}
	}
}
