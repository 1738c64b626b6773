package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"systole/control"
	"systole/test/netlab/probe"
	"systole/test/netlab/standin"
)

// usurp takes the director's program off its interface and puts another one
// there, and returns how to take that away again.
func (p *pair) usurp(node string) (leave func()) {
	p.t.Helper()
	d := p.daemons[node]
	var pinned string
	p.must(filepath.WalkDir(d.pin, func(path string, _ os.DirEntry, err error) error {
		if filepath.Base(path) == "link" {
			pinned = path
		}
		return err
	}))
	l, err := link.LoadPinnedLink(pinned, nil)
	p.must(err)
	defer l.Close()
	p.must(l.(interface{ Detach() error }).Detach())
	return p.occupy(node)
}

// occupy puts another program than the director's on its interface, which must
// be free, and returns how to take that away again.
func (p *pair) occupy(node string) (leave func()) {
	p.t.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "usurper", Type: ebpf.XDP, License: "MIT",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}, // XDP_PASS
	})
	p.must(err)
	defer prog.Close()
	host := p.daemons[node].host
	put := func(fd int) {
		p.t.Helper()
		eth0, err := host.Netlink().LinkByName("eth0")
		p.must(err)
		p.must(host.Do(func() error { return netlink.LinkSetXdpFd(eth0, fd) }))
	}
	put(prog.FD())
	return func() { put(-1) }
}

// TestXDPUsurped puts another program in the place of the director's. Without
// IPVS nothing carries the service any more: status says so, and why, and is
// critical. When the place is free again the director is back by itself.
func TestXDPUsurped(t *testing.T) {
	p := newPair(t, 1, tutorial1)
	w := standin.NewWeb(p.servers[0], "www.a.com", "web1")
	p.must(w.Start())
	t.Cleanup(w.Stop)
	p.servable("192.168.145.101:80/tcp", 1)
	s := p.status("node1")
	if svc := s.Services[0]; svc.Plane != "xdp" || svc.PlaneWhy != "" || s.PlaneChoice != "auto" {
		t.Fatalf("%s, %q %q", s.PlaneChoice, svc.Plane, svc.PlaneWhy)
	}
	if s.Planes[1].Name != "ipvs" || !s.Planes[1].Absent {
		t.Skip("this kernel has IPVS, which carries on")
	}
	leave := p.usurp("node1")
	p.wait("nothing carries the service", 5*time.Second, func() bool {
		s = p.status("node1")
		return s != nil && s.Services[0].Plane == "" && s.Health == "critical"
	})
	if why := s.Services[0].PlaneWhy; !strings.Contains(why, "xdp: ") || !strings.Contains(why, "this kernel has no IPVS") {
		t.Errorf("why: %q", why)
	}
	p.wait("the other program is named", 5*time.Second, func() bool {
		s = p.status("node1")
		return s != nil && slices.ContainsFunc(s.Planes, func(pl control.PlaneState) bool { return strings.Contains(pl.Error, `"usurper"`) })
	})
	leave()
	p.wait("xdp carries it again", 5*time.Second, func() bool {
		s = p.status("node1")
		return s != nil && s.Services[0].Plane == "xdp" && s.Planes[0].Error == ""
	})
	if body, err := probe.Get(p.client, p.request()); err != nil || body != "web1" {
		t.Errorf("%q, %v", body, err)
	}
}

// TestPlaneCommand: what there is not cannot be chosen, and the command shows
// how things are.
func TestPlaneCommand(t *testing.T) {
	p := newPair(t, 1, tutorial1)
	out, err := p.systole("node1", "plane")
	if err != nil || !strings.HasPrefix(out, "plane auto\n") || !strings.Contains(out, "192.168.145.101:80/tcp  xdp") {
		t.Errorf("%v %s", err, out)
	}
	if s := p.status("node1"); !s.Planes[1].Absent {
		t.Skip("this kernel has IPVS")
	}
	if out, err := p.systole("node1", "plane", "ipvs"); err == nil || !strings.Contains(out, "this kernel has no IPVS") {
		t.Errorf("%v %s", err, out)
	}
	if out, err := p.systole("node1", "plane", "xdp"); err != nil || !strings.HasPrefix(out, "plane xdp\n") {
		t.Errorf("%v %s", err, out)
	}
}

// TestReloadThatNoPlaneCanCarry keeps the old config, whole.
func TestReloadThatNoPlaneCanCarry(t *testing.T) {
	p := newPair(t, 1, tutorial1)
	if s := p.status("node1"); !s.Planes[1].Absent {
		t.Skip("this kernel has IPVS")
	}
	p.replace("node1", "  - virtual: 192.168.145.101:80\n", "  - virtual: 192.168.145.101:80\n    scheduler: lblc\n")
	out, err := p.systole("node1", "reload")
	if err == nil || !strings.Contains(out, "service 192.168.145.101:80/tcp: no plane can carry it: xdp: ") || !strings.Contains(out, "ipvs: this kernel has no IPVS") {
		t.Errorf("%v %s", err, out)
	}
	if s := p.status("node1"); s.Services[0].Scheduler != "rr" || s.Services[0].Plane != "xdp" {
		t.Errorf("%+v", s.Services[0])
	}
}

// tutorial1 is the tutorial's service with one server.
const tutorial1 = `  - virtual: 192.168.145.101:80
    check: {type: http, path: /.test.html, virtual_host: www.a.com, expect: ok, interval: 200ms, timeout: 200ms}
    servers: [{address: 192.168.145.200}]
`
