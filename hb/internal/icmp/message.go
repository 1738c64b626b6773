// Package icmp is the little of ICMP that heartbeat needs, for IPv4 and IPv6
// alike: echo requests that are sent, echo replies and refused ports that are
// received (RFC 792, RFC 4443).
//
// What a socket receives is sorted out in the kernel: no other machine's pings
// wake the process. The parsing is pure, and takes whatever the network sends.
package icmp

import (
	"encoding/binary"
	"net/netip"
)

// Family is the version of IP.
type Family uint8

const (
	V4 Family = 4
	V6 Family = 6
)

// FamilyOf is the family of a valid address.
func FamilyOf(a netip.Addr) Family {
	if a.Unmap().Is4() {
		return V4
	}
	return V6
}

// The types and codes of RFC 792 and RFC 4443.
const (
	v4EchoReply   = 0
	v4Unreachable = 3
	v4PortCode    = 3
	v4Echo        = 8

	v6Unreachable = 1
	v6PortCode    = 4
	v6Echo        = 128
	v6EchoReply   = 129
)

const (
	headerLen = 8 // of an echo, and of an error before what it quotes
	udpProto  = 17
)

// Echo is an echo request or reply.
type Echo struct {
	ID, Seq uint16
	Payload []byte
}

// AppendRequest appends the ICMP message of an echo request to b. For IPv6 the
// checksum is zero: the kernel fills it in, as it alone knows the source
// address (RFC 3542 section 3.1).
func AppendRequest(b []byte, f Family, e Echo) []byte {
	start, typ := len(b), byte(v4Echo)
	if f == V6 {
		typ = v6Echo
	}
	b = append(b, typ, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, e.ID)
	b = binary.BigEndian.AppendUint16(b, e.Seq)
	b = append(b, e.Payload...)
	if f == V4 {
		binary.BigEndian.PutUint16(b[start+2:], checksum(b[start:]))
	}
	return b
}

// Message is what was received: an echo reply, or a refusal.
type Message struct {
	From netip.Addr // who sent it, without a zone
	Echo Echo       // the reply, if Refused is not valid
	// Refused is where a UDP datagram went that found no socket.
	Refused netip.AddrPort
}

// Parse reads what a raw socket receives: for IPv4 with the IP header, for IPv6
// without it, so that From is left to the caller; there the kernel has verified
// the checksum, too. The payload is part of p. False: it is neither of the two,
// or damaged.
func Parse(f Family, p []byte) (m Message, ok bool) {
	if f == V6 {
		return parse(p, v6EchoReply, v6Unreachable, v6PortCode, quotedV6)
	}
	h, ok := parseV4(p)
	if !ok || checksum(h.rest) != 0 {
		return m, false
	}
	m, ok = parse(h.rest, v4EchoReply, v4Unreachable, v4PortCode, quotedV4)
	m.From = h.from
	return m, ok
}

func parse(p []byte, reply, unreachable, port byte, quoted func([]byte) (netip.AddrPort, bool)) (m Message, ok bool) {
	if len(p) < headerLen {
		return m, false
	}
	switch {
	case p[0] == reply:
		m.Echo = Echo{ID: binary.BigEndian.Uint16(p[4:]), Seq: binary.BigEndian.Uint16(p[6:]), Payload: p[headerLen:]}
		return m, true
	case p[0] == unreachable && p[1] == port:
		m.Refused, ok = quoted(p[headerLen:])
		return m, ok
	}
	return m, false
}

// v4 is an IPv4 packet without options.
type v4 struct {
	from, to netip.Addr
	proto    byte
	rest     []byte // after the header; of a quoted packet only its beginning
}

func parseV4(p []byte) (h v4, ok bool) {
	if len(p) < 20 || p[0]>>4 != 4 {
		return h, false
	}
	n := int(p[0]&0xf) * 4
	if n < 20 || len(p) < n {
		return h, false
	}
	// What follows the packet is padding of a short frame.
	if total := int(binary.BigEndian.Uint16(p[2:])); total >= n && total < len(p) {
		p = p[:total]
	}
	return v4{from: netip.AddrFrom4([4]byte(p[12:])), to: netip.AddrFrom4([4]byte(p[16:])), proto: p[9], rest: p[n:]}, true
}

// quotedV4 and quotedV6 read where the UDP datagram went whose beginning an
// error quotes. A fragment that is not the first has no ports.
func quotedV4(p []byte) (to netip.AddrPort, ok bool) {
	h, ok := parseV4(p)
	if !ok || h.proto != udpProto || len(h.rest) < 4 || binary.BigEndian.Uint16(p[6:])&0x1fff != 0 {
		return to, false
	}
	return netip.AddrPortFrom(h.to, binary.BigEndian.Uint16(h.rest[2:])), true
}

func quotedV6(p []byte) (to netip.AddrPort, ok bool) {
	// Our datagrams have no extension headers.
	if len(p) < 44 || p[0]>>4 != 6 || p[6] != udpProto {
		return to, false
	}
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(p[24:])), binary.BigEndian.Uint16(p[42:])), true
}

// checksum is that of RFC 1071. Over a message with its checksum it is 0.
func checksum(p []byte) uint16 {
	var sum uint32
	for ; len(p) >= 2; p = p[2:] {
		sum += uint32(binary.BigEndian.Uint16(p))
	}
	if len(p) == 1 {
		sum += uint32(p[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
