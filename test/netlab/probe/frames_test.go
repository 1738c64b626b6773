package probe

import (
	"bytes"
	"encoding/hex"
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

var (
	vip    = netip.MustParseAddr("192.168.145.101")
	macOne = net.HardwareAddr{2, 0, 192, 168, 145, 10}
	macTwo = net.HardwareAddr{2, 0, 192, 168, 145, 1}
)

func TestWhoHas(t *testing.T) {
	const want = "ffffffffffff" + "0a5359010203" + "0806" +
		"0001" + "0800" + "06" + "04" + "0001" +
		"0a5359010203" + "00000000" + "000000000000" + "c0a89165"
	if got := hex.EncodeToString(whoHas(nil, 0x010203, vip)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// reply is what a director answers to whoHas, made by another hand.
func reply(t testing.TB, owner net.HardwareAddr, ip netip.Addr, to net.HardwareAddr) []byte {
	t.Helper()
	b := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{},
		&layers.Ethernet{SrcMAC: owner, DstMAC: to, EthernetType: layers.EthernetTypeARP},
		&layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
			Operation: layers.ARPReply, SourceHwAddress: owner, SourceProtAddress: ip.AsSlice(),
			DstHwAddress: to, DstProtAddress: []byte{0, 0, 0, 0},
		})
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestIsAt(t *testing.T) {
	good := reply(t, macOne, vip, asker(0x010203))
	owner, tick, ok := isAt(good, vip)
	if !ok || tick != 0x010203 || owner.String() != macOne.String() {
		t.Errorf("got %v, %#x, %v", owner, tick, ok)
	}
	for name, frame := range map[string][]byte{
		"cut short":          good[:41],
		"another address":    reply(t, macOne, netip.MustParseAddr("192.168.145.102"), asker(1)),
		"to somebody else":   reply(t, macOne, vip, macTwo),
		"our own question":   whoHas(nil, 1, vip),
		"not ARP":            append(bytes.Clone(good[:12]), append([]byte{8, 0}, good[14:]...)...),
		"nothing whatsoever": nil,
	} {
		if owner, tick, ok := isAt(frame, vip); ok {
			t.Errorf("%s: taken for an answer of %v to %d", name, owner, tick)
		}
	}
}

func FuzzIsAt(f *testing.F) {
	f.Add(reply(f, macOne, vip, asker(7)))
	f.Add(whoHas(nil, 7, vip))
	f.Fuzz(func(t *testing.T, frame []byte) {
		owner, tick, ok := isAt(frame, vip)
		if ok && (len(owner) != 6 || tick >= 1<<24) {
			t.Errorf("owner %v, tick %d", owner, tick)
		}
	})
}

// TestDatagram has another decoder read the frame and compute the checksums.
func TestDatagram(t *testing.T) {
	src, dst := netip.MustParseAddrPort("192.168.145.1:40000"), netip.AddrPortFrom(vip, 53)
	for n := range 64 { // odd and even lengths, many checksums
		payload := bytes.Repeat([]byte{byte(n), 0xff}, n)[:n]
		got := datagram(nil, macOne, macTwo, src, dst, payload)

		ip := &layers.IPv4{
			Version: 4, IHL: 5, TTL: 64, Protocol: layers.IPProtocolUDP, Flags: layers.IPv4DontFragment,
			SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice(),
		}
		udp := &layers.UDP{SrcPort: layers.UDPPort(src.Port()), DstPort: layers.UDPPort(dst.Port())}
		if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
		b := gopacket.NewSerializeBuffer()
		err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
			&layers.Ethernet{SrcMAC: macTwo, DstMAC: macOne, EthernetType: layers.EthernetTypeIPv4},
			ip, udp, gopacket.Payload(payload))
		if err != nil {
			t.Fatal(err)
		}
		want := b.Bytes()[:14+28+n] // without Ethernet's padding
		if !bytes.Equal(got, want) {
			t.Fatalf("%d bytes:\ngot  %x\nwant %x", n, got, want)
		}
	}
}
