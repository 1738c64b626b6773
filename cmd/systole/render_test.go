package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"systole/control"
	"systole/control/api"
	"systole/control/config"
	"systole/dataplane"
	"systole/dataplane/ipvs"
	"systole/test/golden"
)

// sample is a director with something of everything.
func sample() *control.State {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return &control.State{
		Node: "node1", Version: "1.0", Started: at.Add(-90 * time.Minute), At: at,
		Health: "degraded", Problems: []string{
			"service 192.168.145.101:80/tcp: real server 192.168.145.201: health check fails: status 503, want 2xx",
			"link ucast eth1 to node2 is dead",
		},
		Role: "active", Holds: "local", Lease: "armed",
		Takeover: control.TakeoverState{State: "stable", Standby: "idle", PeerSystole: true, AutoFailback: true, Pings: -1, PeerPings: -1},
		Nodes: []control.NodeState{
			{Name: "node1", Self: true, Status: "active", LastBeat: -1},
			{Name: "node2", Status: "active", LastBeat: 43 * time.Millisecond, Links: []control.LinkState{
				{Medium: "ucast eth0", Up: true, State: "up", Age: 3 * time.Millisecond, Loss: 3.0 / 128, RTT: 212345 * time.Nanosecond, Received: 997, Missed: 3, Failures: 1},
				{Medium: "ucast eth1", State: "dead", Age: 5 * time.Minute, Loss: 1, Received: 500, Missed: 500, Failures: 2},
				{Medium: "serial ttyS0", State: "dead", Age: -1},
			}},
			{Name: "node3", Status: "init", LastBeat: -1},
		},
		View:  control.ViewState{Number: 12, Coordinator: "node1", Members: []string{"node1", "node2"}, Old: []string{}, Quorum: true, Settled: true, Why: "quorum with 2 of 3 votes"},
		Pings: []control.PingState{{Name: "192.168.145.1", Status: "ping", Age: 12 * time.Millisecond}, {Name: "routers", Status: "dead", Age: -1}},
		Groups: []control.GroupState{
			{Name: "web", Preferred: "node1", Owner: "node1", Role: "active", VIPs: []control.VIPState{{Address: "192.168.145.101/32", Interface: "eth0", Present: true}}},
			{Name: "db", Preferred: "node2", Role: "standby", VIPs: []control.VIPState{{Address: "192.168.145.102/32", Interface: "eth0"}}},
		},
		Planes: []control.PlaneState{
			{Info: dataplane.Info{Name: "xdp", Mode: "generic", Interface: "eth0", Reason: "the driver has no native XDP"}, Generation: 7, Leaving: 2},
			{Info: dataplane.Info{Name: "ipvs", Reason: "this kernel has no IPVS"}, Absent: true},
		},
		Services: []control.ServiceState{
			{
				Service: "192.168.145.101:80/tcp", Scheduler: "rr", State: "up", Plane: "xdp", Counters: dataplane.Counters{Packets: 1200, Connections: 100},
				Servers: []control.ServerState{
					{Address: "192.168.145.200", Weight: 1, Effective: 1, InTable: true, Health: "up", Counters: dataplane.Counters{Packets: 700, Connections: 60}, Conns: dataplane.Conns{Active: 3, Inactive: 40}},
					{Address: "192.168.145.201", Weight: 1, Health: "down", Reason: "health check fails: status 503, want 2xx", Counters: dataplane.Counters{Packets: 500, Connections: 40}},
					{Address: "192.168.145.202", Fallback: true, Health: "unknown", Reason: "fallback: not needed"},
				},
			},
			{Service: "192.168.145.101:53/udp", Scheduler: "wrr", State: "empty", PlaneWhy: "xdp: interface eth0 is gone; ipvs: this kernel has no IPVS", Servers: []control.ServerState{
				{Address: "192.168.145.200", Weight: 5, InTable: true, Health: "up", Quiesced: true, Reason: "quiesced by the operator"},
			}},
		},
		FlowTableSize: 4096, FlowTableBytes: 128 << 10, PlaneChoice: "auto",
	}
}

func TestStatusForPeople(t *testing.T) {
	var b bytes.Buffer
	if err := writeStatus(&b, sample()); err != nil {
		t.Fatal(err)
	}
	golden.Check(t, "status.txt", b.Bytes())
}

func TestPlanesForPeople(t *testing.T) {
	s := sample()
	s.PlaneChoice = "ipvs"
	var b bytes.Buffer
	if err := writePlanes(&b, s); err != nil {
		t.Fatal(err)
	}
	golden.Check(t, "plane.txt", b.Bytes())
}

// Of several interfaces each has its line.
func TestInterfacesForPeople(t *testing.T) {
	s := sample()
	p := &s.Planes[0]
	p.Mode, p.Interface, p.Reason = "mixed", "eth0, bond0, eth7", "eth7: interface eth7 is gone"
	p.Interfaces = []dataplane.Interface{
		{Name: "eth0", Mode: "native"},
		{Name: "bond0", Mode: "native", Reason: "on each member: native XDP on bond0: not supported", Members: []string{"eth1", "eth2"}},
		{Name: "eth7", Mode: dataplane.Detached, Reason: "interface eth7 is gone"},
	}
	p.Traffic = map[string]dataplane.InterfaceCounters{"eth0": {InPackets: 12, OutPackets: 7}, "bond0": {InPackets: 1, OutPackets: 6}}
	var b bytes.Buffer
	if err := writePlanes(&b, s); err != nil {
		t.Fatal(err)
	}
	golden.Check(t, "interfaces.txt", b.Bytes())
}

// A witness has neither groups nor planes nor services to show.
func TestStatusOfAWitness(t *testing.T) {
	s := sample()
	s.Node, s.Role, s.Holds, s.Health, s.Problems = "node3", control.RoleWitness, "none", "ok", nil
	s.Groups, s.Planes, s.Services = nil, nil, nil
	var b bytes.Buffer
	if err := writeStatus(&b, s); err != nil {
		t.Fatal(err)
	}
	out := b.String()
	for _, want := range []string{"node3 is witness, holds none: ok\n", "; it votes for the quorum and owns nothing\n", "\nVIEW "} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	for _, no := range []string{"GROUP", "PLANE", "SERVICE", "ownership"} {
		if strings.Contains(out, no) {
			t.Errorf("%q in\n%s", no, out)
		}
	}
}

// The JSON form is a promise to programs: a change here is a change of it.
func TestStatusForPrograms(t *testing.T) {
	var b bytes.Buffer
	if err := (statusCmd{JSON: true}).print(&b, sample()); err != nil {
		t.Fatal(err)
	}
	golden.Check(t, "status.json", b.Bytes())
}

func TestTableInIpvsadmsForm(t *testing.T) {
	table, err := ipvsTable(sample())
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := ipvs.List(&b, table, ipvs.ViewTable, false); err != nil {
		t.Fatal(err)
	}
	golden.Check(t, "ipvs.txt", b.Bytes())
	for _, bad := range []func(*control.State){
		func(s *control.State) { s.Services[0].Service = "web" },
		func(s *control.State) { s.Services[0].Servers[0].Address = "server1" },
	} {
		s := sample()
		bad(s)
		if _, err := ipvsTable(s); err == nil {
			t.Error("an answer of another version was understood")
		}
	}
}

// The settings of services and servers come through the State, as JSON too.
func TestTableOfEverySetting(t *testing.T) {
	s := &control.State{FlowTableSize: 4096, Services: []control.ServiceState{
		{
			Service: "192.168.145.101:80/tcp", Scheduler: "mh",
			ServiceSettings: control.ServiceSettings{SchedulerFlags: []string{"mh-port"}, Persistent: 5 * time.Minute, PersistentBits: 24},
			Counters:        dataplane.Counters{Packets: 1200, Bytes: 200000000, Connections: 100, OutPackets: 7},
			Servers: []control.ServerState{
				{
					Address: "192.168.145.200", Effective: 3, InTable: true, Counters: dataplane.Counters{Packets: 700, Connections: 60},
					Conns:          dataplane.Conns{Active: 3, Inactive: 40, Persistent: 9},
					ServerSettings: control.ServerSettings{Forward: "masq", Port: 8080, Upper: 100, Lower: 50},
				},
				{Address: "192.168.145.201", Effective: 1, InTable: true, ServerSettings: control.ServerSettings{Forward: "gue", TunnelPort: 9}},
				{Address: "192.168.145.202"},
			},
		},
		{
			Service: "192.168.145.101:5060/udp", Scheduler: "rr", Servers: []control.ServerState{{Address: "192.168.145.200", Effective: 1, InTable: true}},
			ServiceSettings: control.ServiceSettings{Persistent: time.Minute, Engine: "sip", OnePacket: true},
		},
		{Service: "fwmark6:7", Scheduler: "rr", Servers: []control.ServerState{{Address: "2001:db8::1", Effective: 1, InTable: true, ServerSettings: control.ServerSettings{Forward: "ipip"}}}},
	}}
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var back control.State
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	table, err := ipvsTable(&back)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, v := range []ipvs.View{ipvs.ViewTable, ipvs.ViewStats, ipvs.ViewThresholds, ipvs.ViewPersistent, ipvs.ViewTunnels} {
		if err := ipvs.List(&b, table, v, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := ipvs.Save(&b, table); err != nil {
		t.Fatal(err)
	}
	golden.Check(t, "ipvs-views.txt", b.Bytes())
	back.Services[0].Servers[0].Forward = "carrier pigeon"
	if _, err := ipvsTable(&back); err == nil || !strings.Contains(err.Error(), "carrier pigeon") {
		t.Errorf("an answer of another version: %v", err)
	}
}

// What restore prints of a saved table is the services of a config that the
// config's own reader takes.
func TestRestoreIsAConfig(t *testing.T) {
	const saved = `-A -t 192.0.2.101:80 -s wrr
-a -t 192.0.2.101:80 -r 192.0.2.200:80 -g -w 2 -x 100 -y 50
-a -t 192.0.2.101:80 -r 192.0.2.201:8080 -m -w 1
-A -u 192.0.2.101:0 -s sh -p 600 -M 255.255.255.0 -b sh-port
-a -u 192.0.2.101:0 -r 192.0.2.200:0 -i -w 1 --tun-type gue --tun-port 6081 --tun-nocsum
-A -t [2001:db8::1]:443 -s mh -p 90 -M 64
-a -t [2001:db8::1]:443 -r 192.0.2.200:443 -i -w 1 --tun-type ipip
-A -f 7 -s lblcr -o
-a -f 7 -r 192.0.2.200:0 -g -w 1
`
	var services, complaints bytes.Buffer
	if err := ipvsRestore(&services, &complaints, "saved", []byte(saved)); err != nil || complaints.Len() > 0 {
		t.Fatal(err, complaints.String())
	}
	golden.Check(t, "ipvs-restore.yaml", services.Bytes())
	text := `node: node1
cluster: {nodes: [node1]}
groups: [{name: web, vips: [{address: 192.0.2.101, interface: eth0}, {address: '2001:db8::1', interface: eth0}]}]
dataplane: {interface: eth0}
` + services.String()
	cfg, err := config.Parse("systole.yaml", []byte(text), "")
	if err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	if err := ipvs.Save(&again, ipvs.TableOf(dataplane.Snapshot{Services: control.Services(cfg)})); err != nil {
		t.Fatal(err)
	}
	// The order of Save is that of ipvsadm, which is the text's.
	if again.String() != saved {
		t.Errorf("got\n%swant\n%s", &again, saved)
	}
}

func TestRestoreComplains(t *testing.T) {
	var out, complaints bytes.Buffer
	err := ipvsRestore(&out, &complaints, "saved", []byte("-X\n\n-A -t web:80\n"))
	want := "saved:1:1: \"-X\" is no option of a saved table\nsaved:3:7: \"web:80\" is not ADDRESS:PORT"
	if err != exitCode(1) || !strings.HasPrefix(complaints.String(), want) || out.Len() > 0 {
		t.Errorf("%v, %q, %q", err, &out, &complaints)
	}
	complaints.Reset()
	err = ipvsRestore(&out, &complaints, "saved", []byte("-A -t 192.0.2.1:80\n"))
	if err == nil || !strings.Contains(err.Error(), "no real server") || out.Len() > 0 || complaints.Len() > 0 {
		t.Errorf("%v, %q, %q", err, &out, &complaints)
	}
}

// ipvsadm's letters, together or not, and what does not go together.
func TestIpvsCommandLine(t *testing.T) {
	for args, want := range map[string]ipvs.View{
		"ipvs": ipvs.ViewTable, "ipvs -ln": ipvs.ViewTable, "ipvs -l -n --stats --exact": ipvs.ViewStats, "ipvs list --rate": ipvs.ViewRate,
		"ipvs -ln --thresholds": ipvs.ViewThresholds, "ipvs -ln --persistent-conn": ipvs.ViewPersistent, "ipvs -ln --tun-info": ipvs.ViewTunnels,
	} {
		var c cli
		k, err := kong.Must(&c).Parse(strings.Fields(args))
		if err != nil || !strings.HasPrefix(k.Command(), "ipvs list") || c.Ipvs.List.view() != want {
			t.Errorf("%s: %v, %+v", args, err, c.Ipvs.List)
		}
	}
	for _, args := range []string{"ipvs -lnc --stats", "ipvs -ln --stats --rate", "ipvs restore", "ipvs save x"} {
		var c cli
		if _, err := kong.Must(&c).Parse(strings.Fields(args)); err == nil {
			t.Errorf("%s: accepted", args)
		}
	}
	var c cli
	if _, err := kong.Must(&c).Parse(strings.Fields("ipvs -lnc --persistent-conn")); err != nil || !c.Ipvs.List.Connection {
		t.Errorf("-lnc: %v, %+v", err, c.Ipvs.List)
	}
}

func TestHandoverIsSeenToBeDone(t *testing.T) {
	for _, tt := range []struct {
		holds, class       string
		released, acquired bool
	}{
		{"none", "all", true, false}, {"local", "all", false, false}, {"all", "all", false, true},
		{"foreign", "local", true, false}, {"local", "local", false, true}, {"all", "local", false, true},
		{"none", "foreign", true, false}, {"foreign", "foreign", false, true},
	} {
		s := &control.State{Holds: tt.holds}
		if released(s, tt.class) != tt.released || acquired(s, tt.class) != tt.acquired {
			t.Errorf("holding %s, asked for %s: released %v, acquired %v", tt.holds, tt.class, released(s, tt.class), acquired(s, tt.class))
		}
	}
}

func TestExitCodes(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want int
	}{
		{nil, 0}, {exitCode(2), 2}, {context.Canceled, 130}, {errors.New("x"), 1},
		{fmt.Errorf("status: %w", api.ErrNotRunning), 3},
	} {
		if got := exit(tt.err); got != tt.want {
			t.Errorf("%v: exit %d, want %d", tt.err, got, tt.want)
		}
	}
}

func TestOwnershipInWords(t *testing.T) {
	for _, tt := range []struct {
		t    control.TakeoverState
		want string
	}{
		{control.TakeoverState{Pings: -1, PeerPings: -1}, ""},
		{control.TakeoverState{Pings: -1, Legacy: true}, ", the peer is spoken to as legacy"},
		{control.TakeoverState{Pings: -1, AtMostOne: true}, ", at most one: no quorum"},
		{control.TakeoverState{Pings: 2, PeerPings: 1, AtMostOne: true, Quorum: true}, ", at most one: quorum, ping nodes 2 (the peer 1)"},
	} {
		if got := ownership(tt.t); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.t, got, tt.want)
		}
	}
}

// What both planes have is told once, as the plane has it that carries the
// service.
func TestConnectionsOfBothPlanes(t *testing.T) {
	key := func(port uint16) dataplane.ServiceKey {
		return dataplane.ServiceKey{VIP: netip.MustParseAddr("192.168.145.101"), Port: port, Protocol: dataplane.TCP}
	}
	flow := func(from string, port uint16, server string) dataplane.Flow {
		return dataplane.Flow{
			Client: netip.MustParseAddrPort(from), Service: key(port), Port: port, Server: netip.MustParseAddr(server),
			State: dataplane.FlowFin, Expires: 119 * time.Second,
		}
	}
	kernel := func(from string, port uint16, server string) ipvs.Connection {
		f := flow(from, port, server)
		f.State, f.Expires = dataplane.FlowEstablished, 800*time.Second
		return ipvs.ConnectionOf(f)
	}
	s := &control.State{Services: []control.ServiceState{
		{Service: key(80).String(), Plane: "xdp"}, {Service: key(81).String(), Plane: "ipvs"},
	}}
	const a, b = "192.168.145.11", "192.168.145.12"
	got := bothPlanes(s,
		[]ipvs.Connection{kernel("10.0.0.1:1000", 80, a), kernel("10.0.0.1:1000", 81, a), kernel("10.0.0.3:3000", 80, a)},
		[]dataplane.Flow{flow("10.0.0.1:1000", 80, b), flow("10.0.0.1:1000", 81, b), flow("10.0.0.2:2000", 81, b)})
	var out strings.Builder
	if err := ipvs.ListConnections(&out, got, false); err != nil {
		t.Fatal(err)
	}
	const want = `IPVS connection entries
pro expire state       source             virtual            destination
TCP 01:59  FIN_WAIT    10.0.0.1:1000      192.168.145.101:80 192.168.145.12:80
TCP 13:20  ESTABLISHED 10.0.0.1:1000      192.168.145.101:81 192.168.145.11:81
TCP 13:20  ESTABLISHED 10.0.0.3:3000      192.168.145.101:80 192.168.145.11:80
TCP 01:59  FIN_WAIT    10.0.0.2:2000      192.168.145.101:81 192.168.145.12:81
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", &out, want)
	}
}
