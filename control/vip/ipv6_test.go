package vip

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"systole/test/netlab/selflan"
)

var vip6 = Addr{netip.MustParseAddr("2001:db8::101"), 128, "eth0"}

// Another implementation reads it, checks its checksum, and writes the same.
func TestAdvertisement(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	f, err := advertisement(mac, vip6.IP)
	must(t, err)
	eth := &layers.Ethernet{SrcMAC: mac, DstMAC: allNodesMAC, EthernetType: layers.EthernetTypeIPv6}
	ip := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: vip6.IP.AsSlice(), DstIP: allNodes.AsSlice()}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborAdvertisement, 0)}
	must(t, icmp.SetNetworkLayerForChecksum(ip))
	na := &layers.ICMPv6NeighborAdvertisement{
		Flags: 0x20, TargetAddress: vip6.IP.AsSlice(),
		Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: mac}},
	}
	b := gopacket.NewSerializeBuffer()
	must(t, gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, ip, icmp, na))
	if !bytes.Equal(f, b.Bytes()) {
		t.Errorf("got  %x\nwant %x", f, b.Bytes())
	}
	for _, c := range []struct {
		mac net.HardwareAddr
		ip  string
	}{{mac[:4], "2001:db8::1"}, {mac, "192.0.2.1"}, {mac, "::ffff:192.0.2.1"}} {
		if _, err := advertisement(c.mac, netip.MustParseAddr(c.ip)); err == nil {
			t.Errorf("%v %s: no error", c.mac, c.ip)
		}
	}
}

// The address is there, usable at once, without a route, and never the source
// of what the machine says by itself.
func TestAddDelIPv6(t *testing.T) {
	selflan.New(t)
	m := New(quiet(), 0)
	defer m.Close()
	eth0, err := netlink.LinkByName("eth0")
	must(t, err)
	own, err := netlink.ParseAddr("2001:db8::2/64")
	must(t, err)
	own.Flags = unix.IFA_F_NODAD
	must(t, netlink.AddrAdd(eth0, own))
	must(t, m.Add(vip6))
	must(t, m.Add(vip6))
	if there, err := m.Present(vip6); err != nil || !there {
		t.Fatalf("present: %v, %v", there, err)
	}
	addrs, err := netlink.AddrList(eth0, netlink.FAMILY_V6)
	must(t, err)
	for _, a := range addrs {
		if !a.IP.Equal(vip6.IP.AsSlice()) {
			continue
		}
		if ones, _ := a.Mask.Size(); ones != 128 || a.Flags&unix.IFA_F_TENTATIVE != 0 || a.Flags&unix.IFA_F_DEPRECATED == 0 {
			t.Errorf("/%d, flags %#x: want /128, not tentative, deprecated", ones, a.Flags)
		}
	}
	// A neighbour that the VIP has more bits in common with than our own address.
	routes, err := netlink.RouteGet(net.ParseIP("2001:db8::102"))
	must(t, err)
	if !routes[0].Src.Equal(own.IP) {
		t.Errorf("speaks from %s, want %s", routes[0].Src, own.IP)
	}
	must(t, m.Del(vip6))
	must(t, m.Del(vip6))
	if there, err := m.Present(vip6); err != nil || there {
		t.Errorf("after Del present: %v, %v", there, err)
	}
	if all, err := netlink.AddrList(eth0, netlink.FAMILY_V6); err != nil || len(all) == 0 {
		t.Errorf("left: %v, %v", all, err)
	}
}

func TestNoIPv6OnTheInterface(t *testing.T) {
	selflan.New(t)
	must(t, os.WriteFile("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", []byte("1"), 0))
	m := New(quiet(), 0)
	defer m.Close()
	err := m.Add(vip6)
	if err == nil || !bytes.Contains([]byte(err.Error()), []byte("net.ipv6.conf.eth0.disable_ipv6")) {
		t.Errorf("%v", err)
	}
}

// A client that has the address at another machine believes the announcement.
func TestAnnounceIPv6(t *testing.T) {
	l := selflan.New(t)
	client := l.Host(t, "port1", "192.168.145.10/24")
	sniff(t, client) // frames get through from here on
	eth0 := client.Eth0(t)
	stale := net.HardwareAddr{2, 0, 0, 0, 0, 9}
	must(t, client.NeighSet(&netlink.Neigh{
		LinkIndex: eth0.Attrs().Index, Family: unix.AF_INET6, State: netlink.NUD_REACHABLE, IP: vip6.IP.AsSlice(), HardwareAddr: stale,
	}))
	var heard *packet.Conn
	client.Do(t, func() (err error) {
		heard, err = packet.Listen(&net.Interface{Index: eth0.Attrs().Index}, packet.Raw, unix.ETH_P_IPV6, nil)
		return err
	})
	defer heard.Close()
	m := New(quiet(), 0)
	defer m.Close()
	must(t, m.Add(vip6))
	m.Announce(vip6)
	self, err := netlink.LinkByName("eth0")
	must(t, err)
	want, err := advertisement(self.Attrs().HardwareAddr, vip6.IP)
	must(t, err)
	must(t, heard.SetReadDeadline(time.Now().Add(5*time.Second)))
	for b := make([]byte, 1514); ; {
		n, _, err := heard.ReadFrom(b)
		if err != nil {
			t.Fatalf("no advertisement: %v", err)
		}
		if bytes.Equal(b[:n], want) {
			break
		}
	}
	for end := time.Now().Add(5 * time.Second); ; {
		list, err := client.NeighList(eth0.Attrs().Index, netlink.FAMILY_V6)
		must(t, err)
		for _, n := range list {
			if n.IP.Equal(vip6.IP.AsSlice()) && bytes.Equal(n.HardwareAddr, self.Attrs().HardwareAddr) {
				return
			}
		}
		if time.Now().After(end) {
			t.Fatalf("the client has %v", list)
		}
	}
}
