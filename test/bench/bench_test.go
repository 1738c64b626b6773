// Package bench measures what the data plane costs per packet. It needs root:
//
//	go test -bench . ./test/bench
//
// Each iteration runs the two floors and the director in turn, so that what
// else the machine does hits all three. Reported are, in ns per packet, the
// best run of each: "net" is the director less the floor that only returns,
// "swap" the same for a program that swaps the MAC addresses and returns, the
// least that any gate forwarding does. The size of the flow table matters: a
// table of more pages than the processor's TLB holds costs a page walk per
// packet once many flows take turns.
package bench

import (
	"math"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/cilium/ebpf"

	"systole/dataplane"
	"systole/dataplane/planetest"
	"systole/dataplane/xdp"
)

//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -go-package bench Generator generator.c -- -O2 -mcpu=v3 -Wall -Wextra -Werror -I/usr/include/x86_64-linux-gnu

var (
	own = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	vip = netip.MustParseAddr("192.168.145.101")
)

// repeat is the number of packets of one run: about a millisecond, so that some
// runs are not interrupted.
const repeat = 20_000

func snapshot() dataplane.Snapshot {
	s := dataplane.Snapshot{
		VIPs:         []dataplane.VIP{{Addr: vip, Role: dataplane.Active}},
		Services:     []dataplane.Service{{ServiceKey: dataplane.ServiceKey{VIP: vip, Port: 80, Protocol: dataplane.TCP}, Scheduler: "rr"}},
		Peers:        []net.HardwareAddr{{2, 0, 0, 0, 0, 2}},
		SecondChance: true,
	}
	for n := range byte(16) {
		s.Services[0].Servers = append(s.Services[0].Servers, dataplane.RealServer{
			Addr: netip.AddrFrom4([4]byte{192, 168, 145, 10 + n}), Weight: 1, MAC: net.HardwareAddr{2, 0, 0, 1, 0, n},
		})
	}
	return s
}

// runner is a generator with one program behind it.
type runner struct {
	objects GeneratorObjects
}

func newRunner(b *testing.B, clients uint64, prog func(*GeneratorObjects) *ebpf.Program) *runner {
	b.Helper()
	spec, err := LoadGenerator()
	if err != nil {
		b.Fatal(err)
	}
	if err := spec.Variables[GeneratorVarClients].Set(clients); err != nil {
		b.Fatal(err)
	}
	r := &runner{}
	if err := spec.LoadAndAssign(&r.objects, nil); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { r.objects.Close() })
	if err := r.objects.Next.Put(uint32(0), prog(&r.objects)); err != nil {
		b.Fatal(err)
	}
	return r
}

// run returns ns per packet.
func (r *runner) run(b *testing.B, frame []byte, times int, verdict uint32) float64 {
	b.Helper()
	got, d, err := r.objects.Generate.Benchmark(frame, times, nil)
	if err != nil {
		b.Fatal(err)
	}
	if got != verdict {
		b.Fatalf("verdict %d, want %d", got, verdict)
	}
	return float64(d.Nanoseconds())
}

func BenchmarkPacket(b *testing.B) {
	if os.Getuid() != 0 {
		if os.Getenv("SYSTOLE_CI") == "1" {
			b.Fatal("needs root: BPF programs")
		}
		b.Skip("needs root: BPF programs")
	}
	const pass, tx = 2, 3
	for _, bb := range []struct {
		name    string
		clients uint64
		table   int  // entries of the flow table
		open    bool // every packet is a SYN
		to      netip.Addr
		verdict uint32
	}{
		{"not our VIP", 10_000, 1 << 17, false, netip.MustParseAddr("192.168.145.201"), pass},
		{"established, 1 flow", 1, 1 << 17, false, vip, tx},
		{"established, 10k flows", 10_000, 1 << 17, false, vip, tx},
		{"established, 500k flows", 500_000, 1 << 22, false, vip, tx},
		{"new flow", math.MaxUint32, xdp.DefaultFlows, true, vip, tx},
	} {
		b.Run(bb.name, func(b *testing.B) {
			p, err := xdp.Load(xdp.Config{Flows: bb.table}, own)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { p.Close() })
			if _, err := p.Apply(snapshot()); err != nil {
				b.Fatal(err)
			}
			if err := p.Renew(dataplane.Unlimited); err != nil {
				b.Fatal(err)
			}
			frame := planetest.Frame{
				Dst: own, Src: net.HardwareAddr{2, 0, 0, 0, 9, 9},
				From:     netip.MustParseAddrPort("10.0.0.1:40000"),
				To:       netip.AddrPortFrom(bb.to, 80),
				Protocol: dataplane.TCP, Flags: "S",
			}
			director := newRunner(b, bb.clients, func(*GeneratorObjects) *ebpf.Program { return p.Program() })
			floor := newRunner(b, bb.clients, func(o *GeneratorObjects) *ebpf.Program { return o.FloorReturn })
			swap := newRunner(b, bb.clients, func(o *GeneratorObjects) *ebpf.Program { return o.FloorSwap })
			if !bb.open {
				director.run(b, frame.Bytes(), int(bb.clients), bb.verdict) // make the flows
				frame.Flags = "A"
			}
			in := frame.Bytes()
			best := [3]float64{math.MaxFloat64, math.MaxFloat64, math.MaxFloat64}
			for b.Loop() {
				best[0] = min(best[0], floor.run(b, in, repeat, tx))
				best[1] = min(best[1], swap.run(b, in, repeat, tx))
				best[2] = min(best[2], director.run(b, in, repeat, bb.verdict))
			}
			st, err := p.Stats()
			if err != nil {
				b.Fatal(err)
			}
			if bb.verdict == tx && st.Reasons["second_chance"]+st.Reasons["no_flow"] != 0 {
				b.Fatalf("not the packets that were meant: %v", st.Reasons)
			}
			b.ReportMetric(best[2]-best[0], "net-ns/packet")
			b.ReportMetric(best[1]-best[0], "swap-ns/packet")
			b.ReportMetric(best[0], "floor-ns/packet")
			b.ReportMetric(0, "ns/op")
		})
	}
}
