package xdp

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"systole/bpf"
	"systole/dataplane"
	"systole/dataplane/planetest"
)

// through is server n behind a tunnel.
func through(n int, forward dataplane.Forward) dataplane.RealServer {
	r := server(n)
	r.Forward, r.Source = forward, netip.MustParseAddr("172.16.255.1")
	return r
}

func TestCarriesTunnels(t *testing.T) {
	for want, change := range map[string]func(*dataplane.RealServer){
		"":                        func(*dataplane.RealServer) {},
		"must come back":          func(r *dataplane.RealServer) { r.Forward = dataplane.Masq },
		"ipip keeps the port":     func(r *dataplane.RealServer) { r.Port = 8080 },
		"only gue has one":        func(r *dataplane.RealServer) { r.TunnelPort = 6080 },
		"no connection threshold": func(r *dataplane.RealServer) { r.Upper = 5 },
	} {
		r := through(1, dataplane.IPIP)
		change(&r)
		err := Carries(dataplane.Service{ServiceKey: web, Scheduler: "rr", Servers: []dataplane.RealServer{r}})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want ...%s...", err, want)
		}
	}
}

func TestBadWays(t *testing.T) {
	for name, change := range map[string]func(*dataplane.RealServer){
		"a source of the other family": func(r *dataplane.RealServer) { r.Source = netip.MustParseAddr("2001:db8::1") },
		"a mapped source":              func(r *dataplane.RealServer) { r.Source = netip.MustParseAddr("::ffff:172.16.0.9") },
		"no address":                   func(r *dataplane.RealServer) { r.Source = netip.IPv4Unspecified() },
		"a group":                      func(r *dataplane.RealServer) { r.Source = netip.MustParseAddr("224.0.0.9") },
		"the server itself":            func(r *dataplane.RealServer) { r.Source = r.Addr },
		"an MTU below 0":               func(r *dataplane.RealServer) { r.MTU = -1 },
		"an MTU that no packet has":    func(r *dataplane.RealServer) { r.MTU = 65536 },
	} {
		s := twoServices(1)
		s.Services[0].Servers[0] = through(1, dataplane.IPIP)
		if err := validate(s, ownMAC); err != nil {
			t.Fatal(err)
		}
		change(&s.Services[0].Servers[0])
		if err := validate(s, ownMAC); !errors.Is(err, dataplane.ErrInvalid) || !strings.Contains(err.Error(), "172.16.0.1") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Equal ways are there once, and only so many of them.
func TestTunnelTable(t *testing.T) {
	on := newCanvas(newAging(4 * time.Millisecond))
	img := &on.image
	table := newTunnelTable(on)
	a, b := tunnelTo(web, through(1, dataplane.IPIP)), tunnelTo(web, through(1, dataplane.GUE))
	for i, to := range []tunnel{a, b, a, {}} {
		if err := table.add(uint16(i+1), to); err != nil {
			t.Fatal(err)
		}
	}
	if img.TunnelOf[1] != 1 || img.TunnelOf[2] != 2 || img.TunnelOf[3] != 1 || img.TunnelOf[4] != 0 {
		t.Errorf("ways %v", img.TunnelOf[:5])
	}
	for i, want := range []tunnel{{}, a, b, a, {}} {
		if got := tunnelOf(img, uint16(i)); got != want {
			t.Errorf("server %d: %+v, want %+v", i, got, want)
		}
	}
	for n := 3; n <= MaxTunnels; n++ {
		if err := table.add(9, tunnelTo(web, through(n, dataplane.IPIP))); err != nil {
			t.Fatalf("way %d: %v", n, err)
		}
	}
	if err := table.add(9, tunnelTo(web, through(60000, dataplane.IPIP))); err == nil {
		t.Error("one way more than there is room for")
	}
	if err := table.add(9, a); err != nil {
		t.Errorf("a way that is there: %v", err)
	}
}

// Without one of them there is no way: a next hop, a source, room.
func TestNoWay(t *testing.T) {
	v6 := web
	v6.VIP = netip.MustParseAddr("2001:db8::1")
	for name, r := range map[string]dataplane.RealServer{
		"no MAC":    {Addr: server(1).Addr, Forward: dataplane.IPIP, Source: server(2).Addr},
		"no source": {Addr: server(1).Addr, Forward: dataplane.IPIP, MAC: serverMAC(1)},
		"narrow":    {Addr: server(1).Addr, Forward: dataplane.IPIP, MAC: serverMAC(1), Source: server(2).Addr, MTU: 1299},
	} {
		if to := tunnelTo(v6, r); to != (tunnel{}) || deliverable(v6, r) {
			t.Errorf("%s: %+v", name, to)
		}
	}
	r := through(1, dataplane.GUE)
	if to := tunnelTo(v6, r); to.Kind != uint8(bpf.DirectorTunnelKindTUNNEL_IPV4|bpf.DirectorTunnelKindTUNNEL_GUE) || to.Port != portWord(6080) || to.Most != 1468 {
		t.Errorf("%+v", to)
	}
}

// With several interfaces a tunnel begins at the one that leads to its server,
// and what is too big is answered by the one it came in by.
func TestTunnelsOfSeveralInterfaces(t *testing.T) {
	l := newTwoNICs(t)
	p := open(t, l.config(t))
	if err := p.Renew(dataplane.Unlimited); err != nil {
		t.Fatal(err)
	}
	by := func(n int, nic string) dataplane.RealServer {
		r := behind(n, nic)
		r.Forward, r.Source, r.MTU = dataplane.IPIP, netip.MustParseAddr("192.168.145.10"), 1500
		return r
	}
	const portA, portB, portOther = 80, 81, 82
	snapshot := func(other string) dataplane.Snapshot {
		s := dataplane.Snapshot{VIPs: []dataplane.VIP{{Addr: testVIP, Role: dataplane.Active}}}
		for i, nic := range []string{"sysnica", "sysnicb", other} {
			s.Services = append(s.Services, dataplane.Service{
				ServiceKey: dataplane.ServiceKey{VIP: testVIP, Port: portA + uint16(i), Protocol: dataplane.TCP},
				Scheduler:  "rr", Servers: []dataplane.RealServer{by(i+1, nic)},
			})
		}
		return s
	}
	apply(t, p, snapshot("sysnicb"))
	a := l.index("sysnica")
	if v, _ := runOn(t, p.Program(), a, toward(macA, portOther, "S").Bytes()); v != xdpRedirect {
		t.Fatalf("verdict %d", v)
	}
	apply(t, p, snapshot("sysnone"))
	big := toward(macA, portB, "S")
	big.Payload, big.DF = 1470, true
	for _, tt := range []struct {
		description string
		in          planetest.Frame
		verdict     uint32
		to, from    net.HardwareAddr
		room        int // bytes before the packet
		reason      string
	}{
		{"server on the interface it came in by", toward(macA, portA, "S"), xdpTX, serverMAC(1), macA, 20, "tunnelled"},
		{"server on the other one", toward(macA, portB, "S"), xdpRedirect, serverMAC(2), macB, 20, "tunnelled"},
		{"its flow", toward(macA, portB, "A"), xdpRedirect, serverMAC(2), macB, 20, "tunnelled"},
		{"a flow whose server is behind none of ours now", toward(macA, portOther, "A"), xdpPass, macA, client(1, "").Src, 0, "other_interface"},
		{"too big", big, xdpTX, client(1, "").Src, macA, 28, "tunnel_too_big"},
	} {
		before := reasons(t, p)
		in := tt.in.Bytes()
		verdict, out := runOn(t, p.Program(), a, in)
		if verdict != tt.verdict {
			t.Errorf("%s: verdict %d, want %d", tt.description, verdict, tt.verdict)
			continue
		}
		rest := out[14+tt.room:]
		if !bytes.Equal(out[:6], tt.to) || !bytes.Equal(out[6:12], tt.from) || !bytes.HasPrefix(in[14:], rest[:min(len(rest), len(in)-14)]) {
			t.Errorf("%s: out\n%x, in\n%x", tt.description, out[:64], in[:64])
		}
		if after := reasons(t, p); after[tt.reason] != before[tt.reason]+1 {
			t.Errorf("%s: %q was not counted", tt.description, tt.reason)
		}
	}
	st, err := p.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if in, out := st.Interfaces["sysnica"], st.Interfaces["sysnicb"]; in.InPackets != 5 || in.OutPackets != 2 || out.OutPackets != 3 {
		t.Errorf("counted %+v and %+v", in, out)
	}
	if n := st.Services[dataplane.ServiceKey{VIP: testVIP, Port: portB, Protocol: dataplane.TCP}]; n.Packets != 2 || n.Connections != 1 {
		t.Errorf("the service counted %+v", n)
	}
}
