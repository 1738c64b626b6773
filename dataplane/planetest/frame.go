package planetest

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"systole/dataplane"
)

// Frame is an Ethernet frame with an IPv4 or IPv6 packet of a client.
type Frame struct {
	Dst, Src   net.HardwareAddr
	VLANs      []uint16 // tags, the outer first; of two the outer is a service tag
	From, To   netip.AddrPort
	Protocol   dataplane.Protocol // TCP, UDP, SCTP, or any other without a header
	Flags      string             // TCP: letters of "SAFRP"; SCTP has a chunk like it; "E" is its COOKIE ECHO
	Options    []byte             // of IPv4, in multiples of 4 bytes
	Extensions []Extension        // of IPv6, before a fragment's
	TOS        uint8              // DSCP and ECN
	DF         bool               // IPv4: not to be fragmented
	MF         bool               // more fragments
	Offset     uint16             // fragment offset, in units of 8 bytes; of IPv6 a later one has no transport header
	ID         uint32             // of the datagram; 16 bits in IPv4
	Payload    int                // bytes of transport payload
	Data       []byte             // what it begins with, at most Payload bytes; the rest is zero
}

// Extension is an extension header of IPv6 (RFC 8200, section 4).
type Extension struct {
	Type uint8  // hop-by-hop 0, routing 43, destination options 60
	Body []byte // what follows its two bytes: 6 bytes, or 8 more, or 16 ...
}

// Opens tells whether the frame begins a connection: a bare SYN or INIT, or any
// UDP.
func (f Frame) Opens() bool {
	return f.Protocol == dataplane.UDP || f.Flags == "S"
}

// Service is the key of the service the frame is addressed to.
func (f Frame) Service() dataplane.ServiceKey {
	return dataplane.ServiceKey{VIP: f.To.Addr(), Port: f.To.Port(), Protocol: f.Protocol}
}

// IPLength is the total length of the IP packet in bytes.
func (f Frame) IPLength() int {
	n := 20 + len(f.Options) + f.Payload
	if f.To.Addr().Is6() {
		n = 40 + len(f.extensions()) + f.Payload
	}
	return n + len(f.transport(nil))
}

// Bytes is the frame on the wire, without padding, with correct checksums.
func (f Frame) Bytes() []byte {
	if f.To.Addr().Is6() {
		return f.tag(f.bytes6())
	}
	return f.tag(f.bytes4())
}

func (f Frame) bytes4() []byte {
	ip := &layers.IPv4{
		Version:    4,
		TOS:        f.TOS,
		TTL:        64,
		Protocol:   layers.IPProtocol(f.Protocol),
		SrcIP:      f.From.Addr().AsSlice(),
		DstIP:      f.To.Addr().AsSlice(),
		FragOffset: f.Offset,
		Id:         uint16(f.ID),
	}
	if f.MF {
		ip.Flags = layers.IPv4MoreFragments
	}
	if f.DF {
		ip.Flags |= layers.IPv4DontFragment
	}
	for rest := f.Options; len(rest) >= 4; rest = rest[4:] {
		ip.Options = append(ip.Options, layers.IPv4Option{OptionType: rest[0], OptionLength: 4, OptionData: rest[2:4]})
	}
	stack := []gopacket.SerializableLayer{
		&layers.Ethernet{SrcMAC: f.Src, DstMAC: f.Dst, EthernetType: layers.EthernetTypeIPv4}, ip,
	}
	stack = append(stack, gopacket.Payload(f.transport(ip)))
	return serialize(append(stack, gopacket.Payload(f.payload()))...)
}

func (f Frame) bytes6() []byte {
	ip := &layers.IPv6{
		Version: 6, TrafficClass: f.TOS, HopLimit: 64, NextHeader: f.firstHeader(),
		SrcIP: f.From.Addr().AsSlice(), DstIP: f.To.Addr().AsSlice(),
	}
	return serialize(
		&layers.Ethernet{SrcMAC: f.Src, DstMAC: f.Dst, EthernetType: layers.EthernetTypeIPv6}, ip,
		gopacket.Payload(f.extensions()), gopacket.Payload(f.transport(ip)), gopacket.Payload(f.payload()))
}

// payload is all of the transport payload.
func (f Frame) payload() []byte {
	b := make([]byte, f.Payload)
	copy(b, f.Data)
	return b
}

func (f Frame) fragment() bool { return f.MF || f.Offset != 0 }

// firstHeader is what follows the IPv6 header.
func (f Frame) firstHeader() layers.IPProtocol {
	switch {
	case len(f.Extensions) > 0:
		return layers.IPProtocol(f.Extensions[0].Type)
	case f.fragment():
		return layers.IPProtocolIPv6Fragment
	}
	return layers.IPProtocol(f.Protocol)
}

// extensions are all extension headers of IPv6.
func (f Frame) extensions() []byte {
	var out []byte
	for i, e := range f.Extensions {
		rest := f
		rest.Extensions = f.Extensions[i+1:]
		out = append(out, uint8(rest.firstHeader()), uint8((len(e.Body)+2)/8-1))
		out = append(out, e.Body...)
	}
	if f.fragment() {
		at := f.Offset << 3
		if f.MF {
			at |= 1
		}
		out = append(out, uint8(f.Protocol), 0)
		out = binary.BigEndian.AppendUint16(out, at)
		out = binary.BigEndian.AppendUint32(out, f.ID)
	}
	return out
}

// tag puts the VLAN tags into a frame without.
func (f Frame) tag(frame []byte) []byte {
	for i := range f.VLANs {
		kind := layers.EthernetTypeDot1Q
		if i > 0 {
			kind = layers.EthernetTypeQinQ
		}
		var tag []byte
		tag = binary.BigEndian.AppendUint16(tag, uint16(kind))
		tag = binary.BigEndian.AppendUint16(tag, f.VLANs[len(f.VLANs)-1-i])
		frame = slices.Insert(frame, 12, tag...)
	}
	return frame
}

// chunk is the SCTP chunk that says about what the flags of TCP say.
func (f Frame) chunk() uint8 {
	switch {
	case strings.Contains(f.Flags, "R"):
		return 6 // ABORT
	case strings.Contains(f.Flags, "F"):
		return 7 // SHUTDOWN
	case f.Flags == "S":
		return 1 // INIT
	case f.Flags == "E":
		return 10 // COOKIE ECHO
	}
	return 0 // DATA
}

// transport is the transport header, of a packet in ip; its checksum is 0 if
// that is nil.
func (f Frame) transport(ip gopacket.NetworkLayer) []byte {
	if f.Offset != 0 && f.To.Addr().Is6() {
		return nil
	}
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: ip != nil}
	payload := gopacket.Payload(f.payload())
	buf := gopacket.NewSerializeBuffer()
	switch f.Protocol {
	case dataplane.TCP:
		tcp := &layers.TCP{
			SrcPort: layers.TCPPort(f.From.Port()), DstPort: layers.TCPPort(f.To.Port()), Window: 1024,
			SYN: strings.Contains(f.Flags, "S"), ACK: strings.Contains(f.Flags, "A"),
			FIN: strings.Contains(f.Flags, "F"), RST: strings.Contains(f.Flags, "R"),
			PSH: strings.Contains(f.Flags, "P"),
		}
		if ip != nil {
			must(tcp.SetNetworkLayerForChecksum(ip))
		}
		must(gopacket.SerializeLayers(buf, options, tcp, payload))
	case dataplane.UDP:
		udp := &layers.UDP{SrcPort: layers.UDPPort(f.From.Port()), DstPort: layers.UDPPort(f.To.Port())}
		if ip != nil {
			must(udp.SetNetworkLayerForChecksum(ip))
		}
		must(gopacket.SerializeLayers(buf, options, udp, payload))
	case dataplane.SCTP:
		sctp := &layers.SCTP{SrcPort: layers.SCTPPort(f.From.Port()), DstPort: layers.SCTPPort(f.To.Port())}
		chunk := gopacket.Payload{f.chunk(), 0, 0, 4}
		must(gopacket.SerializeLayers(buf, options, sctp, chunk, payload))
	default:
		return nil
	}
	return slices.Clone(buf.Bytes()[:len(buf.Bytes())-f.Payload])
}

// Error is the frame of an ICMP or ICMPv6 error of the given type and code that
// a router sends about a server's packet of the flow of f: it quotes the
// server's IP header and n bytes after it.
func (f Frame) Error(router netip.Addr, kind, code uint8, n int) []byte {
	quoted := f
	quoted.From, quoted.To = f.To, f.From
	quoted.VLANs, quoted.Flags, quoted.Extensions = nil, "A", nil
	head := 14 + 20
	if f.To.Addr().Is6() {
		head = 14 + 40
	}
	quote := gopacket.Payload(quoted.Bytes()[14 : head+n])
	var out []byte
	if f.To.Addr().Is6() {
		ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolICMPv6, SrcIP: router.AsSlice(), DstIP: f.To.Addr().AsSlice()}
		icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, code)}
		must(icmp.SetNetworkLayerForChecksum(ip))
		out = serialize(&layers.Ethernet{SrcMAC: f.Src, DstMAC: f.Dst, EthernetType: layers.EthernetTypeIPv6}, ip, icmp, gopacket.Payload(make([]byte, 4)), quote)
	} else {
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolICMPv4, SrcIP: router.AsSlice(), DstIP: f.To.Addr().AsSlice()}
		icmp := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(kind, code)}
		out = serialize(&layers.Ethernet{SrcMAC: f.Src, DstMAC: f.Dst, EthernetType: layers.EthernetTypeIPv4}, ip, icmp, quote)
	}
	return f.tag(out)
}

// Solicitation is a neighbour solicitation for target, sent by a station from
// sender (:: if it asks whether the address is free) to an address, or to the
// target's group if that is not valid.
func Solicitation(station net.HardwareAddr, sender, target, to netip.Addr) []byte {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	if !to.IsValid() {
		b := target.As16()
		to = netip.AddrFrom16([16]byte{0xff, 2, 11: 1, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]})
		mac = net.HardwareAddr{0x33, 0x33, 0xff, b[13], b[14], b[15]}
	}
	ip := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: sender.AsSlice(), DstIP: to.AsSlice()}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborSolicitation, 0)}
	must(icmp.SetNetworkLayerForChecksum(ip))
	return serialize(&layers.Ethernet{SrcMAC: station, DstMAC: mac, EthernetType: layers.EthernetTypeIPv6}, ip, icmp,
		&layers.ICMPv6NeighborSolicitation{TargetAddress: target.AsSlice()})
}

// ARP is an ARP request for target, broadcast by a station.
func ARP(station net.HardwareAddr, sender, target netip.Addr) []byte {
	return serialize(
		&layers.Ethernet{SrcMAC: station, DstMAC: layers.EthernetBroadcast, EthernetType: layers.EthernetTypeARP},
		&layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4,
			HwAddressSize: 6, ProtAddressSize: 4, Operation: layers.ARPRequest,
			SourceHwAddress: station, SourceProtAddress: sender.AsSlice(),
			DstHwAddress: make([]byte, 6), DstProtAddress: target.AsSlice(),
		})
}

func serialize(stack ...gopacket.SerializableLayer) []byte {
	buf := gopacket.NewSerializeBuffer()
	must(gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, stack...))
	return buf.Bytes()
}

// must is for what fails only if the test itself is wrong.
func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("planetest: frame: %v", err))
	}
}
