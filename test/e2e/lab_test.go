package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"systole/control"
	"systole/control/api"
	"systole/control/realserver"
	"systole/test/built"
	"systole/test/need"
	"systole/test/netlab"
)

var (
	keepalive = 100 * time.Millisecond
	deadtime  = 300 * time.Millisecond
	initdead  = 2 * time.Second
	// slow is how much longer things may take than on a real machine.
	slow time.Duration = 1
)

var (
	vip     = netip.MustParseAddr("192.168.145.101")
	network = "192.168.145.%d/24"
	nodes   = []string{"node1", "node2"}
	binary  string
)

func TestMain(m *testing.M) {
	// A virtual machine without KVM, on a busy host: nothing is measured there.
	if os.Getenv("SYSTOLE_VM") == "1" {
		keepalive, deadtime, initdead, slow = time.Second, 10*time.Second, 20*time.Second, 10
	}
	os.Exit(built.Run(m, &binary))
}

// needRoot skips without root, unless the tests must run here.
func needRoot(t *testing.T) {
	t.Helper()
	need.Root(t, "network namespaces")
}

// pair is a pair of directors on a LAN with a client and real servers.
type pair struct {
	t       *testing.T
	lab     *netlab.Lab
	client  *netlab.Host
	servers []*netlab.Host
	daemons map[string]*daemon
	attr    func() *syscall.SysProcAttr // how daemons are started; nil: as root
}

// daemon is one director's process and where its things are.
type daemon struct {
	host *netlab.Host
	dir  string
	pin  string
	proc *netlab.Process
	log  *bytes.Buffer
	api  *api.Client
}

// newPair builds the LAN and starts both directors; services is the services
// part of the config, before runs just before the daemons do.
func newPair(t *testing.T, servers int, services string, before ...func(*pair)) *pair {
	t.Helper()
	needRoot(t)
	lab, err := netlab.New("e2e")
	if err != nil {
		t.Fatal(err)
	}
	p := &pair{t: t, lab: lab, daemons: map[string]*daemon{}}
	t.Cleanup(func() {
		p.dumpOnFailure()
		if err := lab.Close(); err != nil {
			t.Errorf("the lab left something behind: %v", err)
		}
	})
	p.client = p.host("client", 1)
	p.must(p.client.DisableTxChecksum())
	for i := range servers {
		s := p.host(fmt.Sprintf("server%d", i+1), 200+i)
		p.must(s.Do(func() error { _, err := realserver.Setup(vip, realserver.Loopback); return err }))
		p.servers = append(p.servers, s)
	}
	for i, name := range nodes {
		h := p.host(name, 10+i)
		p.must(h.NativeXDP())
		p.must(h.DisableTxChecksum())
		pin, err := lab.MountBPF(name)
		p.must(err)
		dir := filepath.Join(lab.Dir(), name+".d")
		p.must(os.Mkdir(dir, 0o700))
		p.must(os.WriteFile(filepath.Join(dir, "authkeys"), []byte("auth 1\n1 sha1 e2e-secret\n"), 0o600))
		d := &daemon{host: h, dir: dir, pin: filepath.Join(pin, "systole"), api: api.NewClient(filepath.Join(dir, "systole.sock"))}
		p.daemons[name] = d
		p.write(name, services)
	}
	for _, f := range before {
		f(p)
	}
	for _, name := range nodes {
		p.start(name)
	}
	p.wait("node1 active and node2 stable on standby", 10*time.Second, func() bool {
		a, b := p.status("node1"), p.status("node2")
		return a != nil && b != nil && a.Role == "active" && b.Role == "standby" &&
			a.Takeover.State == "stable" && b.Takeover.State == "stable" && a.Takeover.PeerSystole
	})
	return p
}

func (p *pair) host(name string, last int) *netlab.Host {
	p.t.Helper()
	h, err := p.lab.AddHost(name, netip.MustParsePrefix(fmt.Sprintf(network, last)))
	p.must(err)
	return h
}

func (p *pair) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// write writes a director's config file.
func (p *pair) write(name, services string) {
	p.t.Helper()
	d := p.daemons[name]
	cfg := fmt.Sprintf(`node: %s
cluster:
  keepalive: %v
  deadtime: %v
  initdead: %v
  auto_failback: false
  authkeys: %s/authkeys
  state_dir: %s
  nodes: [node1, node2]
  media:
    - {type: ucast, interface: eth0, peers: {node1: 192.168.145.10, node2: 192.168.145.11}}
groups:
  - {name: web, preferred: node1, vips: [{address: %s/32, interface: eth0}]}
services:
%s
dataplane: {interface: eth0, pin: %s, flows: 65536}
metrics: {listen: "127.0.0.1:9101"}
control: {socket: %s/systole.sock}
`, name, keepalive, deadtime, initdead, d.dir, d.dir, vip, services, d.pin, d.dir)
	p.must(os.WriteFile(p.file(name), []byte(cfg), 0o600))
}

// replace changes a director's config file.
func (p *pair) replace(name, old, with string) {
	p.t.Helper()
	b, err := os.ReadFile(p.file(name))
	p.must(err)
	if !strings.Contains(string(b), old) {
		p.t.Fatalf("%q is not in the config", old)
	}
	p.must(os.WriteFile(p.file(name), []byte(strings.ReplaceAll(string(b), old, with)), 0o600))
}

func (p *pair) file(name string) string { return filepath.Join(p.daemons[name].dir, "systole.yaml") }

// start runs a director's daemon.
func (p *pair) start(name string) {
	p.t.Helper()
	d := p.daemons[name]
	cmd := d.host.Command(context.Background(), binary, "run", "-f", p.file(name))
	d.log = new(bytes.Buffer)
	cmd.Stderr = d.log
	if p.attr != nil {
		cmd.SysProcAttr = p.attr()
	}
	proc, err := d.host.Start(cmd)
	p.must(err)
	d.proc = proc
}

// status is nil while the daemon does not answer.
func (p *pair) status(name string) *control.State {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second*slow)
	defer cancel()
	s, err := p.daemons[name].api.Status(ctx)
	if err != nil {
		return nil
	}
	return s
}

// wait polls until cond holds.
func (p *pair) wait(what string, patience time.Duration, cond func() bool) {
	p.t.Helper()
	for end := time.Now().Add(patience * slow); ; time.Sleep(10 * time.Millisecond) {
		if cond() {
			return
		}
		if time.Now().After(end) {
			p.t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// servable waits until a service has n servers that get connections, on both.
func (p *pair) servable(service string, n int) {
	p.t.Helper()
	p.wait(fmt.Sprintf("%d servers of %s in both tables", n, service), 10*time.Second, func() bool {
		for _, name := range nodes {
			s := p.status(name)
			if s == nil || serving(s, service) != n {
				return false
			}
		}
		return true
	})
}

func serving(s *control.State, service string) int {
	n := 0
	for _, svc := range s.Services {
		for _, r := range svc.Servers {
			if svc.Service == service && r.InTable && r.Effective > 0 && r.Reason == "" {
				n++
			}
		}
	}
	return n
}

// run runs a program in a host to its end and returns what it printed.
func (p *pair) run(h *netlab.Host, argv ...string) (string, error) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second*slow)
	defer cancel()
	cmd := h.Command(ctx, argv...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	proc, err := h.Start(cmd)
	if err != nil {
		return "", err
	}
	err = proc.Wait()
	return out.String(), err
}

// systole runs a command of the daemon's own binary against a director.
func (p *pair) systole(name string, args ...string) (string, error) {
	p.t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), "SYSTOLE_SOCKET="+filepath.Join(p.daemons[name].dir, "systole.sock"))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// background runs a real server program in a host until the lab closes.
func (p *pair) background(h *netlab.Host, argv ...string) {
	p.t.Helper()
	cmd := h.Command(context.Background(), argv...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	proc, err := h.Start(cmd)
	p.must(err)
	p.t.Cleanup(func() {
		_ = proc.Signal(syscall.SIGTERM)
		select {
		case <-proc.Done():
		case <-time.After(2 * time.Second):
			proc.Kill()
			<-proc.Done()
		}
		if p.t.Failed() {
			p.t.Logf("%s in %s said:\n%s", argv[0], h.Name, out.String())
		}
	})
}

func (p *pair) dumpOnFailure() {
	for name, d := range p.daemons {
		if d.proc == nil {
			continue
		}
		if p.t.Failed() {
			if s := p.status(name); s != nil {
				p.t.Logf("%s: %s holds %s, %s %q", name, s.Role, s.Holds, s.Health, s.Problems)
			}
		}
		d.proc.Kill()
		<-d.proc.Done()
		if p.t.Failed() {
			lines := strings.Split(strings.TrimSpace(d.log.String()), "\n")
			p.t.Logf("%s's log, the end:\n%s", name, strings.Join(lines[max(0, len(lines)-60):], "\n"))
		}
	}
}
