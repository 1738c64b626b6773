package ipvs

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"systole/dataplane"
)

// virtual is a service in few words; weights and counts come with server.
func virtual(p dataplane.Protocol, addr, scheduler string, flags Flags, timeout uint32, servers ...Server) Service {
	a := netip.MustParseAddrPort(addr)
	return Service{
		Key:       dataplane.ServiceKey{VIP: a.Addr(), Port: a.Port(), Protocol: p},
		Scheduler: scheduler, Flags: flags | hashed, Timeout: timeout, Netmask: wholeMask(a.Addr()), Servers: servers,
	}
}

func marked(mark uint32, any netip.Addr, scheduler string, servers ...Server) Service {
	return Service{
		Key:       dataplane.ServiceKey{VIP: any, Mark: mark},
		Scheduler: scheduler, Flags: hashed, Netmask: wholeMask(any), Servers: servers,
	}
}

func (s Service) masked(mask uint32) Service { s.Netmask = mask; return s }

func dotted(a, b, c, d byte) uint32 { return binary.NativeEndian.Uint32([]byte{a, b, c, d}) }

func server(addr string, f Forward, weight uint32, conns ...uint32) Server {
	s := Server{Addr: netip.MustParseAddrPort(addr), Forward: f, Weight: weight}
	if len(conns) == 2 {
		s.Active, s.Inactive = conns[0], conns[1]
	}
	return s
}

// The files are what ipvsadm 1.31 printed of these tables.
func TestList(t *testing.T) {
	const tcp, udp = dataplane.TCP, dataplane.UDP
	any4, any6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	persistent7 := marked(7, any4, "wrr", server("192.168.145.11:0", Route, 3))
	persistent7.Flags, persistent7.Timeout, persistent7.Netmask = Persistent, 600, dotted(255, 255, 255, 0)
	mixed7 := persistent7
	mixed7.Servers = append(mixed7.Servers[:1:1], server("192.168.145.12:0", Tunnel, 2))
	for file, services := range map[string][]Service{
		"connections.txt": {
			virtual(tcp, "192.168.145.101:80", "rr", 0, 0,
				server("192.168.145.11:80", Route, 1, 1, 10), server("192.168.145.12:80", Route, 1, 2, 10)),
			virtual(udp, "192.168.145.101:53", "rr", 0, 0,
				server("192.168.145.11:53", Route, 1, 0, 5), server("192.168.145.12:53", Route, 1, 0, 6)),
		},
		"mixed.txt": {
			virtual(tcp, "192.168.145.101:80", "rr", 0, 0, server("192.168.145.11:80", Route, 1, 0, 15)),
			virtual(tcp, "192.168.145.102:8080", "mh", 0, 0, server("192.168.145.11:80", Masq, 5)),
			virtual(udp, "192.168.145.101:53", "rr", OnePacket, 0,
				server("192.168.145.11:53", Route, 1, 0, 5), server("192.168.145.12:53", Route, 1, 0, 6)),
			virtual(tcp, "[2001:db8::1]:443", "sh", Sched2, 0, server("[2001:db8::11]:443", Route, 1)),
			mixed7,
		},
		"every-form.txt": {
			virtual(tcp, "192.168.145.9:443", "wrr", Sched1|Sched3|Persistent, 360,
				server("192.168.145.20:443", Route, 0), server("192.168.145.200:443", Route, 65535)).masked(dotted(255, 255, 0, 0)),
			virtual(tcp, "192.168.145.101:9", "rr", 0, 0, server("127.0.0.1:9", Masq, 1)),
			virtual(tcp, "192.168.145.101:80", "rr", 0, 0, server("127.0.0.1:80", Route, 1)),
			virtual(tcp, "192.168.145.102:81", "sh", Sched1|Sched2|Persistent, 300,
				server("192.168.145.12:80", Masq, 5), server("192.168.145.12:81", Tunnel, 2), server("192.168.145.12:8081", Masq, 5)),
			virtual(tcp, "192.168.145.103:0", "wlc", Persistent, 360),
			virtual(udp, "192.168.145.102:53", "mh", Sched1|OnePacket, 0),
			virtual(dataplane.SCTP, "192.168.145.102:53", "rr", 0, 0),
			virtual(tcp, "[2001:db8::1]:443", "rr", Persistent, 300,
				server("[2001:db8:1111:2222:3333:4444:5555:6666]:443", Route, 10)).masked(64),
			virtual(udp, "[2001:db8::1]:53", "rr", Persistent, 300),
			marked(3, any4, "rr"),
			marked(5, any6, "rr"),
			persistent7,
			marked(9, any6, "rr"),
		},
	} {
		want, err := os.ReadFile("testdata/" + file)
		if err != nil {
			t.Fatal(err)
		}
		for range 5 { // whatever order the kernel gives
			rand.Shuffle(len(services), func(i, j int) { services[i], services[j] = services[j], services[i] })
			for _, s := range services {
				rand.Shuffle(len(s.Servers), func(i, j int) { s.Servers[i], s.Servers[j] = s.Servers[j], s.Servers[i] })
			}
			var got bytes.Buffer
			if err := List(&got, Table{Size: 4096, Services: services}, ViewTable, false); err != nil {
				t.Fatal(err)
			}
			if got.String() != string(want) {
				t.Fatalf("%s: got\n%swant\n%s", file, &got, want)
			}
		}
	}
}

// A table goes to the command line as JSON, and must print the same there.
func TestListAfterJSON(t *testing.T) {
	before := Table{Version: "1.2.1", Size: 4096, Services: []Service{
		virtual(dataplane.UDP, "192.168.145.101:53", "sh", Sched2|Persistent, 300, server("192.168.145.11:53", Tunnel, 3, 4, 5)),
		marked(5, netip.IPv6Unspecified(), "rr"),
	}}
	data, err := json.Marshal(before)
	if err != nil {
		t.Fatal(err)
	}
	var after Table
	if err := json.Unmarshal(data, &after); err != nil {
		t.Fatal(err)
	}
	var a, b bytes.Buffer
	if err := errors.Join(List(&a, before, ViewTable, false), List(&b, after, ViewTable, false)); err != nil {
		t.Fatal(err)
	}
	if a.String() != b.String() || a.Len() < 200 {
		t.Errorf("before\n%safter\n%s", &a, &b)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestListReportsWriteErrors(t *testing.T) {
	if err := List(full{}, Table{}, ViewTable, false); err == nil {
		t.Error("no error")
	}
}

// The files are what ipvsadm 1.31 printed of the table that forms.save holds,
// in every view.
func TestViews(t *testing.T) {
	services, err := ParseSave(strings.NewReader(file(t, "forms.save")))
	if err != nil {
		t.Fatal(err)
	}
	for i := range services { // ipvsadm-save keeps no thresholds
		if s := &services[i]; s.Key == service(80).Key {
			s.Servers[0].Upper, s.Servers[0].Lower = 100, 50
		}
	}
	for name, v := range map[string]View{
		"forms.txt": ViewTable, "forms-stats.txt": ViewStats, "forms-rate.txt": ViewRate,
		"forms-thresholds.txt": ViewThresholds, "forms-persistent.txt": ViewPersistent, "forms-tunnels.txt": ViewTunnels,
	} {
		for _, exact := range []bool{false, true} {
			var b bytes.Buffer
			if err := List(&b, Table{Size: 4096, Services: services}, v, exact); err != nil {
				t.Fatal(err)
			}
			if got, want := b.String(), file(t, name); got != want {
				t.Errorf("%s: got\n%swant\n%s", name, got, want)
			}
		}
	}
}

// What ipvsadm 1.31 printed of these numbers.
func TestNumbers(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "        0", 9999999: "  9999999", 99999999: " 99999999", 100000000: "  100000K", 999999999: "  999999K",
		1000000000: "    1000M", 1999999999: "    1999M", 99999999999: "   99999M", 100000000000: "     100G",
		99999999999999: "   99999G", 100000000000000: "     100T", 1<<64 - 1: "18446744T",
	} {
		if got := number(n, false); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
	for n, want := range map[uint64]string{7: "        7", 1<<64 - 1: " 18446744073709551615"} {
		if got := number(n, true); got != want {
			t.Errorf("%d exactly: %q, want %q", n, got, want)
		}
	}
}

// Five columns each, of the service and of its server.
func TestStatsAndRates(t *testing.T) {
	before := Table{Services: []Service{service(80, [2]int{1, 1})}}
	after := Table{Services: []Service{service(80, [2]int{1, 1}, [2]int{2, 1})}}
	before.Services[0].Stats = Stats{Connections: 10, InPackets: 20, OutPackets: 30, InBytes: 40, OutBytes: 50}
	after.Services[0].Stats = Stats{Connections: 11, InPackets: 40, OutPackets: 60, InBytes: 80, OutBytes: 1050}
	before.Services[0].Servers[0].Stats = Stats{Connections: 5}
	after.Services[0].Servers[0].Stats = Stats{Connections: 4, InPackets: 7} // it was made anew
	after.Services[0].Servers[1].Stats = Stats{Connections: 100}             // it was not there
	after.Rates(before, 2*time.Second)
	for v, want := range map[View]string{
		ViewStats: `TCP  192.168.145.101:80                 11       40       60       80     1050
  -> 192.168.145.11:80                   4        7        0        0        0
  -> 192.168.145.12:80                 100        0        0        0        0
`,
		ViewRate: `TCP  192.168.145.101:80                  1       10       15       20      500
  -> 192.168.145.11:80                   0        4        0        0        0
  -> 192.168.145.12:80                   0        0        0        0        0
`,
	} {
		var b bytes.Buffer
		if err := List(&b, after, v, false); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(b.String(), "RemoteAddress:Port\n"+want) {
			t.Errorf("got\n%swant\n%s", &b, want)
		}
	}
}

func TestListTimeoutsAndDaemons(t *testing.T) {
	var b bytes.Buffer
	err := errors.Join(
		ListTimeouts(&b, dataplane.Timeouts{TCP: 800 * time.Second, TCPFin: 2 * time.Minute, UDP: 200 * time.Second}),
		ListDaemons(&b, []Daemon{
			{SyncMaster, "lan", 7, DefaultSyncGroup, 8848, 1, 1472},
			{SyncBackup, "lan", 0, netip.MustParseAddr("ff02::1:5"), 9000, 2, 1400},
		}))
	want := `Timeout (tcp tcpfin udp): 800 120 200
master sync daemon (mcast=lan, syncid=7, maxlen=1472, group=224.0.0.81, port=8848, ttl=1)
backup sync daemon (mcast=lan, syncid=0, maxlen=1400, group=ff02::1:5, port=9000, ttl=2)
`
	if err != nil || b.String() != want {
		t.Errorf("%v, got\n%swant\n%s", err, &b, want)
	}
}

func TestTableOf(t *testing.T) {
	s := snapshot(service(80, [2]int{2, 0}, [2]int{1, 3}))
	table := TableOf(s)
	table.Size = 1 << 20
	var got bytes.Buffer
	if err := List(&got, table, ViewTable, false); err != nil {
		t.Fatal(err)
	}
	want := `IP Virtual Server version 1.2.1 (size=1048576)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  192.168.145.101:80 rr
  -> 192.168.145.11:80            Route   3      0          0         
  -> 192.168.145.12:80            Route   0      0          0         
`
	if got.String() != want {
		t.Errorf("got\n%swant\n%s", &got, want)
	}
}
