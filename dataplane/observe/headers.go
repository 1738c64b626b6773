package observe

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"systole/dataplane"
)

// Headers are what there is to tell of a frame, from outside to inside. What a
// frame does not have is zero.
type Headers struct {
	From, To net.HardwareAddr
	VLANs    []uint16
	Type     string // "ip", "ip6", "arp", or the EtherType as a number
	// Src and Dst are the addresses of the outermost IP header, or of an ARP
	// request; the ports are those of TCP, UDP or SCTP behind it.
	Src, Dst netip.AddrPort
	Protocol dataplane.Protocol
	Ports    bool
	Flags    string // of TCP, as in "SYN" or "FIN,ACK"
	Fragment string // "first", "later" or ""
	ICMP     string // type and code in words
	// Inner is the packet in a tunnel, or the one an ICMP error quotes.
	Inner *Headers
}

// Dissect reads a frame as far as it goes. What is cut short or malformed ends
// the headers.
func Dissect(frame []byte) Headers {
	return dissect(gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.DecodeOptions{NoCopy: true}).Layers())
}

func dissect(in []gopacket.Layer) Headers {
	var h Headers
	for i, l := range in {
		switch l := l.(type) {
		case *layers.Ethernet:
			h.From, h.To, h.Type = l.SrcMAC, l.DstMAC, etherType(l.EthernetType)
		case *layers.Dot1Q:
			h.VLANs, h.Type = append(h.VLANs, l.VLANIdentifier), etherType(l.Type)
		case *layers.ARP:
			h.Type, h.Src, h.Dst = "arp", addrOf(l.SourceProtAddress), addrOf(l.DstProtAddress)
			h.Flags = map[uint16]string{layers.ARPRequest: "request", layers.ARPReply: "reply"}[l.Operation]
		case *layers.IPv4:
			if h.Src.IsValid() {
				return h.tunnel(in[i:])
			}
			h.Type, h.Src, h.Dst, h.Protocol = "ip", addrOf(l.SrcIP), addrOf(l.DstIP), dataplane.Protocol(l.Protocol)
			switch {
			case l.FragOffset != 0:
				h.Fragment = "later"
			case l.Flags&layers.IPv4MoreFragments != 0:
				h.Fragment = "first"
			}
		case *layers.IPv6:
			if h.Src.IsValid() {
				return h.tunnel(in[i:])
			}
			h.Type, h.Src, h.Dst, h.Protocol = "ip6", addrOf(l.SrcIP), addrOf(l.DstIP), dataplane.Protocol(l.NextHeader)
		case *layers.IPv6Fragment:
			h.Protocol, h.Fragment = dataplane.Protocol(l.NextHeader), "first"
			if l.FragmentOffset != 0 {
				h.Fragment = "later"
			}
		case *layers.TCP:
			h.ports(dataplane.TCP, uint16(l.SrcPort), uint16(l.DstPort))
			h.Flags = tcpFlags(l)
		case *layers.UDP:
			h.ports(dataplane.UDP, uint16(l.SrcPort), uint16(l.DstPort))
			if l.DstPort == guePort {
				return h.inUDP(l.Payload)
			}
		case *layers.SCTP:
			h.ports(dataplane.SCTP, uint16(l.SrcPort), uint16(l.DstPort))
		case *layers.ICMPv4:
			h.Protocol, h.ICMP = 1, l.TypeCode.String()
			if quotes4[l.TypeCode.Type()] {
				return h.quoting(l.Payload, layers.LayerTypeIPv4)
			}
		case *layers.ICMPv6:
			h.Protocol, h.ICMP = 58, l.TypeCode.String()
			if t := l.TypeCode.Type(); t >= 1 && t <= 4 && len(l.Payload) > 4 {
				return h.quoting(l.Payload[4:], layers.LayerTypeIPv6)
			}
		}
	}
	return h
}

// guePort is the default destination port of GUE.
const guePort = 6080

// quotes4 are the ICMP errors, which quote the packet that is to blame (RFC 792).
var quotes4 = map[uint8]bool{3: true, 4: true, 5: true, 11: true, 12: true}

func (h Headers) tunnel(rest []gopacket.Layer) Headers {
	inner := dissect(rest)
	h.Inner = &inner
	return h
}

func (h Headers) quoting(payload []byte, first gopacket.LayerType) Headers {
	return h.tunnel(gopacket.NewPacket(payload, first, gopacket.DecodeOptions{NoCopy: true}).Layers())
}

// inUDP looks behind a GUE header: variant 1 is IP itself, variant 0 has four
// bytes and its options before (draft-ietf-intarea-gue).
func (h Headers) inUDP(payload []byte) Headers {
	if len(payload) == 0 {
		return h
	}
	if payload[0]>>6 == 0 {
		skip := 4 + int(payload[0]&31)*4
		if len(payload) <= skip {
			return h
		}
		payload = payload[skip:]
	}
	switch payload[0] >> 4 {
	case 4:
		return h.quoting(payload, layers.LayerTypeIPv4)
	case 6:
		return h.quoting(payload, layers.LayerTypeIPv6)
	}
	return h
}

func (h *Headers) ports(p dataplane.Protocol, src, dst uint16) {
	h.Protocol, h.Ports = p, true
	h.Src, h.Dst = netip.AddrPortFrom(h.Src.Addr(), src), netip.AddrPortFrom(h.Dst.Addr(), dst)
}

func addrOf(b []byte) netip.AddrPort {
	a, _ := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a, 0)
}

func etherType(t layers.EthernetType) string {
	switch t {
	case layers.EthernetTypeIPv4:
		return "ip"
	case layers.EthernetTypeIPv6:
		return "ip6"
	case layers.EthernetTypeARP:
		return "arp"
	}
	return fmt.Sprintf("0x%04x", uint16(t))
}

func tcpFlags(l *layers.TCP) string {
	var out []string
	for _, f := range []struct {
		set  bool
		name string
	}{{l.SYN, "SYN"}, {l.FIN, "FIN"}, {l.RST, "RST"}, {l.PSH, "PSH"}, {l.ACK, "ACK"}, {l.URG, "URG"}} {
		if f.set {
			out = append(out, f.name)
		}
	}
	return strings.Join(out, ",")
}

// Client is the client whose packet it is, and where it wants to: with an ICMP
// error that of the packet it quotes.
func (h Headers) Client() (client, to netip.AddrPort, protocol dataplane.Protocol) {
	if h.ICMP != "" && h.Inner != nil {
		return h.Inner.Dst, netip.AddrPortFrom(h.Dst.Addr(), h.Inner.Src.Port()), h.Inner.Protocol
	}
	return h.Src, h.Dst, h.Protocol
}

// String is the packet on one line, without its MAC addresses.
func (h Headers) String() string {
	var b strings.Builder
	for _, v := range h.VLANs {
		fmt.Fprintf(&b, "vlan %d ", v)
	}
	switch {
	case h.Type == "arp":
		fmt.Fprintf(&b, "arp %s who-has %s tell %s", h.Flags, h.Dst.Addr(), h.Src.Addr())
		return b.String()
	case !h.Src.IsValid():
		b.WriteString(h.Type)
		return b.String()
	case h.Ports:
		fmt.Fprintf(&b, "%s > %s %s", h.Src, h.Dst, h.Protocol)
	default:
		fmt.Fprintf(&b, "%s > %s %s", h.Src.Addr(), h.Dst.Addr(), protocolName(h.Protocol))
	}
	if h.Flags != "" {
		b.WriteString(" " + h.Flags)
	}
	if h.ICMP != "" {
		b.WriteString(" " + h.ICMP)
	}
	if h.Fragment != "" {
		b.WriteString(" " + h.Fragment + " fragment")
	}
	if h.Inner != nil {
		fmt.Fprintf(&b, " (%s)", *h.Inner)
	}
	return b.String()
}

func protocolName(p dataplane.Protocol) string {
	switch p {
	case 1:
		return "icmp"
	case 58:
		return "icmp6"
	}
	return p.String()
}
