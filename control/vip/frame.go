package vip

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
)

var unknownMAC = net.HardwareAddr{0, 0, 0, 0, 0, 0}

// framesFor are the Ethernet frames, without FCS, that say ip is at mac.
func framesFor(mac net.HardwareAddr, ip netip.Addr) ([][]byte, error) {
	if ip.Is6() {
		f, err := advertisement(mac, ip)
		return [][]byte{f}, err
	}
	p, err := gratuitous(mac, ip)
	return [][]byte{p.request, p.reply}, err
}

// pair is one announcement: two Ethernet frames without FCS.
type pair struct{ request, reply []byte }

// gratuitous builds the pair that says ip is at mac, byte for byte what the
// real heartbeat sends. Both are broadcast, sender and target address are the
// same. The target hardware address differs: a request has none, as in an ARP
// announcement (RFC 5227 section 3); in a reply it must repeat the sender's
// (RFC 5944 section 4.6), or Linux does not take the frame for gratuitous and
// ignores it while the old entry is fresh (net/ipv4/arp.c, arp_is_garp).
func gratuitous(mac net.HardwareAddr, ip netip.Addr) (pair, error) {
	if len(mac) != 6 {
		return pair{}, fmt.Errorf("hardware address %q is not an Ethernet one", mac)
	}
	request, err := frame(arp.OperationRequest, mac, unknownMAC, ip)
	if err != nil {
		return pair{}, err
	}
	reply, err := frame(arp.OperationReply, mac, mac, ip)
	return pair{request, reply}, err
}

func frame(op arp.Operation, sender, target net.HardwareAddr, ip netip.Addr) ([]byte, error) {
	p, err := arp.NewPacket(op, sender, ip, target, ip)
	if err != nil {
		return nil, fmt.Errorf("announcing %s: %w", ip, err)
	}
	payload, err := p.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("announcing %s: %w", ip, err)
	}
	f := ethernet.Frame{
		Destination: ethernet.Broadcast,
		Source:      sender,
		EtherType:   ethernet.EtherTypeARP,
		Payload:     payload,
	}
	return f.MarshalBinary()
}
