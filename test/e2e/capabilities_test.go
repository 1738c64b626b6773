package e2e

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"systole/test/netlab/probe"
)

// TestLeastCapabilities runs the daemons as nobody, with just the capabilities
// that the systemd unit and the Dockerfile give them: forwarding, takeover,
// restart after a crash and a clean stop must work with these.
func TestLeastCapabilities(t *testing.T) {
	const nobody = 65534
	p := newPair(t, 1, `  - virtual: 192.168.145.101:80
    check: {type: http, path: /.test.html, virtual_host: www.a.com, expect: ok, interval: 200ms, timeout: 200ms}
    servers: [{address: 192.168.145.200}]
`, func(p *pair) {
		p.nginx(p.servers[0], "web1")
		p.must(os.Chmod(p.lab.Dir(), 0o711))
		p.must(os.Chmod(filepath.Dir(binary), 0o755))
		for _, d := range p.daemons {
			// What systemd's StateDirectory and an operator's chown would do.
			p.must(os.Chown(filepath.Dir(d.pin), nobody, nobody))
			p.must(filepath.WalkDir(d.dir, func(path string, _ fs.DirEntry, err error) error {
				if err != nil {
					return err
				}
				return os.Chown(path, nobody, nobody)
			}))
		}
		p.attr = func() *syscall.SysProcAttr {
			return &syscall.SysProcAttr{
				Credential:  &syscall.Credential{Uid: nobody, Gid: nobody},
				AmbientCaps: []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_NET_BIND_SERVICE},
			}
		}
	})
	p.servable("192.168.145.101:80/tcp", 1)
	get := func(when string) {
		t.Helper()
		if body, err := probe.Get(p.client, p.request()); err != nil || body != "web1" {
			t.Fatalf("%s: %q, %v", when, body, err)
		}
	}
	get("node1 active")
	if out, err := p.systole("node1", "standby"); err != nil {
		t.Fatalf("standby: %v %s", err, out)
	}
	p.active("node2")
	get("node2 active")
	p.daemons["node2"].proc.Kill()
	p.active("node1")
	get("node1 active again")
	p.start("node2")
	p.active("node1")
	p.must(p.daemons["node1"].proc.Signal(syscall.SIGTERM))
	if err := p.daemons["node1"].proc.Wait(); err != nil {
		t.Errorf("stop: %v", err)
	}
	// What it can do without it only warns of.
	if log := p.daemons["node1"].log.String(); strings.Contains(log, "will not be forwarded") || strings.Contains(log, "permitted") || strings.Contains(log, "denied") {
		t.Error("the daemon could not do all")
	}
	p.active("node2")
	get("node2 after the stop of node1")
}
