package control

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"systole/control/config"
	"systole/control/neighbour"
	"systole/dataplane"
)

// Everything that the config says of a service reaches the planes.
func TestPlanTellsAllThereIsToAService(t *testing.T) {
	cfg, err := config.Parse("f", []byte(`
node: node1
cluster: {nodes: [node1]}
groups: [{name: web, vips: [{address: 192.168.145.101, interface: eth0}, {address: '2001:db8::1', interface: eth0}]}]
services:
  - virtual: 192.168.145.101:8000-8099
    scheduler: mh
    scheduler_flags: [mh-port]
    persistent: {timeout: 10m, netmask: 255.255.255.0}
    timeouts: {tcp: 1h, tcpfin: 30s}
    lost: keep
    check: {type: none}
    servers:
      - {address: 192.168.145.200, forward: gue, tunnel_port: 5555, upper: 100, lower: 50}
      - {address: '2001:db8::2', forward: ipip, weight: 7}
    fallback: {address: 192.168.145.202, forward: ipip}
  - virtual: '[2001:db8::1]:*'
    protocol: udp
    one_packet: true
    timeouts: {}
    check: {type: none}
    servers: [{address: '2001:db8::2'}]
  - virtual: 192.168.145.101:9
    protocol: sctp
    lost: reschedule
    timeouts: {}
    check: {type: none}
    servers: [{address: 192.168.145.203, forward: masq, port: 99}]
  - virtual: 192.168.145.101:443
    protocol: udp
    quic: {server_id_length: 3}
    check: {type: none}
    servers: [{address: 192.168.145.200, server_id: 00000a}]
  - fwmark: 7
    timeouts: {udp: 9s}
    check: {type: none}
    servers: [{address: '2001:db8::2'}]
dataplane: {interface: eth0}
`), "")
	if err != nil {
		t.Fatal(err)
	}
	web, dns := netip.MustParseAddr("192.168.145.200"), netip.MustParseAddr("2001:db8::2")
	nat := netip.MustParseAddr("192.168.145.203")
	f := allGood()
	f.Health = map[dataplane.ServerKey]bool{}
	for id := range checkTargets(cfg) {
		k, ok := serverKey(cfg, id)
		if !ok {
			t.Fatalf("no server for %v", id)
		}
		f.Health[k] = true
	}
	way := neighbour.Way{Source: netip.MustParseAddr("192.168.145.2"), MTU: 9000}
	way6 := neighbour.Way{Source: netip.MustParseAddr("2001:db8::3"), MTU: 1500}
	f.Neighbours = map[netip.Addr]Neighbour{web: {MAC: mac1, Way: way}, dns: {MAC: mac2, Way: way6}}
	snap, why := Plan(cfg, f)
	v6 := netip.MustParseAddr("2001:db8::1")
	want := []dataplane.Service{
		{
			ServiceKey: dataplane.ServiceKey{VIP: testVIP, Port: 8000, LastPort: 8099, Protocol: dataplane.TCP},
			Scheduler:  "mh", SchedulerFlags: []string{"mh-port"},
			Persistence: dataplane.Persistence{Timeout: 10 * time.Minute, PrefixLen: 24},
			Timeouts:    dataplane.Timeouts{TCP: time.Hour, TCPFin: 30 * time.Second}, Lost: dataplane.Keep,
			Servers: []dataplane.RealServer{
				{Addr: web, Weight: 1, MAC: mac1, Forward: dataplane.GUE, TunnelPort: 5555, Source: way.Source, MTU: 9000, Upper: 100, Lower: 50},
				{Addr: dns, Weight: 7, MAC: mac2, Forward: dataplane.IPIP, Source: way6.Source, MTU: 1500},
			},
		},
		{
			ServiceKey: dataplane.ServiceKey{VIP: v6, Protocol: dataplane.UDP}, Scheduler: "rr", OnePacket: true,
			Servers: []dataplane.RealServer{{Addr: dns, Weight: 1, MAC: mac2}},
		},
		{
			ServiceKey: dataplane.ServiceKey{VIP: testVIP, Port: 9, Protocol: dataplane.SCTP}, Scheduler: "rr", Lost: dataplane.Reschedule,
			Servers: []dataplane.RealServer{{Addr: nat, Weight: 1, Forward: dataplane.Masq, Port: 99}},
		},
		{
			ServiceKey: dataplane.ServiceKey{VIP: testVIP, Port: 443, Protocol: dataplane.UDP}, Scheduler: "rr", ServerIDLength: 3,
			Servers: []dataplane.RealServer{{Addr: web, Weight: 1, MAC: mac1, ServerID: []byte{0, 0, 10}}},
		},
		{
			ServiceKey: dataplane.ServiceKey{VIP: netip.IPv6Unspecified(), Mark: 7}, Scheduler: "rr", Timeouts: dataplane.Timeouts{UDP: 9 * time.Second},
			Servers: []dataplane.RealServer{{Addr: dns, Weight: 1, MAC: mac2}},
		},
	}
	cmpAddr := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	if diff := cmp.Diff(want, snap.Services, cmpAddr); diff != "" {
		t.Error(diff)
	}
	// Nobody asks for the MAC address of a server that masq leads to.
	if p := why[dataplane.ServerKey{Service: want[2].ServiceKey, Server: nat}]; p.Reason != "" || !p.InTable {
		t.Errorf("%+v", p)
	}
	// A tunnel leads by a router, gate does not.
	router := netip.MustParseAddr("192.168.145.1")
	f.Neighbours = map[netip.Addr]Neighbour{web: {MAC: mac1, Via: router, Way: way}, dns: {MAC: mac2, Via: router, Way: way6}}
	snap, why = Plan(cfg, f)
	if r := snap.Services[0].Servers[0]; r.MAC == nil {
		t.Errorf("gue by a router: %+v", r)
	}
	id := dataplane.ServerKey{Service: want[1].ServiceKey, Server: dns}
	if r := snap.Services[1].Servers[0]; r.MAC != nil || !strings.Contains(why[id].Reason, "not behind 192.168.145.1") {
		t.Errorf("gate by a router: %+v, %+v", r, why[id])
	}
	// A tunnel needs room, and an address to come from.
	narrow := dataplane.ServerKey{Service: want[0].ServiceKey, Server: web}
	for reason, w := range map[string]neighbour.Way{
		"leaves 568 bytes": {Source: way.Source, MTU: 600}, "no address of this machine": {MTU: 1500},
	} {
		f.Neighbours[web] = Neighbour{MAC: mac1, Way: w}
		if _, why = Plan(cfg, f); !strings.Contains(why[narrow].Reason, reason) {
			t.Errorf("%+v: %+v", w, why[narrow])
		}
	}
	f.Neighbours = nil
	if _, why = Plan(cfg, f); why[dataplane.ServerKey{Service: want[1].ServiceKey, Server: dns}].Reason == "" {
		t.Error("gate without a MAC address, and no word of it")
	}
}
