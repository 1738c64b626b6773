package xdp

import (
	"bytes"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"systole/dataplane"
	"systole/dataplane/planetest"
	"systole/test/flood"
	"systole/test/need"
)

// layout1State is struct state as the program of layout 1 reads it. A perfect
// hash with the multiplier 1 and no shifts has its only key at place 0.
type layout1State struct {
	lease       uint64
	active, _   uint32
	seed        [2]uint64
	generations [2]struct {
		number, vipSeed, serviceSeed uint64
		own                          [8]byte
		peers                        [8][8]byte
		npeers, secondChance         uint32
		vipShift                     [1024]uint16
		vips                         [2048]struct{ addr, role, since, _ uint32 }
		serviceShift                 [4096]uint16
		services                     [8192]struct {
			key          uint64
			first, slots uint32
			id           uint16
			_            [3]uint16
		}
		servers [16384]struct {
			mac     [6]byte
			service uint16
		}
		slots [65536]uint16
	}
}

// startLayout1 attaches and pins the program of layout 1, as it was compiled
// then, with one service of n servers of package flood, in the wire's
// namespace. It returns when all of it is in place.
func startLayout1(base string, n int) error {
	spec, err := ebpf.LoadCollectionSpec("testdata/layout1.o")
	if err != nil {
		return err
	}
	const buckets = 1 << 16
	spec.Maps["flows"].MaxEntries = buckets
	jiffy, err := jiffyLength()
	if err != nil {
		return err
	}
	aging := &layout1{}
	timeouts := [8]int32{minInt32, 0, 0, 0, 0, maxInt32, minInt32, minInt32}
	for jiffy<<aging.shift < 500*time.Millisecond {
		aging.shift++
	}
	for i, s := range layout1States {
		if s.timeout != 0 {
			timeouts[i] = int32(s.timeout/(jiffy<<aging.shift)) + 2
		}
	}
	for name, v := range map[string]any{
		"bucket_mask": uint32(buckets - 1), "flow_seed0": uint64(0x123456789abcdef), "flow_seed1": uint64(0xfedcba987654321),
		"age_shift": aging.shift, "timeouts": timeouts,
	} {
		if err := spec.Variables[name].Set(v); err != nil {
			return err
		}
	}
	var o struct {
		Program  *ebpf.Program `ebpf:"systole_xdp"`
		State    *ebpf.Map     `ebpf:"state"`
		Flows    *ebpf.Map     `ebpf:"flows"`
		Services *ebpf.Map     `ebpf:"service_names"`
		Servers  *ebpf.Map     `ebpf:"server_names"`
		Turns    *ebpf.Map     `ebpf:"turns"`
	}
	if err := spec.LoadAndAssign(&o, nil); err != nil {
		return err
	}
	defer func() { // what is pinned stays
		for _, m := range []*ebpf.Map{o.State, o.Flows, o.Services, o.Servers, o.Turns} {
			m.Close()
		}
		o.Program.Close()
	}()
	raw, err := mapBytes(o.State)
	if err != nil {
		return err
	}
	if int(unsafe.Sizeof(layout1State{})) != int(o.State.ValueSize()) {
		return errors.New("the state of layout 1 has another size")
	}
	s := (*layout1State)(unsafe.Pointer(&raw[0]))
	s.lease, s.seed = unlimitedTicks, [2]uint64{0x123456789abcdef, 0xfedcba987654321}
	g := &s.generations[0]
	g.number, g.vipSeed, g.serviceSeed = 7, 1, 1
	copy(g.own[:], flood.Own)
	g.vips[0].addr, g.vips[0].role = addrWord(testVIP), 2 // active
	// Not at place 0: the address reaches into the high half of the key.
	key := uint64(addrWord(testVIP))<<24 | uint64(portWord(web.Port))<<8 | uint64(dataplane.TCP)
	service := &g.services[key>>32&8191]
	const id = 5
	service.key, service.slots, service.id = key, uint32(n), id
	var svc layout1Service
	vip := testVIP.As4()
	copy(svc.vip[:], vip[:])
	svc.port, svc.protocol, svc.family = web.Port, uint8(dataplane.TCP), 4
	errs := []error{o.Services.Put(uint32(id), (*[unsafe.Sizeof(svc)]byte)(unsafe.Pointer(&svc))[:])}
	for i := range n {
		sid := 100 + i
		g.slots[i] = uint16(sid)
		copy(g.servers[sid].mac[:], flood.Steady(byte(i)))
		g.servers[sid].service = id
		name := layout1Server{service: id, family: 4}
		addr := steady(i).Addr.As4()
		copy(name.addr[:], addr[:])
		errs = append(errs, o.Servers.Put(uint32(sid), (*[unsafe.Sizeof(name)]byte)(unsafe.Pointer(&name))[:]))
	}
	dir := filepath.Join(base, "v1")
	errs = append(errs, os.MkdirAll(dir, 0o700))
	for name, m := range map[string]*ebpf.Map{"state": o.State, "flows": o.Flows, "service_names": o.Services, "server_names": o.Servers, "turns": o.Turns} {
		errs = append(errs, m.Pin(filepath.Join(dir, name)))
	}
	dev, err := netlink.LinkByName(flood.Director)
	if err != nil {
		return err
	}
	l, err := link.AttachXDP(link.XDPOptions{Program: o.Program, Interface: dev.Attrs().Index, Flags: link.XDPDriverMode})
	if err != nil {
		return err
	}
	return errors.Join(append(errs, l.Pin(filepath.Join(base, "link")), l.Close())...)
}

// steady is the i-th server of package flood that stays.
func steady(i int) dataplane.RealServer {
	return dataplane.RealServer{Addr: netip.AddrFrom4([4]byte{172, 16, 0, byte(i + 1)}), Weight: 1, MAC: flood.Steady(byte(i))}
}

// pretendLayout lets the package be of a layout newer than 1.
func pretendLayout(t *testing.T) {
	was := layoutVersion
	layoutVersion = max(layoutVersion, 2)
	t.Cleanup(func() { layoutVersion = was })
}

// A daemon of another layout takes over under traffic: no packet of ten thousand
// connections is lost, and none moves. Those that are being opened meanwhile
// are served too, if need be at the second attempt.
func TestLayoutChangeLosesNothing(t *testing.T) {
	need.Root(t, "BPF programs")
	pretendLayout(t)
	cpus, err := flood.CPUs()
	if err != nil {
		t.Fatal(err)
	}
	w, err := flood.New(len(cpus))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	const servers, clients = 16, 10_000
	pins := filepath.Join(bpffs(t), "systole")
	if err := w.Do(func() error { return startLayout1(filepath.Join(pins, flood.Director), servers) }); err != nil {
		t.Fatal(err)
	}
	stream := func(first, flags string, clients int, fresh bool) *flood.Stream {
		t.Helper()
		s, err := w.Stream(flood.Traffic{Clients: clients, Fresh: fresh, Frame: planetest.Frame{
			From: netip.AddrPortFrom(netip.MustParseAddr(first), 1024), To: netip.AddrPortFrom(testVIP, web.Port), Protocol: dataplane.TCP, Flags: flags}})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	tally := func() flood.Tally {
		t.Helper()
		n, err := w.Tally()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	lost := func(streams ...*flood.Stream) (n int) {
		t.Helper()
		now := tally()
		for _, s := range streams {
			sent, err := s.Sent()
			if err != nil {
				t.Fatal(err)
			}
			n += int(sent) - int(now.Received[s.ID()])
		}
		return n
	}
	open, on := stream("10.0.0.0", "S", clients, false), stream("10.0.0.0", "A", clients, false)
	// Connections that are opened meanwhile: a SYN of each, then an ACK.
	newSYN, newACK := stream("10.128.0.0", "S", 2000, true), stream("10.128.0.0", "A", 2000, true)
	for _, s := range []*flood.Stream{open, on} {
		if err := w.Do(s.Round); err != nil {
			t.Fatal(err)
		}
	}
	if n := lost(open, on); n != 0 {
		t.Fatalf("the predecessor lost %d packets", n)
	}
	stop, ended := make(chan struct{}), make(chan error, 2)
	go func() {
		ended <- w.OnCPU(cpus[0], func() error {
			for {
				select {
				case <-stop:
					return nil
				default:
				}
				if err := errors.Join(on.Send(50_000), newSYN.Round(), newACK.Round()); err != nil {
					return err
				}
			}
		})
	}()
	var p *Plane
	err = w.Do(func() error {
		if p, err = Open(Config{Interface: flood.Director, PinDir: pins, Flows: 1 << 18, Log: testLog(t)}); err != nil {
			return err
		}
		// Other ids, another order, one server more and another service.
		s := dataplane.Snapshot{
			VIPs:     []dataplane.VIP{{Addr: testVIP, Role: dataplane.Active}},
			Services: []dataplane.Service{{ServiceKey: dns, Scheduler: "rr"}, {ServiceKey: web, Scheduler: "rr"}},
		}
		for i := range servers + 1 {
			s.Services[0].Servers = append(s.Services[0].Servers, steady(i))
			s.Services[1].Servers = append(s.Services[1].Servers, steady(i))
		}
		slices.Reverse(s.Services[1].Servers)
		time.Sleep(200 * time.Millisecond) // the predecessor goes on meanwhile
		g, err := p.Apply(s)
		if g != 1 {
			t.Errorf("generation %d, %v", g, err)
		}
		time.Sleep(200 * time.Millisecond)
		return err
	})
	close(stop)
	if err := errors.Join(err, <-ended); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	held := int(tally().Elsewhere)
	sent, _ := on.Sent()
	opened, _ := newSYN.Sent()
	t.Logf("of %d packets %d were lost, %d connections moved; of %d connections opened meanwhile %d segments were held and %d lost",
		sent, lost(open, on), tally().Moved, opened, held, lost(newSYN, newACK)-held)
	if lost(open, on) != 0 || tally().Moved != 0 || lost(newSYN, newACK) != held {
		t.Error("packets were lost, or connections moved")
	}
	st, err := p.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if st.Flows < clients {
		t.Errorf("%d flows after %d connections", st.Flows, clients)
	}
	if dirs, _ := filepath.Glob(filepath.Join(pins, "*", "v*")); len(dirs) != 1 {
		t.Errorf("maps of several layouts are pinned: %q", dirs)
	}
	// What has no flow is not held any more.
	stray := client(3, "A")
	stray.From = netip.MustParseAddrPort("10.99.0.1:1")
	if out := sender(t, p.Program(), ownMAC)(stray); out.Verdict != planetest.Passed {
		t.Errorf("a segment without a flow: %s", out)
	}
}

// The predecessor obeys the lease of the daemon that will take over from it.
func TestPredecessorHasOurLease(t *testing.T) {
	need.Root(t, "BPF programs")
	pretendLayout(t)
	w, err := flood.New(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	pins := filepath.Join(bpffs(t), "systole")
	var p *Plane
	err = w.Do(func() error {
		if err := startLayout1(filepath.Join(pins, flood.Director), 1); err != nil {
			return err
		}
		p, err = Open(Config{Interface: flood.Director, PinDir: pins, Flows: testFlows, Log: testLog(t)})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	if until := p.kernel.state.elements[0].LeaseUntil; until != unlimitedTicks {
		t.Errorf("our lease ends at %d, the predecessor's is unlimited", until)
	}
	if got := p.Info().Inherited; !slices.Equal(got, []netip.Addr{testVIP}) {
		t.Errorf("inherited %v", got)
	}
	syns, err := w.Stream(flood.Traffic{Clients: 10, Frame: planetest.Frame{
		From: netip.MustParseAddrPort("10.0.0.0:1024"), To: netip.AddrPortFrom(testVIP, web.Port), Protocol: dataplane.TCP, Flags: "S"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		lease time.Duration
		more  uint64
	}{{dataplane.Unlimited, 10}, {0, 0}, {time.Hour, 10}} {
		before, err1 := w.Tally()
		err2 := p.Renew(tt.lease)
		err3 := w.Do(syns.Round)
		after, err4 := w.Tally()
		if err := errors.Join(err1, err2, err3, err4); err != nil {
			t.Fatal(err)
		}
		if n := after.Received[syns.ID()] - before.Received[syns.ID()]; n != tt.more {
			t.Errorf("lease %v: %d of 10 forwarded, want %d", tt.lease, n, tt.more)
		}
	}
}

// Maps that are not what they should be are said, and change nothing.
func TestBadPredecessor(t *testing.T) {
	l := newLAN(t)
	first := open(t, l.config(t))
	apply(t, first, twoServices(1))
	old := filepath.Join(first.pins.base, "v1")
	current := first.pins.maps
	first.crash(t)
	pretendLayout(t)
	if current != old {
		if err := os.Rename(current, old); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(old, "service_names")); err != nil {
		t.Fatal(err)
	}
	cfg := l.config(t)
	var log bytes.Buffer
	cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	second := open(t, cfg)
	if !bytes.Contains(log.Bytes(), []byte("cannot be taken over")) {
		t.Errorf("log:\n%s", log.String())
	}
	if g := apply(t, second, twoServices(1)); g != 1 {
		t.Errorf("generation %d", g)
	}
}

// The entries of layout 1 that say nothing that can be used.
func TestLayout1Entries(t *testing.T) {
	l := &layout1{shift: 8, unit: time.Second}
	l.services.elements = make([]layout1Service, 10)
	l.servers.elements = make([]layout1Server, 10)
	l.services.elements[3] = layout1Service{vip: [16]byte{192, 168, 145, 101}, port: 80, protocol: 6, family: 4}
	l.servers.elements[7] = layout1Server{addr: [16]byte{172, 16, 0, 1}, service: 3, family: 4}
	l.servers.elements[8] = layout1Server{addr: [16]byte{172, 16, 0, 2}, service: 2, family: 4}
	key := uint64(0x0302010a)<<32 | uint64(portWord(40000))<<16 | 3
	val := func(server, state, seen uint64) uint64 { return seen<<32 | 0x42<<24 | state<<16 | server }
	got, ok := l.flow(key, val(7, 2, 100), 130)
	want := dataplane.Flow{
		Client: netip.MustParseAddrPort("10.1.2.3:40000"), Service: web, Port: 80, Server: netip.MustParseAddr("172.16.0.1"),
		State: dataplane.FlowEstablished, Age: 30 * time.Second, Expires: 870 * time.Second,
	}
	if !ok || got != want {
		t.Errorf("%+v, %v; want %+v", got, ok, want)
	}
	for name, v := range map[string]uint64{
		"free": 0, "busy": val(0, 5, 100), "no such state": val(7, 6, 100), "expired": val(7, 1, 60),
		"no such server": val(9, 2, 100), "id too large": val(5000, 2, 100), "of another service": val(8, 2, 100),
	} {
		if f, ok := l.flow(key, v, 130); ok {
			t.Errorf("%s: %+v", name, f)
		}
	}
	if f, ok := l.flow(key&^0xffff|4, val(7, 2, 100), 130); ok {
		t.Errorf("another service: %+v", f)
	}
}
