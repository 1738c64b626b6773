package probe

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
)

// EtherTypes, host byte order.
const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806
)

// askerPrefix begins the MAC addresses that ask by ARP: locally administered,
// and nobody's. The other three bytes number the question, so that an answer
// tells which one it answers.
var askerPrefix = [3]byte{0x0a, 0x53, 0x59}

func asker(tick uint32) net.HardwareAddr {
	return net.HardwareAddr{askerPrefix[0], askerPrefix[1], askerPrefix[2], byte(tick >> 16), byte(tick >> 8), byte(tick)}
}

// whoHas appends the frame that asks who has vip: an ARP probe in the sense of
// RFC 5227, section 2.1.1, from a MAC address of no host and with sender
// address 0.0.0.0. So nobody learns anything from it: not the directors, which
// make no neighbour of 0.0.0.0, and above all not the client, whose kernel
// ignores the answer as it is sent to another MAC. A probe that refreshed the
// client's ARP cache would hide a director that forgot to announce itself.
func whoHas(dst []byte, tick uint32, vip netip.Addr) []byte {
	from, target := asker(tick), vip.As4()
	dst = append(dst, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	dst = append(dst, from...)
	dst = binary.BigEndian.AppendUint16(dst, etherARP)
	dst = append(dst, 0, 1, 8, 0, 6, 4, 0, 1) // Ethernet, IPv4, request
	dst = append(dst, from...)
	dst = append(dst, 0, 0, 0, 0)
	dst = append(dst, 0, 0, 0, 0, 0, 0)
	return append(dst, target[:]...)
}

// isAt reads a frame as the answer to whoHas: who says that vip is theirs, to
// which question.
func isAt(frame []byte, vip netip.Addr) (owner net.HardwareAddr, tick uint32, ok bool) {
	const need = 14 + 28
	want := vip.As4()
	if len(frame) < need ||
		binary.BigEndian.Uint16(frame[12:]) != etherARP ||
		!bytes.Equal(frame[14:22], []byte{0, 1, 8, 0, 6, 4, 0, 2}) ||
		!bytes.Equal(frame[28:32], want[:]) ||
		!bytes.Equal(frame[32:35], askerPrefix[:]) {
		return nil, 0, false
	}
	tick = uint32(frame[35])<<16 | uint32(frame[36])<<8 | uint32(frame[37])
	return bytes.Clone(frame[22:28]), tick, true
}

// datagram appends an Ethernet frame with a UDP datagram in IPv4, checksums
// filled in (RFC 791, RFC 768).
func datagram(dst []byte, to, from net.HardwareAddr, src, target netip.AddrPort, payload []byte) []byte {
	dst = append(dst, to...)
	dst = append(dst, from...)
	dst = binary.BigEndian.AppendUint16(dst, etherIPv4)

	s, d := src.Addr().As4(), target.Addr().As4()
	length := 8 + len(payload)
	ip := len(dst)
	dst = append(dst, 0x45, 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(20+length))
	dst = append(dst, 0, 0, 0x40, 0, 64, 17, 0, 0) // don't fragment, TTL 64, UDP
	dst = append(dst, s[:]...)
	dst = append(dst, d[:]...)
	binary.BigEndian.PutUint16(dst[ip+10:], ^onesSum(0, dst[ip:ip+20]))

	udp := len(dst)
	dst = binary.BigEndian.AppendUint16(dst, src.Port())
	dst = binary.BigEndian.AppendUint16(dst, target.Port())
	dst = binary.BigEndian.AppendUint16(dst, uint16(length))
	dst = append(dst, 0, 0)
	dst = append(dst, payload...)
	pseudo := onesSum(uint32(17+length), dst[ip+12:ip+20])
	sum := ^onesSum(uint32(pseudo), dst[udp:])
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(dst[udp+6:], sum)
	return dst
}

// onesSum is the ones' complement sum of b in 16-bit words (RFC 1071).
func onesSum(sum uint32, b []byte) uint16 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}
