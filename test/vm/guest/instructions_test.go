package guest

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"systole/dataplane"
	"systole/dataplane/ipvs"
	"systole/dataplane/planetest"
	"systole/dataplane/xdp"
)

//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -go-package guest Instructions instructions.c -- -O2 -mcpu=v3 -Wall -Wextra -Werror -I/usr/include/x86_64-linux-gnu

const (
	packets = 8 << 10 // of one measurement, after as many that are not measured
	clients = 1 << 10 // of established flows, who take turns
	servers = 16
)

// TestInstructions measures time with live frames: BPF_PROG_TEST_RUN sends the
// same frames, made by the same generator, as if the director's NIC had received
// them, into four ends. In a machine that counts instructions (vm.Machine) the
// nanoseconds are those.
//
//	drop   the floor: generator and test run
//	swap   back by XDP_TX; the other end of the cable drops them
//	xdp    the director's program, and the same
//	ipvs   up to IPVS, and out by a device that drops them
func TestInstructions(t *testing.T) {
	namespace(t)
	noIPv6(t) // its neighbour discovery would be counted
	cable(t, "lan", "far")
	// The way out is a device with a neighbour table, as a NIC is.
	must(t, netlink.LinkAdd(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "out"}}))
	must(t, netlink.LinkSetARPOn(device(t, "out")))
	up(t, "out")
	addAddr(t, "out", director)
	addAddr(t, "lo", netip.PrefixFrom(vip, 32))

	s := dataplane.Snapshot{VIPs: []dataplane.VIP{{Addr: vip, Role: dataplane.Active}}}
	for _, p := range []dataplane.Protocol{dataplane.UDP, dataplane.TCP} {
		svc := dataplane.Service{ServiceKey: dataplane.ServiceKey{VIP: vip, Port: 80, Protocol: p}, Scheduler: "rr"}
		for n := range servers {
			svc.Servers = append(svc.Servers, dataplane.RealServer{Addr: serverAddr(n), Weight: 1, MAC: serverMAC(n)})
		}
		s.Services = append(s.Services, svc)
	}
	for n := range servers {
		neighbour(t, "out", serverAddr(n), serverMAC(n))
	}
	ours, err := xdp.Load(xdp.Config{Flows: 1 << 20, NewFlows: -1}, own)
	must(t, err)
	defer ours.Close()
	kernel, err := ipvs.Open(ipvs.Config{Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	defer kernel.Close()
	for _, p := range []dataplane.Plane{ours, kernel} {
		_, err := p.Apply(s)
		must(t, err)
	}
	must(t, ours.Renew(dataplane.Unlimited))

	g := newGenerator(t)
	flows := 0 // that both planes have by now
	for i, k := range []struct {
		name    string
		open    string // flags of the packets that begin the flows
		flags   string
		payload int // to 64 bytes a frame
		clients int
		proto   dataplane.Protocol
	}{
		{"udp", "", "", 22, clients, dataplane.UDP},
		{"tcp established", "S", "A", 10, clients, dataplane.TCP},
		{"tcp new", "S", "S", 10, 2 * packets, dataplane.TCP},
	} {
		frame := planetest.Frame{
			Dst: own, Src: routerMAC, From: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 0),
			To: netip.AddrPortFrom(vip, 80), Protocol: k.proto, Flags: k.open, Payload: k.payload,
		}
		opening := frame.Bytes()
		frame.Flags = k.flags
		var cost [4]uint32
		for j, end := range []struct {
			prog  *ebpf.Program
			count func() uint64
			want  uint64
		}{
			{g.Drop, g.sunkFrames, 0},
			{g.Swap, g.sunkFrames, packets},
			{ours.Program(), g.sunkFrames, packets},
			{g.Pass, g.outFrames, packets},
		} {
			g.into(end.prog, opening, k.clients)
			g.run(opening, packets)
			if k.flags != k.open {
				g.run(frame.Bytes(), packets)
			}
			before := end.count()
			cost[j] = g.run(frame.Bytes(), packets)
			if got := end.count() - before; got != end.want {
				t.Errorf("%s, end %d: %d frames came out, want %d", k.name, j, got, end.want)
			}
		}
		flows += k.clients
		for _, p := range []dataplane.Plane{ours, kernel} {
			st, err := p.Stats()
			must(t, err)
			if st.Flows != int64(flows) {
				t.Errorf("after %s: %s has %d flows, want %d", k.name, p.Info().Name, st.Flows, flows)
			}
		}
		fmt.Printf("INSTRUCTIONS\t%s\t%d\t%d\t%d\t%d\n", k.name, cost[0], cost[1], cost[2], cost[3])
	}
}

// generator sends frames into the cable.
type generator struct {
	InstructionsObjects
	t    *testing.T
	near int // interface index
}

func newGenerator(t *testing.T) *generator {
	t.Helper()
	g := &generator{t: t, near: device(t, "lan").Attrs().Index}
	must(t, LoadInstructionsObjects(&g.InstructionsObjects, nil))
	t.Cleanup(func() { g.Close() })
	// Frames go in as those of a receive queue, which a veth has with XDP only,
	// and so has its other end, to receive frames that XDP sends.
	for dev, prog := range map[string]*ebpf.Program{"lan": g.Pass, "far": g.Sink} {
		l, err := link.AttachXDP(link.XDPOptions{Program: prog, Interface: device(t, dev).Attrs().Index, Flags: link.XDPDriverMode})
		must(t, err)
		t.Cleanup(func() { l.Close() })
	}
	return g
}

// into puts prog behind the generator and begins anew with the first of n
// clients. The IP header of the frames is that of frame.
func (g *generator) into(prog *ebpf.Program, frame []byte, n int) {
	g.t.Helper()
	must(g.t, g.Next.Put(uint32(0), prog))
	must(g.t, g.Recipe.Put(uint32(0), InstructionsRecipe{Clients: uint32(n), Checksum: binary.NativeEndian.Uint16(frame[14+10:])}))
}

func (g *generator) sunkFrames() uint64 {
	var n uint64
	must(g.t, g.Sunk.Lookup(uint32(0), &n))
	return n
}

// outFrames are those that IPVS sent.
func (g *generator) outFrames() uint64 {
	return device(g.t, "out").Attrs().Statistics.TxPackets
}

// run sends n frames and returns the nanoseconds that each took. The library's
// Run keeps them to itself.
func (g *generator) run(frame []byte, n uint32) uint32 {
	g.t.Helper()
	// struct xdp_md (linux/bpf.h).
	context := struct{ data, dataEnd, dataMeta, ingress, queue, egress uint32 }{
		dataEnd: uint32(len(frame)), ingress: uint32(g.near),
	}
	// union bpf_attr, what BPF_PROG_TEST_RUN has of it.
	attr := struct {
		prog, retval, dataSizeIn, dataSizeOut   uint32
		dataIn, dataOut                         uint64
		repeat, duration, ctxSizeIn, ctxSizeOut uint32
		ctxIn, ctxOut                           uint64
		flags, cpu, batch, _                    uint32
	}{
		prog: uint32(g.Generate.FD()), dataSizeIn: uint32(len(frame)), dataIn: uint64(uintptr(unsafe.Pointer(&frame[0]))),
		repeat: n, ctxSizeIn: uint32(unsafe.Sizeof(context)), ctxIn: uint64(uintptr(unsafe.Pointer(&context))),
		flags: unix.BPF_F_TEST_XDP_LIVE_FRAMES,
	}
	_, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_TEST_RUN, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	runtime.KeepAlive(frame)
	runtime.KeepAlive(&context)
	if errno != 0 {
		g.t.Fatalf("BPF_PROG_TEST_RUN with live frames: %v", errno)
	}
	return attr.duration
}
