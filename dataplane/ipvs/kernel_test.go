package ipvs

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
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
	for _, cidr := range []string{"192.168.145.2/24", vip.String() + "/32", "2001:db8::2/64", vip6.String() + "/128"} {
		a, err := netlink.ParseAddr(cidr)
		if err != nil {
			t.Fatal(err)
		}
		if a.IP.To4() == nil {
			a.Flags = unix.IFA_F_NODAD
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
	_, body, _ := strings.Cut(printed(t, p, ViewTable), "InActConn\n")
	return body
}

func printed(t *testing.T, p *Plane, v View) string {
	t.Helper()
	table, err := p.Table()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := List(&b, table, v, false); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// likeIpvsadm compares what we print with what ipvsadm prints, where it is
// installed. The kernel goes on counting meanwhile: what we print before and
// after must be equal, or it does not count.
func likeIpvsadm(t *testing.T, ours func() string, options ...string) {
	t.Helper()
	tool, err := exec.LookPath("ipvsadm")
	if err != nil {
		t.Log("not compared with ipvsadm, which is not there")
		return
	}
	for range 100 {
		before := ours()
		theirs, err := exec.Command(tool, options...).CombinedOutput() // in this thread's namespace
		if err != nil {
			t.Fatalf("ipvsadm %q: %v: %s", options, err, theirs)
		}
		if before != ours() {
			continue
		}
		if before != string(theirs) {
			t.Errorf("ipvsadm %s:\n%sours:\n%s", strings.Join(options, " "), theirs, before)
		}
		return
	}
	t.Fatal("the table is never the same for two moments")
}

// allViews compares every view of the table with ipvsadm's.
func allViews(t *testing.T, p *Plane) {
	t.Helper()
	for _, c := range []struct {
		view   View
		option []string
	}{
		{ViewTable, nil}, {ViewStats, []string{"--stats"}}, {ViewRate, []string{"--rate"}}, {ViewThresholds, []string{"--thresholds"}},
		{ViewPersistent, []string{"--persistent-conn"}}, {ViewTunnels, []string{"--tun-info"}},
	} {
		likeIpvsadm(t, func() string { return printed(t, p, c.view) }, append([]string{"-ln"}, c.option...)...)
	}
	likeIpvsadm(t, func() string {
		table, err := p.Table()
		if err != nil {
			t.Fatal(err)
		}
		for i := range table.Services { // which ipvsadm does not save
			for j := range table.Services[i].Servers {
				table.Services[i].Servers[j].Upper, table.Services[i].Servers[j].Lower = 0, 0
			}
		}
		return save(t, table.Services)
	}, "-S", "-n")
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
		Key: mark(7), Scheduler: "wrr", Netmask: wholeMask(vip),
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

// everything is a snapshot that uses all that IPVS has.
func everything(t *testing.T) dataplane.Snapshot {
	t.Helper()
	services, err := ParseSave(strings.NewReader(file(t, "forms.save")))
	if err != nil {
		t.Fatal(err)
	}
	s := dataplane.Snapshot{VIPs: []dataplane.VIP{{Addr: vip}, {Addr: vip6}}}
	forwards := map[Forward]dataplane.Forward{Route: dataplane.Gate, Masq: dataplane.Masq, Tunnel: dataplane.IPIP}
	for _, svc := range services {
		d := dataplane.Service{
			ServiceKey: svc.Key, Scheduler: svc.Scheduler, SchedulerFlags: schedFlags(svc.Scheduler, svc.Flags), OnePacket: svc.Flags&OnePacket != 0,
			Persistence: dataplane.Persistence{Timeout: time.Duration(svc.Timeout) * time.Second, Engine: svc.Engine},
		}
		switch {
		case svc.Flags&Persistent == 0:
		case svc.v6():
			d.Persistence.PrefixLen = int(svc.Netmask)
		case svc.Netmask == dotted(255, 255, 255, 0):
			d.Persistence.PrefixLen = 24
		}
		for i, srv := range svc.Servers {
			r := dataplane.RealServer{Addr: srv.Addr.Addr(), Weight: srv.Weight, Forward: forwards[srv.Forward], Upper: uint32(i) * 20, Lower: uint32(i) * 10}
			if srv.Tunnel.Type == GUE {
				r.Forward, r.TunnelPort = dataplane.GUE, srv.Tunnel.Port
			}
			if r.Forward == dataplane.Masq {
				r.Port = srv.Addr.Port()
			}
			d.Servers = append(d.Servers, r)
		}
		s.Services = append(s.Services, d)
	}
	return s
}

// All that IPVS has, set, read back, printed as ipvsadm does, and left alone
// when it is there already.
func TestKernelEverything(t *testing.T) {
	p, k := realPlane(t)
	s := everything(t)
	apply(t, p, s)
	services, err := want(s)
	if err != nil {
		t.Fatal(err)
	}
	all, err := k.services()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := text(all), text(services); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	n := k.count
	apply(t, p, s)
	if k.count != n {
		t.Errorf("the same again took %d commands", k.count-n)
	}
	allViews(t, p)
	// And each of its services into another, and back.
	for i := range s.Services {
		s.Services[i].Scheduler, s.Services[i].SchedulerFlags = "wrr", nil
		if svc := &s.Services[i]; svc.Port != 0 || svc.Mark != 0 {
			svc.Persistence = dataplane.Persistence{}
		}
		for j := range s.Services[i].Servers {
			r := &s.Services[i].Servers[j]
			r.Weight, r.Upper, r.Lower = 5, 0, 0
			if r.Forward == dataplane.Gate {
				r.Forward = dataplane.IPIP
			}
		}
	}
	for _, s := range []dataplane.Snapshot{s, everything(t)} {
		apply(t, p, s)
		services, err := want(s)
		if err != nil {
			t.Fatal(err)
		}
		if all, err = k.services(); err != nil {
			t.Fatal(err)
		}
		if got, want := text(all), text(services); got != want {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
	}
	apply(t, p, dataplane.Snapshot{})
	if got := list(t, p); got != "" {
		t.Errorf("left: %s", got)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// Every scheduler that 6.1 has is one we can name.
func TestKernelSchedulers(t *testing.T) {
	p, _ := realPlane(t)
	for _, name := range strings.Fields("rr wrr lc wlc lblc lblcr dh sh sed nq fo ovf mh twos") {
		s := snapshot(service(80, [2]int{1, 1}, [2]int{2, 3}))
		s.Services[0].Scheduler = name
		_, err := p.Apply(s)
		if name == "twos" && err != nil { // optional, and younger
			t.Log(err)
			continue
		}
		if err != nil {
			t.Error(err)
			continue
		}
		if got := list(t, p); !strings.HasPrefix(got, "TCP  192.168.145.101:80 "+name+"\n") {
			t.Errorf("%s: %s", name, got)
		}
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func TestKernelDaemons(t *testing.T) {
	p, _ := realPlane(t)
	master := Daemon{Role: SyncMaster, Interface: "lan", SyncID: 7}
	backup := Daemon{Role: SyncBackup, Interface: "lan", Group: netip.MustParseAddr("ff02::1:5"), Port: 9000, TTL: 2, MaxLen: 1400}
	listed := func() string {
		d, err := p.Daemons()
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := ListDaemons(&b, d); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	if got := listed(); got != "" {
		t.Fatalf("running before: %s", got)
	}
	for _, d := range []Daemon{master, backup} {
		if err := p.StartDaemon(d); err != nil {
			t.Fatal(err)
		}
	}
	want := `master sync daemon (mcast=lan, syncid=7, maxlen=1472, group=224.0.0.81, port=8848, ttl=1)
backup sync daemon (mcast=lan, syncid=0, maxlen=1400, group=ff02::1:5, port=9000, ttl=2)
`
	if got := listed(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	likeIpvsadm(t, listed, "-l", "--daemon")
	if err := p.StartDaemon(master); !errors.Is(err, unix.EEXIST) || !strings.Contains(err.Error(), "stop it first") {
		t.Errorf("twice: %v", err)
	}
	mixed := snapshot(service(80, [2]int{1, 1}))
	mixed.Services[0].Servers[0].Addr, mixed.Services[0].Servers[0].Forward = real6, dataplane.IPIP
	if _, err := p.Apply(mixed); !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "other address family while a sync daemon runs") {
		t.Errorf("server of the other family: %v", err)
	}
	for _, r := range []DaemonRole{SyncMaster, SyncMaster, SyncBackup} { // the second time there is none
		if err := p.StopDaemon(r); err != nil {
			t.Error(err)
		}
	}
	if got := listed(); got != "" {
		t.Errorf("left: %s", got)
	}
	apply(t, p, mixed)
	if err := p.StartDaemon(master); !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "other address family") {
		t.Errorf("with a server of the other family: %v", err)
	}
	if err := p.StartDaemon(Daemon{Role: SyncMaster, Interface: "nosuch"}); !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.EINVAL) {
		t.Errorf("no interface: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func TestKernelTimeouts(t *testing.T) {
	p, _ := realPlane(t)
	before, err := p.Timeouts()
	if err != nil || before != (dataplane.Timeouts{TCP: 15 * time.Minute, TCPFin: 2 * time.Minute, UDP: 5 * time.Minute}) {
		t.Errorf("at first %+v, %v", before, err)
	}
	if err := p.SetTimeouts(dataplane.Timeouts{TCP: 800 * time.Second, UDP: 200 * time.Second}); err != nil {
		t.Fatal(err)
	}
	after, err := p.Timeouts()
	if err != nil || after != (dataplane.Timeouts{TCP: 800 * time.Second, TCPFin: 2 * time.Minute, UDP: 200 * time.Second}) {
		t.Errorf("then %+v, %v", after, err)
	}
	likeIpvsadm(t, func() string {
		var b bytes.Buffer
		if err := ListTimeouts(&b, after); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}, "-l", "--timeout")
}

// Connections of a persistent service, of one with a mark and of IPv6, as the
// kernel lists them, as flows, and as ipvsadm prints them. They are those of
// the namespace the plane was opened in, whichever thread asks.
func TestKernelConnections(t *testing.T) {
	p, _ := realPlane(t)
	web, dns := service(80, [2]int{1, 1}), service(53, [2]int{2, 1})
	dns.Key.Protocol = dataplane.UDP
	s := snapshot(web, dns, Service{Key: mark(7), Scheduler: "rr"})
	s.Services[0].Persistence.Timeout = time.Minute
	s.Services[2].Servers = []dataplane.RealServer{{Addr: real(3), Weight: 1}}
	s.VIPs = append(s.VIPs, dataplane.VIP{Addr: vip6})
	s.Services = append(s.Services, dataplane.Service{
		ServiceKey: dataplane.ServiceKey{VIP: vip6, Port: 53, Protocol: dataplane.UDP}, Scheduler: "rr",
		Servers: []dataplane.RealServer{{Addr: real6, Weight: 1}},
	})
	apply(t, p, s)
	dial := func(addr string, mark int) *net.UDPConn {
		c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr)))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := c.SyscallConn()
		if err == nil {
			err = raw.Control(func(fd uintptr) {
				if err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, mark); err != nil {
					t.Error(err)
				}
			})
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		return c
	}
	want := make(map[string]string) // client to the rest
	for _, c := range []struct {
		addr string
		mark int
		is   string
	}{
		{"192.168.145.101:53", 0, "192.168.145.101:53/udp :53 192.168.145.12 UDP"},
		{"192.168.145.77:999", 7, "fwmark:7 :999 192.168.145.13 UDP"},
		{"[2001:db8::1]:53", 0, "[2001:db8::1]:53/udp :53 2001:db8::11 UDP"},
	} {
		conn := dial(c.addr, c.mark)
		defer conn.Close()
		want[conn.LocalAddr().(*net.UDPAddr).AddrPort().String()] = c.is
	}
	tcp, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(tcp)
	if err := unix.Connect(tcp, &unix.SockaddrInet4{Addr: vip.As4(), Port: 80}); !errors.Is(err, unix.EINPROGRESS) {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(tcp)
	if err != nil {
		t.Fatal(err)
	}
	from := name.(*unix.SockaddrInet4)
	want[netip.AddrPortFrom(netip.AddrFrom4(from.Addr), uint16(from.Port)).String()] = "192.168.145.101:80/tcp :80 192.168.145.11 SYN_RECV"

	done := make(chan []dataplane.Flow)
	go func() { done <- slices.Collect(p.Flows()) }() // another thread, in the machine's namespace
	got := make(map[string]string)
	for _, f := range <-done {
		got[f.Client.String()] = fmt.Sprintf("%s :%d %s %s", f.Service, f.Port, f.Server, f.State)
		if f.Expires <= 0 || f.Expires > 5*time.Minute || f.Age < 0 || f.Age > 30*time.Second {
			t.Errorf("%s: age %s, expires %s", f.Client, f.Age, f.Expires)
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("\n got %v\nwant %v", got, want)
	}
	templates := 0
	likeIpvsadm(t, func() string {
		var all []Connection
		templates = 0
		for c, err := range p.Connections() {
			if err != nil {
				t.Fatal(err)
			}
			if c.template() {
				templates++
			}
			all = append(all, c)
		}
		var b bytes.Buffer
		if err := ListConnections(&b, all, false); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}, "-lnc")
	if templates > 1 {
		t.Errorf("%d templates", templates)
	}
	allViews(t, p)
	if err := p.Zero(); err != nil {
		t.Error(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}
