package neighbour

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"systole/test/netlab/selflan"
)

// Another implementation writes the same, checksum included.
func TestSolicitation(t *testing.T) {
	from, target := netip.MustParseAddr("fe80::a"), netip.MustParseAddr("2001:db8::12:3456")
	f, err := solicitation(macA, from, target)
	must(t, err)
	eth := &layers.Ethernet{SrcMAC: macA, DstMAC: net.HardwareAddr{0x33, 0x33, 0xff, 0x12, 0x34, 0x56}, EthernetType: layers.EthernetTypeIPv6}
	ip := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: from.AsSlice(), DstIP: net.ParseIP("ff02::1:ff12:3456")}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborSolicitation, 0)}
	must(t, icmp.SetNetworkLayerForChecksum(ip))
	ns := &layers.ICMPv6NeighborSolicitation{TargetAddress: target.AsSlice(), Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: macA}}}
	b := gopacket.NewSerializeBuffer()
	must(t, gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, ip, icmp, ns))
	if !bytes.Equal(f, b.Bytes()) {
		t.Errorf("got  %x\nwant %x", f, b.Bytes())
	}
	if _, err := solicitation(macA[:4], from, target); err == nil {
		t.Error("asks from no Ethernet address")
	}
	if _, err := solicitation(macA, rs1, target); err == nil {
		t.Error("asks from an IPv4 address")
	}
}

func TestSender6(t *testing.T) {
	addr := func(cidr string, flags int) netlink.Addr {
		a, err := netlink.ParseAddr(cidr)
		must(t, err)
		a.Flags = flags
		return *a
	}
	virtual, own := addr("2001:db8::1/128", 0), addr("fe80::2/64", 0)
	if got, ok := sender6([]netlink.Addr{virtual, own}); !ok || got.String() != "fe80::2" {
		t.Errorf("%v %v", got, ok)
	}
	if got, ok := sender6([]netlink.Addr{virtual, addr("fe80::2/64", unix.IFA_F_TENTATIVE)}); ok {
		t.Errorf("asks from %v", got)
	}
}

// six gives an interface an IPv6 address that is usable at once.
func six(t *testing.T, add func(netlink.Link, *netlink.Addr) error, eth0 netlink.Link, cidr string) {
	t.Helper()
	a, err := netlink.ParseAddr(cidr)
	must(t, err)
	a.Flags = unix.IFA_F_NODAD
	must(t, add(eth0, a))
}

// A server with an IPv6 address is found, and so is the router to another.
func TestNeighbourDiscovery(t *testing.T) {
	l := selflan.New(t)
	server := l.Host(t, "port1", "192.168.145.11/24")
	self, err := netlink.LinkByName("eth0")
	must(t, err)
	six(t, netlink.AddrAdd, self, "2001:db8::2/64")
	six(t, server.AddrAdd, server.Eth0(t), "2001:db8::11/64")

	w := New(quiet(), nil)
	said := watch(t, w, "2001:db8::11")
	expect(t, said, "2001:db8::11", server.MAC(t), "")

	must(t, netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP("2001:db8::11"), Dst: &net.IPNet{IP: net.ParseIP("2001:db8:1::"), Mask: net.CIDRMask(64, 128)}}))
	follow(w, "2001:db8:1::5")
	expectVia(t, said, "2001:db8:1::5", server.MAC(t), "2001:db8::11")
}

// The router's MAC address is that of all servers behind it, and a new one
// concerns them all.
func TestBehindARouter(t *testing.T) {
	l := selflan.New(t)
	router := l.Host(t, "port1", "192.168.145.1/24")
	must(t, netlink.RouteAdd(&netlink.Route{Gw: net.IPv4(192, 168, 145, 1)}))
	w := New(quiet(), nil)
	said := watch(t, w, "10.9.8.7")
	expectVia(t, said, "10.9.8.7", router.MAC(t), "192.168.145.1")
	follow(w, "10.9.8.7", "10.9.8.8")
	expectVia(t, said, "10.9.8.8", router.MAC(t), "192.168.145.1")

	here(t, "net/ipv4/neigh/eth0/locktime", "0")
	router.Sysctl(t, "net/ipv4/conf/eth0/arp_notify", "1")
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 0xbb}
	setMAC(t, router, mac)
	expectVia(t, said, "10.9.8.7", mac, "192.168.145.1")
	expectVia(t, said, "10.9.8.8", mac, "192.168.145.1")
}

func expectVia(t *testing.T, said <-chan Update, addr string, mac net.HardwareAddr, via string) {
	t.Helper()
	u := <-said
	if u.Addr.String() != addr || !bytes.Equal(u.MAC, mac) || u.Via.String() != via {
		t.Fatalf("said %+v, want %s at %v by %s", u, addr, mac, via)
	}
}
