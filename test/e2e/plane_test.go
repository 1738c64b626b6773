package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"systole/test/netlab/probe"
	"systole/test/netlab/standin"
)

// TestFallbackServes stops all real servers: the fallback server has the
// clients until one is back.
func TestFallbackServes(t *testing.T) {
	p := newPair(t, 3, `  - virtual: 192.168.145.101:80
    check: {type: http, path: /.test.html, virtual_host: www.a.com, expect: ok, interval: 200ms, timeout: 200ms}
    servers: [{address: 192.168.145.200}, {address: 192.168.145.201}]
    fallback: {address: 192.168.145.202}
`)
	var webs []*standin.Web
	for i, s := range p.servers {
		w := standin.NewWeb(s, "www.a.com", []string{"web1", "web2", "sorry"}[i])
		p.must(w.Start())
		t.Cleanup(w.Stop)
		webs = append(webs, w)
	}
	get := func(want ...string) {
		t.Helper()
		body, err := probe.Get(p.client, p.request())
		for _, w := range want {
			if err == nil && body == w {
				return
			}
		}
		t.Errorf("%q, %v; want one of %q", body, err, want)
	}
	state := func(want string) {
		t.Helper()
		p.wait("the service is "+want, 5*time.Second, func() bool {
			s := p.status("node1")
			return s != nil && s.Services[0].State == want
		})
	}
	state("up")
	get("web1", "web2")
	webs[0].Stop()
	webs[1].Stop()
	state("fallback")
	get("sorry")
	p.must(webs[1].Start())
	state("up")
	get("web2")
}

// TestGenericMode forwards where the driver has no native XDP.
func TestGenericMode(t *testing.T) {
	p := newPair(t, 2, tutorial, func(p *pair) {
		for _, n := range nodes {
			p.replace(n, "dataplane: {interface: eth0,", "dataplane: {interface: eth0, mode: generic,")
		}
	})
	for i, s := range p.servers {
		w := standin.NewWeb(s, "www.a.com", "web"+string(rune('1'+i)))
		p.must(w.Start())
		t.Cleanup(w.Stop)
	}
	p.servable("192.168.145.101:80/tcp", 2)
	if m := p.status("node1").Planes[0].Mode; m != "generic" {
		t.Fatalf("mode %s", m)
	}
	last := ""
	for range 10 {
		body, err := probe.Get(p.client, p.request())
		if err != nil || body == last {
			t.Fatalf("%q after %q, %v", body, last, err)
		}
		last = body
	}
	if out, err := p.systole("node1", "standby"); err != nil {
		t.Fatalf("standby: %v %s", err, out)
	}
	p.active("node2")
	if body, err := probe.Get(p.client, p.request()); err != nil {
		t.Errorf("after the hand-over: %q, %v", body, err)
	}
}

// TestNoPlaneNoDaemon: a daemon that could not forward does not start, and says
// why in words that help; it leaves nothing behind.
func TestNoPlaneNoDaemon(t *testing.T) {
	p := newPair(t, 0, tutorial)
	d := p.daemons["node1"]
	d.proc.Kill()
	<-d.proc.Done()
	for _, tt := range []struct{ from, to, want string }{
		{"mode: auto", "mode: ipvs", "this kernel has no IPVS"},
		{"pin: " + d.pin, "pin: " + d.dir, "mount -t bpf"},
		{"interface: eth0, mode: auto", "interface: eth7, mode: native", "eth7"},
	} {
		p.write("node1", tutorial)
		p.replace("node1", "dataplane: {interface: eth0,", "dataplane: {interface: eth0, mode: auto,")
		p.replace("node1", tt.from, tt.to)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		out, err := p.run(d.host, binary, "run", "-f", p.file("node1"))
		cancel()
		if err == nil || ctx.Err() == context.DeadlineExceeded || !strings.Contains(out, tt.want) {
			t.Errorf("%s: exit %v, want an error with %q:\n%s", tt.to, err, tt.want, out)
		}
	}
}
