package config

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var withQUIC = []string{
	"    check:", "    protocol: udp\n    quic: {server_id_length: 4}\n    fallback: {address: 192.0.2.209, server_id: ffffffff}\n    check:",
	"      - address: 192.0.2.200\n", "      - address: 192.0.2.200\n        server_id: 00000001\n",
	"weight: 2", "weight: 2, server_id: 0A1e0002",
}

func TestQUIC(t *testing.T) {
	c := mustParse(t, edit(t, base, withQUIC...))
	s := c.Services[0]
	// Neither a number with zeros before it nor one like a power of ten is changed.
	if s.QUIC.ServerIDLength != 4 || s.Servers[0].ServerID != "00000001" || s.Servers[1].ServerID != "0a1e0002" || s.Fallback.ServerID != "ffffffff" {
		t.Fatalf("%+v, fallback %+v", s, s.Fallback)
	}
	if got := s.Servers[1].ID(); !bytes.Equal(got, []byte{0x0a, 0x1e, 0, 2}) {
		t.Errorf("ID %x", got)
	}
	if got := (&Server{}).ID(); got != nil {
		t.Errorf("ID %x of none", got)
	}
	for _, want := range []string{
		"  a QUIC connection stays on the server that its ID names when its client's address changes (server IDs of 4 bytes)\n",
		"  192.0.2.200 weight 1, server ID 00000001\n", "  192.0.2.209 as fallback, server ID ffffffff\n",
	} {
		if got := Summary(c); !strings.Contains(got, want) {
			t.Errorf("no line %q in\n%s", want, got)
		}
	}

	changed := mustParse(t, edit(t, edit(t, base, withQUIC...), "length: 4", "length: 1", "00000001", "aa", "0A1e0002", "bb", "ffffffff", "cc"))
	const name = "service 192.0.2.101:80/udp: "
	want := []string{
		name + "quic server IDs of 4 bytes -> server IDs of 1 byte",
		name + "server 192.0.2.200: server_id 00000001 -> aa", name + "server 192.0.2.201: server_id 0a1e0002 -> bb",
		name + "fallback 192.0.2.209, server ID ffffffff -> 192.0.2.209, server ID cc",
	}
	if diff := cmp.Diff(want, Diff(c, changed)); diff != "" {
		t.Error(diff)
	}
	if blocked := LiveChange(c, changed); blocked != nil {
		t.Errorf("%q take a restart", blocked)
	}

	none := slices.ContainsFunc(advice(c), func(s string) bool { return strings.Contains(s, "quic") })
	kernel := mustParse(t, edit(t, base, append(slices.Clone(withQUIC), "dataplane: {interface: eth0}", "dataplane: {mode: ipvs}")...))
	if none || !slices.ContainsFunc(advice(kernel), func(s string) bool {
		return strings.HasPrefix(s, name+"quic has no effect with dataplane.mode ipvs")
	}) {
		t.Errorf("advice %q, with ipvs %q", advice(c), advice(kernel))
	}
}
