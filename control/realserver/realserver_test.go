package realserver_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"systole/control/realserver"
	"systole/test/netlab"
)

var vip = netip.MustParseAddr("192.168.145.101")

// onHost gives a machine of its own to break.
func onHost(t *testing.T) *netlab.Host {
	t.Helper()
	_, h := onLAN(t)
	return h
}

// onLAN puts it on a LAN for more.
func onLAN(t *testing.T) (*netlab.Lab, *netlab.Host) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("SYSTOLE_CI") == "1" {
			t.Fatal("network namespaces need root")
		}
		t.Skip("network namespaces need root")
	}
	lab, err := netlab.New(fmt.Sprintf("rs-%d", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	h, err := lab.AddHost("server1", netip.MustParsePrefix("192.168.145.200/24"))
	if err != nil {
		t.Fatal(err)
	}
	return lab, h
}

// wrong returns the items that are not OK.
func wrong(t *testing.T, h *netlab.Host) []realserver.Item {
	t.Helper()
	var bad []realserver.Item
	err := h.Do(func() error {
		items, err := realserver.Check(vip)
		for _, i := range items {
			if !i.OK {
				bad = append(bad, i)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return bad
}

func setup(h *netlab.Host, iface string) (a *realserver.Applied, err error) {
	err = h.Do(func() error {
		a, err = realserver.Setup(vip, iface)
		return err
	})
	return a, err
}

func address(t *testing.T, h *netlab.Host, iface string, bits int, add bool) {
	t.Helper()
	l, err := h.Netlink().LinkByName(iface)
	if err != nil {
		t.Fatal(err)
	}
	a := &netlink.Addr{IPNet: &net.IPNet{IP: vip.AsSlice(), Mask: net.CIDRMask(bits, 32)}}
	if add {
		err = h.Netlink().AddrAdd(l, a)
	} else {
		err = h.Netlink().AddrDel(l, a)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestSetupCheckUndo(t *testing.T) {
	h := onHost(t)
	if bad := wrong(t, h); len(bad) != 5 {
		t.Fatalf("a fresh machine: %d items are wrong, want 5: %v", len(bad), bad)
	}
	a, err := setup(h, realserver.Loopback)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Changes) != 5 {
		t.Errorf("changes: %q", a.Changes)
	}
	if bad := wrong(t, h); len(bad) != 0 {
		t.Fatalf("after Setup: %v", bad)
	}
	again, err := setup(h, realserver.Loopback)
	if err != nil || len(again.Changes) != 0 {
		t.Errorf("Setup again: %v, changes %q", err, again.Changes)
	}
	if err := h.Do(again.Undo); err != nil {
		t.Error(err)
	}
	if bad := wrong(t, h); len(bad) != 0 {
		t.Errorf("undoing nothing undid %v", bad)
	}
	for range 2 {
		if err := h.Do(a.Undo); err != nil {
			t.Fatal(err)
		}
	}
	if bad := wrong(t, h); len(bad) != 5 {
		t.Errorf("after Undo %d items are wrong, want 5", len(bad))
	}
}

// Each fault is found by itself, and its fix names the command.
func TestCheckSaysWhatIsWrong(t *testing.T) {
	h := onHost(t)
	if _, err := setup(h, realserver.Loopback); err != nil {
		t.Fatal(err)
	}
	lo, err := h.Netlink().LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name        string
		break_, fix func()
		want        string
	}{
		{"arp_ignore",
			func() { sysctl(t, h, "net.ipv4.conf.all.arp_ignore", "0") },
			func() { sysctl(t, h, "net.ipv4.conf.all.arp_ignore", "1") },
			"WRONG  net.ipv4.conf.all.arp_ignore = 1: it is 0; fix: sysctl -w net.ipv4.conf.all.arp_ignore=1"},
		{"arp_announce",
			func() { sysctl(t, h, "net.ipv4.conf.lo.arp_announce", "1") },
			func() { sysctl(t, h, "net.ipv4.conf.lo.arp_announce", "2") },
			"WRONG  net.ipv4.conf.lo.arp_announce = 2: it is 1; fix: sysctl -w net.ipv4.conf.lo.arp_announce=2"},
		{"no address",
			func() { address(t, h, "lo", 32, false) },
			func() { address(t, h, "lo", 32, true) },
			"WRONG  192.168.145.101/32 on lo: no interface has the address; fix: ip addr add 192.168.145.101/32 dev lo"},
		{"address on the NIC too",
			func() { address(t, h, "eth0", 32, true) },
			func() { address(t, h, "eth0", 32, false) },
			"WRONG  192.168.145.101/32 on lo: eth0 has it as /32, so this server answers ARP for it in the director's place; fix: ip addr del 192.168.145.101/32 dev eth0 && ip addr add 192.168.145.101/32 dev lo"},
		{"too wide",
			func() { address(t, h, "lo", 32, false); address(t, h, "lo", 24, true) },
			func() { address(t, h, "lo", 24, false); address(t, h, "lo", 32, true) },
			"WRONG  192.168.145.101/32 on lo: lo has it as /24, which makes the whole prefix local: the clients in it get no answer; fix: ip addr del 192.168.145.101/24 dev lo && ip addr add 192.168.145.101/32 dev lo"},
		{"lo down",
			func() { check(t, h.Netlink().LinkSetDown(lo)) },
			func() { check(t, h.Netlink().LinkSetUp(lo)) },
			"WRONG  interface lo is up: it is down; fix: ip link set lo up"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.break_()
			bad := wrong(t, h)
			if len(bad) != 1 || bad[0].String() != tc.want {
				t.Errorf("got  %v\nwant %s", bad, tc.want)
			}
			tc.fix()
			if bad := wrong(t, h); len(bad) != 0 {
				t.Errorf("after the fix: %v", bad)
			}
		})
	}
}

// A set-up that cannot be made whole changes nothing.
func TestSetupRefuses(t *testing.T) {
	h := onHost(t)
	before := wrong(t, h)
	if _, err := setup(h, "eth0"); !errors.Is(err, realserver.ErrOnNIC) {
		t.Errorf("on the NIC: %v, want ErrOnNIC", err)
	}
	if _, err := setup(h, "eth9"); err == nil || !strings.Contains(err.Error(), "eth9") {
		t.Errorf("on no interface: %v", err)
	}
	address(t, h, "eth0", 24, true)
	if _, err := setup(h, "lo"); !errors.Is(err, realserver.ErrOnNIC) || !strings.Contains(err.Error(), "ip addr del 192.168.145.101/24 dev eth0") {
		t.Errorf("while the NIC has it: %v", err)
	}
	address(t, h, "eth0", 24, false)
	if after := wrong(t, h); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("before %v\nafter %v", before, after)
	}
}

func TestBadAddresses(t *testing.T) {
	for _, a := range []string{"127.0.0.1", "224.0.0.1", "0.0.0.0", "255.255.255.255", "fe80::1", "::1", "ff02::1", "::", "::ffff:192.168.145.101", "2001:db8::1%eth0"} {
		if _, err := realserver.Check(netip.MustParseAddr(a)); !errors.Is(err, realserver.ErrAddress) {
			t.Errorf("Check(%s): %v, want ErrAddress", a, err)
		}
		if _, err := realserver.Setup(netip.MustParseAddr(a), "lo"); !errors.Is(err, realserver.ErrAddress) {
			t.Errorf("Setup(%s): %v, want ErrAddress", a, err)
		}
	}
	if _, err := realserver.Check(netip.Addr{}); !errors.Is(err, realserver.ErrAddress) {
		t.Errorf("Check of nothing: %v", err)
	}
}

// A real server has an IPv6 address and keeps still about it: who asks the LAN
// for it learns nothing, but reaches it when the frame is addressed to it.
func TestIPv6(t *testing.T) {
	lab, h := onLAN(t)
	vip6, own := netip.MustParseAddr("fd00:145::101"), netip.MustParseAddr("fd00:145::200")
	eth0, err := h.Netlink().LinkByName("eth0")
	check(t, err)
	at := &netlink.Addr{IPNet: &net.IPNet{IP: own.AsSlice(), Mask: net.CIDRMask(64, 128)}, Flags: unix.IFA_F_NODAD}
	check(t, h.Netlink().AddrAdd(eth0, at))
	bad := func() (bad []realserver.Item) {
		check(t, h.Do(func() error {
			items, err := realserver.Check(vip6)
			for _, i := range items {
				if !i.OK {
					bad = append(bad, i)
				}
			}
			return err
		}))
		return bad
	}
	const missing = "WRONG  fd00:145::101/128 on lo: no interface has the address; fix: ip addr add fd00:145::101/128 dev lo nodad preferred_lft 0"
	sysctl(t, h, "net.ipv6.conf.lo.disable_ipv6", "1")
	if b := bad(); len(b) != 2 || b[0].String() != missing || b[1].Fix != "sysctl -w net.ipv6.conf.lo.disable_ipv6=0" {
		t.Fatalf("a fresh machine: %v", b)
	}
	var a *realserver.Applied
	check(t, h.Do(func() (err error) { a, err = realserver.Setup(vip6, realserver.Loopback); return err }))
	if b := bad(); len(b) != 0 || len(a.Changes) != 2 {
		t.Fatalf("after Setup: %v, changes %q", b, a.Changes)
	}

	client, err := lab.AddHost("client", netip.MustParsePrefix("192.168.145.1/24"))
	check(t, err)
	nic, err := client.Netlink().LinkByName("eth0")
	check(t, err)
	check(t, client.Netlink().AddrAdd(nic, &netlink.Addr{
		IPNet: &net.IPNet{IP: net.ParseIP("fd00:145::1"), Mask: net.CIDRMask(64, 128)}, Flags: unix.IFA_F_NODAD,
	}))
	resolved := func(a netip.Addr) net.HardwareAddr {
		list, err := client.Netlink().NeighList(nic.Attrs().Index, netlink.FAMILY_V6)
		check(t, err)
		for _, n := range list {
			if n.IP.Equal(a.AsSlice()) {
				return n.HardwareAddr
			}
		}
		return nil
	}
	for end := time.Now().Add(10 * time.Second); resolved(own) == nil; time.Sleep(50 * time.Millisecond) {
		for _, a := range []netip.Addr{vip6, own} { // the virtual address is asked for first
			check(t, client.Do(func() error {
				c, err := net.DialUDP("udp6", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 9)))
				if err != nil {
					return err
				}
				_, _ = c.Write([]byte("who has it")) // refused, perhaps
				return c.Close()
			}))
		}
		if time.Now().After(end) {
			t.Fatal("the server does not answer for its own address")
		}
	}
	if mac := resolved(vip6); mac != nil {
		t.Errorf("the server says that %s is at %s", vip6, mac)
	}
	check(t, h.Do(a.Undo))
	if b := bad(); len(b) != 2 {
		t.Errorf("after Undo: %v", b)
	}
}

func TestPersist6(t *testing.T) {
	const want = `# /etc/sysctl.d/60-systole-real-server.conf
net.ipv6.conf.lo.disable_ipv6 = 0
# /etc/network/interfaces.d/systole-vip
iface lo inet6 static
    address fd00:145::101/128
    dad-attempts 0
    preferred-lifetime 0
`
	if got := realserver.Persist(netip.MustParseAddr("fd00:145::101")); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestPersist(t *testing.T) {
	const want = `# /etc/sysctl.d/60-systole-real-server.conf
net.ipv4.conf.all.arp_ignore = 1
net.ipv4.conf.all.arp_announce = 2
net.ipv4.conf.lo.arp_ignore = 1
net.ipv4.conf.lo.arp_announce = 2
# /etc/network/interfaces.d/systole-vip
auto lo:vip101
iface lo:vip101 inet static
    address 192.168.145.101/32
`
	if got := realserver.Persist(vip); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func sysctl(t *testing.T, h *netlab.Host, key, value string) {
	t.Helper()
	check(t, h.SetSysctl(key, value))
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
