package ipvs

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"systole/dataplane"
)

func file(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func collect(t *testing.T, proc string) []Connection {
	t.Helper()
	var out []Connection
	for c, err := range parseConnections(strings.NewReader(proc)) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

// The files are one moment of one kernel: its list, and what ipvsadm made of it.
func TestListConnections(t *testing.T) {
	conns := collect(t, file(t, "conns.proc"))
	if len(conns) != 11 {
		t.Fatalf("%d connections", len(conns))
	}
	for name, engine := range map[string]bool{"conns.txt": false, "conns-engine.txt": true} {
		var b bytes.Buffer
		if err := ListConnections(&b, conns, engine); err != nil {
			t.Fatal(err)
		}
		if got, want := b.String(), file(t, name); got != want {
			t.Errorf("%s: got\n%swant\n%s", name, got, want)
		}
	}
}

func TestBadConnections(t *testing.T) {
	const good = "TCP C0A89165 CB36 C0A89165 0050 C0A8910B 0050 SYN_RECV         59"
	for _, bad := range []string{
		"", "TCP C0A89165 CB36 C0A89165 0050 C0A8910B 0050 SYN_RECV",
		strings.Replace(good, "C0A8910B", "C0A8910", 1), strings.Replace(good, "C0A8910B", "C0A8910G", 1),
		strings.Replace(good, "C0A8910B", "1:2:3", 1), strings.Replace(good, "C0A8910B", "fe80::1%eth0", 1),
		strings.Replace(good, "CB36", "1CB36", 1), strings.Replace(good, "CB36", "-1", 1),
		strings.Replace(good, "59", "soon", 1), strings.Replace(good, "59", "4294967296", 1),
	} {
		n := 0
		for _, err := range parseConnections(strings.NewReader("heading\n" + good + "\n" + bad + "\n" + good + "\n")) {
			if n++; n == 1 && err != nil || n == 2 && !errors.Is(err, errLine) || n > 2 {
				t.Errorf("%q: entry %d: %v", bad, n, err)
			}
		}
		if n != 2 {
			t.Errorf("%q: %d entries", bad, n)
		}
	}
	for _, err := range parseConnections(strings.NewReader("heading\n" + strings.Repeat("x", 1<<20))) {
		if err == nil {
			t.Error("a line without an end was read")
		}
	}
}

// FuzzConnection: what is accepted has addresses and prints as one line that
// says the same.
func FuzzConnection(f *testing.F) {
	b, err := os.ReadFile("testdata/conns.proc")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		c, err := parseConnection(line)
		if err != nil {
			if c != (Connection{}) || !errors.Is(err, errLine) {
				t.Fatalf("%+v, %v", c, err)
			}
			return
		}
		if !c.Client.IsValid() || !c.Virtual.IsValid() || !c.Server.IsValid() || c.Expires < 0 {
			t.Fatalf("%q: %+v", line, c)
		}
		var out bytes.Buffer
		if err := ListConnections(&out, []Connection{c}, true); err != nil {
			t.Fatal(err)
		}
	})
}

func flows(p *Plane) []string {
	var out []string
	for f := range p.Flows() {
		out = append(out, fmt.Sprintf("%s %s :%d %s %s %s %s", f.Client, f.Service, f.Port, f.Server, f.State, f.Age, f.Expires))
	}
	slices.Sort(out)
	return out
}

// Flows are those of our services, of all ports and marks too, and without
// persistence's templates.
func TestFlows(t *testing.T) {
	line := func(p, virtual, state, left string) string {
		a := netip.MustParseAddrPort(virtual)
		b := a.Addr().As4()
		return fmt.Sprintf("%s C0A8910A 8000 %X %04X C0A8910B 0050 %s %s\n", p, b[:], a.Port(), state, left)
	}
	k := &fake{
		table: []Service{service(8080, [2]int{9, 1})},
		times: dataplane.Timeouts{TCP: 900 * time.Second, TCPFin: 120 * time.Second, UDP: 300 * time.Second},
		conns: "heading\n" +
			line("TCP", "192.168.145.101:80", "ESTABLISHED", "890") +
			line("TCP", "192.168.145.101:81", "FIN_WAIT", "100") + // of all ports
			line("TCP", "192.168.145.101:8080", "ESTABLISHED", "890") + // foreign
			line("UDP", "192.168.145.101:53", "UDP", "299") + // of the mark
			line("UDP", "192.168.145.101:80", "UDP", "300") +
			line("TCP", "192.168.145.101:80", "SYN_RECV", "59") +
			line("TCP", "192.168.145.101:80", "CLOSE", "9") +
			line("IP", "0.0.0.7:0", "NONE", "60") +
			line("ICMP", "192.168.145.101:0", "NONE", "60") +
			strings.Replace(line("TCP", "192.168.145.101:80", "NONE", "60"), "8000", "0000", 1) + // template
			"TCP 2001:0db8:0000:0000:0000:0000:0000:0010 8226 2001:0db8:0000:0000:0000:0000:0000:0001 01BB 2001:0db8:0000:0000:0000:0000:0000:0011 01BB SYN_RECV 59\n",
	}
	p := plane(k)
	all := service(0, [2]int{1, 1})
	s := snapshot(service(80, [2]int{1, 1}), all, Service{Key: mark(7), Scheduler: "rr"})
	s.Services[1].Persistence.Timeout = time.Minute
	apply(t, p, s)
	want := []string{
		"192.168.145.10:32768 192.168.145.101:0/tcp :81 192.168.145.11 FIN_WAIT 20s 1m40s",
		"192.168.145.10:32768 192.168.145.101:80/tcp :80 192.168.145.11 ESTABLISHED 10s 14m50s",
		"192.168.145.10:32768 192.168.145.101:80/tcp :80 192.168.145.11 FIN_WAIT 0s 9s",
		"192.168.145.10:32768 192.168.145.101:80/tcp :80 192.168.145.11 SYN_RECV 1s 59s",
		"192.168.145.10:32768 fwmark:7 :53 192.168.145.11 UDP 1s 4m59s",
		"192.168.145.10:32768 fwmark:7 :80 192.168.145.11 UDP 0s 5m0s",
	}
	if got := flows(p); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	template := func(virtual, state string) string {
		return strings.Replace(line("TCP", virtual, state, "60"), "8000", "0000", 1)
	}
	k.conns += template("192.168.145.101:80", "ASSURED") +
		template("192.168.145.101:0", "ASSURED") + // of all ports
		template("192.168.145.101:8080", "ASSURED") + // foreign
		template("192.168.145.102:80", "ASSURED") + // of a service that is gone: no mark's
		template("192.168.145.101:80", "NONE") + // a SYN and nothing else
		strings.Replace(template("192.168.145.101:80", "ASSURED"), " 60", " 60 sip callid", 1) +
		strings.Replace(line("IP", "0.0.0.7:0", "ASSURED", "60"), "8000", "0000", 1)
	if got := flows(p); !slices.Equal(got, want) {
		t.Errorf("beside templates: got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	var templates []string
	for f := range p.FlowsAndTemplates() {
		if f.State == dataplane.FlowTemplate {
			templates = append(templates, fmt.Sprintf("%s %s :%d %s %s", f.Client, f.Service, f.Port, f.Server, f.Expires))
		} else {
			want = slices.DeleteFunc(want, func(s string) bool { return strings.HasPrefix(s, f.Client.String()+" "+f.Service.String()+" ") })
		}
	}
	if got := []string{
		"192.168.145.10:0 192.168.145.101:80/tcp :0 192.168.145.11 1m0s",
		"192.168.145.10:0 192.168.145.101:0/tcp :0 192.168.145.11 1m0s",
	}; !slices.Equal(templates, got) || len(want) > 0 {
		t.Errorf("templates\n%s\nwant\n%s\nand of the flows %q are missing", strings.Join(templates, "\n"), strings.Join(got, "\n"), want)
	}
	for f := range p.Flows() { // one that stops early
		_ = f
		break
	}
	k.connsErr = errFake
	if got := flows(p); got != nil {
		t.Errorf("%q", got)
	}
}

// With two marks nobody knows whose a connection is.
func TestFlowsOfTwoMarks(t *testing.T) {
	k := &fake{conns: "heading\nUDP C0A8910A 8000 C0A89165 0035 C0A8910B 0035 UDP 299\n"}
	p := plane(k)
	apply(t, p, snapshot(Service{Key: mark(7), Scheduler: "rr"}, Service{Key: mark(8), Scheduler: "rr"}))
	if got := flows(p); got != nil {
		t.Errorf("%q", got)
	}
}

func TestFlowStates(t *testing.T) {
	for _, c := range []struct {
		protocol dataplane.Protocol
		state    string
		want     dataplane.FlowState
	}{
		{dataplane.TCP, "NONE", dataplane.FlowSyn}, {dataplane.TCP, "SYNACK", dataplane.FlowSyn},
		{dataplane.TCP, "ESTABLISHED", dataplane.FlowEstablished}, {dataplane.TCP, "TIME_WAIT", dataplane.FlowFin},
		{dataplane.SCTP, "ESTABLISHED", dataplane.FlowEstablished}, {dataplane.SCTP, "INIT1", dataplane.FlowSyn},
		{dataplane.SCTP, "S-RECEIVED", dataplane.FlowFin}, {dataplane.UDP, "UDP", dataplane.FlowUDP},
	} {
		if got := flowState(c.protocol, c.state); got != c.want {
			t.Errorf("%s %s: %s", c.protocol, c.state, got)
		}
	}
}

// Flows of another plane have the kernel's words for their states.
func TestStatesThereAndBack(t *testing.T) {
	for _, p := range []dataplane.Protocol{dataplane.TCP, dataplane.SCTP} {
		for _, s := range []dataplane.FlowState{dataplane.FlowSyn, dataplane.FlowEstablished, dataplane.FlowFin} {
			c := ConnectionOf(dataplane.Flow{Service: dataplane.ServiceKey{VIP: vip, Port: 80, Protocol: p}, State: s})
			if got := flowState(p, c.State); got != s {
				t.Errorf("%s %s: %s is %s", p, s, c.State, got)
			}
		}
	}
}

func TestConnectionOf(t *testing.T) {
	f := dataplane.Flow{
		Client: netip.MustParseAddrPort("192.168.145.10:32768"), Service: dataplane.ServiceKey{VIP: vip, Port: 8000, LastPort: 8099, Protocol: dataplane.TCP},
		Port: 8042, Server: real(1), State: dataplane.FlowEstablished, Expires: 59 * time.Second,
	}
	var b bytes.Buffer
	if err := ListConnections(&b, []Connection{ConnectionOf(f)}, false); err != nil {
		t.Fatal(err)
	}
	const want = "TCP 00:59  ESTABLISHED 192.168.145.10:32768 192.168.145.101:8042 192.168.145.11:8042\n"
	if !strings.HasSuffix(b.String(), "\n"+want) {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}
