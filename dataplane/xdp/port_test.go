package xdp

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"systole/dataplane"
	"systole/dataplane/planetest"
)

const xdpRedirect = 4

// The two interfaces, by what is behind them.
var (
	macA = net.HardwareAddr{2, 0, 0, 0, 0, 0xa}
	macB = net.HardwareAddr{2, 0, 0, 0, 0, 0xb}
)

// twoNICs is a namespace with two pairs of veth devices.
type twoNICs struct {
	lan
	t       *testing.T
	counted map[string]*ebpf.Map // frames for real servers, by far end
}

func newTwoNICs(t *testing.T) *twoNICs {
	t.Helper()
	l := &twoNICs{lan: newLAN(t), t: t, counted: map[string]*ebpf.Map{}}
	l.pair("sysnica", "sysfara", macA)
	l.pair("sysnicb", "sysfarb", macB)
	return l
}

// pair makes two devices. The far one has a program that counts and drops what
// is for a real server, without which a veth takes no frames of native XDP.
func (l *twoNICs) pair(near, far string, mac net.HardwareAddr) {
	l.t.Helper()
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: near, HardwareAddr: mac}, PeerName: far}
	if err := netlink.LinkAdd(veth); err != nil {
		l.t.Fatal(err)
	}
	for _, name := range []string{near, far} {
		dev, err := netlink.LinkByName(name)
		if err == nil {
			err = netlink.LinkSetUp(dev)
		}
		if err != nil {
			l.t.Fatal(err)
		}
	}
	counted, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { counted.Close() })
	l.counted[far] = counted
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "far_end", Type: ebpf.XDP, AttachType: ebpf.AttachXDP, License: "MIT",
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R2, asm.R1, 0, asm.Word),
			asm.LoadMem(asm.R3, asm.R1, 4, asm.Word),
			asm.Mov.Reg(asm.R4, asm.R2),
			asm.Add.Imm(asm.R4, 14),
			asm.JGT.Reg(asm.R4, asm.R3, "pass"),
			asm.LoadMem(asm.R5, asm.R2, 1, asm.Byte), // of serverMAC
			asm.JNE.Imm(asm.R5, 1, "pass"),
			asm.Mov.Imm(asm.R1, 0),
			asm.StoreMem(asm.RFP, -4, asm.R1, asm.Word),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, -4),
			asm.LoadMapPtr(asm.R1, counted.FD()),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "pass"),
			asm.Mov.Imm(asm.R1, 1),
			asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
			asm.Mov.Imm(asm.R0, xdpDrop),
			asm.Return(),
			asm.Mov.Imm(asm.R0, xdpPass).WithSymbol("pass"),
			asm.Return(),
		},
	})
	if err != nil {
		l.t.Fatal(err)
	}
	defer prog.Close()
	dev, err := net.InterfaceByName(far)
	if err != nil {
		l.t.Fatal(err)
	}
	at, err := link.AttachXDP(link.XDPOptions{Program: prog, Interface: dev.Index, Flags: link.XDPDriverMode})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { at.Close() })
}

func (l *twoNICs) del(near string) {
	l.t.Helper()
	dev, err := netlink.LinkByName(near)
	if err == nil {
		err = netlink.LinkDel(dev)
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *twoNICs) config(t *testing.T) Config {
	cfg := l.lan.config(t)
	cfg.Interface, cfg.Interfaces = "", []string{"sysnica", "sysnicb"}
	return cfg
}

// index is that of a device.
func (l *twoNICs) index(name string) uint32 {
	l.t.Helper()
	dev, err := net.InterfaceByName(name)
	if err != nil {
		l.t.Fatal(err)
	}
	return uint32(dev.Index)
}

// received are the frames for real servers at a far end.
func (l *twoNICs) received(far string) (n uint64) {
	l.t.Helper()
	if err := l.counted[far].Lookup(uint32(0), &n); err != nil {
		l.t.Fatal(err)
	}
	return n
}

// socket sends raw frames out of a far end, and so into the near one.
func (l *twoNICs) socket(far string) func(frame []byte) error {
	l.t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { unix.Close(fd) })
	addr := &unix.SockaddrLinklayer{Ifindex: int(l.index(far))}
	return func(frame []byte) error { return unix.Sendto(fd, frame, 0, addr) }
}

// runOn runs the program on a frame that came in by a device.
func runOn(t *testing.T, prog *ebpf.Program, ifindex uint32, frame []byte) (verdict uint32, out []byte) {
	t.Helper()
	md := struct{ Data, DataEnd, DataMeta, Ingress, Queue, Egress uint32 }{DataEnd: uint32(len(frame)), Ingress: ifindex}
	opts := ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+64), Context: md}
	verdict, err := prog.Run(&opts)
	if err != nil {
		t.Fatal(err)
	}
	return verdict, opts.DataOut
}

// Ports of the services, each with one server, by where that is.
const (
	portA      = 80
	portB      = 81
	portAny    = 82 // by which it is reached is not known
	portOther  = 83 // behind none of ours since it got a flow
	portNoMAC  = 84 // behind B, its address was forgotten since
	portBehind = 85 // servers on both
)

func behind(n int, nic string) dataplane.RealServer {
	r := server(n)
	r.Interface = nic
	return r
}

// spread is the snapshot of the tests; changed as the ports above say.
func spread(changed bool) dataplane.Snapshot {
	s := dataplane.Snapshot{
		VIPs:           []dataplane.VIP{{Addr: testVIP, Role: dataplane.Active}, {Addr: vip6, Role: dataplane.Active}},
		Peers:          []net.HardwareAddr{{2, 0, 0, 0, 0, 2}},
		PeerInterfaces: []string{"sysnicb"},
		SecondChance:   true,
	}
	add := func(vip netip.Addr, port uint16, p dataplane.Protocol, servers ...dataplane.RealServer) {
		s.Services = append(s.Services, dataplane.Service{
			ServiceKey: dataplane.ServiceKey{VIP: vip, Port: port, Protocol: p}, Scheduler: "rr", Servers: servers,
		})
	}
	other, lost := behind(4, "sysnicb"), behind(5, "sysnicb")
	if changed {
		other.Interface, lost.MAC = "sysnone", nil
	}
	six := behind(7, "sysnicb")
	six.Addr = netip.MustParseAddr("2001:db8::7")
	add(testVIP, portA, dataplane.TCP, behind(1, "sysnica"))
	add(testVIP, portB, dataplane.TCP, behind(2, "sysnicb"))
	add(testVIP, portB, dataplane.UDP, behind(2, "sysnicb"))
	add(testVIP, portAny, dataplane.TCP, behind(3, ""))
	add(testVIP, portOther, dataplane.TCP, other)
	add(testVIP, portNoMAC, dataplane.TCP, lost)
	add(testVIP, portBehind, dataplane.TCP, behind(8, "sysnica"), behind(9, "sysnicb"))
	add(vip6, portB, dataplane.TCP, six)
	return s
}

var vip6 = netip.MustParseAddr("2001:db8::101")

// toward is a client's frame for a port, to a station.
func toward(mac net.HardwareAddr, port uint16, flags string) planetest.Frame {
	f := client(1, flags)
	f.Dst, f.To = mac, netip.AddrPortFrom(testVIP, port)
	return f
}

func TestSeveralInterfaces(t *testing.T) {
	l := newTwoNICs(t)
	p := open(t, l.config(t))
	if err := p.Renew(dataplane.Unlimited); err != nil {
		t.Fatal(err)
	}
	apply(t, p, spread(false))
	a, b := l.index("sysnica"), l.index("sysnicb")
	prog := p.Program()
	for _, port := range []uint16{portOther, portNoMAC} {
		if v, _ := runOn(t, prog, a, toward(macA, port, "S").Bytes()); v != xdpRedirect {
			t.Fatalf("port %d at first: verdict %d", port, v)
		}
	}
	apply(t, p, spread(true))

	six := toward(macA, portB, "S")
	six.From, six.To = netip.MustParseAddrPort("[2001:db8:1::1]:40000"), netip.AddrPortFrom(vip6, portB)
	first, later := toward(macA, portB, ""), toward(macA, portB, "")
	first.Protocol, later.Protocol = dataplane.UDP, dataplane.UDP
	first.ID, later.ID = 77, 77
	first.MF, first.Payload, later.Offset, later.Payload = true, 16, 3, 8
	tagged := toward(macA, portB, "S").Bytes()
	tagged = append(append(bytes.Clone(tagged[:12]), 0x81, 0, 0, 7), tagged[12:]...)

	for _, tt := range []struct {
		description string
		by          uint32
		in          []byte
		verdict     uint32
		to, from    net.HardwareAddr
		reason      string
	}{
		{"in by A, server on A", a, toward(macA, portA, "S").Bytes(), xdpTX, serverMAC(1), macA, ""},
		{"in by A, server on B", a, toward(macA, portB, "S").Bytes(), xdpRedirect, serverMAC(2), macB, ""},
		{"the flow of it, in by A", a, toward(macA, portB, "A").Bytes(), xdpRedirect, serverMAC(2), macB, ""},
		{"the flow of it, in by B", b, toward(macB, portB, "A").Bytes(), xdpTX, serverMAC(2), macB, ""},
		{"in by B, server on A", b, toward(macB, portA, "A").Bytes(), xdpRedirect, serverMAC(1), macA, ""},
		{"server on no interface that is known, in by A", a, toward(macA, portAny, "S").Bytes(), xdpTX, serverMAC(3), macA, ""},
		{"the same, in by B", b, toward(macB, portAny, "A").Bytes(), xdpTX, serverMAC(3), macB, ""},
		{"a VLAN tag stays", a, tagged, xdpRedirect, serverMAC(2), macB, ""},
		{"IPv6", a, six.Bytes(), xdpRedirect, serverMAC(7), macB, ""},
		{"a first fragment", a, first.Bytes(), xdpRedirect, serverMAC(2), macB, ""},
		{"and its second", a, later.Bytes(), xdpRedirect, serverMAC(2), macB, ""},
		{"a second chance, in by A, at a peer on B", a, toward(macA, portBehind, "A").Bytes(), xdpRedirect, net.HardwareAddr{2, 0, 0, 0, 0, 2}, macB, "second_chance"},
		{"a second chance, in by B", b, toward(macB, portBehind, "A").Bytes(), xdpTX, net.HardwareAddr{2, 0, 0, 0, 0, 2}, macB, "second_chance"},
		{"A's address, in by B: flooded by a switch", b, toward(macA, portA, "S").Bytes(), xdpPass, nil, nil, ""},
		{"in by neither", l.index("lo"), toward(macA, portA, "S").Bytes(), xdpPass, nil, nil, ""},
		{"a flow whose server moved behind none of ours", a, toward(macA, portOther, "A").Bytes(), xdpPass, nil, nil, "other_interface"},
		{"a new one has no server then", a, func() []byte {
			f := toward(macA, portOther, "S")
			f.From = netip.MustParseAddrPort("10.9.9.9:9")
			return f.Bytes()
		}(), xdpPass, nil, nil, "no_server"},
		{"a flow waits for its server's MAC", a, toward(macA, portNoMAC, "A").Bytes(), xdpDrop, nil, nil, "no_mac"},
	} {
		before := reasons(t, p)
		verdict, out := runOn(t, prog, tt.by, tt.in)
		if verdict != tt.verdict {
			t.Errorf("%s: verdict %d, want %d", tt.description, verdict, tt.verdict)
			continue
		}
		want := tt.in
		if tt.to != nil {
			want = append(append(bytes.Clone(tt.to), tt.from...), tt.in[12:]...)
		}
		if !bytes.Equal(out, want) {
			t.Errorf("%s: out\n%x, want\n%x", tt.description, out[:16], want[:16])
		}
		for name, n := range reasons(t, p) {
			expected := before[name]
			if name == tt.reason {
				expected++
			}
			if n != expected {
				t.Errorf("%s: counted %q %d times", tt.description, name, n-before[name])
			}
		}
	}
	st, err := p.Stats()
	if err != nil {
		t.Fatal(err)
	}
	in, out := st.Interfaces["sysnica"], st.Interfaces["sysnicb"]
	if in.InPackets != 11 || in.OutPackets != 3 || out.InPackets != 4 || out.OutPackets != 12 || in.InBytes == 0 || out.OutBytes == 0 {
		t.Errorf("counted %+v and %+v", in, out)
	}
	if n := st.Services[dataplane.ServiceKey{VIP: testVIP, Port: portB, Protocol: dataplane.TCP}]; n.Packets != 4 || n.Connections != 1 {
		t.Errorf("the service counted %+v", n)
	}
}

func reasons(t *testing.T, p *Plane) map[string]uint64 {
	t.Helper()
	st, err := p.Stats()
	if err != nil {
		t.Fatal(err)
	}
	return st.Reasons
}

// eventually waits for what the kernel does beside us.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatal(what)
		}
		time.Sleep(time.Millisecond)
	}
}

// Frames on the wire, in both directions and modes.
func TestRedirectOnTheWire(t *testing.T) {
	for _, mode := range []string{ModeNative, ModeGeneric} {
		t.Run(mode, func(t *testing.T) {
			l := newTwoNICs(t)
			cfg := l.config(t)
			cfg.Mode = mode
			p := serving(t, cfg, spread(false))
			if i := p.Info(); i.Mode != mode || i.Interface != "sysnica, sysnicb" || len(i.Interfaces) != 2 {
				t.Fatalf("Info() = %+v", i)
			}
			intoA, intoB := l.socket("sysfara"), l.socket("sysfarb")
			const n = 50
			for range n {
				err := errors.Join(
					intoA(toward(macA, portB, "S").Bytes()), // A to B
					intoB(toward(macB, portA, "S").Bytes()), // B to A
					intoB(toward(macB, portB, "S").Bytes()), // B to B
				)
				if err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "frames were lost", func() bool {
				return l.received("sysfara") == n && l.received("sysfarb") == 2*n
			})
			st, err := p.Stats()
			if err != nil {
				t.Fatal(err)
			}
			if a, b := st.Interfaces["sysnica"], st.Interfaces["sysnicb"]; a.InPackets != n || a.OutPackets != n || b.InPackets != 2*n || b.OutPackets != 2*n {
				t.Errorf("counted %+v and %+v", a, b)
			}
		})
	}
}

// Restarts, and replacements by the observing program and back, under traffic
// from one interface to the other, cost no packet.
func TestReplacedUnderTrafficOfTwoInterfaces(t *testing.T) {
	l := newTwoNICs(t)
	p := serving(t, l.config(t), spread(false))
	intoA, intoB := l.socket("sysfara"), l.socket("sysfarb")
	stop, ended := make(chan struct{}), make(chan error, 1)
	var rounds uint64
	go func() {
		ended <- func() error {
			for end := time.Now().Add(time.Minute); ; {
				select {
				case <-stop:
					return nil
				default:
				}
				// A round at a time: a veth's queue is short.
				for range 16 {
					if err := errors.Join(intoA(toward(macA, portB, "S").Bytes()), intoB(toward(macB, portA, "S").Bytes())); err != nil {
						return err
					}
				}
				rounds++
				for _, far := range []string{"sysfara", "sysfarb"} {
					for n := uint64(0); n < 16*rounds; {
						if err := l.counted[far].Lookup(uint32(0), &n); err != nil {
							return err
						}
						if n < 16*rounds && time.Now().After(end) {
							return errors.New("packets were lost")
						}
					}
				}
			}
		}()
	}()
	for i := range 8 {
		p.crash(t)
		p = open(t, l.config(t))
		if i%2 == 0 {
			apply(t, p, spread(i%4 == 0))
		}
		if g := p.active().Number; g == 0 {
			t.Fatal("the generation was lost")
		}
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if rounds < 8 {
		t.Errorf("%d rounds only", rounds)
	}
	st, err := p.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if a := st.Interfaces["sysnica"]; a.InPackets != 16*rounds || a.OutPackets != 16*rounds {
		t.Errorf("after %d rounds %+v: the counters did not go over the restarts", rounds, a)
	}
}

// One of two interfaces goes and comes: the other one goes on.
func TestOneInterfaceGoesAndComes(t *testing.T) {
	l := newTwoNICs(t)
	p := serving(t, l.config(t), spread(false))
	a := l.index("sysnica")
	on := func(port uint16, n int, flags string) uint32 {
		f := toward(macA, port, flags)
		f.From = client(n, flags).From
		v, _ := runOn(t, p.Program(), a, f.Bytes())
		return v
	}
	if v := on(portB, 1, "S"); v != xdpRedirect || p.Stale() {
		t.Fatalf("verdict %d, stale %v", v, p.Stale())
	}
	l.del("sysnicb")
	for _, applied := range []bool{false, true} {
		if applied {
			if !p.Stale() {
				t.Error("the plane does not notice")
			}
			apply(t, p, spread(false))
		}
		before := reasons(t, p)["interface_gone"]
		if v := on(portB, 1, "A"); v != xdpDrop || reasons(t, p)["interface_gone"] != before+1 {
			t.Errorf("applied %v: verdict %d", applied, v)
		}
		i := p.Info()
		want := []dataplane.Interface{{Name: "sysnica", Mode: ModeNative}, {Name: "sysnicb", Mode: dataplane.Detached, Reason: "interface sysnicb is gone"}}
		if i.Mode != ModeNative || !reflect.DeepEqual(i.Interfaces, want) || !strings.Contains(i.Reason, "sysnicb is gone") {
			t.Errorf("Info() = %+v", i)
		}
	}
	if p.Stale() {
		t.Error("stale although nothing can be done")
	}
	for n := range 4 { // the servers behind A have all
		if v := on(portBehind, 10+n, "S"); v != xdpTX {
			t.Errorf("a new connection: verdict %d", v)
		}
	}
	l.pair("sysnicb", "sysfarb", macB)
	if !p.Stale() {
		t.Error("the plane does not notice that the interface is back")
	}
	apply(t, p, spread(false))
	if v := on(portB, 1, "A"); v != xdpRedirect || p.Stale() {
		t.Errorf("the flow, when the interface is back: verdict %d, stale %v", v, p.Stale())
	}
	if i := p.Info(); i.Mode != ModeNative || i.Reason != "" {
		t.Errorf("Info() = %+v", i)
	}

	// Both: then the plane is detached, and Apply fails.
	l.del("sysnica")
	l.del("sysnicb")
	if i := p.Info(); i.Mode != dataplane.Detached {
		t.Errorf("Info() = %+v", i)
	}
	if _, err := p.Apply(spread(false)); !errors.Is(err, dataplane.ErrUnavailable) {
		t.Errorf("Apply without interfaces: %v", err)
	}
	l.pair("sysnica", "sysfara", macA)
	if !p.Attachable() {
		t.Error("not attachable with one of two back")
	}
	apply(t, p, spread(false))
}

// An interface is named later, another one no more: the flows stay.
func TestOtherInterfacesAfterARestart(t *testing.T) {
	l := newTwoNICs(t)
	cfg := l.config(t)
	cfg.Interfaces = []string{"sysnica"}
	p := open(t, cfg)
	s := spread(false)
	apply(t, p, s)
	if err := p.Renew(dataplane.Unlimited); err != nil {
		t.Fatal(err)
	}
	a, b := l.index("sysnica"), l.index("sysnicb")
	flow := func(by uint32, mac net.HardwareAddr, port uint16) uint32 {
		v, _ := runOn(t, p.Program(), by, toward(mac, port, "A").Bytes())
		return v
	}
	if v, _ := runOn(t, p.Program(), a, toward(macA, portA, "S").Bytes()); v != xdpTX {
		t.Fatalf("verdict %d", v)
	}
	if v, _ := runOn(t, p.Program(), a, toward(macA, portB, "S").Bytes()); v != xdpPass {
		t.Errorf("a server behind an interface that is not ours: verdict %d", v)
	}
	had := map[string]bool{"sysnica": true}
	for _, names := range [][]string{{"sysnicb", "sysnica"}, {"sysnicb"}, {"sysnica", "sysnicb"}} {
		p.crash(t)
		cfg.Interfaces = names
		p = open(t, cfg)
		// The generation of the predecessor is in force yet.
		if v := flow(a, macA, portA); had["sysnica"] == (v == xdpPass) {
			t.Errorf("%v: before Apply verdict %d", names, v)
		}
		had = map[string]bool{}
		for _, name := range names {
			had[name] = true
		}
		apply(t, p, s)
		switch len(names) {
		case 2:
			if v, w := flow(a, macA, portA), flow(b, macB, portA); v != xdpTX || w != xdpRedirect {
				t.Errorf("%v: verdicts %d, %d", names, v, w)
			}
		case 1:
			if v := flow(b, macB, portA); v != xdpPass {
				t.Errorf("%v: verdict %d", names, v)
			}
			if n, err := findNIC("sysnica"); err != nil || n.xdp.Attached {
				t.Errorf("still attached to an interface that is not named any more (%v)", err)
			}
		}
	}
	if dirs, _ := filepath.Glob(filepath.Join(cfg.PinDir, "*")); len(dirs) != 1 {
		t.Errorf("pinned in %q: the plane has moved", dirs)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	l.nothingPinned(t)
}

// What has no native XDP gets generic, and no frame of a driver is redirected to
// it, which would be lost.
func TestMixedModes(t *testing.T) {
	l := newTwoNICs(t)
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "sysnicc", HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 0xc}}}
	if err := netlink.LinkAdd(bridge); err != nil {
		t.Fatal(err)
	}
	cfg := l.config(t)
	cfg.Interfaces = []string{"sysnica", "sysnicc", "sysnicd"}
	p := open(t, cfg)
	s := spread(false)
	for i := range s.Services {
		for j := range s.Services[i].Servers {
			if r := &s.Services[i].Servers[j]; r.Interface == "sysnicb" {
				r.Interface = "sysnicc"
			}
		}
	}
	apply(t, p, s)
	if err := p.Renew(dataplane.Unlimited); err != nil {
		t.Fatal(err)
	}
	if i := p.Info(); i.Mode != ModeMixed || i.Interfaces[1].Mode != ModeGeneric || !strings.Contains(i.Reason, "the driver has no XDP") || i.Interfaces[2].Mode != dataplane.Detached {
		t.Errorf("Info() = %+v", i)
	}
	if v, _ := runOn(t, p.Program(), l.index("sysnica"), toward(macA, portB, "S").Bytes()); v != xdpPass || reasons(t, p)["no_redirect"] != 1 {
		t.Errorf("from native to generic: verdict %d", v)
	}
	// One that was not there comes.
	l.pair("sysnicd", "sysfard", net.HardwareAddr{2, 0, 0, 0, 0, 0xd})
	if !p.Stale() {
		t.Error("the plane does not notice")
	}
	apply(t, p, s)
	if i := p.Info(); i.Interfaces[2].Mode != ModeNative {
		t.Errorf("Info() = %+v", i)
	}
}

func TestBadInterfaces(t *testing.T) {
	l := newTwoNICs(t)
	many := make([]string, MaxInterfaces+1)
	for i := range many {
		many[i] = string(rune('a' + i))
	}
	for want, names := range map[string][]string{
		"sysnica is named twice": {"sysnica", "sysnica"},
		"at most 16":             many,
		"no Ethernet address":    {"sysnica", "lo"},
		"sysnone":                {"sysnone", "sysnone2"},
	} {
		cfg := l.config(t)
		cfg.Interfaces = names
		if _, err := Open(cfg); !errors.Is(err, dataplane.ErrUnavailable) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", names, err, want)
		}
	}
	// What is on one of them is refused, and named.
	prog := passProgram(t)
	dev, err := netlink.LinkByName("sysnicb")
	if err == nil {
		err = netlink.LinkSetXdpFdWithFlags(dev, prog.FD(), unix.XDP_FLAGS_DRV_MODE)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(l.config(t)); !errors.Is(err, dataplane.ErrUnavailable) || !strings.Contains(err.Error(), "not_ours") {
		t.Errorf("a foreign program on the second: %v", err)
	}
	if n, err := findNIC("sysnica"); err != nil || n.xdp.Attached {
		t.Errorf("the first keeps the program (%v)", err)
	}
	l.nothingPinned(t)
}
