package neighbour

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	icmpv6                = 58
	neighbourSolicit      = 135
	optionSourceLinkLayer = 1
	solicitLen            = 32 // with that option
)

// sender6 chooses the address a solicitation bears: the link-local one. The
// answer comes to it.
func sender6(own []netlink.Addr) (netip.Addr, bool) {
	for _, a := range own {
		ip, ok := netip.AddrFromSlice(a.IP)
		if ok && ip.Is6() && ip.IsLinkLocalUnicast() && a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) == 0 {
			return ip, true
		}
	}
	return netip.Addr{}, false
}

// solicitation builds the Ethernet frame, without FCS, by which the machine at
// mac and from asks for target (RFC 4861 sections 4.3 and 7.2.2), sent to the
// group of those whose addresses end alike (RFC 4291 section 2.7.1).
func solicitation(mac net.HardwareAddr, from, target netip.Addr) ([]byte, error) {
	if len(mac) != 6 {
		return nil, fmt.Errorf("hardware address %q is not an Ethernet one", mac)
	}
	if !from.Is6() || !target.Is6() {
		return nil, fmt.Errorf("asking for %s from %s: neighbour discovery is for IPv6", target, from)
	}
	t := target.As16()
	group := [16]byte{0: 0xff, 1: 0x02, 11: 1, 12: 0xff, 13: t[13], 14: t[14], 15: t[15]}
	f := make([]byte, 0, 14+40+solicitLen)
	f = append(f, 0x33, 0x33, 0xff, t[13], t[14], t[15])
	f = append(f, mac...)
	f = append(f, 0x86, 0xdd)
	f = append(f, 6<<4, 0, 0, 0, 0, solicitLen, icmpv6, 255)
	f = append(f, from.AsSlice()...)
	f = append(f, group[:]...)
	f = append(f, neighbourSolicit, 0, 0, 0, 0, 0, 0, 0)
	f = append(f, t[:]...)
	f = append(f, optionSourceLinkLayer, 1) // 1: in units of 8 bytes
	f = append(f, mac...)
	message := f[14+40:]
	// RFC 4443 section 2.3: over the addresses, the length, the protocol and
	// the message.
	sum := uint32(len(message)) + icmpv6
	for i := 14 + 8; i < len(f); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(f[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(message[2:], ^uint16(sum))
	return f, nil
}
