package main

import (
	"bytes"
	"errors"
	"iter"
	"net/netip"
	"strings"
	"testing"
	"time"

	"systole/control"
	"systole/control/api"
	"systole/dataplane"
	"systole/dataplane/observe"
	"systole/dataplane/planetest"
	"systole/test/golden"
)

// answer is the lines of an answer, with an error at the end if it has one.
func answer(err error, lines ...api.FlowLine) iter.Seq2[api.FlowLine, error] {
	return func(yield func(api.FlowLine, error) bool) {
		for _, l := range lines {
			if !yield(l, nil) {
				return
			}
		}
		if err != nil {
			yield(api.FlowLine{}, err)
		}
	}
}

func flowLine(client, service string, port uint16, server, state string, age time.Duration) api.FlowLine {
	return api.FlowLine{Flow: &api.Flow{
		Client: netip.MustParseAddrPort(client), Service: service, Port: port, Server: netip.MustParseAddr(server), State: state,
		Age: age, Expires: 900*time.Second - age,
	}}
}

func TestFlowsForPeople(t *testing.T) {
	var b bytes.Buffer
	list := []api.FlowLine{
		flowLine("10.0.0.1:40000", "192.168.145.101:80/tcp", 80, "192.168.145.200", "ESTABLISHED", 1400*time.Millisecond),
		flowLine("[2001:db8::1]:1", "[2001:db8::101]:8000-8099/tcp", 8080, "2001:db8::200", "SYN_RECV", 0),
		{End: &api.FlowsEnd{Flows: 1000, More: 998}},
	}
	if err := writeFlows(&b, api.FlowQuery{}, answer(nil, list...)); err != nil {
		t.Fatal(err)
	}
	b.WriteByte('\n')
	groups := []api.FlowLine{
		{Group: &api.FlowGroup{Name: "10.0.0.1", Flows: 1000000}}, {Group: &api.FlowGroup{Name: "10.0.7.2", Flows: 7}},
		{End: &api.FlowsEnd{Flows: 1000020, More: 3, Ungrouped: 10}},
	}
	if err := writeFlows(&b, api.FlowQuery{By: "client"}, answer(nil, groups...)); err != nil {
		t.Fatal(err)
	}
	b.WriteByte('\n')
	if err := flowsCount(&b, answer(nil, api.FlowLine{End: &api.FlowsEnd{Flows: 42}})); err != nil {
		t.Fatal(err)
	}
	b.WriteByte('\n')
	if err := flowsJSON(&b, answer(nil, list...)); err != nil {
		t.Fatal(err)
	}
	golden.Check(t, "flows.txt", b.Bytes())
	// What came before the answer broke off is printed, and that it did.
	b.Reset()
	broken := errors.New("cut short")
	if err := writeFlows(&b, api.FlowQuery{}, answer(broken, list[0])); !errors.Is(err, broken) || !strings.Contains(b.String(), "10.0.0.1:40000") {
		t.Errorf("%v:\n%s", err, b.String())
	}
}

func TestFlowQueriesOfTheCommandLine(t *testing.T) {
	q, err := flowsCmd{Client: "10.0.0.1:7", Count: true, Limit: 50}.query()
	if err != nil || q.Client.String() != "10.0.0.1/32" || q.Port != 7 || q.Limit != -1 {
		t.Errorf("%+v, %v", q, err)
	}
	for _, bad := range []flowsCmd{{Limit: -1}, {Client: "web"}, {Count: true, By: "server"}} {
		if _, err := bad.query(); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

func TestTraceForPeople(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.Local)
	web := planetest.Frame{
		Dst: []byte{2, 0, 0, 0, 0, 1}, Src: []byte{2, 0, 0, 0, 0, 9}, From: netip.MustParseAddrPort("10.0.0.1:40000"),
		To: netip.MustParseAddrPort("192.168.145.101:80"), Protocol: dataplane.TCP, Flags: "S",
	}
	ack := web
	ack.Flags = "A"
	in := web.Bytes()
	out := append([]byte{2, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 1}, in[12:]...)
	packet := func(frame []byte, p observe.Packet) *observe.Packet {
		p.At, p.Interface, p.In, p.InLength, p.Out, p.OutLength = at, "eth0", frame, len(frame), out, len(out)
		return &p
	}
	var b strings.Builder
	for _, p := range []*observe.Packet{
		packet(in, observe.Packet{Verdict: observe.Tx, Scheduled: true, Server: netip.MustParseAddr("192.168.145.200"),
			Service: "192.168.145.101:80/tcp", Before: "NONE", After: "SYN_RECV", Reasons: []string{"syn_evicted"}}),
		packet(ack.Bytes(), observe.Packet{CPU: 1, Verdict: observe.Tx, Server: netip.MustParseAddr("192.168.145.200"),
			Service: "192.168.145.101:80/tcp", Before: "SYN_RECV", After: "ESTABLISHED"}),
		packet(ack.Bytes(), observe.Packet{Verdict: observe.Pass, Reasons: []string{"no_flow"}}),
		packet(ack.Bytes(), observe.Packet{Verdict: observe.Pass, Reasons: []string{"standby"}}),
		packet(ack.Bytes(), observe.Packet{Verdict: observe.Tx, Reasons: []string{"second_chance"}}),
		packet(in, observe.Packet{Verdict: observe.Drop, Reasons: []string{"of_another_version"}}),
		packet(nil, observe.Packet{Verdict: observe.Pass}),
	} {
		b.WriteString(traceLine(p) + "\n")
	}
	golden.Check(t, "trace.txt", []byte(b.String()))
}

func TestCaptureAsksForWhatTcpdumpCannotSee(t *testing.T) {
	if r := (captureCmd{Side: "both"}).request(); !r.In || !r.Out || len(r.Verdicts) != 4 {
		t.Errorf("%+v", r)
	}
	if r := (captureCmd{Side: "in", All: true}).request(); !r.In || r.Out || r.Verdicts != nil {
		t.Errorf("%+v", r)
	}
	s := &control.State{Planes: []control.PlaneState{{Info: dataplane.Info{Name: "ipvs"}}, {Info: dataplane.Info{Name: "xdp", Interface: "eth7"}}}}
	if got := xdpInterface(s); got != "eth7" {
		t.Errorf("interface %s", got)
	}
	if got := lossNote(observe.Lost{Full: 3, Rate: 4}); !strings.Contains(got, "3 lost") || !strings.Contains(got, "4 left out") {
		t.Error(got)
	}
	if got := lossNote(observe.Lost{}); got != "" {
		t.Error(got)
	}
}

func TestStatsForPeopleAndPrograms(t *testing.T) {
	s := sample()
	s.Flows = 1024
	s.Reasons = map[string]uint64{"no_flow": 7, "no_server": 0, "of_another_version": 2}
	s.CPUs = []dataplane.CPUStats{
		{CPU: 0, Counters: dataplane.Counters{Packets: 1000, Bytes: 60000, Connections: 90}, Reasons: map[string]uint64{"no_flow": 7, "no_server": 0}},
		{CPU: 1, Counters: dataplane.Counters{Packets: 200, Bytes: 12000, Connections: 10}},
	}
	for name, c := range map[string]statsCmd{"stats.txt": {CPU: true}, "stats.json": {JSON: true}} {
		var b bytes.Buffer
		if err := c.print(&b, countersOf(s)); err != nil {
			t.Fatal(err)
		}
		golden.Check(t, name, b.Bytes())
	}
	var b bytes.Buffer
	if err := (statsCmd{}).print(&b, countersOf(s)); err != nil || strings.Contains(b.String(), "CPU") {
		t.Errorf("not asked by CPU: %v\n%s", err, b.String())
	}
}
