package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"systole/dataplane"
	"systole/test/golden"
	"systole/test/need"
)

// BenchmarkPacket is one sample of each kind of packet for each iteration, for
// a look with -bench; `make bench` has the rest.
func BenchmarkPacket(b *testing.B) {
	need.Root(b, "BPF programs")
	all, err := kinds()
	if err != nil {
		b.Fatal(err)
	}
	for _, k := range all {
		b.Run(k.name, func(b *testing.B) {
			s, err := k.setUp()
			if err != nil {
				b.Fatal(err)
			}
			defer s.close()
			var net, swaps, loop series
			for b.Loop() {
				director, floor, swap, err := s.sample(runs)
				if err != nil {
					b.Fatal(err)
				}
				net, swaps, loop = append(net, director-floor), append(swaps, swap-floor), append(loop, floor)
			}
			b.ReportMetric(net.median(), "net-ns/packet")
			b.ReportMetric(swaps.median(), "swap-ns/packet")
			b.ReportMetric(loop.median(), "floor-ns/packet")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// connections are those of all services.
func connections(st dataplane.Stats) (n uint64) {
	for _, c := range st.Services {
		n += c.Connections
	}
	return n
}

// Every kind of packet is the packet that is meant: the plane says so.
func TestKinds(t *testing.T) {
	need.Root(t, "BPF programs")
	all, err := kinds()
	if err != nil {
		t.Fatal(err)
	}
	reasons := map[string]string{"new ACK, no flow": "no_flow"}
	for _, k := range all {
		s, err := k.setUp()
		if err != nil {
			t.Errorf("%s: %v", k.name, err)
			continue
		}
		before, err1 := s.plane.Stats()
		_, _, _, err2 := s.sample(1)
		after, err3 := s.plane.Stats()
		if err := errors.Join(err1, err2, err3); err != nil {
			t.Fatalf("%s: %v", k.name, err)
		}
		opened := connections(after) - connections(before)
		if want := strings.HasPrefix(k.name, "new SYN"); want != (opened > 0) {
			t.Errorf("%s: %d connections opened", k.name, opened)
		}
		if reason := reasons[k.name]; reason != "" && after.Reasons[reason] == before.Reasons[reason] {
			t.Errorf("%s: want the reason %s, have %v", k.name, reason, after.Reasons)
		}
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}
}

// some is a report with one of everything.
func some() *report {
	return &report{
		Time: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), Kernel: "6.18.0", CPU: "Some & Co CPU", CPUs: 2,
		Packets: []packetResult{
			{"established, 10k flows", "forwarded", series{50, 48, 61.5}, series{2, 3, 2}, series{25, 25, 26}, 65},
			{"VLAN, 10k flows", "passed", series{1.5, 1, 2}, series{2, 3, 2}, series{25, 25, 26}, 0},
		},
		Wire:    []wireResult{{"established", 2, series{3.1e6, 3.2e6, 2.9e6}, 3_000_000, 0, 437}},
		Applies: []applyResult{{10_000, 100, series{700, 900}, series{710, 915}}, {10_000, 10_000, series{7000, 9000}, series{7100, 9150}}},
		Syncs: []syncResult{
			{"a director joins, 100 Mbit/s", 1_000_000, series{3.1, 3.3}, series{38.5, 38.6}, nil},
			{"new connections at once, 100 Mbit/s", 10_000, series{0.08, 0.11}, series{77, 77.5}, series{100, 99.5}},
		},
	}
}

func TestReport(t *testing.T) {
	r := some()
	for name, write := range map[string]func(io.Writer) error{
		"report.txt": r.text, "report.json": r.json, "report.bench": r.benchmark, "packet.svg": r.plotPackets, "apply.svg": r.plotApplies,
	} {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			t.Fatal(err)
		}
		golden.Check(t, name, b.Bytes())
		if strings.HasSuffix(name, ".svg") {
			for d := xml.NewDecoder(&b); ; {
				if _, err := d.Token(); err == io.EOF {
					break
				} else if err != nil {
					t.Errorf("%s: %v", name, err)
					break
				}
			}
		} else if strings.HasSuffix(name, ".json") && !json.Valid(b.Bytes()) {
			t.Errorf("%s is no JSON", name)
		}
	}
}

// One quick run of a little of each, with all its files.
func TestBench(t *testing.T) {
	need.Root(t, "BPF programs")
	dir := t.TempDir()
	o := options{quick: true, only: regexp.MustCompile("packet/(not ours|VLAN)|wire/est|apply/10 real|sync/new"),
		json: filepath.Join(dir, "b.json"), gob: filepath.Join(dir, "b.txt"), svg: filepath.Join(dir, "svg"), progress: t.Output()}
	var out bytes.Buffer
	if err := bench(t.Context(), o, &out); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", out.String())
	text, err := os.ReadFile(o.json)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Packets []struct{ Name string }
		Wire    []struct {
			Sent uint64
			Lost int
		}
		Applies []struct{ Servers int }
		Syncs   []struct{ Percent struct{ Least float64 } }
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Packets) != 2 || len(got.Wire) == 0 || len(got.Applies) != 1 || len(got.Syncs) != 1 || got.Syncs[0].Percent.Least == 0 {
		t.Fatalf("%s", text)
	}
	for _, w := range got.Wire {
		if w.Sent == 0 || w.Lost != 0 {
			t.Errorf("%d packets sent over the wire, %d lost", w.Sent, w.Lost)
		}
	}
	if _, err := os.Stat(o.svg); err == nil {
		t.Error("plots of a part were drawn")
	}

	stopped, stop := context.WithCancel(t.Context())
	stop()
	if err := bench(stopped, o, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}
