package planetest

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"systole/dataplane"
)

// Frame is an Ethernet frame with an IPv4 packet of a client.
type Frame struct {
	Dst, Src net.HardwareAddr
	From, To netip.AddrPort
	Protocol dataplane.Protocol // TCP, UDP, or any other without a header
	Flags    string             // TCP: letters of "SAFRP"
	Options  []byte             // of IP, in multiples of 4 bytes
	MF       bool               // more fragments
	Offset   uint16             // fragment offset, in units of 8 bytes
	Payload  int                // bytes of transport payload
}

// Opens tells whether the frame begins a connection: a bare SYN, or any UDP.
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
	switch f.Protocol {
	case dataplane.TCP:
		n += 20
	case dataplane.UDP:
		n += 8
	}
	return n
}

// Bytes is the frame on the wire, without padding, with correct checksums.
func (f Frame) Bytes() []byte {
	ip := &layers.IPv4{
		Version:    4,
		TTL:        64,
		Protocol:   layers.IPProtocol(f.Protocol),
		SrcIP:      f.From.Addr().AsSlice(),
		DstIP:      f.To.Addr().AsSlice(),
		FragOffset: f.Offset,
	}
	if f.MF {
		ip.Flags = layers.IPv4MoreFragments
	}
	for rest := f.Options; len(rest) >= 4; rest = rest[4:] {
		ip.Options = append(ip.Options, layers.IPv4Option{OptionType: rest[0], OptionLength: 4, OptionData: rest[2:4]})
	}
	stack := []gopacket.SerializableLayer{
		&layers.Ethernet{SrcMAC: f.Src, DstMAC: f.Dst, EthernetType: layers.EthernetTypeIPv4}, ip,
	}
	switch f.Protocol {
	case dataplane.TCP:
		tcp := &layers.TCP{
			SrcPort: layers.TCPPort(f.From.Port()), DstPort: layers.TCPPort(f.To.Port()), Window: 1024,
			SYN: strings.Contains(f.Flags, "S"), ACK: strings.Contains(f.Flags, "A"),
			FIN: strings.Contains(f.Flags, "F"), RST: strings.Contains(f.Flags, "R"),
			PSH: strings.Contains(f.Flags, "P"),
		}
		must(tcp.SetNetworkLayerForChecksum(ip))
		stack = append(stack, tcp)
	case dataplane.UDP:
		udp := &layers.UDP{SrcPort: layers.UDPPort(f.From.Port()), DstPort: layers.UDPPort(f.To.Port())}
		must(udp.SetNetworkLayerForChecksum(ip))
		stack = append(stack, udp)
	}
	return serialize(append(stack, gopacket.Payload(make([]byte, f.Payload)))...)
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
