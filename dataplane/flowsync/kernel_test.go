package flowsync

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"systole/dataplane"
	"systole/dataplane/ipvs"
)

// These tests need a kernel with IPVS and root, and run in namespaces of their
// own. Where CI has such a kernel (a virtual machine) it sets SYSTOLE_IPVS=1,
// and then they must not be skipped.

var (
	kernelVIP  = netip.MustParseAddr("192.168.145.101")
	kernelReal = netip.MustParseAddr("192.168.145.11")
	kernelWeb  = dataplane.ServiceKey{VIP: kernelVIP, Port: 80, Protocol: dataplane.TCP}
	kernelDNS  = dataplane.ServiceKey{VIP: kernelVIP, Port: 53, Protocol: dataplane.UDP}

	kernelReal6 = netip.MustParseAddr("2001:db8::11")
	kernelWeb6  = dataplane.ServiceKey{VIP: netip.MustParseAddr("2001:db8::101"), Port: 80, Protocol: dataplane.TCP}
	kernelDNS6  = dataplane.ServiceKey{VIP: kernelWeb6.VIP, Port: 53, Protocol: dataplane.UDP}
)

// beside is a kernel with IPVS in the test's namespace, and our socket in
// another one at the other end of a cable.
func beside(t *testing.T) *net.UDPConn {
	t.Helper()
	skip := t.Skip
	if os.Getenv("SYSTOLE_IPVS") == "1" {
		skip = t.Fatal
	}
	if os.Geteuid() != 0 {
		skip("needs root: network namespaces")
	}
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	ours, err := netns.New()
	if err != nil {
		skip("needs network namespaces:", err)
	}
	t.Cleanup(func() { ours.Close() })
	theirs, err := netns.New() // and this thread is in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { theirs.Close() })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "lan"}, PeerName: "far"}))
	up := func(name, cidr string) {
		t.Helper()
		l, err := netlink.LinkByName(name)
		must(err)
		a, err := netlink.ParseAddr(cidr)
		must(err)
		if a.IP.To4() == nil {
			a.Flags = unix.IFA_F_NODAD
		}
		must(netlink.AddrAdd(l, a))
		must(netlink.LinkSetUp(l))
	}
	far, err := netlink.LinkByName("far")
	must(err)
	must(netlink.LinkSetNsFd(far, int(ours)))
	up("lan", "192.168.145.2/24")
	up("lan", "2001:db8::2/64")
	up("lo", kernelVIP.String()+"/32")
	up("lo", kernelWeb6.VIP.String()+"/128")
	must(netns.Set(ours))
	up("far", "192.168.145.3/24")
	group := netip.MustParseAddrPort("224.0.0.81:8848")
	conn, _, err := newPath(Path{Interface: "far", Port: 8848, To: []netip.AddrPort{group}}, slog.New(slog.DiscardHandler)).open(context.Background())
	must(err)
	t.Cleanup(func() { conn.Close() })
	must(netns.Set(theirs))

	plane, err := ipvs.Open(ipvs.Config{Log: slog.New(slog.DiscardHandler)})
	if errors.Is(err, dataplane.ErrUnavailable) {
		skip("needs IPVS:", err)
	}
	must(err)
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 11}
	lan, err := netlink.LinkByName("lan")
	must(err)
	var snapshot dataplane.Snapshot
	for real, services := range map[netip.Addr][]dataplane.ServiceKey{kernelReal: {kernelWeb, kernelDNS}, kernelReal6: {kernelWeb6, kernelDNS6}} {
		snapshot.VIPs = append(snapshot.VIPs, dataplane.VIP{Addr: services[0].VIP, Role: dataplane.Active})
		for _, key := range services {
			snapshot.Services = append(snapshot.Services, dataplane.Service{
				ServiceKey: key, Scheduler: "rr", Servers: []dataplane.RealServer{{Addr: real, Weight: 1, MAC: mac}},
			})
		}
		must(netlink.NeighAdd(&netlink.Neigh{LinkIndex: lan.Attrs().Index, State: netlink.NUD_PERMANENT, IP: real.AsSlice(), HardwareAddr: mac}))
	}
	_, err = plane.Apply(snapshot)
	must(err)
	return conn
}

// startDaemon starts the kernel's master (1) or backup (2) daemon with sync id
// 3 (IPVS_CMD_NEW_DAEMON, include/uapi/linux/ip_vs.h).
func startDaemon(t *testing.T, role uint32) {
	t.Helper()
	family, err := netlink.GenlFamilyGet("IPVS")
	if err != nil {
		t.Fatal(err)
	}
	req := nl.NewNetlinkRequest(int(family.ID), unix.NLM_F_ACK)
	req.AddData(&nl.Genlmsg{Command: 9, Version: 1})
	daemon := nl.NewRtAttr(3|unix.NLA_F_NESTED, nil)
	daemon.AddRtAttr(1, nl.Uint32Attr(role))
	daemon.AddRtAttr(2, nl.ZeroTerminated("lan"))
	daemon.AddRtAttr(3, nl.Uint32Attr(3))
	req.AddData(daemon)
	if _, err := req.Execute(unix.NETLINK_GENERIC, 0); err != nil {
		t.Fatal(err)
	}
}

// kernelConns are the kernel's connections as /proc/net/ip_vs_conn has them.
func kernelConns(t *testing.T) map[string]bool {
	t.Helper()
	f, err := os.Open("/proc/thread-self/net/ip_vs_conn")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := make(map[string]bool)
	for s := bufio.NewScanner(f); s.Scan(); {
		if w := strings.Fields(s.Text()); len(w) >= 8 && w[0] != "Pro" {
			out[strings.Join(w[:8], " ")] = true
		}
	}
	return out
}

// conn is a flow as the kernel should list it.
func conn(f dataplane.Flow) string {
	a := func(a netip.Addr) string {
		if a.Is6() {
			return a.StringExpanded()
		}
		b := a.As4()
		return fmt.Sprintf("%08X", b[:])
	}
	state := f.State.String()
	if f.State == dataplane.FlowTemplate {
		state = "ASSURED"
	}
	return fmt.Sprintf("%s %s %04X %s %04X %s %04X %s", strings.ToUpper(f.Service.Protocol.String()),
		a(f.Client.Addr()), f.Client.Port(), a(f.Service.VIP), f.Service.Port, a(f.Server), f.Service.Port, state)
}

// Our flows, and templates, arrive in a kernel with a backup daemon, in spite of
// the trailer.
func TestToAKernelsBackupDaemon(t *testing.T) {
	socket := beside(t)
	startDaemon(t, 2)
	tab := newTable(true)
	want := make(map[string]bool)
	for i := range 200 {
		f := flow(i)
		f.Service, f.Server = kernelWeb, kernelReal
		dns := kernelDNS
		if i >= 100 {
			f.Client = netip.AddrPortFrom(netip.MustParseAddr(fmt.Sprintf("2001:db8:9::%x", i)), f.Client.Port())
			f.Service, f.Server, dns = kernelWeb6, kernelReal6, kernelDNS6
		}
		switch i % 4 {
		case 1:
			f.State = dataplane.FlowFin
		case 2:
			f.State = dataplane.FlowSyn
		case 3:
			f.Service, f.Port, f.State = dns, dns.Port, dataplane.FlowUDP
		}
		if i%10 == 9 { // what persistence remembers of a client
			f.Client = netip.AddrPortFrom(f.Client.Addr(), 0)
			f.Service.Port, f.Service.Protocol = kernelWeb.Port, kernelWeb.Protocol
			f.Port, f.State = 0, dataplane.FlowTemplate
		}
		tab.put(f)
		want[conn(f)] = true
	}
	core, err := New(testConfig(1), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	group := net.UDPAddrFromAddrPort(netip.MustParseAddrPort("224.0.0.81:8848"))
	var got map[string]bool
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end) && len(got) < len(want); time.Sleep(Period) {
		out, err := core.Tick(time.Now(), tab)
		if err != nil {
			t.Fatal(err)
		}
		for _, msg := range out {
			if _, err := socket.WriteTo(msg, group); err != nil {
				t.Fatal(err)
			}
		}
		got = kernelConns(t)
	}
	for c := range want {
		if !got[c] {
			t.Errorf("the kernel lacks %s", c)
		}
	}
	if t.Failed() {
		for c := range got {
			t.Log(c)
		}
	}
}

// A kernel's connections arrive here.
func TestFromAKernelsMasterDaemon(t *testing.T) {
	t.Run("IPv4", func(t *testing.T) { fromAKernel(t, kernelDNS, kernelReal) })
	t.Run("IPv6", func(t *testing.T) { fromAKernel(t, kernelDNS6, kernelReal6) })
}

func fromAKernel(t *testing.T, dns dataplane.ServiceKey, real netip.Addr) {
	socket := beside(t)
	startDaemon(t, 1)
	// The third packet of a flow is when the kernel tells of it.
	local, err := net.Dial("udp", netip.AddrPortFrom(dns.VIP, dns.Port).String())
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	for range 5 {
		if _, err := local.Write([]byte("question")); err != nil {
			t.Fatal(err)
		}
	}
	client := netip.MustParseAddrPort(local.LocalAddr().String())
	cfg := testConfig(1)
	cfg.Kernel = true
	core, err := New(cfg, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	tab := newTable(false)
	buf := make([]byte, 65536)
	if err := socket.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for len(tab.flows) == 0 {
		n, err := socket.Read(buf)
		if err != nil {
			t.Fatalf("no message of the kernel: %v; it has %v", err, kernelConns(t))
		}
		if err := core.Receive(time.Now(), buf[:n], tab); err != nil {
			t.Fatal(err)
		}
	}
	f := tab.flows[0]
	if f.Client != client || f.Service != dns || f.Server != real || f.State != dataplane.FlowUDP || f.Expires <= 0 || f.Expires > 300*time.Second {
		t.Errorf("%+v, want UDP from %v", f, client)
	}
}
