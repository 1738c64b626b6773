package xdp

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"

	"systole/dataplane"
	"systole/dataplane/planetest"
	"systole/test/need"
)

var ownMAC = net.HardwareAddr{2, 0, 0, 0, 0, 1}

func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

// loaded is a plane without interface.
func loaded(t testing.TB, flows int) *Plane {
	t.Helper()
	return loadedWith(t, Config{Flows: flows})
}

func loadedWith(t testing.TB, cfg Config) *Plane {
	t.Helper()
	need.Root(t, "BPF programs")
	cfg.Log = testLog(t)
	p, err := Load(cfg, ownMAC)
	if err != nil {
		var verifier *ebpf.VerifierError
		if errors.As(err, &verifier) {
			t.Fatalf("%+v", verifier)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// verdicts of XDP, from linux/bpf.h.
const (
	xdpDrop = 1
	xdpPass = 2
	xdpTX   = 3
)

// send runs the program on one frame.
func send(t testing.TB, prog *ebpf.Program, frame []byte) (verdict uint32, out []byte) {
	t.Helper()
	out = make([]byte, len(frame)+64)
	opts := ebpf.RunOptions{Data: frame, DataOut: out}
	verdict, err := prog.Run(&opts)
	if err != nil {
		t.Fatal(err)
	}
	return verdict, opts.DataOut
}

func sender(t testing.TB, prog *ebpf.Program, own net.HardwareAddr) func(planetest.Frame) planetest.Outcome {
	return func(f planetest.Frame) planetest.Outcome {
		in := f.Bytes()
		verdict, out := send(t, prog, in)
		switch verdict {
		case xdpDrop:
			return planetest.Outcome{Verdict: planetest.Dropped}
		case xdpPass:
			if !bytes.Equal(in, out) {
				t.Errorf("a frame that passes was changed:\n%x\n%x", in, out)
			}
			return planetest.Outcome{Verdict: planetest.Passed}
		case xdpTX:
			if !bytes.Equal(in[12:], out[12:]) || !bytes.Equal(out[6:12], own) {
				t.Errorf("more than the MAC addresses changed, or the source is not ours:\n%x\n%x", in, out)
			}
			return planetest.Outcome{Verdict: planetest.Forwarded, To: out[:6]}
		}
		t.Fatalf("verdict %d", verdict)
		return planetest.Outcome{}
	}
}

// planetestFlows is so much more than a test of the suite makes (400 or so) that
// somebody has to go, for two full buckets, once in a million runs.
const planetestFlows = 8192

func TestConformance(t *testing.T) {
	planetest.Run(t, func(t *testing.T) planetest.Harness {
		p := loaded(t, planetestFlows)
		return planetest.Harness{Plane: p, Own: ownMAC, Send: sender(t, p.Program(), ownMAC), Carries: Carries}
	})
}

// The cast of the tests: web and dns on one address, server n with MAC n.
var (
	testVIP = netip.MustParseAddr("192.168.145.101")
	web     = dataplane.ServiceKey{VIP: testVIP, Port: 80, Protocol: dataplane.TCP}
	dns     = dataplane.ServiceKey{VIP: testVIP, Port: 53, Protocol: dataplane.UDP}
	udpVIP  = netip.AddrPortFrom(testVIP, dns.Port)
)

func serverMAC(n int) net.HardwareAddr {
	return net.HardwareAddr{2, 1, 0, 0, byte(n >> 8), byte(n)}
}

func server(n int) dataplane.RealServer {
	return dataplane.RealServer{Addr: netip.AddrFrom4([4]byte{172, 16, byte(n >> 8), byte(n)}), Weight: 1, MAC: serverMAC(n)}
}

// twoServices is web and dns over servers 1 to n.
func twoServices(n int) dataplane.Snapshot {
	s := dataplane.Snapshot{
		VIPs:     []dataplane.VIP{{Addr: testVIP, Role: dataplane.Active}},
		Services: []dataplane.Service{{ServiceKey: web, Scheduler: "rr"}, {ServiceKey: dns, Scheduler: "rr"}},
	}
	for i := range s.Services {
		for j := range n {
			s.Services[i].Servers = append(s.Services[i].Servers, server(j+1))
		}
	}
	return s
}

// client is the n-th client's frame for web.
func client(n int, flags string) planetest.Frame {
	addr := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
	return planetest.Frame{
		Dst: ownMAC, Src: net.HardwareAddr{2, 0, 0, 0, 9, 9},
		From: netip.AddrPortFrom(addr, 40000), To: netip.AddrPortFrom(testVIP, 80),
		Protocol: dataplane.TCP, Flags: flags,
	}
}
