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

const clientAddr = "192.168.145.9"

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
			addAddr(t, "lo", netip.PrefixFrom(vip, 32))
			serveLines(t, n)
		})
	}
	l.host("client", func() {})
	l.plug("eth0", net.HardwareAddr{2, 0, 0, 2, 0, 1}, l.hosts["client"])
	l.in("client", func() { addAddr(t, "eth0", netip.MustParsePrefix(clientAddr+"/24")) })
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
func serveLines(t *testing.T, n int) {
	t.Helper()
	ln, err := net.Listen("tcp", netip.AddrPortFrom(vip, 80).String())
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

// dial opens a connection from a port, or from any (0).
func (l *lan) dial(from int) *talk {
	l.t.Helper()
	k := new(talk)
	l.in("client", func() {
		d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{Port: from}}
		c, err := d.Dial("tcp", netip.AddrPortFrom(vip, 80).String())
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
	must(l.t, k.conn.(*net.TCPConn).SetLinger(0))
	must(l.t, k.conn.Close())
	return l.dial(port)
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

func count(flows iter.Seq[dataplane.Flow]) int {
	n := 0
	for f := range flows {
		if f.State == dataplane.FlowEstablished {
			n++
		}
	}
	return n
}

// TestConnectionsOutliveTheirPlane takes XDP away from open connections and
// gives it back, twenty switches in all: none is lost, and each stays with its
// server.
func TestConnectionsOutliveTheirPlane(t *testing.T) {
	const switches, atFirst, each = 20, 100, 10
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
	web := dataplane.ServiceKey{VIP: vip, Port: 80, Protocol: dataplane.TCP}
	s := dataplane.Snapshot{
		VIPs: []dataplane.VIP{{Addr: vip, Role: dataplane.Active}},
		Services: []dataplane.Service{{ServiceKey: web, Scheduler: "rr", Servers: []dataplane.RealServer{
			{Addr: serverAddr(0), Weight: 1, MAC: serverMAC(0)}, {Addr: serverAddr(1), Weight: 1, MAC: serverMAC(1)},
		}}},
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
			open = append(open, l.dial(0))
			if k := l.again(open[i]); k.server != open[i].server {
				open[i], moved = k, moved+1
			} else {
				open[i] = k
			}
		}
		open = append(open, l.dial(0)) // an odd number of turns: the next time each port gets the other server
	}
	all("at first", atFirst)
	moved = 0
	leave := func() {}
	var tended time.Time
	for n := range switches {
		begin := time.Now()
		to, has := "ipvs", kernel.Flows
		if n%2 == 0 {
			leave = usurp(t, linkOf(t, pins))
		} else {
			to, has = "xdp", ours.Flows
			leave()
		}
		there := func() bool { return both.Report().Carriages[web].Plane == to && count(has()) >= len(open) }
		for !there() {
			if time.Since(begin) > 10*time.Second {
				t.Fatalf("switch %d: %s carries it, and %s has %d of %d connections", n+1, both.Report().Carriages[web].Plane, to, count(has()), len(open))
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
	fmt.Printf("CARRIED\t%d switches\t%d connections\t%d lost\n", switches, len(open), lost)
	if moved == 0 {
		t.Error("no port was used again for another server")
	}
	if d, err := kernel.Daemons(); err != nil || len(d) > 0 {
		t.Errorf("daemons that were left: %v, %v", d, err)
	}
}
