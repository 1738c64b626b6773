package ipvs

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"systole/dataplane"
)

var vip = netip.MustParseAddr("192.168.145.101")

func real(n int) netip.Addr { return netip.AddrFrom4([4]byte{192, 168, 145, byte(10 + n)}) }

func mark(n uint32) dataplane.ServiceKey {
	return dataplane.ServiceKey{VIP: netip.IPv4Unspecified(), Mark: n}
}

// service is 192.168.145.101:port/tcp with servers given as number and weight.
func service(port uint16, servers ...[2]int) Service {
	s := Service{
		Key:       dataplane.ServiceKey{VIP: vip, Port: port, Protocol: dataplane.TCP},
		Scheduler: "rr", Netmask: wholeMask(vip),
	}
	for _, d := range servers {
		s.Servers = append(s.Servers, Server{Addr: netip.AddrPortFrom(real(d[0]), port), Forward: Route, Weight: uint32(d[1])})
	}
	return s
}

func TestDiff(t *testing.T) {
	const s80, s81 = "192.168.145.101:80/tcp", "192.168.145.101:81/tcp"
	srv := func(n int) string { return netip.AddrPortFrom(real(n), 80).String() + " of " + s80 }
	wrr := service(80, [2]int{1, 1})
	wrr.Scheduler = "wrr"
	hashedSvc := service(80, [2]int{1, 1})
	hashedSvc.Flags = hashed
	masq := service(80, [2]int{1, 1})
	masq.Servers[0].Forward = Masq
	other := service(80, [2]int{1, 1})
	other.Servers[0].Forward, other.Servers[0].Addr = Masq, netip.AddrPortFrom(real(1), 8080)
	ipip, gue := service(80, [2]int{1, 1}), service(80, [2]int{1, 1})
	ipip.Servers[0].Forward, gue.Servers[0].Forward = Tunnel, Tunnel
	gue.Servers[0].Tunnel = TunnelTo{Type: GUE, Port: 6080}
	sip := service(80, [2]int{1, 1})
	sip.Engine = "sip"
	limits := service(80, [2]int{1, 1})
	limits.Servers[0].Upper = 100
	for _, c := range []struct {
		name      string
		old, want []Service
		ops       []string
	}{
		{"both empty", nil, nil, nil},
		{"equal", []Service{hashedSvc}, []Service{service(80, [2]int{1, 1})}, nil},
		{"equal in another order",
			[]Service{service(80, [2]int{2, 1}, [2]int{1, 1}), service(81)},
			[]Service{service(81), service(80, [2]int{1, 1}, [2]int{2, 1})}, nil},
		{"new service: servers that serve come first",
			nil, []Service{service(80, [2]int{1, 0}, [2]int{2, 1})},
			[]string{"add service " + s80, "add server " + srv(2), "add server " + srv(1)}},
		{"turns go by the configuration: the kernel puts a new server first",
			nil, []Service{service(80, [2]int{1, 1}, [2]int{2, 1}, [2]int{3, 1})},
			[]string{"add service " + s80, "add server " + srv(3), "add server " + srv(2), "add server " + srv(1)}},
		{"server replaced",
			[]Service{service(80, [2]int{1, 1})}, []Service{service(80, [2]int{2, 1})},
			[]string{"add server " + srv(2), "remove server " + srv(1)}},
		{"weights cross",
			[]Service{service(80, [2]int{1, 1}, [2]int{2, 0})}, []Service{service(80, [2]int{1, 0}, [2]int{2, 1})},
			[]string{"change server " + srv(2), "change server " + srv(1)}},
		{"all at once",
			[]Service{service(80, [2]int{1, 5}, [2]int{2, 1}, [2]int{3, 1})},
			[]Service{service(80, [2]int{1, 1}, [2]int{2, 5}, [2]int{4, 1})},
			[]string{"add server " + srv(4), "change server " + srv(2), "change server " + srv(1), "remove server " + srv(3)}},
		{"quiesced",
			[]Service{service(80, [2]int{1, 1})}, []Service{service(80, [2]int{1, 0})},
			[]string{"change server " + srv(1)}},
		{"service moves",
			[]Service{service(80, [2]int{1, 1})}, []Service{service(81)},
			[]string{"add service " + s81, "remove service " + s80}},
		{"scheduler", []Service{service(80, [2]int{1, 1})}, []Service{wrr}, []string{"change service " + s80}},
		{"forwarding method", []Service{masq}, []Service{service(80, [2]int{1, 1})}, []string{"change server " + srv(1)}},
		{"tunnel", []Service{gue}, []Service{ipip}, []string{"change server " + srv(1)}},
		{"persistence engine", []Service{sip}, []Service{service(80, [2]int{1, 1})}, []string{"change service " + s80}},
		{"port of a server: the new one first", []Service{masq}, []Service{other}, []string{"add server 192.168.145.11:8080 of " + s80, "remove server " + srv(1)}},
		{"mark", []Service{{Key: mark(7)}}, []Service{{Key: mark(8)}}, []string{"add service fwmark:8", "remove service fwmark:7"}},
		{"thresholds", []Service{limits}, []Service{service(80, [2]int{1, 1})}, []string{"change server " + srv(1)}},
	} {
		var got []string
		for _, o := range diff(c.old, c.want) {
			got = append(got, o.String())
		}
		if !slices.Equal(got, c.ops) {
			t.Errorf("%s:\n got %q\nwant %q", c.name, got, c.ops)
		}
	}
}

// serves tells whether a service can take a new connection.
func serves(s *Service) bool {
	return slices.ContainsFunc(s.Servers, func(d Server) bool { return d.Weight > 0 })
}

// drawTable makes a table of a few services out of a small world, so that two
// draws have much in common.
func drawTable(t *rapid.T, name string) []Service {
	var out []Service
	for port := uint16(80); port < 83; port++ {
		if !rapid.Bool().Draw(t, name+" has service") {
			continue
		}
		s := service(port)
		s.Scheduler = rapid.SampledFrom([]string{"rr", "wrr"}).Draw(t, name+" scheduler")
		for n := 1; n <= 4; n++ {
			if w := rapid.IntRange(-2, 2).Draw(t, fmt.Sprint(name, " weight ", n)); w >= 0 {
				s.Servers = append(s.Servers, Server{Addr: netip.AddrPortFrom(real(n), port), Forward: Route, Weight: uint32(w)})
			}
		}
		out = append(out, s)
	}
	return out
}

// drawRich is drawTable with everything else that a service and a server have,
// out of few values each, and with firewall marks.
func drawRich(t *rapid.T, name string) []Service {
	out := drawTable(t, name)
	if rapid.Bool().Draw(t, name+" marked") {
		s := service(0, [2]int{1, 1}, [2]int{2, 0})
		s.Key = mark(7)
		out = append(out, s)
	}
	draw := rapid.IntRange(0, 1)
	for i := range out {
		s := &out[i]
		s.Flags = []Flags{0, Persistent | Sched2}[draw.Draw(t, name+" flags")]
		s.Timeout = uint32(draw.Draw(t, name+" timeout"))
		s.Engine = []string{"", "sip"}[draw.Draw(t, name+" engine")]
		for j := range s.Servers {
			d := &s.Servers[j]
			d.Upper, d.Lower = uint32(draw.Draw(t, name+" upper")), uint32(draw.Draw(t, name+" lower"))
			switch rapid.IntRange(0, 3).Draw(t, name+" forward") {
			case 0:
				d.Forward = Tunnel
			case 1:
				d.Forward, d.Tunnel = Tunnel, TunnelTo{GUE, 6080, 0}
			case 2: // another port is another server
				d.Forward, d.Addr = Masq, netip.AddrPortFrom(d.Addr.Addr(), 8080)
			}
		}
	}
	return out
}

// The three properties of a diff: it gives the wanted table, at each step no
// service is without a server that should have one, and it does nothing when
// there is nothing to do.
func TestDiffProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old, want := drawRich(t, "old"), drawRich(t, "want")
		must := make(map[dataplane.ServiceKey]bool)
		for i := range old {
			for j := range want {
				if old[i].Key == want[j].Key && serves(&old[i]) && serves(&want[j]) {
					must[old[i].Key] = true
				}
			}
		}
		k := &fake{}
		k.table, _ = (&fake{table: old}).services()
		k.after = func(table []Service) {
			served := 0
			for i := range table {
				if must[table[i].Key] && serves(&table[i]) {
					served++
				}
			}
			if served != len(must) {
				t.Fatalf("after %q: %s", k.log[len(k.log)-1], text(table))
			}
		}
		ops := diff(old, want)
		fresh := make(map[dataplane.ServiceKey]bool)
		for i, o := range ops {
			if err := k.do(o); err != nil {
				t.Fatalf("%s: %v", o, err)
			}
			if o.verb == addService {
				fresh[o.service.Key] = true
			}
			// A new service gets its servers without anything in between.
			if o.verb == addServer && fresh[o.service.Key] && ops[i-1].service.Key != o.service.Key {
				t.Fatalf("%s after %s", o, ops[i-1])
			}
		}
		if got := text(k.table); got != text(want) {
			t.Fatalf("\n got %s\nwant %s", got, text(want))
		}
		if again := diff(k.table, want); len(again) > 0 {
			t.Fatalf("not done: %v", again)
		}
	})
}

// No command is sent that could be left out: every one concerns a service or
// a server that differs, and none is concerned twice.
func TestDiffMinimal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old, want := drawRich(t, "old"), drawRich(t, "want")
		seen := make(map[string]bool)
		for _, o := range diff(old, want) {
			what := fmt.Sprint(o.service.Key)
			if o.verb >= addServer {
				what += o.server.Addr.String()
			}
			if seen[what] {
				t.Fatalf("twice: %s", o)
			}
			seen[what] = true
		}
		if ops := diff(old, old); len(ops) > 0 {
			t.Fatalf("equal, but: %v", ops)
		}
	})
}
