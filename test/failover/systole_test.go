package failover

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"systole/control"
	"systole/control/api"
	"systole/test/netlab"
)

// timing of a pair.
type timing struct {
	keepalive, deadtime time.Duration
}

// systole is a pair of our directors.
type systole struct {
	*lab
	timing
	proc [2]*netlab.Process
	api  [2]*api.Client
}

// newSystole writes the configs; extra are more lines of their cluster section.
func newSystole(l *lab, t timing, extra string) *systole {
	l.Helper()
	s := &systole{lab: l, timing: t}
	l.Cleanup(func() {
		if l.Failed() {
			l.Logf("the end of the logs:\n%s", s.tail())
		}
	})
	for i, h := range l.nodes {
		l.must(h.NativeXDP())
		l.must(h.DisableTxChecksum())
		pin, err := l.MountBPF(h.Name)
		l.must(err)
		l.must(os.Mkdir(s.dir(i), 0o700))
		l.must(os.WriteFile(s.file(i, "authkeys"), []byte("auth 1\n1 sha1 failover-secret\n"), 0o600))
		l.must(os.WriteFile(s.file(i, "systole.yaml"), fmt.Appendf(nil, `node: %s
cluster:
  keepalive: %v
  deadtime: %v
  initdead: %[8]v
  auto_failback: false
  authkeys: %[4]s/authkeys
  state_dir: %[4]s
%[5]s  nodes: [node1, node2]
  media:
    - {type: ucast, interface: eth0, peers: {node1: 192.168.145.10, node2: 192.168.145.11}}
groups:
  - {name: web, preferred: node1, vips: [{address: %s/32, interface: eth0}]}
services:
  - virtual: %[6]s:53
    protocol: udp
    check: {type: none}
    servers: [{address: 192.168.145.200}]
dataplane: {interface: eth0, pin: %s, flows: 65536}
control: {socket: %[4]s/systole.sock}
`, h.Name, t.keepalive, t.deadtime, s.dir(i), extra, vip, filepath.Join(pin, "systole"), max(initdead, 2*t.deadtime)), 0o600))
		s.api[i] = api.NewClient(s.file(i, "systole.sock"))
	}
	return s
}

func (s *systole) dir(i int) string               { return filepath.Join(s.Dir(), s.nodes[i].Name+".d") }
func (s *systole) file(i int, name string) string { return filepath.Join(s.dir(i), name) }

func (s *systole) start(i int) {
	s.Helper()
	cmd := s.nodes[i].Command(context.Background(), daemon, "run", "-f", s.file(i, "systole.yaml"))
	log, err := os.OpenFile(s.file(i, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	s.must(err)
	defer log.Close()
	cmd.Stderr = log
	s.proc[i], err = s.nodes[i].Start(cmd)
	s.must(err)
}

func (s *systole) log(i int) string {
	b, _ := os.ReadFile(s.file(i, "log"))
	return string(b)
}

// tail is the end of both logs.
func (s *systole) tail() string {
	var out strings.Builder
	for i := range s.proc {
		lines := strings.Split(strings.TrimSpace(s.log(i)), "\n")
		fmt.Fprintf(&out, "--- %s\n%s\n", s.nodes[i].Name, strings.Join(lines[max(0, len(lines)-25):], "\n"))
	}
	return out.String()
}

func (s *systole) kill(i int) {
	s.proc[i].Kill()
	<-s.proc[i].Done()
	s.proc[i] = nil
}

// reboot cleans nothing up: the daemon does that itself.
func (s *systole) reboot(int) {}

func (s *systole) running(i int) bool { return s.proc[i] != nil }

func (s *systole) standby(i int) {
	s.Helper()
	s.must(s.api[i].Standby(context.Background(), "all"))
}

// status is nil while the daemon does not answer.
func (s *systole) status(i int) *control.State {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	st, err := s.api[i].Status(ctx)
	if err != nil {
		return nil
	}
	return st
}

func (s *systole) owner() int {
	owner := -1
	for i := range s.nodes {
		st, other := s.status(i), s.status(1-i)
		if st == nil || other == nil || st.Takeover.State != "stable" || !st.Takeover.PeerStable {
			return -1
		}
		if st.Role == "active" && other.Role == "standby" {
			owner = i
		}
	}
	return owner
}
