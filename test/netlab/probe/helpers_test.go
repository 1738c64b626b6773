package probe_test

import (
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

func hostAddr(a netip.Addr) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)}}
}
