package metrics

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"systole/control"
	"systole/dataplane"
)

func sample() *control.State {
	return &control.State{
		Node: "node1", Version: "v0", Started: time.Unix(1700000000, 0),
		Health: "degraded", Role: "active", Lease: "armed", Flows: 12,
		Reasons: map[string]uint64{"no_server": 3},
		Nodes: []control.NodeState{{Name: "node2", Status: "active", LastBeat: 50 * time.Millisecond,
			Links: []control.LinkState{
				{Medium: "ucast eth0", Up: true, State: "up", Loss: 0.25, RTT: 500 * time.Microsecond, Received: 9, Missed: 3, Failures: 1},
				{Medium: "serial ttyS0", State: "dead", Age: -1},
			}}},
		View:  control.ViewState{Number: 12, Members: []string{"node1", "node2"}, Quorum: true},
		Pings: []control.PingState{{Name: "gw", Status: "ping"}},
		Groups: []control.GroupState{{Name: "web", Role: "active",
			VIPs: []control.VIPState{{Address: "192.168.145.101/32", Present: true}}}},
		PlaneChoice: "auto",
		Services: []control.ServiceState{{Service: "192.168.145.101:80/tcp", State: "up", Plane: "xdp",
			Counters: dataplane.Counters{Packets: 10, Bytes: 1000, Connections: 2},
			Servers: []control.ServerState{
				{Address: "192.168.145.200", Health: "up", Effective: 1},
				{Address: "192.168.145.202", Fallback: true},
			}}},
		Planes: []control.PlaneState{
			{Info: dataplane.Info{Name: "xdp", Mode: "native", Interfaces: []dataplane.Interface{{Name: "eth0", Mode: "native"}, {Name: "eth1", Mode: dataplane.Detached}}},
				Traffic:    map[string]dataplane.InterfaceCounters{"eth0": {InPackets: 5, InBytes: 500, OutPackets: 4, OutBytes: 400}},
				Generation: 7, Leaving: 2},
			{Info: dataplane.Info{Name: "ipvs"}, Absent: true},
		},
		Config: control.ConfigState{ReloadOK: true, Loaded: time.Unix(1700000000, 0)},
	}
}

func TestMetricsPassTheLinter(t *testing.T) {
	c := NewCollector(func(context.Context) (*control.State, error) { return sample(), nil })
	problems, err := testutil.CollectAndLint(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestMetricsOfAState(t *testing.T) {
	c := NewCollector(func(context.Context) (*control.State, error) { return sample(), nil })
	want := `
# HELP systole_service_plane 1 for the data plane that carries a service: xdp, ipvs, or none.
# TYPE systole_service_plane gauge
systole_service_plane{plane="ipvs",service="192.168.145.101:80/tcp"} 0
systole_service_plane{plane="none",service="192.168.145.101:80/tcp"} 0
systole_service_plane{plane="xdp",service="192.168.145.101:80/tcp"} 1
# HELP systole_plane_choice 1 for which data plane the operator wants: auto, xdp or ipvs.
# TYPE systole_plane_choice gauge
systole_plane_choice{state="auto"} 1
systole_plane_choice{state="ipvs"} 0
systole_plane_choice{state="xdp"} 0
# HELP systole_dataplane_leaving_services Services that a data plane carries no more, but whose connections it still has.
# TYPE systole_dataplane_leaving_services gauge
systole_dataplane_leaving_services{plane="xdp"} 2
# HELP systole_link_up 1 if packets arrive from a director on a medium.
# TYPE systole_link_up gauge
systole_link_up{medium="serial ttyS0",node="node2"} 0
systole_link_up{medium="ucast eth0",node="node2"} 1
# HELP systole_link_state 1 for how a director is heard on a medium: up, late or dead.
# TYPE systole_link_state gauge
systole_link_state{medium="serial ttyS0",node="node2",state="dead"} 1
systole_link_state{medium="serial ttyS0",node="node2",state="late"} 0
systole_link_state{medium="serial ttyS0",node="node2",state="up"} 0
systole_link_state{medium="ucast eth0",node="node2",state="dead"} 0
systole_link_state{medium="ucast eth0",node="node2",state="late"} 0
systole_link_state{medium="ucast eth0",node="node2",state="up"} 1
# HELP systole_link_loss_ratio Share of a director's latest packets that did not come on a medium.
# TYPE systole_link_loss_ratio gauge
systole_link_loss_ratio{medium="serial ttyS0",node="node2"} 0
systole_link_loss_ratio{medium="ucast eth0",node="node2"} 0.25
# HELP systole_link_rtt_seconds Round trip to a director on a medium, smoothed; absent if not known.
# TYPE systole_link_rtt_seconds gauge
systole_link_rtt_seconds{medium="ucast eth0",node="node2"} 0.0005
# HELP systole_link_failures_total How often a medium to a director died.
# TYPE systole_link_failures_total counter
systole_link_failures_total{medium="serial ttyS0",node="node2"} 0
systole_link_failures_total{medium="ucast eth0",node="node2"} 1
# HELP systole_role 1 for the role: active, standby or witness.
# TYPE systole_role gauge
systole_role{state="active"} 1
systole_role{state="standby"} 0
systole_role{state="witness"} 0
# HELP systole_quorum 1 if our part of the cluster has the quorum.
# TYPE systole_quorum gauge
systole_quorum 1
# HELP systole_view_number The number of the membership view in force.
# TYPE systole_view_number gauge
systole_view_number 12
# HELP systole_ping_node_up 1 if a ping node answers.
# TYPE systole_ping_node_up gauge
systole_ping_node_up{node="gw"} 1
# HELP systole_dataplane_up 1 if a data plane follows the director, 0 if it is absent or refused the last change.
# TYPE systole_dataplane_up gauge
systole_dataplane_up{mode="native",plane="xdp"} 1
systole_dataplane_up{mode="",plane="ipvs"} 0
# HELP systole_dataplane_interface_up 1 for how a data plane is attached to an interface: native, generic or detached.
# TYPE systole_dataplane_interface_up gauge
systole_dataplane_interface_up{interface="eth0",mode="detached",plane="xdp"} 0
systole_dataplane_interface_up{interface="eth0",mode="generic",plane="xdp"} 0
systole_dataplane_interface_up{interface="eth0",mode="native",plane="xdp"} 1
systole_dataplane_interface_up{interface="eth1",mode="detached",plane="xdp"} 1
systole_dataplane_interface_up{interface="eth1",mode="generic",plane="xdp"} 0
systole_dataplane_interface_up{interface="eth1",mode="native",plane="xdp"} 0
# HELP systole_dataplane_interface_packets_total Packets forwarded that came in by an interface, or went out by it.
# TYPE systole_dataplane_interface_packets_total counter
systole_dataplane_interface_packets_total{direction="in",interface="eth0"} 5
systole_dataplane_interface_packets_total{direction="out",interface="eth0"} 4
# HELP systole_dataplane_interface_bytes_total Bytes of them.
# TYPE systole_dataplane_interface_bytes_total counter
systole_dataplane_interface_bytes_total{direction="in",interface="eth0"} 500
systole_dataplane_interface_bytes_total{direction="out",interface="eth0"} 400
# HELP systole_dataplane_packets_total Packets not forwarded by a flow, by what became of them.
# TYPE systole_dataplane_packets_total counter
systole_dataplane_packets_total{reason="no_server"} 3
# HELP systole_real_server_weight A real server's weight in the table now; 0: no new connections.
# TYPE systole_real_server_weight gauge
systole_real_server_weight{real_server="192.168.145.200",service="192.168.145.101:80/tcp"} 1
systole_real_server_weight{real_server="192.168.145.202",service="192.168.145.101:80/tcp"} 0
# HELP systole_real_server_up 1 if a real server's health check passes.
# TYPE systole_real_server_up gauge
systole_real_server_up{real_server="192.168.145.200",service="192.168.145.101:80/tcp"} 1
`
	err := testutil.CollectAndCompare(c, strings.NewReader(want), "systole_service_plane", "systole_plane_choice", "systole_dataplane_leaving_services",
		"systole_link_up", "systole_link_state", "systole_link_loss_ratio", "systole_link_rtt_seconds", "systole_link_failures_total",
		"systole_role", "systole_dataplane_up",
		"systole_dataplane_interface_up", "systole_dataplane_interface_packets_total", "systole_dataplane_interface_bytes_total",
		"systole_dataplane_packets_total", "systole_real_server_weight", "systole_real_server_up",
		"systole_quorum", "systole_view_number", "systole_ping_node_up")
	if err != nil {
		t.Fatal(err)
	}
}

func TestScrapeOfAStuckDirectorFails(t *testing.T) {
	h := Handler(func(context.Context) (*control.State, error) { return nil, errors.New("stuck") }, slog.New(slog.DiscardHandler))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 500 {
		t.Fatalf("status %d: a scrape without a State must fail, so that it alerts", w.Code)
	}
}
