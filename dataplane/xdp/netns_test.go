package xdp

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"systole/bpf"
	"systole/dataplane"
	"systole/dataplane/planetest"
	"systole/test/need"
)

// lan is a namespace of its own with a pair of veth devices, and a bpf file
// system. The test's goroutine stays on the thread that is in the namespace.
type lan struct {
	dev, peer string
	pins      string
}

func newLAN(t *testing.T) lan {
	t.Helper()
	need.Root(t, "BPF programs")
	l := lan{dev: "sysxdp0.7", peer: "sysxdp1", pins: bpffs(t)}
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netns.Set(home); err != nil {
			t.Fatal(err) // and the thread dies with its goroutine
		}
		home.Close()
		ns.Close()
		runtime.UnlockOSThread()
	})
	l.create(t)
	return l
}

// create makes the pair of devices, as after they were removed.
func (l lan) create(t *testing.T) {
	t.Helper()
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: l.dev, HardwareAddr: ownMAC}, PeerName: l.peer,
		PeerHardwareAddr: net.HardwareAddr{2, 0, 0, 0, 9, 9},
	}
	if err := netlink.LinkAdd(veth); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{l.dev, l.peer} {
		dev, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(dev); err != nil {
			t.Fatal(err)
		}
	}
}

func (l lan) remove(t *testing.T) {
	t.Helper()
	dev, err := netlink.LinkByName(l.dev)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkDel(dev); err != nil {
		t.Fatal(err)
	}
}

const testFlows = 4096

func (l lan) config(t *testing.T) Config {
	return Config{Interface: l.dev, PinDir: filepath.Join(l.pins, "systole"), Flows: testFlows, Log: testLog(t)}
}

func (l lan) attached(t *testing.T) (prog uint32) {
	t.Helper()
	n, err := findNIC(l.dev)
	if err != nil {
		t.Fatal(err)
	}
	return n.xdp.ProgId
}

func (l lan) nothingPinned(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(l.config(t).PinDir); !os.IsNotExist(err) {
		left, _ := filepath.Glob(l.config(t).PinDir + "/*/*")
		t.Errorf("something is still pinned: %v (%v)", left, err)
	}
}

// bpffs mounts a bpf file system for one test.
func bpffs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		t.Fatalf("mount a bpf file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func open(t *testing.T, cfg Config) *Plane {
	t.Helper()
	p, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// serving opens a plane that has the right to answer for a table.
func serving(t *testing.T, cfg Config, s dataplane.Snapshot) *Plane {
	t.Helper()
	p := open(t, cfg)
	apply(t, p, s)
	if err := p.Renew(dataplane.Unlimited); err != nil {
		t.Fatal(err)
	}
	return p
}

// crash lets go of everything the way a killed process does: nothing is
// unpinned, the kernel closes the descriptors.
func (p *Plane) crash(t *testing.T) {
	t.Helper()
	if err := p.abandon(); err != nil {
		t.Fatal(err)
	}
}

func apply(t *testing.T, p *Plane, s dataplane.Snapshot) dataplane.Generation {
	t.Helper()
	g, err := p.Apply(s)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestOpenAndClose(t *testing.T) {
	for _, tt := range []struct{ mode, want, reason string }{
		{"", ModeNative, ""},
		{ModeAuto, ModeNative, ""},
		{ModeNative, ModeNative, ""},
		{ModeGeneric, ModeGeneric, "configured"},
	} {
		t.Run("mode "+tt.mode, func(t *testing.T) {
			l := newLAN(t)
			cfg := l.config(t)
			cfg.Mode = tt.mode
			p := open(t, cfg)
			want := dataplane.Info{
				Name: "xdp", Mode: tt.want, Interface: l.dev, Reason: tt.reason, Lease: true, EndsWithDaemon: true,
				Interfaces: []dataplane.Interface{{Name: l.dev, Mode: tt.want, Reason: tt.reason}},
			}
			if got := p.Info(); !reflect.DeepEqual(got, want) {
				t.Errorf("Info() = %+v, want %+v", got, want)
			}
			if l.attached(t) == 0 {
				t.Error("nothing is attached")
			}
			if g := apply(t, p, twoServices(1)); g != 1 {
				t.Errorf("generation %d, want 1", g)
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
			if id := l.attached(t); id != 0 {
				t.Errorf("program %d is still attached", id)
			}
			l.nothingPinned(t)
			if p.Info().Mode != "detached" {
				t.Errorf("Info() = %+v after Close", p.Info())
			}
		})
	}
}

func TestAutoFallsBackToGeneric(t *testing.T) {
	l := newLAN(t)
	// The bridge driver has no native XDP.
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "sysxdp2", HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 5}}}
	if err := netlink.LinkAdd(bridge); err != nil {
		t.Fatal(err)
	}
	cfg := l.config(t)
	cfg.Interface = "sysxdp2"
	p := open(t, cfg)
	if info := p.Info(); info.Mode != ModeGeneric || !strings.Contains(info.Reason, "the driver has no XDP") {
		t.Errorf("Info() = %+v, want generic and why", info)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.Mode = ModeNative
	if _, err := Open(cfg); !errors.Is(err, dataplane.ErrUnavailable) || !strings.Contains(err.Error(), "the driver has no XDP") {
		t.Errorf("native on a bridge: %v, want ErrUnavailable and why", err)
	}
	l.nothingPinned(t)
}

func TestBadOpen(t *testing.T) {
	l := newLAN(t)
	for _, tt := range []struct {
		name string
		edit func(*Config)
		want string
	}{
		{"no such interface", func(c *Config) { c.Interface = "nope0" }, "nope0"},
		{"no Ethernet", func(c *Config) { c.Interface = "lo" }, "no Ethernet address"},
		{"bad mode", func(c *Config) { c.Mode = "fast" }, "auto, native, generic"},
		{"few flows", func(c *Config) { c.Flows = 1 }, "choose a number from"},
		{"many flows", func(c *Config) { c.Flows = MaxFlows + 1 }, "choose a number from"},
		{"no bpf file system", func(c *Config) { c.PinDir = filepath.Join(t.TempDir(), "pins") }, "mount -t bpf bpf"},
	} {
		// No subtest: it would run on another thread, in another namespace.
		cfg := l.config(t)
		tt.edit(&cfg)
		_, err := Open(cfg)
		if !errors.Is(err, dataplane.ErrUnavailable) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: Open: %v, want ErrUnavailable with %q", tt.name, err, tt.want)
		}
	}
	if l.attached(t) != 0 {
		t.Error("something is attached")
	}
}

func TestSecondDaemonIsRefused(t *testing.T) {
	l := newLAN(t)
	p := open(t, l.config(t))
	id := l.attached(t)
	if _, err := Open(l.config(t)); !errors.Is(err, dataplane.ErrUnavailable) || !strings.Contains(err.Error(), "another process") {
		t.Errorf("second Open: %v, want ErrUnavailable", err)
	}
	if l.attached(t) != id {
		t.Error("the second Open disturbed the first")
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// passProgram is somebody else's XDP program.
func passProgram(t *testing.T) *ebpf.Program {
	t.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "not_ours", Type: ebpf.XDP, AttachType: ebpf.AttachXDP, License: "MIT",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, xdpPass), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prog.Close() })
	return prog
}

func TestForeignProgramIsRefused(t *testing.T) {
	for _, how := range []string{"netlink native", "netlink generic", "link"} {
		for _, mode := range []string{ModeAuto, ModeNative, ModeGeneric} {
			t.Run(how+", mode "+mode, func(t *testing.T) {
				l := newLAN(t)
				prog := passProgram(t)
				dev, err := netlink.LinkByName(l.dev)
				if err != nil {
					t.Fatal(err)
				}
				switch how {
				case "netlink native":
					err = netlink.LinkSetXdpFdWithFlags(dev, prog.FD(), unix.XDP_FLAGS_DRV_MODE)
				case "netlink generic":
					err = netlink.LinkSetXdpFdWithFlags(dev, prog.FD(), unix.XDP_FLAGS_SKB_MODE)
				case "link":
					var lnk link.Link
					lnk, err = link.AttachXDP(link.XDPOptions{Program: prog, Interface: dev.Attrs().Index})
					if err == nil {
						t.Cleanup(func() { lnk.Close() })
					}
				}
				if err != nil {
					t.Fatal(err)
				}
				id := l.attached(t)
				cfg := l.config(t)
				cfg.Mode = mode
				_, err = Open(cfg)
				if !errors.Is(err, dataplane.ErrUnavailable) || !strings.Contains(err.Error(), fmt.Sprintf("%q (id %d, tag ", "not_ours", id)) {
					t.Errorf("Open: %v, want ErrUnavailable that names the program", err)
				}
				if l.attached(t) != id {
					t.Error("the foreign program was evicted")
				}
				l.nothingPinned(t)

				// Unless it is asked for.
				var log bytes.Buffer
				cfg.Evict, cfg.Log = true, slog.New(slog.NewTextHandler(&log, nil))
				p := open(t, cfg)
				if now := l.attached(t); now == id || now == 0 || !strings.Contains(log.String(), "not_ours") {
					t.Errorf("program %d is attached, want ours; log:\n%s", now, log.String())
				}
				if err := p.Close(); err != nil {
					t.Error(err)
				}
				l.nothingPinned(t)
			})
		}
	}
}

func TestRestart(t *testing.T) {
	l := newLAN(t)
	first := serving(t, l.config(t), twoServices(3))
	on := sender(t, first.Program(), ownMAC)
	where := map[int]planetest.Outcome{}
	for i := range 7 {
		where[i] = on(client(i, "S"))
	}
	before, err := first.Stats()
	if err != nil {
		t.Fatal(err)
	}
	id := l.attached(t)
	first.crash(t)

	// Nobody is there, and the kernel still does the work.
	if l.attached(t) != id {
		t.Fatal("the program went with the daemon")
	}
	second := open(t, l.config(t))
	if now := l.attached(t); now == id || now == 0 {
		t.Errorf("program %d after %d: want the successor's", now, id)
	}
	on = sender(t, second.Program(), ownMAC)
	// Before any Apply: same generation, flows, lease.
	for i := range 7 {
		if got := on(client(i, "A")); got.String() != where[i].String() {
			t.Errorf("client %d after the restart: %s, was %s", i, got, where[i])
		}
	}
	// The servers come back in another order; their ids do not change.
	s := twoServices(3)
	for i := range s.Services {
		rs := s.Services[i].Servers
		rs[0], rs[2] = rs[2], rs[0]
	}
	s.Services[0], s.Services[1] = s.Services[1], s.Services[0]
	if g := apply(t, second, s); g != 2 {
		t.Errorf("generation %d, want 2", g)
	}
	for i := range 7 {
		if got := on(client(i, "A")); got.String() != where[i].String() {
			t.Errorf("client %d after the first Apply: %s, was %s", i, got, where[i])
		}
	}
	// The turn goes on: 7 connections were made, the eighth is slot 1.
	if got := on(client(100, "S")); !bytes.Equal(got.To, s.Services[1].Servers[1].MAC) {
		t.Errorf("the turn did not go on: %s", got)
	}
	after, err := second.Stats()
	if err != nil {
		t.Fatal(err)
	}
	key := s.Services[1].ServiceKey
	if got, want := after.Services[key].Packets, before.Services[key].Packets+15; got != want {
		t.Errorf("%d packets counted, want %d", got, want)
	}
	if after.Flows != 8 {
		t.Errorf("%d flows, want 8", after.Flows)
	}
}

func TestRestartWithOtherSettings(t *testing.T) {
	l := newLAN(t)
	first := serving(t, l.config(t), twoServices(1))
	sender(t, first.Program(), ownMAC)(client(0, "S"))
	first.crash(t)

	cfg := l.config(t)
	cfg.Flows *= 2
	cfg.Mode = ModeGeneric
	second := open(t, cfg)
	if info := second.Info(); info.Mode != ModeGeneric {
		t.Errorf("Info() = %+v, want generic", info)
	}
	on := sender(t, second.Program(), ownMAC)
	if got := on(client(0, "A")); got.Verdict != planetest.Passed {
		t.Errorf("a flow in a table of another size: %s", got)
	}
	if got := on(client(0, "S")); got.Verdict != planetest.Forwarded {
		t.Errorf("the generation in force was lost with the flow table: %s", got)
	}
	second.crash(t)
	cfg.Mode = ModeAuto // keeps what is there
	if info := open(t, cfg).Info(); info.Mode != ModeGeneric || info.Reason == "" {
		t.Errorf("Info() = %+v, want generic and why", info)
	}
}

// beginsAnew: a successor that could take nothing over leaves the predecessor's
// program, id, in force until its first Apply, which is its first generation.
func (l lan) beginsAnew(t *testing.T, successor *Plane, id uint32) {
	t.Helper()
	if l.attached(t) != id {
		t.Error("the old program was replaced before there was a generation")
	}
	if g := apply(t, successor, twoServices(1)); g != 1 {
		t.Errorf("generation %d, want 1: nothing was taken over", g)
	}
	if now := l.attached(t); now == id || now == 0 {
		t.Errorf("program %d is attached, want the successor's", now)
	}
}

// A predecessor with another layout goes on forwarding by its own maps until
// the first Apply.
func TestRestartAfterLayoutChange(t *testing.T) {
	l := newLAN(t)
	first := open(t, l.config(t))
	apply(t, first, twoServices(1))
	id := l.attached(t)
	maps := first.pins.maps
	old := filepath.Join(first.pins.base, "v0")
	first.crash(t)
	if err := os.Rename(maps, old); err != nil {
		t.Fatal(err)
	}

	second := open(t, l.config(t))
	if l.attached(t) != id {
		t.Error("the old program was replaced before there was a generation")
	}
	second.crash(t) // once more: it must not be fooled by its own traces
	second = open(t, l.config(t))
	l.beginsAnew(t, second, id)
	if _, err := os.Stat(old); !os.IsNotExist(err) {
		t.Errorf("the maps of the old layout are still there: %v", err)
	}
	second.crash(t)
	third := open(t, l.config(t))
	if g := apply(t, third, twoServices(1)); g != 2 {
		t.Errorf("generation %d, want 2: the maps were not pinned", g)
	}
}

// Maps of our layout's number but of another shape are as those of an unknown
// layout: their program goes on with them until the first Apply, which begins
// with empty ones.
func TestRestartWithMapsOfAnotherShape(t *testing.T) {
	l := newLAN(t)
	first := serving(t, l.config(t), twoServices(1))
	sender(t, first.Program(), ownMAC)(client(0, "S"))
	id, turns := l.attached(t), first.pins.path(bpf.DirectorMapTurns)
	first.crash(t)
	if err := os.Remove(turns); err != nil {
		t.Fatal(err)
	}
	fewer, err := ebpf.NewMap(&ebpf.MapSpec{
		Type: ebpf.Array, KeySize: 4, ValueSize: uint32(unsafe.Sizeof(bpf.DirectorTurn{})), MaxEntries: 4096, Flags: unix.BPF_F_MMAPABLE,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer fewer.Close()
	if err := fewer.Pin(turns); err != nil {
		t.Fatal(err)
	}

	var log bytes.Buffer
	cfg := l.config(t)
	cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	second := open(t, cfg)
	if !strings.Contains(log.String(), "beginning with empty ones") || !strings.Contains(log.String(), "map="+bpf.DirectorMapTurns) {
		t.Errorf("the log does not say which map is of no use:\n%s", log.String())
	}
	l.beginsAnew(t, second, id)
	if err := second.Renew(dataplane.Unlimited); err != nil {
		t.Fatal(err)
	}
	on := sender(t, second.Program(), ownMAC)
	if got := on(client(0, "A")); got.Verdict != planetest.Passed {
		t.Errorf("a flow of the maps of no use: %s", got)
	}
	if got := on(client(0, "S")); got.Verdict != planetest.Forwarded {
		t.Errorf("a new connection: %s", got)
	}
	second.crash(t)
	third := open(t, l.config(t))
	if got := sender(t, third.Program(), ownMAC)(client(0, "A")); got.Verdict != planetest.Forwarded {
		t.Errorf("after one more restart: %s", got)
	}
	if g := apply(t, third, twoServices(1)); g != 2 {
		t.Errorf("generation %d, want 2: the maps were not pinned", g)
	}
}

func TestInterfaceGoesAndComes(t *testing.T) {
	l := newLAN(t)
	p := serving(t, l.config(t), twoServices(1))
	on := sender(t, p.Program(), ownMAC)
	on(client(0, "S"))
	l.remove(t)
	if info := p.Info(); info.Mode != "detached" || !strings.Contains(info.Reason, "gone") {
		t.Errorf("Info() = %+v, want detached: gone", info)
	}
	if _, err := p.Apply(twoServices(2)); !errors.Is(err, dataplane.ErrUnavailable) {
		t.Errorf("Apply without interface: %v, want ErrUnavailable", err)
	}
	l.create(t)
	if g := apply(t, p, twoServices(2)); g != 2 {
		t.Errorf("generation %d, want 2", g)
	}
	if info := p.Info(); info.Mode != ModeNative || l.attached(t) == 0 {
		t.Errorf("Info() = %+v, program %d: want it attached again", info, l.attached(t))
	}
	if got := on(client(0, "A")); got.Verdict != planetest.Forwarded {
		t.Errorf("the flow was lost: %s", got)
	}

	// The same while nobody was there.
	p.crash(t)
	l.remove(t)
	l.create(t)
	p = open(t, l.config(t))
	if info := p.Info(); info.Mode != ModeNative || l.attached(t) == 0 {
		t.Errorf("Info() = %+v after a restart with a new interface", info)
	}
	if got := sender(t, p.Program(), ownMAC)(client(0, "A")); got.Verdict != planetest.Forwarded {
		t.Errorf("the flow was lost: %s", got)
	}
}

// A frame on the wire really comes back to the real server's MAC.
func TestWire(t *testing.T) {
	l := newLAN(t)
	cfg := l.config(t)
	cfg.Mode = ModeGeneric // a veth drops native XDP_TX unless its peer has XDP too
	serving(t, cfg, twoServices(1))
	peer, err := net.InterfaceByName(l.peer)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, int(htons(unix.ETH_P_ALL)))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	addr := &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: peer.Index}
	if err := unix.Bind(fd, addr); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		t.Fatal(err)
	}
	in := client(0, "S").Bytes()
	if err := unix.Sendto(fd, in, 0, addr); err != nil {
		t.Fatal(err)
	}
	want := append(append(bytes.Clone(serverMAC(1)), ownMAC...), in[12:]...)
	for buf := make([]byte, 2000); ; {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			t.Fatalf("the frame did not come back: %v", err)
		}
		if bytes.Equal(buf[:n], want) {
			return
		}
	}
}

func htons(n uint16) uint16 { return n<<8 | n>>8 }
