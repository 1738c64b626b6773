package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"systole/dataplane"
	"systole/dataplane/planetest"
	"systole/dataplane/xdp"
)

var (
	own    = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	router = net.HardwareAddr{2, 0, 0, 0, 9, 9}
	vip    = netip.MustParseAddr("192.168.145.101")
	vip6   = netip.MustParseAddr("fd00::101")
	nobody = netip.MustParseAddr("192.168.145.201")
)

// repeat is the number of packets of one run: about a millisecond, so that some
// runs are not interrupted. A sample is the best of so many runs.
const (
	repeat = 20_000
	runs   = 10
)

// Verdicts of XDP, from linux/bpf.h.
const (
	xdpPass = 2
	xdpTX   = 3
)

// service is one of n servers.
func service(vip netip.Addr, port uint16, protocol dataplane.Protocol, n int) dataplane.Service {
	s := dataplane.Service{ServiceKey: dataplane.ServiceKey{VIP: vip, Port: port, Protocol: protocol}, Scheduler: "rr"}
	for i := range n {
		addr := netip.AddrFrom4([4]byte{172, 16, byte(i >> 8), byte(i)})
		if vip.Is6() {
			addr = netip.AddrFrom16([16]byte{0xfd, 14: byte(i >> 8), 15: byte(i + 1)})
		}
		s.Servers = append(s.Servers, dataplane.RealServer{Addr: addr, Weight: 1, MAC: net.HardwareAddr{2, 0, 0, 1, byte(i >> 8), byte(i)}})
	}
	return s
}

// snapshot is what the packets meet. A plane without IPv6 gets none.
func snapshot(six bool) dataplane.Snapshot {
	s := dataplane.Snapshot{
		VIPs:     []dataplane.VIP{{Addr: vip, Role: dataplane.Active}},
		Services: []dataplane.Service{service(vip, 80, dataplane.TCP, 16), service(vip, 53, dataplane.UDP, 16)},
		Peers:    []net.HardwareAddr{{2, 0, 0, 0, 0, 2}},
	}
	if six {
		s.VIPs = append(s.VIPs, dataplane.VIP{Addr: vip6, Role: dataplane.Active})
		s.Services = append(s.Services, service(vip6, 80, dataplane.TCP, 16))
	}
	return s
}

// leastServers are how many servers the services of least connections have; their
// ports follow from it.
var leastServers = []int{2, 16, 256}

const leastPort = 10_000

// withLeast is s with those services.
func withLeast(s dataplane.Snapshot) dataplane.Snapshot {
	for _, n := range leastServers {
		svc := service(vip, leastPort+uint16(n), dataplane.TCP, n)
		svc.Scheduler = "lc"
		s.Services = append(s.Services, svc)
	}
	return s
}

// leastSYN is for the one of n servers.
func leastSYN(n int) []byte {
	return frame(vip, leastPort+uint16(n), dataplane.TCP, "S")
}

// kind is one kind of packet.
type kind struct {
	name    string
	clients uint64
	table   int      // entries of the flow table
	before  [][]byte // one of each client, to make flows
	frame   []byte   // the packet itself
	at      uint32   // where the client stands in it
	verdict uint32   // what must become of it; 0: what the plane can
	brief   bool     // what the plane knows for it ends within seconds (fragments)
	goal    float64  // ns
}

const ipv4Client = 26 // offset of the source address, RFC 791 behind 14 bytes of Ethernet

// shortest is the shortest frame of Ethernet, without its check sequence.
const shortest = 60

// frame is a client's, as Ethernet has it: of 60 bytes at least. What follows
// changes it.
func frame(to netip.Addr, port uint16, protocol dataplane.Protocol, flags string, change ...func(*planetest.Frame)) []byte {
	f := planetest.Frame{Dst: own, Src: router, From: netip.MustParseAddrPort("10.0.0.1:40000"),
		To: netip.AddrPortFrom(to, port), Protocol: protocol, Flags: flags}
	for _, c := range change {
		c(&f)
	}
	b := f.Bytes()
	return append(b, make([]byte, max(0, shortest-len(b)))...)
}

// tagged puts a VLAN tag (IEEE 802.1Q) into a frame.
func tagged(f []byte) []byte {
	out := append([]byte{}, f[:12]...)
	return append(append(out, 0x81, 0, 0, 7), f[12:]...)
}

// six is a TCP segment over IPv6.
func six(syn bool) ([]byte, error) {
	ip := &layers.IPv6{Version: 6, NextHeader: layers.IPProtocolTCP, HopLimit: 64,
		SrcIP: netip.MustParseAddr("fd01::1").AsSlice(), DstIP: vip6.AsSlice()}
	tcp := &layers.TCP{SrcPort: 40000, DstPort: 80, Window: 1024, SYN: syn, ACK: !syn}
	buf := gopacket.NewSerializeBuffer()
	err := errors.Join(tcp.SetNetworkLayerForChecksum(ip),
		gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
			&layers.Ethernet{SrcMAC: router, DstMAC: own, EthernetType: layers.EthernetTypeIPv6}, ip, tcp))
	return buf.Bytes(), err
}

// kinds are all kinds of packets.
func kinds() ([]kind, error) {
	const small, large = 1 << 17, 1 << 22
	syn, ack := frame(vip, 80, dataplane.TCP, "S"), frame(vip, 80, dataplane.TCP, "A")
	udp := frame(vip, 53, dataplane.UDP, "")
	first := frame(vip, 80, dataplane.TCP, "A", func(f *planetest.Frame) { f.MF = true; f.Payload = 20 })
	later := frame(vip, 80, dataplane.TCP, "A", func(f *planetest.Frame) { f.Offset = 5 })
	syn6, err1 := six(true)
	ack6, err2 := six(false)
	return []kind{
		{name: "not ours", clients: 10_000, frame: frame(nobody, 80, dataplane.TCP, "A"), verdict: xdpPass, goal: 6},
		{name: "established, 1 flow", clients: 1, before: [][]byte{syn}, frame: ack, verdict: xdpTX, goal: 25},
		{name: "established, 10k flows", clients: 10_000, before: [][]byte{syn}, frame: ack, verdict: xdpTX, goal: 65},
		{name: "established, 500k flows", clients: 500_000, table: large, before: [][]byte{syn}, frame: ack, verdict: xdpTX, goal: 200},
		{name: "new SYN, stored", clients: math.MaxUint32, table: xdp.DefaultFlows, frame: syn, verdict: xdpTX, goal: 230},
		{name: "new SYN, lc of 2 servers", clients: math.MaxUint32, table: xdp.DefaultFlows, frame: leastSYN(2), verdict: xdpTX},
		{name: "new SYN, lc of 16 servers", clients: math.MaxUint32, table: xdp.DefaultFlows, frame: leastSYN(16), verdict: xdpTX},
		{name: "new SYN, lc of 256 servers", clients: math.MaxUint32, table: xdp.DefaultFlows, frame: leastSYN(256), verdict: xdpTX},
		{name: "new ACK, no flow", clients: 10_000, frame: ack, verdict: xdpPass},
		{name: "udp, 10k flows", clients: 10_000, before: [][]byte{udp}, frame: udp, verdict: xdpTX},
		{name: "IPv6, 10k flows", clients: 10_000, before: [][]byte{syn6}, frame: ack6, at: 34},
		{name: "VLAN, 10k flows", clients: 10_000, before: [][]byte{tagged(syn)}, frame: tagged(ack), at: ipv4Client + 4},
		{name: "fragment, 10k flows", clients: 10_000, before: [][]byte{syn, first}, frame: later, brief: true},
	}, errors.Join(err1, err2)
}

// plane is a plane without interface for one kind of packet.
func plane(table int) (*xdp.Plane, error) {
	p, err := xdp.Load(xdp.Config{Flows: table, NewFlows: -1}, own)
	if err != nil {
		return nil, err
	}
	if _, err = p.Apply(withLeast(snapshot(true))); errors.Is(err, dataplane.ErrInvalid) {
		_, err = p.Apply(withLeast(snapshot(false)))
	}
	if err = errors.Join(err, p.Renew(dataplane.Unlimited)); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// runner is a generator with one program behind it.
type runner struct {
	objects GeneratorObjects
}

func newRunner(clients uint64, at uint32, prog func(*GeneratorObjects) *ebpf.Program) (*runner, error) {
	spec, err := LoadGenerator()
	if err != nil {
		return nil, err
	}
	if at == 0 {
		at = ipv4Client
	}
	if err := errors.Join(spec.Variables[GeneratorVarClients].Set(clients), spec.Variables[GeneratorVarClientAt].Set(at)); err != nil {
		return nil, err
	}
	r := &runner{}
	if err := spec.LoadAndAssign(&r.objects, nil); err != nil {
		return nil, fmt.Errorf("generator: %w", err)
	}
	if err := r.objects.Next.Put(uint32(0), prog(&r.objects)); err != nil {
		return nil, errors.Join(err, r.objects.Close())
	}
	return r, nil
}

// run returns ns per packet, and the verdict on the last of them.
func (r *runner) run(frame []byte, times int) (float64, uint32, error) {
	verdict, d, err := r.objects.Generate.Benchmark(frame, times, nil)
	return float64(d.Nanoseconds()), verdict, err
}

// setUp is a kind of packet with all that is needed to measure it.
type setUp struct {
	kind
	plane                 *xdp.Plane
	director, floor, swap *runner
	seen                  uint32 // the plane's verdict
}

func (k kind) setUp() (_ *setUp, err error) {
	s := &setUp{kind: k}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	table := k.table
	if table == 0 {
		table = 1 << 17
	}
	if s.plane, err = plane(table); err != nil {
		return nil, err
	}
	for to, prog := range map[**runner]func(*GeneratorObjects) *ebpf.Program{
		&s.director: func(*GeneratorObjects) *ebpf.Program { return s.plane.Program() },
		&s.floor:    func(o *GeneratorObjects) *ebpf.Program { return o.FloorReturn },
		&s.swap:     func(o *GeneratorObjects) *ebpf.Program { return o.FloorSwap },
	} {
		if *to, err = newRunner(k.clients, k.at, prog); err != nil {
			return nil, err
		}
	}
	if s.seen, err = s.prepare(); err != nil {
		return nil, err
	}
	if k.verdict != 0 && s.seen != k.verdict || s.seen != xdpPass && s.seen != xdpTX {
		return nil, fmt.Errorf("verdict %d, want %d", s.seen, k.verdict)
	}
	return s, nil
}

// prepare has the plane know the flows, and returns its verdict then.
func (s *setUp) prepare() (verdict uint32, err error) {
	for _, f := range slices.Concat(s.before, [][]byte{s.frame}) {
		times := int(min(s.clients, 1<<20))
		if s.before == nil {
			times = repeat
		}
		if _, verdict, err = s.director.run(f, times); err != nil {
			return 0, err
		}
	}
	return verdict, nil
}

// measured is run of the director, whose verdict must stay. What is known briefly
// is told once more to one that the machine did not let run for so long.
func (s *setUp) measured() (ns float64, err error) {
	for again := s.brief; ; again = false {
		ns, verdict, err := s.director.run(s.frame, repeat)
		if err != nil || verdict == s.seen {
			return ns, err
		}
		if !again {
			return 0, fmt.Errorf("verdict %d, and %d before", verdict, s.seen)
		}
		if verdict, err = s.prepare(); err != nil {
			return 0, err
		} else if verdict != s.seen {
			return 0, fmt.Errorf("verdict %d when told again, and %d before", verdict, s.seen)
		}
	}
}

// sample is the best of some runs, in ns: of the director, and of the floors.
func (s *setUp) sample(runs int) (director, floor, swap float64, err error) {
	director, floor, swap = math.MaxFloat64, math.MaxFloat64, math.MaxFloat64
	for range runs {
		ns, err := s.measured()
		if err != nil {
			return 0, 0, 0, err
		}
		director = min(director, ns)
		for r, best := range map[*runner]*float64{s.floor: &floor, s.swap: &swap} {
			ns, _, err := r.run(s.frame, repeat)
			if err != nil {
				return 0, 0, 0, err
			}
			*best = min(*best, ns)
		}
	}
	return director, floor, swap, nil
}

func (s *setUp) close() error {
	var errs []error
	for _, r := range []*runner{s.director, s.floor, s.swap} {
		if r != nil {
			errs = append(errs, r.objects.Close())
		}
	}
	if s.plane != nil {
		errs = append(errs, s.plane.Close())
	}
	return errors.Join(errs...)
}

// packets measures all kinds of packets.
func packets(ctx context.Context, o options, r *report) error {
	all, err := kinds()
	if err != nil {
		return err
	}
	for _, k := range all {
		if !o.only.MatchString("packet/" + k.name) {
			continue
		}
		fmt.Fprintf(o.progress, "packet: %s\n", k.name)
		res, err := k.measure(ctx, o.samples())
		if err != nil {
			return fmt.Errorf("packet: %s: %w", k.name, err)
		}
		r.Packets = append(r.Packets, res)
	}
	return nil
}

// measure takes each sample with a program and tables of its own: where they come
// to lie in memory makes some ns, for better or worse.
func (k kind) measure(ctx context.Context, samples int) (packetResult, error) {
	res := packetResult{Name: k.name, Goal: k.goal}
	for range samples {
		if err := ctx.Err(); err != nil {
			return res, err
		}
		if err := k.take(&res); err != nil {
			return res, err
		}
	}
	return res, nil
}

// take adds one sample to res.
func (k kind) take(res *packetResult) (err error) {
	s, err := k.setUp()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	res.Verdict = "forwarded"
	if s.seen == xdpPass {
		res.Verdict = "passed"
	}
	director, floor, swap, err := s.sample(runs)
	if err != nil {
		return err
	}
	res.Net = append(res.Net, director-floor)
	res.Swap = append(res.Swap, swap-floor)
	res.Floor = append(res.Floor, floor)
	return nil
}
