package ipvs

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"testing"

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
		Key: dataplane.ServiceKey{VIP: any}, FWMark: mark,
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
			virtual(sctp, "192.168.145.102:53", "rr", 0, 0),
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
			if err := List(&got, Table{Size: 4096, Services: services}); err != nil {
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
	if err := errors.Join(List(&a, before), List(&b, after)); err != nil {
		t.Fatal(err)
	}
	if a.String() != b.String() || a.Len() < 200 {
		t.Errorf("before\n%safter\n%s", &a, &b)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestListReportsWriteErrors(t *testing.T) {
	if err := List(full{}, Table{}); err == nil {
		t.Error("no error")
	}
}

func TestTableOf(t *testing.T) {
	s := snapshot(service(80, [2]int{2, 0}, [2]int{1, 3}))
	table := TableOf(s)
	table.Size = 1 << 20
	var got bytes.Buffer
	if err := List(&got, table); err != nil {
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
