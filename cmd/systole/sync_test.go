package main

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"text/tabwriter"

	"systole/control/config"
	"systole/dataplane/flowsync"
	"systole/hb/wire"
)

func TestStatusOfFlowSync(t *testing.T) {
	for _, tt := range []struct {
		state *flowsync.State
		want  string
	}{
		{nil, ""},
		{&flowsync.State{Peer: true, InSync: true, Stats: flowsync.Stats{Sent: flowsync.Counters{Flows: 12}, NoRoom: 3}}, "up yes no 0s 12 0 0 3 0"},
		{&flowsync.State{}, "no peer no no 0s 0 0 0 0 0"},
	} {
		var b bytes.Buffer
		w := tabwriter.NewWriter(&b, 0, 0, 1, ' ', 0)
		writeSync(w, tt.state)
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(b.String()), "\n")
		if got := strings.Join(strings.Fields(lines[len(lines)-1]), " "); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

func TestSyncTo(t *testing.T) {
	group := &config.Sync{Mode: config.Multicast, Group: netip.MustParseAddr("224.0.0.81"), Port: 8848}
	one := &config.Sync{Mode: config.Unicast, Port: 99, Peers: map[string]netip.Addr{
		"node1": netip.MustParseAddr("192.0.2.1"), "node2": netip.MustParseAddr("192.0.2.2"),
	}}
	for _, tt := range []struct {
		sync *config.Sync
		want string
	}{{group, "224.0.0.81:8848"}, {one, "192.0.2.2:99"}} {
		if got := syncTo(tt.sync, "node1"); len(got) != 1 || got[0].String() != tt.want {
			t.Errorf("%v, want %s", got, tt.want)
		}
	}
}

// The key is another one for each index and each secret, and never the
// heartbeat's.
func TestFlowKeys(t *testing.T) {
	keys := flowKeys(wire.Keys{Send: 2, Keys: []wire.Key{
		{Index: 1, Method: wire.SHA1, Secret: []byte("a")}, {Index: 2, Method: wire.SHA256, Secret: []byte("a")}, {Index: 3, Method: wire.CRC},
	}})
	seen := make(map[[32]byte]bool)
	for _, k := range keys.Keys {
		seen[k.Hash] = true
	}
	if keys.Send != 2 || len(keys.Keys) != 3 || len(seen) != 3 {
		t.Errorf("%+v", keys)
	}
}
