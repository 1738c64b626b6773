package xdp

import (
	"bytes"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"systole/dataplane"
	"systole/dataplane/observe"
	"systole/dataplane/planetest"
	"systole/test/need"
)

// fastConfig is the n-th of some configurations that follow each other.
func fastConfig(n int) dataplane.Snapshot {
	peer := net.HardwareAddr{2, 0, 0, 0, 0, 2}
	roles := []dataplane.Role{dataplane.Active, dataplane.Active, dataplane.Draining, dataplane.Standby}
	// What a segment after FIN gets depends on the time since a change of roles,
	// which is not the same in both planes.
	s := dataplane.Snapshot{Peers: []net.HardwareAddr{peer}, SecondChance: n < 10}
	for v, vip := range fastVIPs {
		s.VIPs = append(s.VIPs, dataplane.VIP{Addr: vip, Role: roles[(v+n/10)%len(roles)]})
		for port := range uint16(5) {
			for _, protocol := range []dataplane.Protocol{dataplane.TCP, dataplane.UDP, dataplane.SCTP} {
				svc := dataplane.Service{ServiceKey: dataplane.ServiceKey{VIP: vip, Port: 80 + port, Protocol: protocol}, Scheduler: "rr"}
				switch port {
				case 1:
					svc.Persistence.Timeout = time.Minute
				case 2:
					svc.OnePacket = protocol == dataplane.UDP && n%2 == 0
					svc.Lost = dataplane.Keep
				case 3:
					svc.Port, svc.LastPort = 100, 200
					svc.Lost = dataplane.Reschedule
				case 4:
					svc.Scheduler = "sh"
					if protocol == dataplane.UDP {
						svc.ServerIDLength = 1 // the payloads are all zero
					}
				}
				for i := range byte(4) {
					r := server(int(i) + 1)
					if vip.Is6() {
						r.Addr = netip.AddrFrom16([16]byte{0xfd, 15: i + 1})
					}
					if svc.ServerIDLength != 0 {
						r.ServerID = []byte{i}
					}
					if int(i) == n%5 {
						r.MAC = nil // not known for a while
					}
					if int(i) != n%7 { // else it has left
						svc.Servers = append(svc.Servers, r)
					}
				}
				s.Services = append(s.Services, svc)
			}
		}
	}
	return s
}

var fastVIPs = []netip.Addr{
	netip.MustParseAddr("192.168.145.101"), netip.MustParseAddr("192.168.145.102"),
	netip.MustParseAddr("fd00::101"), netip.MustParseAddr("fd00::102"),
}

// fastFrame is a packet as any, most of them of flows that exist.
func fastFrame(r *rand.Rand) []byte {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	f := planetest.Frame{Dst: ownMAC, Src: otherMAC, Flags: pick("S", "A", "A", "PA", "PA", "", "FA", "R", "SA"), Payload: r.IntN(40)}
	f.Protocol = []dataplane.Protocol{dataplane.TCP, dataplane.TCP, dataplane.UDP, dataplane.SCTP, 1}[min(r.IntN(12), 4)]
	// Each address has its clients. Flows that differ in nothing else share two
	// buckets, and the victims of too many would not be the same in both planes.
	v := r.IntN(len(fastVIPs))
	vip, client := fastVIPs[v], netip.AddrFrom4([4]byte{10, 0, byte(v), byte(r.IntN(3))})
	if vip.Is6() {
		client = netip.AddrFrom16([16]byte{0xfd, 14: byte(v), 15: byte(r.IntN(3))})
	}
	f.From = netip.AddrPortFrom(client, 1000+uint16(r.IntN(2)))
	f.To = netip.AddrPortFrom(vip, []uint16{80, 81, 82, 84, 150, 90}[r.IntN(6)])
	switch r.IntN(24) {
	case 0:
		f.MF = true
	case 1:
		f.Offset = 100
	case 2:
		f.Options = []byte{148, 4, 0, 0}
		f.Extensions = []planetest.Extension{{Type: 60, Body: make([]byte, 6)}}
	case 3:
		f.VLANs = []uint16{7}
	case 4:
		f.Src = net.HardwareAddr{2, 0, 0, 0, 0, 2} // the peer
	case 5:
		f.Dst = net.HardwareAddr{2, 0, 0, 0, 7, 7}
	case 6:
		f.To = netip.AddrPortFrom(vip.Next().Next().Next(), f.To.Port())
	}
	frame := f.Bytes()
	if r.IntN(4) > 0 && len(frame) < 74 {
		frame = append(frame, make([]byte, 74-len(frame))...)
	}
	switch r.IntN(16) {
	case 0:
		frame = frame[:14+r.IntN(len(frame)-13)]
	case 1:
		frame[r.IntN(min(len(frame), 60))] ^= 1 << r.IntN(8)
	}
	return frame
}

// TestShortCutsChangeNothing: the observing program has no short cut for usual
// packets (fast.h), the other one has. Two planes, each behind one of them, meet the
// same packets and changes, and must do and count the same.
func TestShortCutsChangeNothing(t *testing.T) {
	need.Root(t, "BPF programs")
	var planes [2]*Plane
	for i := range planes {
		p, err := Load(Config{Flows: 1 << 16, Flows6: 1 << 16, NewFlows: -1, Log: testLog(t)}, ownMAC) // nobody has to go
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		planes[i] = p
	}
	slow := look(t, planes[1], observe.Config{})
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	sent := 0
	for n := range 30 {
		lease := dataplane.Unlimited
		if n%10 == 9 {
			lease = 0
		}
		for _, p := range planes {
			if _, err := p.Apply(fastConfig(n)); err != nil {
				t.Fatal(err)
			}
			if err := p.Renew(lease); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 1000 {
			frame := fastFrame(r)
			v1, out1, err1 := planes[0].Program().Test(frame)
			v2, out2, err2 := slow.Program().Test(frame)
			if err1 != nil || err2 != nil {
				t.Fatal(err1, err2)
			}
			if v1 != v2 || !bytes.Equal(out1, out2) {
				t.Fatalf("configuration %d, packet %d: %x\nfast: %d\n%x\nslow: %d\n%x", n, i, frame, v1, out1, v2, out2)
			}
			if v1 == 3 { // XDP_TX
				sent++
			}
		}
		var stats [2]dataplane.Stats
		for i, p := range planes {
			s, err := p.Stats()
			if err != nil {
				t.Fatal(err)
			}
			s.CPUs = nil // the test may have been moved from one to another
			stats[i] = s
		}
		if d := cmp.Diff(stats[0], stats[1]); d != "" {
			t.Fatalf("configuration %d: counted (fast -, slow +)\n%s", n, d)
		}
	}
	if sent < 2000 {
		t.Errorf("only %d packets were forwarded", sent)
	}
}
