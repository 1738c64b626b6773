package guest

import (
	"bufio"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"systole/dataplane"
	"systole/dataplane/carry"
	"systole/dataplane/fallback"
	"systole/dataplane/ipvs"
	"systole/dataplane/xdp"
)

// lan is a director in the machine's own network, and a client and two real
// servers in others, all on one bridge.
type lan struct {
	t     *testing.T
	here  netns.NsHandle
	hosts map[string]netns.NsHandle
}

// clientAddr is the client's n-th address of either family; its connections come
// from the one with number 0, if nothing else is said.
func clientAddr(n int, v6 bool) netip.Addr {
	if v6 {
		return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 14: 1, 15: byte(9 + n)})
	}
	return netip.AddrFrom4([4]byte{192, 168, 145, byte(9 + n)})
}

// clientAddrs is how many there are.
const clientAddrs = 50

func newLAN(t *testing.T) *lan {
	t.Helper()
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	l := &lan{t: t, hosts: make(map[string]netns.NsHandle)}
	var err error
	l.here, err = netns.Get()
	must(t, err)
	l.host("switch", func() {
		must(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br"}}))
		up(t, "br")
	})
	l.plug("lan", own, l.here)
	addAddr(t, "lan", director)
	addAddr(t, "lo", netip.PrefixFrom(vip, 32))
	addAddr(t, "lan", director6)
	addAddr(t, "lan", netip.PrefixFrom(vip6, 128)) // nobody is told of one on lo
	t.Cleanup(func() {
		if d, err := netlink.LinkByName("lan"); err == nil {
			netlink.LinkDel(d)
		}
	})
	quiet := func(on string) {
		for key, value := range map[string]string{"arp_ignore": "1", "arp_announce": "2"} {
			must(t, os.WriteFile("/proc/sys/net/ipv4/conf/"+on+"/"+key, []byte(value), 0))
		}
	}
	for n := range 2 {
		l.host(fmt.Sprint("web", n), func() { quiet("all") })
		l.plug("eth0", serverMAC(n), l.hosts[fmt.Sprint("web", n)])
		l.in(fmt.Sprint("web", n), func() {
			addAddr(t, "eth0", netip.PrefixFrom(serverAddr(n), 24))
			addAddr(t, "eth0", netip.PrefixFrom(serverAddr6(n), 64))
			for _, a := range []netip.Addr{vip, vip6} {
				addAddr(t, "lo", netip.PrefixFrom(a, a.BitLen()))
				serveLines(t, netip.AddrPortFrom(a, 80), n)
				serveLines(t, netip.AddrPortFrom(a, 81), n)
			}
		})
	}
	l.host("client", func() {})
	l.plug("eth0", net.HardwareAddr{2, 0, 0, 2, 0, 1}, l.hosts["client"])
	l.in("client", func() {
		for n := range clientAddrs {
			addAddr(t, "eth0", netip.PrefixFrom(clientAddr(n, false), 24))
			addAddr(t, "eth0", netip.PrefixFrom(clientAddr(n, true), 64))
		}
	})
	return l
}

// host makes a network and does something in it.
func (l *lan) host(name string, do func()) {
	l.t.Helper()
	ns, err := netns.New()
	must(l.t, err)
	l.hosts[name] = ns
	l.t.Cleanup(func() { ns.Close() })
	up(l.t, "lo")
	do()
	must(l.t, netns.Set(l.here))
}

func (l *lan) in(name string, do func()) {
	l.t.Helper()
	must(l.t, netns.Set(l.hosts[name]))
	do()
	must(l.t, netns.Set(l.here))
}

// plug lays a cable from a network to the switch.
func (l *lan) plug(name string, mac net.HardwareAddr, to netns.NsHandle) {
	l.t.Helper()
	l.in("switch", func() {
		port := fmt.Sprintf("port%d", mac[3]<<4|mac[5])
		must(l.t, netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: port}, PeerName: name, PeerHardwareAddr: mac, PeerNamespace: netlink.NsFd(to),
		}))
		must(l.t, netlink.LinkSetMaster(device(l.t, port), device(l.t, "br")))
		up(l.t, port)
	})
	must(l.t, netns.Set(to))
	up(l.t, name)
	must(l.t, netns.Set(l.here))
}

// serveLines answers each line with its own name.
func serveLines(t *testing.T, at netip.AddrPort, n int) {
	t.Helper()
	ln, err := net.Listen("tcp", at.String())
	must(t, err)
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for s := bufio.NewScanner(c); s.Scan(); {
					fmt.Fprintf(c, "web%d %s\n", n, s.Text())
				}
			}()
		}
	}()
}

// talk is a connection that stays open, and the server it got.
type talk struct {
	conn   net.Conn
	in     *bufio.Reader
	server string
}

// dial opens a connection to an address from a port, or from any (0).
func (l *lan) dial(to netip.Addr, from int) *talk {
	l.t.Helper()
	return l.connect(netip.AddrPortFrom(clientAddr(0, to.Is6()), uint16(from)), netip.AddrPortFrom(to, 80))
}

func (l *lan) connect(from, to netip.AddrPort) *talk {
	l.t.Helper()
	k := new(talk)
	l.in("client", func() {
		d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: net.TCPAddrFromAddrPort(from)}
		c, err := d.Dial("tcp", to.String())
		must(l.t, err)
		k.conn = c
	})
	l.t.Cleanup(func() { k.conn.Close() })
	k.in = bufio.NewReader(k.conn)
	must(l.t, k.ask())
	return k
}

// again ends the connection and opens another from the same port, which may get
// another server: the plane that does not see it knows the old one.
func (l *lan) again(k *talk) *talk {
	l.t.Helper()
	port := k.conn.LocalAddr().(*net.TCPAddr).Port
	to := netip.MustParseAddrPort(k.conn.RemoteAddr().String()).Addr()
	must(l.t, k.conn.(*net.TCPConn).SetLinger(0))
	must(l.t, k.conn.Close())
	return l.dial(to, port)
}

// visit is a short connection of the client's n-th address to the service that
// is persistent, and the server that it got.
func (l *lan) visit(n int, to netip.Addr) (server string) {
	l.t.Helper()
	k := l.connect(netip.AddrPortFrom(clientAddr(n, to.Is6()), 0), netip.AddrPortFrom(to, 81))
	must(l.t, k.conn.Close())
	return k.server
}

func (k *talk) ask() error {
	if err := k.conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(k.conn, "hello\n"); err != nil {
		return err
	}
	answer, err := k.in.ReadString('\n')
	if err != nil {
		return err
	}
	if k.server == "" {
		k.server = answer
	}
	if answer != k.server {
		return fmt.Errorf("the answer was %q, and at first %q", answer, k.server)
	}
	return nil
}

// linkOf is where the plane has pinned its link.
func linkOf(t *testing.T, pins string) (path string) {
	t.Helper()
	must(t, filepath.WalkDir(pins, func(p string, _ os.DirEntry, err error) error {
		if filepath.Base(p) == "link" {
			path = p
		}
		return err
	}))
	return path
}

// usurp takes XDP off the interface and puts another program there.
func usurp(t *testing.T, pinned string) (leave func()) {
	t.Helper()
	l, err := link.LoadPinnedLink(pinned, nil)
	must(t, err)
	defer l.Close()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "usurper", Type: ebpf.XDP, License: "MIT",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}, // XDP_PASS
	})
	must(t, err)
	defer prog.Close()
	must(t, l.(interface{ Detach() error }).Detach())
	must(t, netlink.LinkSetXdpFd(device(t, "lan"), prog.FD()))
	return func() { must(t, netlink.LinkSetXdpFd(device(t, "lan"), -1)) }
}

func count(flows iter.Seq[dataplane.Flow]) (established, templates int) {
	for f := range flows {
		switch f.State {
		case dataplane.FlowEstablished:
			established++
		case dataplane.FlowTemplate:
			templates++
		}
	}
	return established, templates
}

// TestConnectionsOutliveTheirPlane takes XDP away from open connections and
// gives it back, twenty switches in all: none is lost, and each stays with its
// server. A persistent client that comes again after a switch finds the server
// that it had before. Half of all are of IPv6.
func TestConnectionsOutliveTheirPlane(t *testing.T) {
	const switches, atFirst, each, visitors = 20, 100, 10, 2
	l := newLAN(t)
	log := slog.New(slog.NewTextHandler(os.Stdout, nil))
	const pins = "/sys/fs/bpf/carry"
	must(t, os.Mkdir(pins, 0o700))
	ours, err := xdp.Open(xdp.Config{Interface: "lan", Mode: xdp.ModeGeneric, PinDir: pins, Flows: 1 << 14, Log: log})
	must(t, err)
	kernel, err := ipvs.Open(ipvs.Config{Log: log})
	must(t, err)
	both := fallback.New(fallback.Config{
		XDP:  fallback.Member{Name: "xdp", Carries: xdp.Carries, Plane: ours},
		IPVS: fallback.Member{Name: "ipvs", Carries: ipvs.Carries, Plane: kernel},
		Back: func(dataplane.Plane) bool { return ours.Attachable() }, Carry: carry.Between(log),
		Log: log, Now: time.Now,
	})
	defer both.Close()
	go both.Watch(10 * time.Millisecond)
	vips := []netip.Addr{vip, vip6}
	var s dataplane.Snapshot
	for i, addr := range []func(int) netip.Addr{serverAddr, serverAddr6} {
		s.VIPs = append(s.VIPs, dataplane.VIP{Addr: vips[i], Role: dataplane.Active})
		s.Services = append(s.Services, dataplane.Service{
			ServiceKey: dataplane.ServiceKey{VIP: vips[i], Port: 80, Protocol: dataplane.TCP}, Scheduler: "rr",
			Servers: []dataplane.RealServer{{Addr: addr(0), Weight: 1, MAC: serverMAC(0)}, {Addr: addr(1), Weight: 1, MAC: serverMAC(1)}},
		})
		persistent := s.Services[len(s.Services)-1]
		persistent.Port = 81
		persistent.Persistence = dataplane.Persistence{Timeout: 10 * time.Minute, PrefixLen: vips[i].BitLen()}
		s.Services = append(s.Services, persistent)
	}
	apply := func() {
		t.Helper()
		_, err := both.Apply(s)
		must(t, err)
	}
	must(t, both.Renew(dataplane.Unlimited))
	apply()
	var open []*talk
	lost, moved := 0, 0
	var visited []string // the server of each visitor, of either family in turn
	strayed := 0
	all := func(when string, more int) {
		t.Helper()
		for i, k := range open {
			if err := k.ask(); err != nil {
				lost++
				t.Errorf("%s: connection %d: %v", when, i+1, err)
				k.conn.Close()
			}
		}
		for i := range more {
			open = append(open, l.dial(vips[i%2], 0))
			if k := l.again(open[i]); k.server != open[i].server {
				open[i], moved = k, moved+1
			} else {
				open[i] = k
			}
		}
		for _, v := range vips { // an odd number of turns: the next time each port gets the other server
			open = append(open, l.dial(v, 0))
		}
		// Who came before the switch comes again, then others, who come again the next time.
		for i := max(0, len(visited)-2*visitors); i < len(visited); i++ {
			if got := l.visit(1+i/2, vips[i%2]); got != visited[i] {
				strayed++
				t.Errorf("%s: visitor %d of %s got %q, and before %q", when, 1+i/2, vips[i%2], got, visited[i])
			}
		}
		for range 2 * visitors {
			i := len(visited)
			visited = append(visited, l.visit(1+i/2, vips[i%2]))
		}
	}
	all("at first", atFirst)
	moved = 0
	leave := func() {}
	var tended time.Time
	for n := range switches {
		begin := time.Now()
		to, has := "ipvs", kernel.FlowsAndTemplates
		if n%2 == 0 {
			leave = usurp(t, linkOf(t, pins))
		} else {
			to, has = "xdp", ours.FlowsAndTemplates
			leave()
		}
		carried := func() bool {
			for _, c := range both.Report().Carriages {
				if c.Plane != to {
					return false
				}
			}
			return true
		}
		for {
			established, templates := count(has())
			if carried() && established >= len(open) && templates >= len(visited) {
				break
			}
			if time.Since(begin) > 10*time.Second {
				t.Fatalf("switch %d: carried by %s: %v; it has %d of %d connections and %d of %d templates",
					n+1, to, carried(), established, len(open), templates, len(visited))
			}
			if time.Since(tended) > 200*time.Millisecond {
				if tended = time.Now(); both.Tend() {
					apply()
				}
			}
			time.Sleep(5 * time.Millisecond) // nothing tells of a connection in the kernel
		}
		took := time.Since(begin)
		all(fmt.Sprintf("switch %d to %s", n+1, to), each)
		t.Logf("switch %d: %d connections with %s after %s", n+1, len(open), to, took.Round(time.Millisecond))
	}
	fmt.Printf("CARRIED\t%d switches\t%d connections\t%d lost\t%d persistent clients\t%d strayed\n", switches, len(open), lost, len(visited), strayed)
	if moved == 0 {
		t.Error("no port was used again for another server")
	}
	if d, err := kernel.Daemons(); err != nil || len(d) > 0 {
		t.Errorf("daemons that were left: %v, %v", d, err)
	}
}
