package e2e

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"systole/test/netlab"
	"systole/test/netlab/probe"
	"systole/test/netlab/standin"
)

// tutorialPair is a pair with the built-in servers, which can be stopped.
func tutorialPair(t *testing.T) (*pair, []*standin.Web) {
	t.Helper()
	p := newPair(t, 2, tutorial)
	var webs []*standin.Web
	for i, s := range p.servers {
		w := standin.NewWeb(s, "www.a.com", "web"+string(rune('1'+i)))
		p.must(w.Start())
		t.Cleanup(w.Stop)
		n, err := standin.StartDNS(s, "www.a.com", vip)
		p.must(err)
		t.Cleanup(n.Stop)
		webs = append(webs, w)
	}
	for _, svc := range []string{"80/tcp", "53/udp", "53/tcp"} {
		p.servable("192.168.145.101:"+svc, 2)
	}
	return p, webs
}

func (p *pair) request() probe.Request {
	return probe.Request{Target: netip.AddrPortFrom(vip, 80), Host: "www.a.com", Path: "/", Timeout: 2 * time.Second}
}

func (p *pair) ownership() *probe.Ownership {
	p.t.Helper()
	var ds []probe.Director
	for _, n := range nodes {
		ds = append(ds, probe.Director{Name: n, MAC: p.daemons[n].host.MAC})
	}
	o, err := probe.StartOwnership(probe.OwnershipConfig{Host: p.client, VIP: vip, Port: 53, Name: "www.a.com", Directors: ds})
	p.must(err)
	return o
}

// active waits until a director serves and the other, if it runs, does not.
func (p *pair) active(name string) {
	p.t.Helper()
	p.wait(name+" serves alone", 10*time.Second, func() bool {
		for _, n := range nodes {
			s := p.status(n)
			if n == name && (s == nil || s.Role != "active") || n != name && s != nil && s.Groups[0].Role != "standby" {
				return false
			}
		}
		return true
	})
}

// backOnStandby waits until a director that was started again stands by its peer.
func (p *pair) backOnStandby(name string) {
	p.t.Helper()
	p.wait(name+" is back on standby", 10*time.Second, func() bool {
		s := p.status(name)
		return s != nil && s.Role == "standby" && s.Takeover.State == "stable" && s.Takeover.PeerSystole
	})
}

func TestStopHandsOverAndLeavesNothing(t *testing.T) {
	p, _ := tutorialPair(t)
	load := probe.StartHTTP(p.client, p.request(), 2)
	time.Sleep(200 * time.Millisecond) // of load before the stop
	d := p.daemons["node1"]
	p.must(d.proc.Signal(syscall.SIGTERM))
	select {
	case <-d.proc.Done():
	case <-time.After(15 * time.Second):
		t.Fatal("SIGTERM did not end the daemon within 15 s")
	}
	if err := d.proc.Wait(); err != nil {
		t.Errorf("exit: %v", err)
	}
	p.active("node2")
	time.Sleep(200 * time.Millisecond) // of load after it
	tally := load.Stop()
	t.Logf("%d requests, %d lost", tally.Requests, tally.Failed)
	if tally.Failed != 0 || tally.Requests < 100 {
		t.Errorf("%d of %d requests lost, the first: %v", tally.Failed, tally.Requests, tally.First)
	}
	if _, err := os.Stat(d.pin); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("pins left in %s: %v", d.pin, err)
	}
	p.must(d.host.Do(func() error {
		ifi, err := net.InterfaceByName(netlab.NIC)
		if err != nil {
			return err
		}
		addrs, err := ifi.Addrs()
		for _, a := range addrs {
			if strings.HasPrefix(a.String(), vip.String()) {
				t.Errorf("address %s left", a)
			}
		}
		return err
	}))
	link, err := d.host.Netlink().LinkByName(netlab.NIC)
	p.must(err)
	if x := link.Attrs().Xdp; x != nil && x.Attached {
		t.Errorf("XDP program %d left on the NIC", x.ProgId)
	}
}

// TestKilledDaemonNeverLeavesTwoOwners kills the active daemon, lets the other
// take over, and starts it again.
func TestKilledDaemonNeverLeavesTwoOwners(t *testing.T) {
	p, _ := tutorialPair(t)
	own := p.ownership()
	udp, err := probe.StartUDP(probe.UDPConfig{Host: p.client, Target: netip.AddrPortFrom(vip, 53), Name: "www.a.com"})
	p.must(err)
	time.Sleep(100 * time.Millisecond)
	p.daemons["node1"].proc.Kill()
	p.active("node2")
	p.must(udp.Served(context.Background(), time.Now()))
	series := udp.Stop()
	p.start("node1")
	p.active("node2") // auto_failback is off
	p.backOnStandby("node1")
	time.Sleep(100 * time.Millisecond)
	o := own.Stop()
	t.Logf("gap %v (the probe's own longest pause %v); owners: %v", series.Gap().Length(), series.Stall(), o)
	if o.Two != 0 || len(o.Strangers) != 0 {
		t.Errorf("two owners in %d of %d ticks, first after %v; strangers %v", o.Two, o.Ticks, o.First, o.Strangers)
	}
	if gap := series.Gap().Length(); gap > deadtime+10*time.Millisecond+series.Stall() {
		t.Errorf("gap %v", gap)
	}
}

// TestStalledDaemonIsTakenOverAndLetsGo stops the active daemon with SIGSTOP,
// as a frozen virtual machine, for longer than the dead time.
func TestStalledDaemonIsTakenOverAndLetsGo(t *testing.T) {
	p, _ := tutorialPair(t)
	own := p.ownership()
	d := p.daemons["node1"]
	p.must(d.proc.Signal(syscall.SIGSTOP))
	p.wait("node2 takes over", 5*time.Second, func() bool {
		s := p.status("node2")
		return s != nil && s.Role == "active"
	})
	time.Sleep(200 * time.Millisecond)
	p.must(d.proc.Signal(syscall.SIGCONT))
	p.active("node2")
	o := own.Stop()
	t.Logf("owners: %v", o)
	if o.Two != 0 {
		t.Errorf("two owners in %d of %d ticks, first after %v", o.Two, o.Ticks, o.First)
	}
}

// TestReconnectedPartitionHasOneOwnerAtOnce cuts the active node's cable and
// plugs it in again.
func TestReconnectedPartitionHasOneOwnerAtOnce(t *testing.T) {
	p, _ := tutorialPair(t)
	p.must(p.daemons["node1"].host.Cut())
	p.wait("node2 takes over", 5*time.Second, func() bool {
		s := p.status("node2")
		return s != nil && s.Role == "active"
	})
	if s := p.status("node1"); s == nil || s.Role != "active" {
		t.Fatalf("at least one: node1 must go on serving its side, it is %+v", s)
	}
	load := probe.StartHTTP(p.client, p.request(), 1)
	time.Sleep(100 * time.Millisecond)
	p.must(p.daemons["node1"].host.Plug())
	healed := time.Now()
	p.active("node2") // it took over later: the clients are there
	took := time.Since(healed)
	time.Sleep(100 * time.Millisecond)
	tally := load.Stop()
	t.Logf("one owner %v after the heal; %d requests, %d lost", took.Round(time.Millisecond), tally.Requests, tally.Failed)
	if took > time.Second {
		t.Errorf("two owners for %v after the heal", took)
	}
	if tally.Failed != 0 {
		t.Errorf("%d of %d requests lost, the first: %v", tally.Failed, tally.Requests, tally.First)
	}
}

func TestTenFaultsTenLines(t *testing.T) {
	p, _ := tutorialPair(t)
	bad := strings.NewReplacer(
		"check: {type: http,", "check: {type: https,",
		"interval: 200ms, timeout: 200ms}\n    servers: [{address: 192.168.145.200}, {address: 192.168.145.201}]\n  - virtual: 192.168.145.101:53\n    protocol: udp",
		"interval: 200, timeout: 200ms}\n    servers: [{address: 192.168.145.999}, {address: 192.168.145.201, weight: -1}]\n  - virtual: 192.168.145.102:53\n    protocol: upd",
	).Replace(tutorial)
	file := p.file("node1")
	good, err := os.ReadFile(file)
	p.must(err)
	p.write("node1", bad)
	b, err := os.ReadFile(file)
	p.must(err)
	b = []byte(strings.NewReplacer(
		"  initdead: 2s", "  initdead: 2 s",
		"  auto_failback: false", "  auto_failbak: false",
		"preferred: node1", "preferred: node3",
		"flows: 65536", "flows: 65537",
	).Replace(string(b)))
	p.must(os.WriteFile(file, b, 0o600))

	out, err := p.systole("node1", "check", "-f", file)
	var exit interface{ ExitCode() int }
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("exit %v, want 1", err)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	t.Logf("check says:\n%s", strings.ReplaceAll(out, file, "systole.yaml"))
	if len(lines) != 10 {
		t.Errorf("%d lines for ten faults", len(lines))
	}
	for _, l := range lines {
		if !strings.HasPrefix(l, file+":") || len(strings.SplitN(l, ":", 4)) != 4 {
			t.Errorf("no position: %s", l)
		}
	}

	before := p.status("node1")
	if out, err := p.systole("node1", "reload"); err == nil {
		t.Errorf("a bad config was taken: %s", out)
	}
	p.must(p.daemons["node1"].proc.Signal(syscall.SIGHUP))
	p.wait("the refusal is told", 2*time.Second, func() bool {
		s := p.status("node1")
		return s != nil && !s.Config.ReloadOK
	})
	after := p.status("node1")
	if after.Role != "active" || len(after.Services) != len(before.Services) || serving(after, "192.168.145.101:80/tcp") != 2 {
		t.Errorf("a refused reload changed something: %+v", after.Services)
	}
	if body, err := probe.Get(p.client, p.request()); err != nil {
		t.Errorf("after the refused reload: %q, %v", body, err)
	}

	p.must(os.WriteFile(file, good, 0o600))
	if out, err := p.systole("node1", "reload"); err != nil {
		t.Errorf("reload of the good config: %v %s", err, out)
	}
	if s := p.status("node1"); !s.Config.ReloadOK {
		t.Errorf("%+v", s.Config)
	}
}

func TestCommands(t *testing.T) {
	p, webs := tutorialPair(t)
	tests := []struct {
		node string
		args []string
		want string // in the output
		code int
	}{
		{"node1", []string{"status"}, "node1 is active", 0},
		{"node2", []string{"status"}, "node2 is standby", 0},
		{"node1", []string{"status", "--json"}, `"role": "active"`, 0},
		{"node1", []string{"quiesce", "192.168.145.200"}, "", 0},
		{"node1", []string{"status"}, "quiesced by the operator", 1},
		{"node1", []string{"resume", "192.168.145.200"}, "", 0},
		{"node1", []string{"quiesce", "192.168.145.77"}, "no real server 192.168.145.77", 1},
		{"node1", []string{"takeover"}, "", 0}, // it holds what there is
		{"node1", []string{"standby"}, "holds none", 0},
		{"node2", []string{"status"}, "node2 is active", 0},
		{"node1", []string{"version"}, "systole ", 0},
	}
	for _, tt := range tests {
		out, err := p.systole(tt.node, tt.args...)
		code := 0
		var exit interface{ ExitCode() int }
		if errors.As(err, &exit) {
			code = exit.ExitCode()
		}
		if code != tt.code || !strings.Contains(out, tt.want) {
			t.Errorf("%s: systole %s: exit %d, want %d with %q:\n%s", tt.node, strings.Join(tt.args, " "), code, tt.code, tt.want, out)
		}
	}
	for _, w := range webs {
		w.Stop()
	}
	p.wait("critical", 5*time.Second, func() bool { s := p.status("node2"); return s != nil && s.Health == "critical" })
	if out, err := p.systole("node2", "status"); err == nil || !strings.Contains(out, "192.168.145.101:80/tcp has no real server") {
		t.Errorf("%v\n%s", err, out)
	}
	p.daemons["node1"].proc.Kill()
	<-p.daemons["node1"].proc.Done()
	out, err := p.systole("node1", "status")
	var exit interface{ ExitCode() int }
	if !errors.As(err, &exit) || exit.ExitCode() != 3 || !strings.Contains(out, "no director is running") {
		t.Errorf("status of a dead director: %v\n%s", err, out)
	}
}
