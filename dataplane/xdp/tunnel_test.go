package xdp

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"systole/bpf"
	"systole/dataplane"
)

// behind is server n behind a tunnel.
func behind(n int, forward dataplane.Forward) dataplane.RealServer {
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
		r := behind(1, dataplane.IPIP)
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
		s.Services[0].Servers[0] = behind(1, dataplane.IPIP)
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
	img := new(image)
	table := newTunnelTable(img)
	a, b := tunnelTo(web, behind(1, dataplane.IPIP)), tunnelTo(web, behind(1, dataplane.GUE))
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
		if err := table.add(9, tunnelTo(web, behind(n, dataplane.IPIP))); err != nil {
			t.Fatalf("way %d: %v", n, err)
		}
	}
	if err := table.add(9, tunnelTo(web, behind(60000, dataplane.IPIP))); err == nil {
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
	r := behind(1, dataplane.GUE)
	if to := tunnelTo(v6, r); to.Kind != uint8(bpf.DirectorTunnelKindTUNNEL_IPV4|bpf.DirectorTunnelKindTUNNEL_GUE) || to.Port != portWord(6080) || to.Most != 1468 {
		t.Errorf("%+v", to)
	}
}
