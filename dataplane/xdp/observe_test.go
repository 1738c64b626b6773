package xdp

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"systole/bpf"
	"systole/dataplane"
	"systole/dataplane/observe"
	"systole/dataplane/planetest"
	"systole/test/need"
)

var (
	seenVIP     = netip.MustParseAddr("192.168.145.101")
	seenWeb     = dataplane.ServiceKey{VIP: seenVIP, Port: 80, Protocol: dataplane.TCP}
	seenDNS     = dataplane.ServiceKey{VIP: seenVIP, Port: 53, Protocol: dataplane.UDP}
	seenServers = []netip.Addr{netip.MustParseAddr("192.168.145.200"), netip.MustParseAddr("192.168.145.201")}
	otherMAC    = []byte{2, 0, 0, 0, 0, 9}
)

// observed is a plane that is on no interface, with two services of two servers.
func observed(t *testing.T) *Plane {
	t.Helper()
	need.Root(t, "BPF programs")
	p, err := Load(Config{Flows: testFlows, Log: testLog(t)}, ownMAC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	inRole(t, p, dataplane.Active)
	if err := p.Renew(dataplane.Unlimited); err != nil {
		t.Fatal(err)
	}
	return p
}

func inRole(t *testing.T, p *Plane, role dataplane.Role) {
	t.Helper()
	var reals []dataplane.RealServer
	for i, addr := range seenServers {
		reals = append(reals, dataplane.RealServer{Addr: addr, Weight: 1, MAC: []byte{2, 0, 0, 0, 1, byte(i)}})
	}
	_, err := p.Apply(dataplane.Snapshot{
		VIPs: []dataplane.VIP{{Addr: seenVIP, Role: role}},
		Services: []dataplane.Service{
			{ServiceKey: seenWeb, Scheduler: "rr", Servers: reals},
			{ServiceKey: seenDNS, Scheduler: "rr", Servers: reals},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
}

func look(t *testing.T, p *Plane, cfg observe.Config) *Observation {
	t.Helper()
	cfg.In, cfg.Out = true, true
	o, err := p.observe(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
	return o
}

// send runs the program on a frame, as the driver would.
func (o *Observation) send(t *testing.T, frame []byte) {
	t.Helper()
	if _, _, err := o.Program().Test(frame); err != nil {
		t.Fatal(err)
	}
}

// next is the next packet, nil if nothing has come.
func (o *Observation) next(t *testing.T) *observe.Packet {
	t.Helper()
	var p observe.Packet
	o.SetDeadline(time.Now().Add(time.Millisecond)) // what is there already is read first
	switch err := o.Read(&p); {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	case err != nil:
		t.Fatal(err)
	}
	p.In, p.Out = bytes.Clone(p.In), bytes.Clone(p.Out)
	return &p
}

func segment(client string, to dataplane.ServiceKey, flags string) []byte {
	return planetest.Frame{Dst: ownMAC, Src: otherMAC, From: netip.MustParseAddrPort(client),
		To: netip.AddrPortFrom(to.VIP, to.Port), Protocol: to.Protocol, Flags: flags}.Bytes()
}

// quoting is "fragmentation needed" of a router, for a packet from a service to
// a client: 8 bytes behind the quoted header, as RFC 792 demands at least.
func quoting(t *testing.T, router, client string, from dataplane.ServiceKey) []byte {
	t.Helper()
	quoted := planetest.Frame{Dst: ownMAC, Src: otherMAC, From: netip.AddrPortFrom(from.VIP, from.Port),
		To: netip.MustParseAddrPort(client), Protocol: from.Protocol, Flags: "A", Payload: 100}.Bytes()
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true},
		&layers.Ethernet{SrcMAC: otherMAC, DstMAC: ownMAC, EthernetType: layers.EthernetTypeIPv4},
		&layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolICMPv4, SrcIP: netip.MustParseAddr(router).AsSlice(), DstIP: from.VIP.AsSlice()},
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 4)}, gopacket.Payload(quoted[14:14+28]))
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// TestEachPacketIsExplained: what came in, what left, and why.
func TestEachPacketIsExplained(t *testing.T) {
	p := observed(t)
	o := look(t, p, observe.Config{})
	const client = "10.0.0.1:40000"
	for _, tt := range []struct {
		name, want, flow string
		frame            []byte
	}{
		{"a new flow", "tx to 192.168.145.200 (scheduled)", "NONE SYN_RECV", segment(client, seenWeb, "S")},
		{"its SYN again", "tx to 192.168.145.200", "SYN_RECV SYN_RECV", segment(client, seenWeb, "S")},
		{"its ACK", "tx to 192.168.145.200", "SYN_RECV ESTABLISHED", segment(client, seenWeb, "A")},
		{"its FIN", "tx to 192.168.145.200", "ESTABLISHED FIN_WAIT", segment(client, seenWeb, "FA")},
		{"the next flow", "tx to 192.168.145.201 (scheduled)", "NONE SYN_RECV", segment("10.0.0.1:40002", seenWeb, "S")},
		{"a datagram", "tx to 192.168.145.200 (scheduled)", "NONE UDP", segment(client, seenDNS, "")},
		{"no flow", "pass: no_flow", " ", segment("10.0.0.1:40001", seenWeb, "A")},
		{"no service", "pass: no_service", " ", segment(client, dataplane.ServiceKey{VIP: seenVIP, Port: 81, Protocol: dataplane.TCP}, "S")},
		{"not ours", "pass", " ", segment(client, dataplane.ServiceKey{VIP: seenServers[0], Port: 80, Protocol: dataplane.TCP}, "S")},
	} {
		o.send(t, tt.frame)
		got := o.next(t)
		if got == nil {
			t.Errorf("%s: not seen", tt.name)
			continue
		}
		if s, flow := got.Outcome(), got.Before+" "+got.After; s != tt.want || flow != tt.flow {
			t.Errorf("%s: %s, flow %s; want %s, flow %s", tt.name, s, flow, tt.want, tt.flow)
		}
		if !bytes.Equal(got.In, tt.frame) || got.InLength != len(tt.frame) {
			t.Errorf("%s: came in as\n%x, sent\n%x", tt.name, got.In, tt.frame)
		}
		if !bytes.Equal(got.Out[12:], tt.frame[12:]) || got.OutLength != len(tt.frame) {
			t.Errorf("%s: left as\n%x, sent\n%x", tt.name, got.Out, tt.frame)
		}
		if got.Verdict.Sent() && (got.Service == "" || bytes.Equal(got.Out[:6], got.In[:6])) {
			t.Errorf("%s: of service %q, to %x", tt.name, got.Service, got.Out[:6])
		}
		if d := time.Since(got.At); d < 0 || d > 10*time.Second {
			t.Errorf("%s: at %v, that is %v ago", tt.name, got.At, d)
		}
	}
	inRole(t, p, dataplane.Standby)
	o.send(t, segment(client, seenWeb, "A"))
	if got := o.next(t); got == nil || got.Outcome() != "pass: standby" {
		t.Errorf("on standby: %+v", got)
	}
	if err := p.Renew(0); err != nil {
		t.Fatal(err)
	}
	o.send(t, segment(client, seenWeb, "A"))
	if got := o.next(t); got == nil || got.Outcome() != "drop: lease_ended" {
		t.Errorf("after the lease: %+v", got)
	}
	if lost, err := o.Lost(); err != nil || lost != (observe.Lost{}) {
		t.Errorf("lost %+v, %v", lost, err)
	}
}

// TestObservationChangesNothing: frame by frame, the observed twin answers as
// the program does, on the same flow table.
func TestObservationChangesNothing(t *testing.T) {
	p := observed(t)
	o := look(t, p, observe.Config{})
	for i := range 200 {
		client := fmt.Sprintf("10.0.0.%d:%d", i%7, 1000+i%31)
		frame := segment(client, seenWeb, []string{"S", "A", "PA", "FA", "R"}[i%5])
		if i%3 == 0 {
			frame = segment(client, seenDNS, "")
		}
		// The twin first: what it stores the program must find.
		v1, out1, err1 := o.Program().Test(frame)
		v2, out2, err2 := p.Program().Test(frame)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if v1 != v2 || !bytes.Equal(out1, out2) {
			t.Fatalf("packet %d: the twin says %d\n%x, the program %d\n%x", i, v1, out1, v2, out2)
		}
	}
}

// TestObserverSharesAllMaps: a map that the twin has for itself would make it
// another director.
func TestObserverSharesAllMaps(t *testing.T) {
	spec, err := bpf.Observer()
	if err != nil {
		t.Fatal(err)
	}
	shared := (&kernelSide{}).shared()
	for name := range spec.Maps {
		if _, ok := shared[name]; !ok && name != "scratch" /* of one packet */ && !strings.HasPrefix(name, "see_") && !strings.HasPrefix(name, ".") {
			t.Errorf("map %s is not shared: add it to kernelSide.shared()", name)
		}
	}
	director, err := bpf.Director()
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range director.Variables {
		if v.Constant() && spec.Variables[name] == nil {
			t.Errorf("constant %s is not known to the observer", name)
		}
	}
}

// TestFilters has a row per part of a filter: which of the packets are seen.
func TestFilters(t *testing.T) {
	p := observed(t)
	from := func(client string, f planetest.Frame) []byte {
		f.Dst, f.Src, f.From, f.To = ownMAC, otherMAC, netip.MustParseAddrPort(client), netip.AddrPortFrom(seenVIP, 0)
		return f.Bytes()
	}
	web := segment("10.0.0.1:1000", seenWeb, "S")
	frames := map[string][]byte{
		"a web":  web,
		"b web":  segment("10.0.1.2:1000", seenWeb, "S"),
		"a dns":  segment("10.0.0.1:1001", seenDNS, ""),
		"a none": segment("10.0.0.1:1000", dataplane.ServiceKey{VIP: seenVIP, Port: 81, Protocol: dataplane.TCP}, "S"),
		"error":  quoting(t, "172.16.0.1", "10.0.0.1:1000", seenWeb),
		"later":  from("10.0.0.1:0", planetest.Frame{Protocol: dataplane.UDP, Offset: 100, Payload: 64}),
		"arp":    planetest.ARP(otherMAC, netip.MustParseAddr("10.0.0.1"), seenVIP),
		"tagged": slices.Concat(web[:12], []byte{0x81, 0, 0, 7}, web[12:]),
	}
	names := []string{"a web", "b web", "a dns", "a none", "error", "later", "arp", "tagged"}
	a, b := netip.MustParsePrefix("10.0.0.1/32"), netip.MustParsePrefix("10.0.1.2/32")
	for _, tt := range []struct {
		name   string
		filter observe.Filter
		want   []string
	}{
		{"all", observe.Filter{}, names},
		{"client", observe.Filter{Client: a}, []string{"a web", "a dns", "a none", "error", "later", "arp", "tagged"}},
		{"clients", observe.Filter{Client: netip.MustParsePrefix("10.0.0.0/23")}, names},
		{"odd prefix", observe.Filter{Client: netip.MustParsePrefix("10.0.1.0/25")}, []string{"b web"}},
		{"port", observe.Filter{Client: a, ClientPort: 1001}, []string{"a dns", "later", "arp"}},
		{"service", observe.Filter{Service: seenWeb}, []string{"a web", "b web", "error", "tagged"}},
		{"range", observe.Filter{Service: dataplane.ServiceKey{VIP: seenVIP, Port: 81, LastPort: 90, Protocol: dataplane.TCP}}, []string{"a none"}},
		{"all ports", observe.Filter{Service: dataplane.ServiceKey{VIP: seenVIP, Protocol: dataplane.UDP}}, []string{"a dns", "later"}},
		{"address", observe.Filter{Service: dataplane.ServiceKey{VIP: seenVIP}}, names},
		{"another", observe.Filter{Service: dataplane.ServiceKey{VIP: seenServers[0]}}, nil},
		{"IPv6", observe.Filter{Client: netip.MustParsePrefix("2001:db8::/32")}, nil},
		{"forwarded", observe.Filter{Client: b, Verdicts: observe.Taken()}, []string{"b web"}},
		{"passed", observe.Filter{Client: b, Verdicts: []observe.Verdict{observe.Pass}}, nil},
	} {
		o := look(t, p, observe.Config{Filter: tt.filter})
		var got []string
		for _, name := range names {
			o.send(t, frames[name])
			if o.next(t) != nil {
				got = append(got, name)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: seen %q, want %q", tt.name, got, tt.want)
		}
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTheServerIsFiltered: flows of two services to two servers, and only those
// to one.
func TestTheServerIsFiltered(t *testing.T) {
	p := observed(t)
	o := look(t, p, observe.Config{Filter: observe.Filter{Server: seenServers[1]}})
	seen := map[string]int{}
	for i := range 10 {
		for _, to := range []dataplane.ServiceKey{seenWeb, seenDNS} {
			o.send(t, segment(fmt.Sprintf("10.0.0.1:%d", 1000+i), to, "S"))
			if got := o.next(t); got != nil {
				seen[got.Service]++
				if got.Server != seenServers[1] {
					t.Errorf("to %s", got.Server)
				}
			}
		}
	}
	if seen[seenWeb.String()] != 5 || seen[seenDNS.String()] != 5 {
		t.Errorf("%v went to the server, rr makes it 5 of 10", seen)
	}
}

// TestSnap keeps the beginnings only, and the whole lengths.
func TestSnap(t *testing.T) {
	p := observed(t)
	o := look(t, p, observe.Config{Snap: 60})
	frame := planetest.Frame{Dst: ownMAC, Src: otherMAC, From: netip.MustParseAddrPort("10.0.0.1:1"), To: netip.AddrPortFrom(seenVIP, 53), Protocol: dataplane.UDP, Payload: 1000}.Bytes()
	o.send(t, frame)
	got := o.next(t)
	if got == nil || !bytes.Equal(got.In, frame[:60]) || len(got.Out) != 60 || !bytes.Equal(got.Out[12:], frame[12:60]) ||
		got.InLength != len(frame) || got.OutLength != len(frame) {
		t.Errorf("%+v", got)
	}
}

// TestObservationIsBounded: what is too much is counted and not told.
func TestObservationIsBounded(t *testing.T) {
	p := observed(t)
	frame := segment("10.0.0.1:1000", seenWeb, "S")
	flood := func(cfg observe.Config, n int) (got uint64, lost observe.Lost) {
		t.Helper()
		o := look(t, p, cfg)
		if _, err := o.Program().Run(&ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)), Repeat: uint32(n)}); err != nil {
			t.Fatal(err)
		}
		for o.next(t) != nil {
			got++
		}
		lost, err := o.Lost()
		if err != nil {
			t.Fatal(err)
		}
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}
		return got, lost
	}
	if got, lost := flood(observe.Config{Rate: 100}, 1000); got < 100 || got+lost.Rate != 1000 || lost.Full != 0 {
		t.Errorf("rate: %d seen, lost %+v", got, lost)
	}
	if got, lost := flood(observe.Config{Buffer: 1 << 13}, 1000); got == 0 || got+lost.Full != 1000 || lost.Rate != 0 {
		t.Errorf("buffer: %d seen, lost %+v", got, lost)
	}
}

func TestWhatCannotBeObserved(t *testing.T) {
	p := observed(t)
	for _, tt := range []struct {
		cfg  observe.Config
		want string
	}{
		{observe.Config{Snap: 5000}, "from 14 to 4096"},
		{observe.Config{Rate: -1}, "choose a number"},
		{observe.Config{Buffer: 5000}, "power of two"},
		{observe.Config{Filter: observe.Filter{ClientPort: 1}}, "name the client's address"},
		{observe.Config{Filter: observe.Filter{Verdicts: []observe.Verdict{7}}}, "verdict-7: unknown"},
		{observe.Config{Filter: observe.Filter{Service: dataplane.ServiceKey{VIP: netip.IPv4Unspecified(), Mark: 7}}}, "firewall marks"},
		{observe.Config{Filter: observe.Filter{Server: seenVIP}}, "no service has it"},
	} {
		_, err := p.Observe(tt.cfg)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q in it", tt.cfg, err, tt.want)
		}
	}
	o := look(t, p, observe.Config{})
	if _, err := p.Observe(observe.Config{}); !errors.Is(err, observe.ErrBusy) {
		t.Errorf("a second observation: %v", err)
	}
	p.Close()
	if _, err := o.Lost(); !errors.Is(err, observe.ErrEnded) {
		t.Errorf("after the plane's end: %v", err)
	}
	if _, err := p.Observe(observe.Config{}); !errors.Is(err, dataplane.ErrUnavailable) {
		t.Errorf("a closed plane: %v", err)
	}
}

// TestObservationTakesThePlaceAndGivesItBack, on a real interface; a crash in
// between leaves a program that the next daemon replaces.
func TestObservationTakesThePlaceAndGivesItBack(t *testing.T) {
	l := newLAN(t)
	p := open(t, l.config(t))
	program := func(p *ebpf.Program) uint32 {
		t.Helper()
		info, err := p.Info()
		if err != nil {
			t.Fatal(err)
		}
		id, _ := info.ID()
		return uint32(id)
	}
	own := program(p.Program())
	for range 2 {
		o := look(t, p, observe.Config{})
		if got, want := l.attached(t), program(o.Program()); got != want {
			t.Errorf("program %d is attached, not the observing one, %d", got, want)
		}
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}
		if got := l.attached(t); got != own {
			t.Errorf("program %d is attached at the end, not ours, %d", got, own)
		}
		if err := o.Close(); err != nil {
			t.Errorf("a second Close: %v", err)
		}
	}
	o := look(t, p, observe.Config{})
	p.crash(t)
	_ = o.release()
	p.observation = nil
	next := open(t, l.config(t))
	if got, want := l.attached(t), program(next.Program()); got != want {
		t.Errorf("program %d is attached after a crash, not the successor's, %d", got, want)
	}
}

// TestObserverIsVerifiedQuickly: whoever wants to look does not wait, and what
// the verifier takes does not depend on the filter.
func TestObserverIsVerifiedQuickly(t *testing.T) {
	p := observed(t)
	for _, f := range []observe.Filter{{}, {Client: netip.MustParsePrefix("10.0.0.0/8"), ClientPort: 7, Service: seenWeb, Server: seenServers[0], Verdicts: observe.Taken()}} {
		o := look(t, p, observe.Config{Filter: f})
		info, err := o.Program().Info()
		if err != nil {
			t.Fatal(err)
		}
		own, err := p.Program().Info()
		if err != nil {
			t.Fatal(err)
		}
		n, _ := info.VerifiedInstructions()
		base, _ := own.VerifiedInstructions()
		t.Logf("%d instructions, the program itself %d", n, base)
		if n == 0 || n > base+20_000 {
			t.Errorf("%d instructions for the verifier, the program itself takes %d", n, base)
		}
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, recordSize))
	f.Add(bytes.Repeat([]byte{1}, recordSize+100))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var p observe.Packet
		if _, err := decodeRecord(raw, time.Unix(0, 0), &p); err == nil && len(p.In)+len(p.Out) > len(raw)-recordSize {
			t.Errorf("%d and %d bytes of %d", len(p.In), len(p.Out), len(raw))
		}
	})
}
