package chaos

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"systole/control"
	"systole/control/api"
	"systole/control/realserver"
	"systole/test/need"
	"systole/test/netlab"
)

// binary is the real daemon, built by TestMain.
var binary string

// lab is two directors, a client and real servers on one switch.
type lab struct {
	*testing.T
	*netlab.Lab
	client  *netlab.Host
	servers []*netlab.Host
	nodes   [2]*node
}

// node is a director.
type node struct {
	*netlab.Host
	dir  string
	proc *netlab.Process
	api  *api.Client
}

// newLab makes a LAN whose real servers answer on port 80; no daemon runs yet.
func newLab(t *testing.T) *lab {
	t.Helper()
	need.Root(t, "network namespaces")
	n, err := netlab.New("chaos")
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{T: t, Lab: n}
	t.Cleanup(func() {
		for _, n := range l.nodes {
			if n != nil && t.Failed() {
				t.Logf("the end of %s's log:\n%s", n.Name, n.tail())
			}
		}
		if err := n.Close(); err != nil {
			t.Errorf("the lab left something behind: %v", err)
		}
	})
	l.client = l.host("client", 1)
	l.must(l.client.DisableTxChecksum())
	for i := range 4 {
		s := l.host(fmt.Sprintf("server%d", i+1), 200+i)
		l.must(s.Do(func() error { _, err := realserver.Setup(vip, realserver.Loopback); return err }))
		l.servers = append(l.servers, s)
		l.echo(s)
	}
	for i := range l.nodes {
		l.nodes[i] = l.director(i)
	}
	return l
}

func (l *lab) must(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

func (l *lab) host(name string, last int) *netlab.Host {
	l.Helper()
	h, err := l.AddHost(name, netip.MustParsePrefix(fmt.Sprintf("192.168.145.%d/24", last)))
	l.must(err)
	return h
}

func (l *lab) director(i int) *node {
	l.Helper()
	h := l.host(fmt.Sprintf("node%d", i+1), 10+i)
	l.must(h.NativeXDP())
	l.must(h.DisableTxChecksum())
	pin, err := l.MountBPF(h.Name)
	l.must(err)
	dir := filepath.Join(l.Dir(), h.Name+".d")
	l.must(os.Mkdir(dir, 0o700))
	l.must(os.WriteFile(filepath.Join(dir, "authkeys"), []byte("auth 1\n1 sha1 chaos-secret\n"), 0o600))
	n := &node{Host: h, dir: dir, api: api.NewClient(filepath.Join(dir, "systole.sock"))}
	var servers strings.Builder
	for _, s := range l.servers {
		fmt.Fprintf(&servers, "{address: %s}, ", s.Addr.Addr())
	}
	l.must(os.WriteFile(filepath.Join(dir, "systole.yaml"), fmt.Appendf(nil, `node: %s
cluster:
  keepalive: 100ms
  deadtime: 1s
  initdead: 2s
  auto_failback: false
  authkeys: %[2]s/authkeys
  state_dir: %[2]s
  nodes: [node1, node2]
  media:
    - {type: ucast, interface: eth0, peers: {node1: 192.168.145.10, node2: 192.168.145.11}}
groups:
  - {name: web, preferred: node1, vips: [{address: %[3]s/32, interface: eth0}]}
services:
  - virtual: %[3]s:80
    check: {type: none}
    servers: [%[4]s]
dataplane: {interface: eth0, mode: native, pin: %[5]s, flows: 131072}
control: {socket: %[2]s/systole.sock}
`, h.Name, dir, vip, servers.String(), filepath.Join(pin, "systole")), 0o600))
	return n
}

// start runs the daemon of a node.
func (l *lab) start(n *node) {
	l.Helper()
	cmd := n.Command(context.Background(), binary, "run", "-f", filepath.Join(n.dir, "systole.yaml"))
	log, err := os.OpenFile(filepath.Join(n.dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	l.must(err)
	defer log.Close()
	cmd.Stderr = log
	n.proc, err = n.Start(cmd)
	l.must(err)
}

func (n *node) kill() {
	n.proc.Kill()
	<-n.proc.Done()
}

func (n *node) tail() string {
	b, _ := os.ReadFile(filepath.Join(n.dir, "log"))
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-25):], "\n")
}

// status is nil while the daemon does not answer.
func (n *node) status() *control.State {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	s, err := n.api.Status(ctx)
	if err != nil {
		return nil
	}
	return s
}

// serves tells whether the node is active with all servers in its table.
func (l *lab) serves(n *node) bool {
	s := n.status()
	if s == nil || s.Role != "active" {
		return false
	}
	ready := 0
	for _, svc := range s.Services {
		for _, r := range svc.Servers {
			if r.InTable && r.Effective > 0 && r.Reason == "" {
				ready++
			}
		}
	}
	return ready == len(l.servers)
}

// owner waits until one of two running directors serves and the other is ready
// to take over; it returns the first.
func (l *lab) owner() (owner, other *node) {
	l.Helper()
	l.until("one director serves and the other could", func() bool {
		for i, n := range l.nodes {
			a, b := n.status(), l.nodes[1-i].status()
			if a != nil && b != nil && a.Takeover.State == "stable" && a.Takeover.PeerStable && b.Takeover.State == "stable" &&
				l.serves(n) && b.Role == "standby" {
				owner, other = n, l.nodes[1-i]
				return true
			}
		}
		return false
	})
	return owner, other
}

// until polls until cond holds.
func (l *lab) until(what string, cond func() bool) {
	l.Helper()
	for end := time.Now().Add(30 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			l.Fatalf("not within 30 s: %s", what)
		}
	}
}
