package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// writeSync writes every key of a section.
func writeSync(s *Sync) string {
	if s == nil {
		return ""
	}
	to := fmt.Sprintf("group: %q, ttl: %d", s.Group, s.TTL)
	if s.Mode == Unicast {
		var peers []string
		for n, a := range s.Peers {
			peers = append(peers, fmt.Sprintf("%q: %s", n, a))
		}
		slices.Sort(peers)
		to = "peers: {" + strings.Join(peers, ", ") + "}"
	}
	return fmt.Sprintf("sync: {mode: %s, interfaces: [%s], port: %d, syncid: %d, bandwidth: %dkbit, kernel: %v, %s}\n",
		s.Mode, strings.Join(s.Interfaces, ", "), s.Port, s.SyncID, s.Bandwidth/125, s.Kernel, to)
}

func genSync(t *rapid.T, nodes []string, iface *rapid.Generator[string], port *rapid.Generator[uint16]) *Sync {
	if !rapid.Bool().Draw(t, "sync") {
		return nil
	}
	s := &Sync{
		Mode: rapid.SampledFrom([]string{Multicast, Unicast}).Draw(t, "sync mode"), Port: port.Draw(t, "sync port"),
		Interfaces: rapid.SliceOfNDistinct(iface, 1, 3, func(s string) string { return s }).Draw(t, "sync interfaces"),
		SyncID:     rapid.Uint8().Draw(t, "syncid"), Bandwidth: 125 * rapid.IntRange(800, 999_999).Draw(t, "bandwidth"),
		Kernel: len(nodes) == 1 || rapid.Bool().Draw(t, "kernel"),
	}
	if s.Mode == Multicast {
		s.Group = rapid.SampledFrom([]netip.Addr{netip.MustParseAddr("224.0.0.81"), netip.MustParseAddr("239.1.2.3"), netip.MustParseAddr("ff02::81:1")}).Draw(t, "sync group")
		s.TTL = rapid.IntRange(1, 255).Draw(t, "sync ttl")
		return s
	}
	s.Interfaces = s.Interfaces[:1]
	s.Peers = make(map[string]netip.Addr)
	for i, n := range nodes {
		s.Peers[n] = netip.AddrFrom4([4]byte{10, 77, 0, byte(1 + i)})
	}
	return s
}

func TestSyncDefaults(t *testing.T) {
	if c := mustParse(t, base); c.Sync != nil {
		t.Errorf("without the section: %+v", c.Sync)
	}
	want := &Sync{Mode: Multicast, Interfaces: []string{"eth0"}, Port: 8848, Group: netip.MustParseAddr("224.0.0.81"), TTL: 1, Bandwidth: 12_500_000}
	if diff := cmp.Diff(want, mustParse(t, base+"sync: {}\n").Sync, cmpAddr); diff != "" {
		t.Error(diff)
	}
	c := mustParse(t, base+"sync: {mode: unicast, interfaces: [eth1], peers: {node1: 192.0.2.11, node2: 192.0.2.12}, bandwidth: 2Gbit, kernel: true, syncid: 7}\n")
	if c.Sync.String() != "to node1 192.0.2.11, node2 192.0.2.12 port 8848 by eth1, sync id 7, at most 2000000 kbit/s, kernels' messages too" {
		t.Error(c.Sync)
	}
	if !strings.Contains(Summary(c), "flows are carried to node1") || !slices.Contains(c.interfaces(), "eth1") {
		t.Error(Summary(c))
	}
	w := *c
	w.Node, w.Cluster.Witnesses = "w", []string{"w"}
	if w.Own().Sync != nil {
		t.Error("a witness has flows")
	}
}

func TestBadSync(t *testing.T) {
	line := strings.Count(base, "\n") + 1
	for _, c := range []struct{ section, want string }{
		{"sync:", "1: sync has no value: give it one, or remove the key"},
		{"sync: {mode: mcast}", `14: mode: "mcast" is called multicast here`},
		{"sync: {mode: unicast}", "1: peers is missing in sync: write the address of each director, such as peers: {node1: 192.0.2.1, node2: 192.0.2.2}"},
		{"sync: {mode: unicast, group: 239.1.2.3, peers: {node1: 192.0.2.1, node2: 192.0.2.2}}", "23: group has no effect with mode unicast: remove it"},
		{"sync: {peers: {node1: 192.0.2.1}}", "8: peers has no effect with mode multicast: remove it"},
		{"sync: {mode: unicast, peers: {node1: 192.0.2.1}}", "23: node2 is missing in peers: write the address of every node for sync, such as node2: 192.0.2.1"},
		{"sync: {mode: unicast, interfaces: [eth0, eth1], peers: {node1: 192.0.2.1, node2: 192.0.2.2}}", "1: sync: with mode unicast each director has one address, so there is one interface: name it alone"},
		{"sync: {group: 192.0.2.1}", "15: group: 192.0.2.1 is not a multicast group: want one from 224.0.1.0 to 239.255.255.255"},
		{"sync: {group: 224.0.0.5}", "15: group: 224.0.0.5 belongs to routers and the like (224.0.0.0/24, RFC 5771): want one from 224.0.1.0 to 239.255.255.255"},
		{"sync: {interfaces: []}", "8: interfaces is empty: name a NIC that leads to the other director, or remove the key"},
		{"sync: {interfaces: [eth0, eth0]}", "27: interfaces: eth0 is named twice: remove one"},
		{"sync: {interfaces: eth0}", `20: interfaces: want a list, found "eth0": begin each entry with "- "`},
		{"sync: {bandwidth: 100}", `19: bandwidth: "100" is not a bandwidth: write one such as 800kbit, 100Mbit or 1Gbit`},
		{"sync: {bandwidth: 10mbit}", `19: bandwidth: "10mbit" is not a bandwidth: write one such as 800kbit, 100Mbit or 1Gbit`},
		{"sync: {bandwidth: 799kbit}", "19: bandwidth: 799kbit is too little: want 800kbit to 100Gbit"},
		{"sync: {bandwidth: 101Gbit}", "19: bandwidth: 101Gbit is too much: want 800kbit to 100Gbit"},
		{"sync: {syncid: 256}", "16: syncid: 256 is out of range: want 0 to 255"},
		{"sync: {sync_id: 1}", `8: unknown key "sync_id" in sync: did you mean "syncid"?`},
	} {
		want := []string{fmt.Sprintf("%d:%s", line, c.want)}
		if diff := cmp.Diff(want, faults(t, base+c.section+"\n")); diff != "" {
			t.Errorf("%s: %s", c.section, diff)
		}
	}
	alone := "node: node1\ncluster: {nodes: [node1]}\n"
	if diff := cmp.Diff([]string{"3:1: interfaces is missing in sync: write the NICs that lead to the other director, such as interfaces: [eth0]", "3:1: sync has no effect with one director: remove it"}, faults(t, alone+"sync: {port: 1}\n")); diff != "" {
		t.Error(diff)
	}
}
