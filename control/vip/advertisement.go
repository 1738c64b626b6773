package vip

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
)

// allNodes is ff02::1, every machine of the link, and how Ethernet calls it
// (RFC 2464 section 7).
var (
	allNodes    = netip.MustParseAddr("ff02::1")
	allNodesMAC = net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}
)

const (
	icmpv6                = 58
	neighbourAdvert       = 136
	flagOverride          = 0x20 // replace what is cached (RFC 4861 section 4.4)
	optionTargetLinkLayer = 2    // RFC 4861 section 4.6.1
	advertLen             = 32   // with that option
)

// advertisement builds the Ethernet frame, without FCS, by which mac says
// unasked that it has ip: RFC 4861 section 7.2.6. The hop limit of 255 shows
// that no router has passed it on, without which it is ignored (section 7.1.2).
func advertisement(mac net.HardwareAddr, ip netip.Addr) ([]byte, error) {
	if len(mac) != 6 {
		return nil, fmt.Errorf("hardware address %q is not an Ethernet one", mac)
	}
	if !ip.Is6() || ip.Is4In6() {
		return nil, fmt.Errorf("announcing %s: it is not an IPv6 address", ip)
	}
	f := make([]byte, 0, 14+40+advertLen)
	f = append(f, allNodesMAC...)
	f = append(f, mac...)
	f = append(f, 0x86, 0xdd)
	f = append(f, 6<<4, 0, 0, 0, 0, advertLen, icmpv6, 255)
	f = append(f, ip.AsSlice()...)
	f = append(f, allNodes.AsSlice()...)
	f = append(f, neighbourAdvert, 0, 0, 0, flagOverride, 0, 0, 0)
	f = append(f, ip.AsSlice()...)
	f = append(f, optionTargetLinkLayer, 1) // 1: in units of 8 bytes
	f = append(f, mac...)
	message := f[14+40:]
	binary.BigEndian.PutUint16(message[2:], checksum(f[14+8:14+40], message))
	return f, nil
}

// checksum is that of an ICMPv6 message between the addresses of the header
// (RFC 4443 section 2.3).
func checksum(addresses, message []byte) uint16 {
	sum := uint32(len(message)) + icmpv6
	for _, b := range [][]byte{addresses, message} {
		for i := 0; i < len(b); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(b[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
