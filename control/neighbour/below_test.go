package neighbour

import (
	"errors"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"systole/test/need"
)

// What an interface is made of: a VLAN on a bridge port, and the bridge.
func TestInterfacesBelow(t *testing.T) {
	need.Root(t, "network namespaces")
	runtime.LockOSThread() // and the thread ends with the test
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	add := func(l netlink.Link, cidr string) {
		t.Helper()
		if err := h.LinkAdd(l); err != nil {
			t.Fatal(err)
		}
		if err := h.LinkSetUp(l); err != nil {
			t.Fatal(err)
		}
		if cidr == "" {
			return
		}
		ip, n, err := net.ParseCIDR(cidr)
		if err != nil {
			t.Fatal(err)
		}
		n.IP = ip
		if err := h.AddrAdd(l, &netlink.Addr{IPNet: n}); err != nil {
			t.Fatal(err)
		}
	}
	a := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "sysnba"}, PeerName: "sysnbax"}
	b := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "sysnbb"}, PeerName: "sysnbbx"}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "sysnbr"}}
	add(a, "10.11.0.1/24")
	add(b, "")
	add(bridge, "10.12.0.1/24")
	if err := h.LinkSetMaster(b, bridge); err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		"10.11.0.2": {"sysnba"},
		"10.12.0.2": {"sysnbr", "sysnbb"},
		"10.99.0.2": nil, // no route
	}
	tagged := &netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: "sysnba.7", ParentIndex: a.Attrs().Index}, VlanId: 7}
	if err := h.LinkAdd(tagged); errors.Is(err, unix.EOPNOTSUPP) {
		t.Log("this kernel has no VLANs")
	} else if err != nil {
		t.Fatal(err)
	} else {
		if err := h.LinkDel(tagged); err != nil {
			t.Fatal(err)
		}
		add(&netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: "sysnba.7", ParentIndex: a.Attrs().Index}, VlanId: 7}, "10.13.0.1/24")
		add(&netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: "sysnbr.8", ParentIndex: bridge.Attrs().Index}, VlanId: 8}, "10.14.0.1/24")
		want["10.13.0.2"] = []string{"sysnba.7", "sysnba"}
		want["10.14.0.2"] = []string{"sysnbr.8", "sysnbr", "sysnbb"}
	}
	for addr, want := range want {
		if got := lookup(h, netip.MustParseAddr(addr)).interfaces(); !slices.Equal(got, want) {
			t.Errorf("%s is reached by %q, want %q", addr, got, want)
		}
	}
}
