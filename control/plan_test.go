package control

import (
	"net"
	"net/netip"
	"reflect"
	"testing"

	"systole/control/config"
	"systole/dataplane"
)

var (
	testVIP  = netip.MustParseAddr("192.168.145.101")
	server1  = netip.MustParseAddr("192.168.145.200")
	server2  = netip.MustParseAddr("192.168.145.201")
	sorry    = netip.MustParseAddr("192.168.145.202")
	peerAddr = netip.MustParseAddr("192.168.145.11")
	mac1     = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	mac2     = net.HardwareAddr{2, 0, 0, 0, 0, 2}
	mac3     = net.HardwareAddr{2, 0, 0, 0, 0, 3}
	macPeer  = net.HardwareAddr{2, 0, 0, 0, 0, 9}
	http80   = dataplane.ServiceKey{VIP: testVIP, Port: 80, Protocol: dataplane.TCP}
)

func key(s netip.Addr) dataplane.ServerKey { return dataplane.ServerKey{Service: http80, Server: s} }

func testConfig() *config.Config {
	return &config.Config{
		File: "test.yaml", Node: "node1",
		Cluster: config.Cluster{
			Keepalive: testDeadtime / 3, Deadtime: testDeadtime, AutoFailback: true,
			Nodes: []string{"node1", "node2"},
			Media: []config.Medium{{Type: "ucast", Interface: "eth0", Peers: map[string]netip.Addr{
				"node1": netip.MustParseAddr("192.168.145.10"), "node2": peerAddr,
			}}},
		},
		Groups: []config.Group{{Name: "web", Preferred: "node1", VIPs: []config.VIP{{Addr: testVIP, PrefixLen: 32, Interface: "eth0"}}}},
		Services: []config.Service{{
			VIP: testVIP, Port: 80, Protocol: "tcp", Scheduler: "rr",
			Servers: []config.Server{{Addr: server1, Weight: 1}, {Addr: server2, Weight: 3}},
			Check:   config.Check{Type: "tcp"},
		}},
		DataPlane: config.DataPlane{Interface: "eth0"},
	}
}

func allGood() Facts {
	return Facts{
		Roles:    map[string]dataplane.Role{"web": dataplane.Active},
		Health:   map[dataplane.ServerKey]bool{key(server1): true, key(server2): true},
		Quiesced: map[dataplane.ServerKey]bool{},
		Neighbours: map[netip.Addr]Neighbour{
			server1: {MAC: mac1}, server2: {MAC: mac2}, sorry: {MAC: mac3}, peerAddr: {MAC: macPeer},
		},
		Peers: []netip.Addr{peerAddr},
	}
}

func TestPlan(t *testing.T) {
	one := dataplane.RealServer{Addr: server1, Weight: 1, MAC: mac1}
	two := dataplane.RealServer{Addr: server2, Weight: 3, MAC: mac2}
	weightless := func(r dataplane.RealServer) dataplane.RealServer { r.Weight = 0; return r }
	noMAC := func(r dataplane.RealServer) dataplane.RealServer { r.MAC = nil; return r }
	fallback := dataplane.RealServer{Addr: sorry, Weight: 1, MAC: mac3}
	withFallback := func(c *config.Config) { c.Services[0].Fallback = &config.Server{Addr: sorry, Weight: 1} }
	quiescent := func(c *config.Config) { c.Services[0].Quiescent = true }

	for _, tt := range []struct {
		name   string
		config func(*config.Config)
		facts  func(*Facts)
		want   []dataplane.RealServer
		why    map[netip.Addr]string
	}{
		{"all good", nil, nil, []dataplane.RealServer{one, two}, nil},
		{"down: leaves the table", nil, func(f *Facts) { f.Health[key(server1)] = false },
			[]dataplane.RealServer{two}, map[netip.Addr]string{server1: "health check fails"}},
		{"down, quiescent: weight 0", quiescent, func(f *Facts) { f.Health[key(server1)] = false },
			[]dataplane.RealServer{weightless(one), two}, map[netip.Addr]string{server1: "health check fails"}},
		{"not checked yet: gets nothing", nil, func(f *Facts) { delete(f.Health, key(server2)) },
			[]dataplane.RealServer{one}, map[netip.Addr]string{server2: "not checked yet"}},
		{"quiesced by the operator: stays at weight 0", nil, func(f *Facts) { f.Quiesced[key(server2)] = true },
			[]dataplane.RealServer{one, weightless(two)}, map[netip.Addr]string{server2: "quiesced by the operator"}},
		{"quiesced and down: leaves", nil, func(f *Facts) { f.Quiesced[key(server2)] = true; f.Health[key(server2)] = false },
			[]dataplane.RealServer{one}, map[netip.Addr]string{server2: "health check fails"}},
		{"weight 0 in the config", func(c *config.Config) { c.Services[0].Servers[0].Weight = 0 }, nil,
			[]dataplane.RealServer{weightless(one), two}, map[netip.Addr]string{server1: "weight 0 in the config"}},
		{"MAC unknown: says why", nil, func(f *Facts) { f.Neighbours[server1] = Neighbour{Why: "no answer to ARP on eth0"} },
			[]dataplane.RealServer{noMAC(one), two}, map[netip.Addr]string{server1: "MAC address unknown: no answer to ARP on eth0"}},
		{"all down: empty", nil, func(f *Facts) { f.Health = nil },
			nil, map[netip.Addr]string{server1: "not checked yet", server2: "not checked yet"}},
		{"fallback not needed", withFallback, nil,
			[]dataplane.RealServer{one, two}, map[netip.Addr]string{sorry: "fallback: not needed"}},
		{"all down: fallback", withFallback, func(f *Facts) { f.Health = nil },
			[]dataplane.RealServer{fallback}, map[netip.Addr]string{server1: "not checked yet", server2: "not checked yet"}},
		{"all quiesced: fallback, the flows stay", withFallback,
			func(f *Facts) { f.Quiesced[key(server1)], f.Quiesced[key(server2)] = true, true },
			[]dataplane.RealServer{weightless(one), weightless(two), fallback},
			map[netip.Addr]string{server1: "quiesced by the operator", server2: "quiesced by the operator"}},
		{"no MAC of any: fallback", withFallback,
			func(f *Facts) { delete(f.Neighbours, server1); delete(f.Neighbours, server2) },
			[]dataplane.RealServer{noMAC(one), noMAC(two), fallback},
			map[netip.Addr]string{server1: "MAC address not known yet", server2: "MAC address not known yet"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg, facts := testConfig(), allGood()
			if tt.config != nil {
				tt.config(cfg)
			}
			if tt.facts != nil {
				tt.facts(&facts)
			}
			snap, why := Plan(cfg, facts)
			if got := snap.Services[0].Servers; !reflect.DeepEqual(got, tt.want) {
				t.Errorf("servers\n got %v\nwant %v", got, tt.want)
			}
			for id, p := range why {
				if p.Reason != tt.why[id.Server] {
					t.Errorf("%s: reason %q, want %q", id.Server, p.Reason, tt.why[id.Server])
				}
			}
			again, _ := Plan(cfg, facts)
			if !reflect.DeepEqual(snap, again) {
				t.Error("the same facts gave another snapshot")
			}
		})
	}
}

func TestPlanRolesAndPeers(t *testing.T) {
	cfg, facts := testConfig(), allGood()
	facts.SecondChance = true
	snap, _ := Plan(cfg, facts)
	if want := []dataplane.VIP{{Addr: testVIP, Role: dataplane.Active}}; !reflect.DeepEqual(snap.VIPs, want) {
		t.Errorf("VIPs %v", snap.VIPs)
	}
	if !snap.SecondChance || len(snap.Peers) != 1 || snap.Peers[0].String() != macPeer.String() {
		t.Errorf("peers %v, second chance %v", snap.Peers, snap.SecondChance)
	}
	delete(facts.Neighbours, peerAddr)
	facts.Roles = nil
	snap, _ = Plan(cfg, facts)
	if snap.SecondChance || len(snap.Peers) != 0 {
		t.Error("a second chance at a peer whose MAC is not known")
	}
	if snap.VIPs[0].Role != dataplane.Standby {
		t.Error("a group nobody gave us is not on standby")
	}
}
