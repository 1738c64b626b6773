package selflan

import (
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// LAN is a switch with the director (this process) and other hosts plugged in.
type LAN struct {
	// Switch holds the bridge "br0" and the ports: "port0" is the director's.
	Switch *Host
}

// New is a LAN with the director alone, which has the interface "eth0" with
// 192.168.145.2/24, up, until the test ends.
func New(t testing.TB) *LAN {
	t.Helper()
	Need(t)
	l := &LAN{newHost(t)}
	Must(t, l.Switch.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}))
	l.Switch.up(t, "br0")
	self, err := netns.Get()
	Must(t, err)
	defer self.Close()
	here, err := netlink.NewHandle(syscall.NETLINK_ROUTE)
	Must(t, err)
	t.Cleanup(here.Close)
	director := &Host{here, self}
	l.plug(t, director, "port0", "192.168.145.2/24")
	ours := director.Eth0(t).Attrs().Index // no other eth0 may ever be deleted
	t.Cleanup(func() {
		if eth0, err := here.LinkByIndex(ours); err == nil {
			Must(t, here.LinkDel(eth0))
		}
	})
	return l
}

// Host plugs a new host into a new port of the switch. It has one interface,
// "eth0", up, with the address cidr, such as "192.168.145.11/24"; "" is none.
func (l *LAN) Host(t testing.TB, port, cidr string) *Host {
	t.Helper()
	h := newHost(t)
	l.plug(t, h, port, cidr)
	return h
}

// plug gives h an interface eth0 with an address, on a port of the switch.
func (l *LAN) plug(t testing.TB, h *Host, port, cidr string) {
	t.Helper()
	Must(t, l.Switch.LinkAdd(&netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: port},
		PeerName:      "eth0",
		PeerNamespace: netlink.NsFd(h.ns),
	}))
	br, err := l.Switch.LinkByName("br0")
	Must(t, err)
	p, err := l.Switch.LinkByName(port)
	Must(t, err)
	Must(t, l.Switch.LinkSetMaster(p, br))
	l.Switch.up(t, port)
	h.up(t, "eth0")
	if cidr != "" {
		h.address(t, cidr)
	}
}
