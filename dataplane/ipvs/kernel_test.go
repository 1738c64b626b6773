package ipvs

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"systole/dataplane"
)

// These tests need a kernel with IPVS and root, and run in a namespace of
// their own. Where CI has such a kernel (a virtual machine) it sets
// SYSTOLE_IPVS=1, and then they must not be skipped.

// counting counts the commands that go to the real kernel.
type counting struct {
	kernel
	count int
}

func (c *counting) do(o op) error { c.count++; return c.kernel.do(o) }

// realPlane is a plane on the real kernel, in a namespace that ends with the
// test's thread.
func realPlane(t *testing.T) (*Plane, *counting) {
	t.Helper()
	runtime.LockOSThread() // and never unlocked: the thread is not reused
	skip := t.Skip
	if os.Getenv("SYSTOLE_IPVS") == "1" {
		skip = t.Fatal
	}
	if os.Geteuid() != 0 {
		skip("needs root: network namespaces")
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		skip("needs network namespaces:", err)
	}
	k, err := openKernel()
	if errors.Is(err, dataplane.ErrUnavailable) {
		skip("needs IPVS:", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.close)
	network(t)
	c := &counting{kernel: k}
	p := plane(c)
	return p, c
}

// network gives the namespace a LAN with the VIP on it. IPVS takes no servers
// where there is no network at all.
func network(t *testing.T) {
	t.Helper()
	lan := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "lan"}}
	if err := netlink.LinkAdd(lan); err != nil {
		t.Fatal(err)
	}
	for _, cidr := range []string{"192.168.145.2/24", vip.String() + "/32"} {
		a, err := netlink.ParseAddr(cidr)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.AddrAdd(lan, a); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"lo", "lan"} {
		l, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(l); err != nil {
			t.Fatal(err)
		}
	}
}

func list(t *testing.T, p *Plane) string {
	t.Helper()
	table, err := p.Table()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := List(&b, table); err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(b.String(), "InActConn\n")
	return body
}

// Without IPVS the error must say what to do.
func TestUnavailable(t *testing.T) {
	p, err := Open(Config{})
	if err == nil {
		p.Close()
		t.Skip("this kernel has IPVS")
	}
	if !errors.Is(err, dataplane.ErrUnavailable) || !strings.Contains(err.Error(), "modprobe ip_vs") && os.Geteuid() == 0 {
		t.Errorf("error %v", err)
	}
}

func TestKernelApply(t *testing.T) {
	p, k := realPlane(t)
	v6, rs6 := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::11")
	s := snapshot(service(80, [2]int{1, 1}, [2]int{2, 65535}, [2]int{3, 0}))
	s.Services[0].Scheduler = "wrr"
	s.VIPs = append(s.VIPs, dataplane.VIP{Addr: v6, Role: dataplane.Active})
	s.Services = append(s.Services,
		dataplane.Service{
			ServiceKey: dataplane.ServiceKey{VIP: vip, Port: 53, Protocol: dataplane.UDP}, Scheduler: "rr",
			Servers: []dataplane.RealServer{{Addr: real(1), Weight: 1}, {Addr: netip.MustParseAddr("127.0.0.1"), Weight: 1}},
		},
		dataplane.Service{
			ServiceKey: dataplane.ServiceKey{VIP: v6, Port: 443, Protocol: dataplane.TCP}, Scheduler: "rr",
			Servers: []dataplane.RealServer{{Addr: rs6, Weight: 1}},
		})
	apply(t, p, s)
	got := list(t, p)
	want := `TCP  192.168.145.101:80 wrr
  -> 192.168.145.11:80            Route   1      0          0         
  -> 192.168.145.12:80            Route   65535  0          0         
  -> 192.168.145.13:80            Route   0      0          0         
UDP  192.168.145.101:53 rr
  -> 127.0.0.1:53                 Route   1      0          0         
  -> 192.168.145.11:53            Route   1      0          0         
TCP  [2001:db8::1]:443 rr
  -> [2001:db8::11]:443           Route   1      0          0         
`
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	n := k.count
	apply(t, p, s)
	if k.count != n {
		t.Errorf("the same again took %d commands", k.count-n)
	}
	s.Services = s.Services[:1]
	s.Services[0].Scheduler = "rr"
	s.Services[0].Servers = s.Services[0].Servers[1:]
	s.Services[0].Servers[0].Weight = 0
	s.Services[0].Servers[1].Weight = 7
	apply(t, p, s)
	want = `TCP  192.168.145.101:80 rr
  -> 192.168.145.12:80            Route   0      0          0         
  -> 192.168.145.13:80            Route   7      0          0         
`
	if got := list(t, p); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func TestKernelForeignAndTakenOver(t *testing.T) {
	p, k := realPlane(t)
	foreign := service(8080, [2]int{9, 4})
	foreign.Flags, foreign.Timeout, foreign.Netmask = Persistent, 600, wholeMask(vip)
	foreign.Servers[0].Forward, foreign.Servers[0].Upper, foreign.Servers[0].Lower = Masq, 100, 50
	mark := Service{
		Key: dataplane.ServiceKey{VIP: netip.IPv4Unspecified()}, FWMark: 7, Scheduler: "wrr", Netmask: wholeMask(vip),
		Servers: []Server{{Addr: netip.AddrPortFrom(real(1), 0), Forward: Tunnel, Weight: 2}},
	}
	mine := service(80, [2]int{1, 1}, [2]int{2, 1})
	mine.Flags, mine.Timeout = Persistent, 300
	mine.Servers[1].Forward = Masq
	for _, o := range diff(nil, []Service{foreign, mark, mine}) {
		if err := k.do(o); err != nil {
			t.Fatal(o, err)
		}
	}
	apply(t, p, snapshot(service(80, [2]int{2, 1}, [2]int{3, 1})))
	want := text([]Service{foreign, mark, service(80, [2]int{2, 1}, [2]int{3, 1})})
	all, err := k.services()
	if err != nil {
		t.Fatal(err)
	}
	if got := text(all); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestKernelRefuses(t *testing.T) {
	p, _ := realPlane(t)
	apply(t, p, snapshot(service(80, [2]int{1, 1})))
	before := list(t, p)
	bad := snapshot(service(80, [2]int{2, 1}), service(81, [2]int{1, 1}))
	bad.Services[1].Scheduler = "nosuch"
	_, err := p.Apply(bad)
	if err == nil || !strings.Contains(err.Error(), `no scheduler "nosuch" (modprobe ip_vs_nosuch)`) || errors.Is(err, ErrHalfway) {
		t.Errorf("error %v", err)
	}
	if got := list(t, p); got != before {
		t.Errorf("got\n%swant\n%s", got, before)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// Datagrams to the VIP from this host count as connections.
func TestKernelStats(t *testing.T) {
	p, _ := realPlane(t)
	key := dataplane.ServiceKey{VIP: vip, Port: 53, Protocol: dataplane.UDP}
	apply(t, p, dataplane.Snapshot{
		VIPs: []dataplane.VIP{{Addr: vip, Role: dataplane.Active}},
		Services: []dataplane.Service{{ServiceKey: key, Scheduler: "rr", Servers: []dataplane.RealServer{
			{Addr: real(1), Weight: 1}, {Addr: real(2), Weight: 1},
		}}},
	})
	for range 10 {
		c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(vip, 53)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	var st dataplane.Stats
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		var err error
		if st, err = p.Stats(); err != nil {
			t.Fatal(err)
		}
		if st.Services[key].Connections == 10 {
			break
		}
	}
	want := dataplane.Counters{Packets: 10, Bytes: 290, Connections: 10}
	if st.Services[key] != want || st.Flows != 10 {
		t.Errorf("service %+v, want %+v; %d flows", st.Services[key], want, st.Flows)
	}
	for n := 1; n <= 2; n++ {
		want := dataplane.Counters{Packets: 5, Bytes: 145, Connections: 5}
		if got := st.Servers[dataplane.ServerKey{Service: key, Server: real(n)}]; got != want {
			t.Errorf("server %d: %+v, want %+v", n, got, want)
		}
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}
