package neighbour

import (
	"bytes"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"systole/test/netlab/selflan"
)

func TestSender(t *testing.T) {
	addr := func(cidr string, flags int) netlink.Addr {
		a, err := netlink.ParseAddr(cidr)
		must(t, err)
		a.Flags = flags
		return *a
	}
	for name, c := range map[string]struct {
		own  []netlink.Addr
		want string
	}{
		"none":                {nil, ""},
		"its subnet":          {[]netlink.Addr{addr("10.0.0.2/8", 0), addr("192.168.145.2/24", 0)}, "192.168.145.2"},
		"virtual, /32":        {[]netlink.Addr{addr("192.168.145.100/32", 0), addr("192.168.145.2/24", 0)}, "192.168.145.2"},
		"virtual, secondary":  {[]netlink.Addr{addr("192.168.145.100/24", unix.IFA_F_SECONDARY), addr("192.168.145.2/24", 0)}, "192.168.145.2"},
		"virtual only":        {[]netlink.Addr{addr("192.168.145.100/32", 0)}, ""},
		"other subnet":        {[]netlink.Addr{addr("192.168.146.2/24", 0)}, ""},
		"smallest subnet":     {[]netlink.Addr{addr("192.168.0.2/16", 0), addr("192.168.145.2/24", 0), addr("192.0.0.2/8", 0)}, "192.168.145.2"},
		"link of two (/31)":   {[]netlink.Addr{addr("192.168.145.10/31", 0)}, "192.168.145.10"},
		"IPv6":                {[]netlink.Addr{addr("2001:db8::2/64", 0)}, ""},
		"the target is ours":  {[]netlink.Addr{addr("192.168.145.11/24", 0)}, ""},
		"no address whatever": {[]netlink.Addr{{}}, ""},
	} {
		got, ok := sender(c.own, rs1)
		if ok != (c.want != "") || ok && got.String() != c.want {
			t.Errorf("%s: %v %v, want %q", name, got, ok, c.want)
		}
	}
}

func TestRequest(t *testing.T) {
	got, err := request(macA, netip.MustParseAddr("192.168.145.2"), rs1)
	must(t, err)
	want := "ffffffffffff" + "02000000000a" + "0806" + // Ethernet
		"0001" + "0800" + "06" + "04" + "0001" + // request
		"02000000000a" + "c0a89102" + "000000000000" + "c0a8910b"
	if !strings.HasPrefix(hex.EncodeToString(got), want) {
		t.Errorf("%x, want %s", got, want)
	}
	for _, pad := range got[len(want)/2:] {
		if pad != 0 {
			t.Errorf("padding is not zero: %x", got)
		}
	}
	if _, err := request(make(net.HardwareAddr, 20), netip.MustParseAddr("192.168.145.2"), rs1); err == nil {
		t.Error("asks from an InfiniBand address")
	}
	if _, err := request(macA, netip.MustParseAddr("2001:db8::2"), rs1); err == nil {
		t.Error("asks from an IPv6 address")
	}
}

// Where we cannot ask ourselves it is said once, not twenty times in a second.
func TestCannotRequest(t *testing.T) {
	selflan.New(t)
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	must(t, err)
	defer h.Close()
	var said bytes.Buffer
	r := newRequester(h, slog.New(slog.NewTextHandler(&said, nil)))
	defer r.close()
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	eth0, err := netlink.LinkByName("eth0")
	must(t, err)
	away := netip.MustParseAddr("10.0.0.1")
	for range 3 {
		r.request(away, path{ifindex: eth0.Attrs().Index, iface: "eth0"})
	}
	if got := said.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "no address of the interface is on its subnet") {
		t.Errorf("said %q", got)
	}
	for ifindex, want := range map[int]error{eth0.Attrs().Index: errNoSender, 999: nil, lo.Attrs().Index: nil} {
		if err := r.try(away, ifindex); err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("interface %d: %v, want %v", ifindex, err, want)
		}
	}
	must(t, netlink.LinkSetARPOff(eth0))
	if err := r.try(rs1, eth0.Attrs().Index); !errors.Is(err, errNoARP) {
		t.Errorf("without ARP: %v", err)
	}
}

// requests reads the ARP requests that reach h, and when.
type heard struct {
	at time.Time
	*arp.Packet
}

func requests(t *testing.T, h *selflan.Host) <-chan heard {
	t.Helper()
	var c *arp.Client
	h.Do(t, func() error {
		ifi, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		conn, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_ARP, nil)
		if err != nil {
			return err
		}
		c, err = arp.New(ifi, conn)
		return err
	})
	t.Cleanup(func() { c.Close() })
	out := make(chan heard, 10000)
	go func() {
		for {
			p, _, err := c.Read()
			if err != nil {
				return
			}
			if p.Operation == arp.OperationRequest {
				out <- heard{time.Now(), p}
			}
		}
	}()
	return out
}

// What is on the wire: an address that nobody has is asked for often, in the
// director's own name though it has a virtual address as well; one that is
// known is not asked for at all, and after the rush there is no hurry.
func TestRequestsOnTheWire(t *testing.T) {
	l := selflan.New(t)
	server := l.Host(t, "port1", "192.168.145.11/24")
	self, err := netlink.LinkByName("eth0")
	must(t, err)
	vip, err := netlink.ParseAddr("192.168.145.100/32")
	must(t, err)
	must(t, netlink.AddrAdd(self, vip))
	w := New(quiet(), nil)
	w.rush = time.Second
	said := watch(t, w, "192.168.145.11")
	expect(t, said, "192.168.145.11", server.MAC(t), "")
	seen := requests(t, server)
	begin := time.Now()
	follow(w, "192.168.145.11", "192.168.145.12")
	expect(t, said, "192.168.145.12", nil, "no answer to ARP on eth0")

	var hurried, late int
	for len(seen) > 0 {
		q := <-seen
		if q.SenderIP.String() != "192.168.145.2" || !bytes.Equal(q.SenderHardwareAddr, self.Attrs().HardwareAddr) {
			t.Errorf("asks as %s, %s", q.SenderIP, q.SenderHardwareAddr)
		}
		if q.TargetIP != rs2 {
			t.Errorf("asks for %s", q.TargetIP)
		}
		if q.at.Sub(begin) < w.rush+pace {
			hurried++
		} else {
			late++
		}
	}
	t.Logf("%d requests in the first second, %d later, until the kernel gave up after %v", hurried, late, time.Since(begin))
	// The kernel's own are 3, a second apart; a busy machine may leave out some of ours.
	if hurried < 8 || hurried > int(w.rush/pace)+3 {
		t.Errorf("%d requests in the first second", hurried)
	}
	if late > 4 {
		t.Errorf("%d requests after the rush", late)
	}
}
