package interop

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"systole/control"
	"systole/control/api"
	"systole/control/realserver"
	"systole/test/linuxha"
	"systole/test/need"
	"systole/test/netlab"
	"systole/test/netlab/probe"
	"systole/test/netlab/standin"
)

const (
	ours   = "node1" // runs Systole
	theirs = "node2" // runs the real heartbeat
	domain = "www.a.com"
)

var (
	nodes   = []string{ours, theirs}
	addrs   = map[string]netip.Addr{ours: netip.MustParseAddr("192.168.145.10"), theirs: netip.MustParseAddr("192.168.145.11")}
	sha1Key = secret{"sha1", "interop-secret"}
	vip     = netip.MustParseAddr("192.168.145.101") // of the group that prefers ours
	second  = netip.MustParseAddr("192.168.145.102") // of the group that prefers theirs
	binary  string
)

// setup is what differs between the stories.
type setup struct {
	prefix              string
	keepalive, deadtime time.Duration
	theirDeadtime       time.Duration // each announces its own
	initdead            time.Duration // 0: six seconds
	autoFailback        string        // "on", "off" or "legacy", as both spell it; none: off
	twoGroups           bool          // one for each node; else one that prefers ours
	netstring           bool          // theirs writes no inner authenticator (heartbeat-wire.md section 2.3)
	media               []string      // none: ucast
	auth                string        // none: sha1
}

// pair is one cluster: ours, theirs, a client and a real server.
type pair struct {
	t       *testing.T // of the row that runs
	setup   setup
	lab     *netlab.Lab
	client  *netlab.Host
	systole *director
	real    *linuxha.Machine
	key     secret
	paths   []path
	record  record

	mu      sync.Mutex
	packets []packet
	bad     []string
	asked   []string // of theirs by ours, beside its daemon
}

// director is the Systole daemon.
type director struct {
	host *netlab.Host
	dir  string
	proc *netlab.Process
	log  *safeBuffer
	api  *api.Client
}

// safeBuffer is a log that is read while it is written.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// newPair builds the lab and starts nothing.
func newPair(t *testing.T, s setup) *pair {
	t.Helper()
	need.Root(t, "network namespaces")
	linuxha.Need(t)
	if s.autoFailback == "" {
		s.autoFailback = "off"
	}
	if s.initdead == 0 {
		s.initdead = 6 * time.Second
	}
	if len(s.media) == 0 {
		s.media = []string{"ucast"}
	}
	lab, err := netlab.New(s.prefix)
	if err != nil {
		t.Fatal(err)
	}
	p := &pair{t: t, setup: s, lab: lab, key: sha1Key, record: record{began: time.Now()}}
	switch s.auth {
	case "crc":
		p.key = secret{method: "crc"}
	case "md5":
		p.key.method = "md5"
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Errorf("the lab left something behind: %v", err)
		}
	})
	p.client = p.host("client", netip.MustParseAddr("192.168.145.1"))
	p.must(p.client.DisableTxChecksum())
	server := p.host("server1", netip.MustParseAddr("192.168.145.200"))
	p.must(server.Do(func() error { _, err := realserver.Setup(vip, realserver.Loopback); return err }))
	n, err := standin.StartDNS(server, domain, vip)
	p.must(err)
	t.Cleanup(n.Stop)
	for _, m := range s.media {
		if m == "serial" {
			p.paths = append(p.paths, path{m, layCable(t, p.saw)})
		} else {
			p.paths = append(p.paths, path{kind: m})
		}
	}
	p.addOurs()
	p.addTheirs()
	t.Cleanup(func() { // before all that they need goes
		p.t = t
		p.dumpOnFailure()
		p.report()
	})
	return p
}

func (p *pair) host(name string, a netip.Addr) *netlab.Host {
	p.t.Helper()
	h, err := p.lab.AddHost(name, netip.PrefixFrom(a, 24))
	p.must(err)
	return h
}

func (p *pair) addOurs() {
	p.t.Helper()
	h := p.host(ours, addrs[ours])
	p.must(h.NativeXDP())
	p.must(h.DisableTxChecksum())
	pin, err := p.lab.MountBPF(ours)
	p.must(err)
	dir := filepath.Join(p.lab.Dir(), ours+".d")
	p.must(os.Mkdir(dir, 0o700))
	p.systole = &director{host: h, dir: dir, log: new(safeBuffer), api: api.NewClient(filepath.Join(dir, "systole.sock"))}
	groups := fmt.Sprintf("  - {name: first, preferred: node1, haresources: 'IPaddr2::%[1]s/32/eth0', vips: [{address: %[1]s/32, interface: eth0}]}\n", vip)
	if p.setup.twoGroups {
		groups += fmt.Sprintf("  - {name: second, preferred: node2, haresources: 'IPaddr2::%[1]s/32/eth0', vips: [{address: %[1]s/32, interface: eth0}]}\n", second)
	}
	var media strings.Builder
	for _, m := range p.paths {
		line, _ := m.lines()
		fmt.Fprintf(&media, "    - %s\n", line)
	}
	p.write("authkeys", p.key.authkeys())
	p.write("systole.yaml", fmt.Sprintf(`node: %s
cluster:
  keepalive: %v
  deadtime: %v
  initdead: %v
  auto_failback: %s
  authkeys: %s/authkeys
  state_dir: %[6]s
  nodes: [node1, node2]
  media:
%s  addresses: {node1: %s, node2: %s}
groups:
%sservices:
  - virtual: %s:53
    protocol: udp
    check: {type: none}
    servers: [{address: 192.168.145.200}]
dataplane: {interface: eth0, pin: %s, flows: 65536}
control: {socket: %[6]s/systole.sock}
`, ours, p.setup.keepalive, p.setup.deadtime, p.setup.initdead, p.setup.autoFailback, dir,
		media.String(), addrs[ours], addrs[theirs], groups, vip, filepath.Join(pin, "systole")))
}

func (p *pair) addTheirs() {
	p.t.Helper()
	h := p.host(theirs, addrs[theirs])
	resources := map[string][]netip.Addr{ours: {vip}}
	if p.setup.twoGroups {
		resources[theirs] = []netip.Addr{second}
	}
	media := []string{fmt.Sprintf("baud %d", baud)}
	for _, m := range p.paths {
		_, line := m.lines()
		media = append(media, line)
	}
	p.real = linuxha.New(p.t, p.lab, h, linuxha.Config{
		Nodes: nodes, Keepalive: p.setup.keepalive, Deadtime: p.setup.theirDeadtime, Initdead: p.setup.initdead,
		Media: media, AutoFailback: p.setup.autoFailback, Netstring: p.setup.netstring,
		Resources: resources, Authkeys: p.key.authkeys(),
	})
	for _, n := range nodes {
		p.capture(p.lab.Host(n))
	}
}

// write writes a file of ours.
func (p *pair) write(name, text string) {
	p.t.Helper()
	p.must(os.WriteFile(filepath.Join(p.systole.dir, name), []byte(text), 0o600))
}

func (p *pair) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// start runs our daemon.
func (p *pair) start() {
	p.t.Helper()
	p.flush(ours)
	d := p.systole
	cmd := d.host.Command(context.Background(), binary, "run", "-f", filepath.Join(d.dir, "systole.yaml"))
	cmd.Stderr = d.log
	proc, err := d.host.Start(cmd)
	p.must(err)
	d.proc = proc
}

// startReal boots theirs.
func (p *pair) startReal() {
	p.t.Helper()
	p.flush(theirs)
	p.real.Start()
}

// flush keeps a machine that boots from what came to it before.
func (p *pair) flush(node string) {
	p.t.Helper()
	for _, m := range p.paths {
		if m.cable != nil {
			p.must(m.cable.flush(node))
		}
	}
}

// status is nil while our daemon does not answer.
func (p *pair) status() *control.State {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	s, err := p.systole.api.Status(ctx)
	if err != nil {
		return nil
	}
	return s
}

// command runs one of our commands.
func (p *pair) command(args ...string) (string, error) {
	p.t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), "SYSTOLE_SOCKET="+filepath.Join(p.systole.dir, "systole.sock"))
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// wait polls until cond holds.
func (p *pair) wait(what string, patience time.Duration, cond func() bool) {
	p.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if cond() {
			return
		}
		if time.Now().After(end) {
			p.t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// owners starts to watch who answers for the first group's address.
func (p *pair) owners() *probe.Ownership {
	p.t.Helper()
	var ds []probe.Director
	for _, n := range nodes {
		ds = append(ds, probe.Director{Name: n, MAC: p.lab.Host(n).MAC})
	}
	o, err := probe.StartOwnership(probe.OwnershipConfig{Host: p.client, VIP: vip, Port: 53, Name: domain, Directors: ds})
	p.must(err)
	return o
}

// row is one part of a story: a subtest that also looks at both logs.
// known are parts of the lines that may complain.
func (p *pair) row(t *testing.T, name string, known []string, f func()) {
	t.Helper()
	p.record.rows = append(p.record.rows, name)
	ok := t.Run(name, func(t *testing.T) {
		p.t, p.real.TB = t, t
		defer func() { p.t, p.real.TB = nil, nil }()
		from, ourFrom := len(p.real.Log(0)), len(p.systole.log.String())
		f()
		for _, line := range complaints(p.real.Log(from), known...) {
			t.Errorf("the real heartbeat complains: %s", line)
		}
		for _, line := range complaints(p.systole.log.String()[ourFrom:], known...) {
			t.Errorf("ours complains: %s", line)
		}
	})
	p.t, p.real.TB = t, t
	if !ok {
		t.FailNow() // the rest of the story begins where this should have ended
	}
}

func (p *pair) dumpOnFailure() {
	if d := p.systole; d != nil && d.proc != nil {
		d.proc.Kill()
		<-d.proc.Done()
	}
	if p.real == nil {
		return
	}
	p.real.TB = p.t
	p.real.Kill()
	if !p.t.Failed() {
		return
	}
	last := func(s string, n int) string {
		lines := strings.Split(strings.TrimSpace(s), "\n")
		return strings.Join(lines[max(0, len(lines)-n):], "\n")
	}
	p.t.Logf("our log, the end:\n%s", last(p.systole.log.String(), 60))
	p.t.Logf("their log, the end:\n%s", last(p.real.Log(0), 80))
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	for _, m := range p.packets {
		if t := m.get("t"); t != "status" && t != "NS_ackmsg" {
			fmt.Fprintf(&b, "%s %s\n", m.at.Format("15:04:05.000"), m.message)
		}
	}
	p.t.Logf("on the wire, but for beats, the end:\n%s", last(b.String(), 60))
}
