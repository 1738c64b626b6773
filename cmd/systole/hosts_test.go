package main

import (
	"net/netip"
	"slices"
	"testing"

	"systole/control/config"
	"systole/hb/host"
)

func TestHostPaths(t *testing.T) {
	a := netip.MustParseAddr
	cfg := &config.Config{
		Node: "b",
		Cluster: config.Cluster{
			Suspicion: true, Nodes: []string{"a", "b"},
			Media: []config.Medium{
				{Type: "ucast", Interface: "eth1", Port: 695, Peers: map[string]netip.Addr{"a": a("192.0.2.1"), "b": a("192.0.2.2")}},
				{Type: "mcast", Interface: "eth0", Port: 694},
				{Type: "bcast", Interface: "eth2", Port: 694},
				{Type: "serial", Device: "/dev/ttyS0"},
			},
			Addresses: map[string]netip.Addr{"a": a("198.51.100.1"), "b": a("198.51.100.2")},
		},
		DataPlane: config.DataPlane{Interface: "eth0"},
	}
	names := []string{"ucast eth1:695", "mcast eth0", "bcast eth2", "serial /dev/ttyS0"}
	want := []host.Path{
		{Node: "a", Medium: "ucast eth1:695", Interface: "eth1", Addr: a("192.0.2.1"), Port: 695, Local: a("192.0.2.2")},
		{Node: "a", Medium: "mcast eth0", Interface: "eth0", Addr: a("198.51.100.1")},
		{Node: "a", Medium: "bcast eth2", Interface: "eth2"},
	}
	if got := hostPaths(cfg, names); !slices.Equal(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	cfg.Cluster.Witnesses = []string{"w"}
	cfg.Cluster.Media[0].Peers["w"] = a("192.0.2.3")
	want = append(want[:1:1],
		host.Path{Node: "w", Medium: "ucast eth1:695", Interface: "eth1", Addr: a("192.0.2.3"), Port: 695, Local: a("192.0.2.2")},
		want[1], host.Path{Node: "w", Medium: "mcast eth0", Interface: "eth0"},
		want[2], host.Path{Node: "w", Medium: "bcast eth2", Interface: "eth2"})
	if got := hostPaths(cfg, names); !slices.Equal(got, want) {
		t.Errorf("with a witness: %+v\nwant %+v", got, want)
	}
	cfg.Cluster.Suspicion = false
	if got := hostPaths(cfg, names); got != nil {
		t.Errorf("without suspicion: %+v", got)
	}
}
