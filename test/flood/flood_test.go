package flood

import (
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"

	"systole/dataplane"
	"systole/dataplane/planetest"
	"systole/dataplane/xdp"
	"systole/test/need"
)

var (
	vip = netip.MustParseAddr("192.168.145.101")
	web = dataplane.ServiceKey{VIP: vip, Port: 80, Protocol: dataplane.TCP}
)

func frame(flags string) planetest.Frame {
	return planetest.Frame{
		From: netip.AddrPortFrom(Tracked, 40000), To: netip.AddrPortFrom(vip, 80), Protocol: dataplane.TCP, Flags: flags,
	}
}

func newWire(t *testing.T, queues int) *Wire {
	t.Helper()
	need.Root(t, "BPF programs")
	w, err := New(queues)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// director puts a plane with n servers on the wire, and a peer.
func director(t *testing.T, w *Wire, n int) *xdp.Plane {
	t.Helper()
	p, err := xdp.Load(xdp.Config{Flows: 1 << 16, NewFlows: -1}, Own)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	s := dataplane.Snapshot{
		VIPs:     []dataplane.VIP{{Addr: vip, Role: dataplane.Active}},
		Services: []dataplane.Service{{ServiceKey: web, Scheduler: "rr"}},
		Peers:    []net.HardwareAddr{{2, 0, 0, 0, 0, 2}}, SecondChance: true,
	}
	for i := range byte(n) {
		s.Services[0].Servers = append(s.Services[0].Servers, dataplane.RealServer{
			Addr: netip.AddrFrom4([4]byte{192, 168, 145, 10 + i}), Weight: 1, MAC: Steady(i)})
	}
	if _, err := p.Apply(s); err != nil {
		t.Fatal(err)
	}
	if err := p.Renew(dataplane.Unlimited); err != nil {
		t.Fatal(err)
	}
	detach, err := w.Attach(p.Program())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := detach(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func sentBy(t *testing.T, s *Stream) uint64 {
	t.Helper()
	n, err := s.Sent()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Whatever was sent is counted when Send returns, on as many CPUs as there are,
// and what goes to no server is told apart.
func TestEverythingIsCounted(t *testing.T) {
	cpus, err := CPUs()
	if err != nil {
		t.Fatal(err)
	}
	w := newWire(t, len(cpus))
	director(t, w, 4)
	const each = 20_000
	var streams []*Stream
	for i := range cpus {
		f := frame("S")
		f.From = netip.AddrPortFrom(Client(Tracked, i*each), 40000)
		s, err := w.Stream(Traffic{Frame: f, Clients: each})
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, s)
	}
	var wg sync.WaitGroup
	for i, cpu := range cpus {
		wg.Go(func() {
			if err := w.OnCPU(cpu, streams[i].Round); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	b, err := w.Balance()
	if err != nil {
		t.Fatal(err)
	}
	tally, err := w.Tally()
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range streams {
		if n := sentBy(t, s); tally.Received[i]+b.Overrun < n || n < each {
			t.Errorf("stream %d: %d sent, %d came back", i, n, tally.Received[i])
		}
	}
	opened := b.Received
	for n := range byte(4) {
		opened -= tally.Opened[n]
	}
	if b.Lost() != 0 || b.Sent < uint64(len(cpus))*each {
		t.Error(b)
	}
	if opened != 0 || tally.Moved != 0 || tally.Elsewhere != 0 {
		t.Errorf("%d frames to no server of ours; %+v", opened, tally)
	}
	if n, ok, err := w.Server(each / 2); err != nil || !ok || n > 3 {
		t.Errorf("server of a client: %d, %v, %v", n, ok, err)
	}

	// A segment without a flow goes to the peer, and a client that was told
	// another server has moved.
	f := frame("A")
	f.From = netip.MustParseAddrPort("11.0.0.0:1")
	stray, err := w.Stream(Traffic{Frame: f, Clients: 10})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.objects.ServerOf.Put(uint32(0), uint32(9)); err != nil {
		t.Fatal(err)
	}
	if err := w.Do(func() error {
		if err := stray.Round(); err != nil {
			return err
		}
		return streams[0].Send(1)
	}); err != nil {
		t.Fatal(err)
	}
	if tally, err = w.Tally(); err != nil || tally.Elsewhere != 10 || tally.Moved != 1 || tally.Received[stray.ID()] != 0 {
		t.Errorf("10 frames for a peer and one of a client that moved: %d, %d, %v", tally.Elsewhere, tally.Moved, err)
	}
	if err := w.Forget(true); err != nil {
		t.Fatal(err)
	}
	if tally, err = w.Tally(); err != nil || tally != (Tally{}) {
		t.Errorf("after Forget: %+v, %v", tally, err)
	}
	if _, ok, err := w.Server(0); ok || err != nil {
		t.Errorf("a client after Forget: %v, %v", ok, err)
	}
}

// The kernel sends nothing of its own on the wire, and what the wire loses is
// told from what the director loses: here the program sends back frames that
// nobody takes any more.
func TestOverrun(t *testing.T) {
	w := newWire(t, 1)
	director(t, w, 1)
	if err := w.Do(func() error {
		addrs, err := netlink.AddrList(nil, netlink.FAMILY_V6)
		if len(addrs) != 0 {
			t.Errorf("the wire has IPv6: %v", addrs)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	stream, err := w.Stream(Traffic{Frame: frame("S"), Clients: 1000})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.at.Close(); err != nil { // without a program the device has no ring
		t.Fatal(err)
	}
	w.at = nil
	if err := w.Do(stream.Round); err != nil {
		t.Fatal(err)
	}
	if b, err := w.Balance(); err != nil || b.Overrun != sentBy(t, stream) || b.Lost() != 0 || b.Received != 0 {
		t.Errorf("%+v, %v", b, err)
	}
}

// New connections without end, and the generations of their servers.
func TestFresh(t *testing.T) {
	w := newWire(t, 1)
	p := director(t, w, 1)
	s := dataplane.Snapshot{
		VIPs: []dataplane.VIP{{Addr: vip, Role: dataplane.Active}},
		Services: []dataplane.Service{{ServiceKey: web, Scheduler: "rr", Servers: []dataplane.RealServer{
			{Addr: netip.MustParseAddr("192.168.145.10"), Weight: 1, MAC: Passing(70_000, 1)},
			{Addr: netip.MustParseAddr("192.168.145.11"), Weight: 1, MAC: Passing(70_001, 2)},
		}}},
	}
	if _, err := p.Apply(s); err != nil {
		t.Fatal(err)
	}
	stream, err := w.Stream(Traffic{Frame: frame("S"), Clients: 10, Fresh: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Do(func() error { return stream.Send(1000) }); err != nil {
		t.Fatal(err)
	}
	tally, err := w.Tally()
	if err != nil {
		t.Fatal(err)
	}
	if n := sentBy(t, stream); tally.Opened[1]+tally.Opened[2] != n || tally.Opened[1] != tally.Opened[2] && n == 1000 {
		t.Errorf("%d sent; to the two servers %d and %d", n, tally.Opened[1], tally.Opened[2])
	}
	if tally.Outside != 1000 && tally.Outside != sentBy(t, stream) {
		t.Errorf("%d of %d frames outside of no generation", tally.Outside, sentBy(t, stream))
	}
	before := tally.Outside
	for _, tt := range []struct{ from, to, outside uint32 }{
		{70_000, 70_001, 0}, {70_000, 70_000, 500}, {70_001, 70_001, 500}, {70_001, 70_002, 500}, {1, 1 << 24, 0},
	} {
		if err := w.InForce(tt.from, tt.to); err != nil {
			t.Fatal(err)
		}
		sent := sentBy(t, stream)
		if err := w.Do(func() error { return stream.Send(1000) }); err != nil {
			t.Fatal(err)
		}
		if tally, err = w.Tally(); err != nil {
			t.Fatal(err)
		}
		if got := tally.Outside - before; sentBy(t, stream) == sent+1000 && got != uint64(tt.outside) {
			t.Errorf("in force %d to %d: %d outside, want %d", tt.from, tt.to, got, tt.outside)
		}
		before = tally.Outside
	}
	st, err := p.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if uint64(st.Services[web].Connections) != sentBy(t, stream) {
		t.Errorf("%d connections of %d frames", st.Services[web].Connections, sentBy(t, stream))
	}
}
