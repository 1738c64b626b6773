package icmp

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/bpf"
	"pgregory.net/rapid"
)

// Packets as seen on the wire of two machines: one pings, one sends a datagram
// to a port where nobody listens.
const (
	// 192.0.2.2 > 192.0.2.1: echo reply, id 0x1234, seq 7, "beat"
	replyV4 = "45000020 00000000 4001f6d8 c0000202 c0000201" + "0000 24e2 1234 0007 62656174"
	// 192.0.2.2 > 192.0.2.1: port unreachable, quotes 192.0.2.1:40000 > 192.0.2.2:694
	refusedV4 = "45c0003c 00000000 4001f5fc c0000202 c0000201" + "0303 fee8 00000000" +
		"45100020 00004000 4011b6b8 c0000201 c0000202" + "9c40 02b6 000c 0000 62656174"
	// the same with IPv4 options (record route, unused) in what is quoted
	optionsV4 = "45c00040 00000000 4001f5f8 c0000202 c0000201" + "0303 0000 00000000" +
		"46100024 00004000 4011b5b4 c0000201 c0000202 01010100" + "9c40 02b6 000c 0000 62656174"
	// fe80::2 > fe80::1 and so on, without the IP header
	replyV6   = "8100 0000 1234 0007 62656174"
	refusedV6 = "0104 0000 00000000" +
		"60000000 000c1140 20010db8000000000000000000000001 20010db8000000000000000000000002" + "9c40 02b6 000c 0000 62656174"
)

func packet(t testing.TB, text string) []byte {
	t.Helper()
	p, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// summed is an IPv4 packet with the right ICMP checksum.
func summed(p []byte) []byte {
	p = bytes.Clone(p)
	h, ok := parseV4(p)
	if !ok || len(h.rest) < headerLen {
		return p
	}
	h.rest[2], h.rest[3] = 0, 0
	binary.BigEndian.PutUint16(h.rest[2:], checksum(h.rest))
	return p
}

func TestParse(t *testing.T) {
	peer := netip.MustParseAddr("192.0.2.2")
	reply := Echo{ID: 0x1234, Seq: 7, Payload: []byte("beat")}
	for _, c := range []struct {
		name   string
		family Family
		text   string
		change func(p []byte) []byte
		want   *Message
	}{
		{"reply", V4, replyV4, nil, &Message{From: peer, Echo: reply}},
		{"reply in a padded frame", V4, replyV4, func(p []byte) []byte { return append(p, make([]byte, 14)...) }, &Message{From: peer, Echo: reply}},
		{"refused", V4, refusedV4, nil, &Message{From: peer, Refused: netip.MustParseAddrPort("192.0.2.2:694")}},
		{"refused, with options", V4, optionsV4, nil, &Message{From: peer, Refused: netip.MustParseAddrPort("192.0.2.2:694")}},
		{"reply, IPv6", V6, replyV6, nil, &Message{Echo: reply}},
		{"refused, IPv6", V6, refusedV6, nil, &Message{Refused: netip.MustParseAddrPort("[2001:db8::2]:694")}},

		{"request", V4, replyV4, func(p []byte) []byte { p[20] = v4Echo; return p }, nil},
		{"host unreachable", V4, refusedV4, func(p []byte) []byte { p[21] = 1; return p }, nil},
		{"refused TCP", V4, refusedV4, func(p []byte) []byte { p[28+9] = 6; return p }, nil},
		{"refused fragment", V4, refusedV4, func(p []byte) []byte { p[28+7] = 1; return p }, nil},
		{"quotes too little", V4, refusedV4, func(p []byte) []byte { p[3] = 28 + 20 + 3; return p }, nil},
		{"quotes IPv6", V4, refusedV4, func(p []byte) []byte { p[28] = 0x65; return p }, nil},
		{"quotes no header", V4, refusedV4, func(p []byte) []byte { p[28] = 0x44; return p }, nil},
		{"IPv6 packet", V4, replyV4, func(p []byte) []byte { p[0] = 0x65; return p }, nil},
		{"no header", V4, replyV4, func(p []byte) []byte { p[0] = 0x44; return p }, nil},
		{"header longer than the packet", V4, replyV4, func(p []byte) []byte { p[0] = 0x4f; return p }, nil},
		{"cut off", V4, replyV4, func(p []byte) []byte { return p[:27] }, nil},
		{"nothing", V4, "", nil, nil},
		{"request, IPv6", V6, replyV6, func(p []byte) []byte { p[0] = v6Echo; return p }, nil},
		{"no route, IPv6", V6, refusedV6, func(p []byte) []byte { p[1] = 0; return p }, nil},
		{"quotes IPv4, IPv6", V6, refusedV6, func(p []byte) []byte { p[8] = 0x45; return p }, nil},
		{"refused TCP, IPv6", V6, refusedV6, func(p []byte) []byte { p[14] = 6; return p }, nil},
		{"cut off, IPv6", V6, refusedV6, func(p []byte) []byte { return p[:51] }, nil},
		{"nothing, IPv6", V6, "", nil, nil},
	} {
		p := packet(t, c.text)
		if c.change != nil {
			p = c.change(p)
		}
		if c.family == V4 {
			p = summed(p)
		}
		m, ok := Parse(c.family, p)
		if ok != (c.want != nil) {
			t.Errorf("%s: %v", c.name, ok)
			continue
		}
		if ok && (m.From != c.want.From || m.Refused != c.want.Refused || m.Echo.ID != c.want.Echo.ID || m.Echo.Seq != c.want.Echo.Seq || string(m.Echo.Payload) != string(c.want.Echo.Payload)) {
			t.Errorf("%s: %+v, want %+v", c.name, m, *c.want)
		}
	}
	for i := range packet(t, replyV4)[20:] {
		p := summed(packet(t, replyV4))
		p[20+i] ^= 0x10
		if _, ok := Parse(V4, p); ok {
			t.Errorf("byte %d is damaged, and it is taken", i)
		}
	}
}

// What comes back of a request is what was sent.
func TestRequest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := Echo{rapid.Uint16().Draw(t, "id"), rapid.Uint16().Draw(t, "seq"), rapid.SliceOf(rapid.Byte()).Draw(t, "payload")}
		for _, f := range []Family{V4, V6} {
			p := AppendRequest([]byte("before"), f, e)[len("before"):]
			var header []byte
			if f == V4 {
				if checksum(p) != 0 || p[0] != v4Echo {
					t.Fatalf("%x: checksum %x", p, checksum(p))
				}
				header = make([]byte, 20)
				header[0] = 0x45
				binary.BigEndian.PutUint16(header[2:], uint16(20+len(p)))
			} else if p[0] != v6Echo {
				t.Fatalf("%x is no request", p)
			}
			p[0] = map[Family]byte{V4: v4EchoReply, V6: v6EchoReply}[f]
			reply := append(header, p...)
			if f == V4 {
				reply = summed(reply)
			}
			m, ok := Parse(f, reply)
			if !ok || m.Echo.ID != e.ID || m.Echo.Seq != e.Seq || !bytes.Equal(m.Echo.Payload, e.Payload) {
				t.Fatalf("IPv%d: %+v became %+v, %v", f, e, m, ok)
			}
		}
	})
}

// passes runs the socket filter as the kernel would.
func passes(t testing.TB, f Family, id uint16, ports []uint16, p []byte) bool {
	t.Helper()
	vm, err := bpf.NewVM(filter(f, id, ports))
	if err != nil {
		t.Fatal(err)
	}
	n, err := vm.Run(p)
	if err != nil {
		t.Fatal(err)
	}
	return n > 0
}

func TestFilter(t *testing.T) {
	many := make([]uint16, 500)
	for i := range many {
		many[i] = uint16(1000 + i)
	}
	for _, c := range []struct {
		name   string
		family Family
		text   string
		id     uint16
		ports  []uint16
		want   bool
	}{
		{"our reply", V4, replyV4, 0x1234, nil, true},
		{"another's reply", V4, replyV4, 0x1235, []uint16{0x1234}, false},
		{"our port", V4, refusedV4, 0, []uint16{1, 694}, true},
		{"our port, options", V4, optionsV4, 0, []uint16{694}, true},
		{"another port", V4, refusedV4, 0x1234, []uint16{40000, 695}, false},
		{"no port", V4, refusedV4, 0, nil, false},
		{"many ports", V4, refusedV4, 0, append(many, 694), true},
		{"many other ports", V4, refusedV4, 0, many, false},
		{"our reply, IPv6", V6, replyV6, 0x1234, nil, true},
		{"another's reply, IPv6", V6, replyV6, 0x1235, nil, false},
		{"our port, IPv6", V6, refusedV6, 0, []uint16{694}, true},
		{"another port, IPv6", V6, refusedV6, 0, []uint16{695}, false},
	} {
		if got := passes(t, c.family, c.id, c.ports, packet(t, c.text)); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// Whatever comes: the parser takes it or leaves it, and the filter passes what
// the parser would take.
func FuzzParse(f *testing.F) {
	for _, text := range []string{replyV4, refusedV4, optionsV4, replyV6, refusedV6} {
		f.Add(packet(f, text))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, fam := range []Family{V4, V6} {
			// With the right checksum too, which chance does not find.
			for _, p := range [][]byte{p, summed(p)} {
				m, ok := Parse(fam, p)
				if !ok {
					continue
				}
				if m.Refused.IsValid() && m.Echo.Payload != nil {
					t.Fatalf("%+v is both", m)
				}
				if !passes(t, fam, m.Echo.ID, []uint16{m.Refused.Port()}, p) {
					t.Fatalf("%x: %+v does not pass the filter", p, m)
				}
			}
		}
	})
}
