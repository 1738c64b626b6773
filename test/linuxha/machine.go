package linuxha

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"systole/test/need"
	"systole/test/netlab"
)

// What Debian installs.
const (
	Daemon = "/usr/libexec/heartbeat/heartbeat"
	Tools  = "/usr/share/heartbeat" // hb_standby, hb_takeover

	etc = "/etc/ha.d"
)

//go:embed boot.sh
var bootScript []byte

// Machine is one that runs the real heartbeat. Its methods are for one goroutine
// at a time, but for Run, Spawn and Log.
type Machine struct {
	// TB is the test that runs, which a method that fails ends. It may change.
	TB testing.TB

	host *netlab.Host
	dir  string
	proc *netlab.Process // unshare; its child is pid 1 in there
	init int             // that child's pid out here
}

// Need says what a test of this package's callers needs, but root.
func Need(tb testing.TB) {
	tb.Helper()
	for _, f := range []string{Daemon, Tools + "/hb_standby", Tools + "/hb_takeover", etc + "/resource.d/IPaddr2", "cl_status", "unshare", "nsenter"} {
		need.Program(tb, f)
	}
}

// New installs a heartbeat on a host and starts nothing. The machine is killed
// when the test ends.
func New(tb testing.TB, lab *netlab.Lab, host *netlab.Host, cfg Config) *Machine {
	tb.Helper()
	m := &Machine{TB: tb, host: host, dir: filepath.Join(lab.Dir(), host.Name+".heartbeat")}
	for _, d := range []string{"", "ha.d", "lib", "log"} {
		m.must(os.Mkdir(filepath.Join(m.dir, d), 0o755))
	}
	// Debian's scripts, and nothing of a configuration that the machine has.
	for _, d := range []string{"rc.d", "resource.d"} {
		m.must(os.CopyFS(filepath.Join(m.dir, "ha.d", d), os.DirFS(filepath.Join(etc, d))))
	}
	for _, f := range []string{"harc", "shellfuncs"} {
		b, err := os.ReadFile(filepath.Join(etc, f))
		m.must(err)
		m.must(os.WriteFile(filepath.Join(m.dir, "ha.d", f), b, 0o755))
	}
	m.must(os.WriteFile(filepath.Join(m.dir, "boot.sh"), bootScript, 0o755))
	m.owned("lib/ccm", "lib/crm", "lib/pengine")
	m.root("lib/api", "lib/casual", "lib/ckpt", "lib/cores/root", "lib/cores/nobody", "lib/cores/hacluster", "lib/lrm")
	m.write("ha.d/ha.cf", 0o644, cfg.hacf())
	m.write("ha.d/haresources", 0o644, cfg.haresources())
	m.Authkeys(cfg.Authkeys)
	tb.Cleanup(m.Kill)
	return m
}

// Authkeys writes that file; it is read at the next start.
func (m *Machine) Authkeys(text string) {
	m.TB.Helper()
	m.write("ha.d/authkeys", 0o600, text)
}

func (m *Machine) write(name string, mode os.FileMode, text string) {
	m.TB.Helper()
	m.must(os.WriteFile(filepath.Join(m.dir, name), []byte(text), mode))
}

// root makes directories for the daemon itself.
func (m *Machine) root(dirs ...string) {
	m.TB.Helper()
	for _, d := range dirs {
		m.must(os.MkdirAll(filepath.Join(m.dir, d), 0o755))
	}
}

// owned makes directories for the daemon's unprivileged children.
func (m *Machine) owned(dirs ...string) {
	m.TB.Helper()
	u, err := user.Lookup("hacluster")
	m.must(err)
	uid, err := strconv.Atoi(u.Uid)
	m.must(err)
	gid, err := strconv.Atoi(u.Gid)
	m.must(err)
	for _, d := range dirs {
		path := filepath.Join(m.dir, d)
		m.must(os.MkdirAll(path, 0o750))
		m.must(os.Chown(path, uid, gid))
	}
}

func (m *Machine) must(err error) {
	m.TB.Helper()
	if err != nil {
		m.TB.Fatalf("%s (heartbeat): %v", m.host.Name, err)
	}
}

// Start boots the machine, and with it the daemon. The namespaces die with
// unshare (--kill-child).
func (m *Machine) Start() {
	m.TB.Helper()
	m.must(os.RemoveAll(filepath.Join(m.dir, "run"))) // as a boot does; pids begin anew
	m.root("run", "run/lock", "run/resource-agents")
	m.owned("run/heartbeat", "run/heartbeat/ccm", "run/heartbeat/crm", "run/heartbeat/dopd")
	cmd := m.host.Command(context.Background(), "unshare", "--uts", "--mount", "--pid", "--ipc", "--fork", "--kill-child",
		"sh", filepath.Join(m.dir, "boot.sh"), m.host.Name, m.dir)
	var err error
	m.proc, err = m.host.Start(cmd)
	m.must(err)
	children := fmt.Sprintf("/proc/%d/task/%[1]d/children", m.proc.Pid())
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		b, err := os.ReadFile(children)
		m.must(err)
		if m.init, err = strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			return
		}
		if time.Now().After(end) {
			m.TB.Fatalf("%s (heartbeat) did not boot: %q in %s", m.host.Name, b, children)
		}
	}
}

// Running says whether the machine is up: it was started and neither killed nor
// stopped. The daemon may be in the midst of a restart of its own.
func (m *Machine) Running() bool { return m.proc != nil }

// Kill is kill -9 of all of it at once; it returns when all of it is dead. Its
// kernel (the network namespace) lives on, with the addresses it has.
func (m *Machine) Kill() {
	m.TB.Helper()
	if m.proc == nil {
		return
	}
	m.proc.Kill()
	<-m.proc.Done()
	m.proc = nil
	// The first process of a pid namespace dies when all others have; who
	// reaps it after that may take its time.
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.init))
		if _, state, ok := bytes.Cut(b, []byte(") ")); err != nil || ok && state[0] == 'Z' {
			return
		}
		if time.Now().After(end) {
			m.TB.Fatalf("%s (heartbeat) does not die: %s", m.host.Name, b)
		}
	}
}

// Stop is `heartbeat -k`: it returns when the daemon has ended.
func (m *Machine) Stop() {
	m.TB.Helper()
	if out, err := m.Run(Daemon, "-k"); err != nil {
		m.TB.Fatalf("%s: heartbeat -k: %v\n%s", m.host.Name, err, out)
	}
	m.Kill()
}

// Spawn starts a program on the machine and does not wait for it. When ctx ends
// it is killed. Its output, of both kinds, goes to out.
func (m *Machine) Spawn(ctx context.Context, out io.Writer, argv ...string) (*netlab.Process, error) {
	enter := []string{"nsenter", "--target", strconv.Itoa(m.init), "--mount", "--root", "--uts", "--ipc", "--pid"}
	cmd := m.host.Command(ctx, append(enter, argv...)...)
	cmd.Stdout, cmd.Stderr = out, out
	return m.host.Start(cmd)
}

// Run runs a program on the machine, for twenty seconds at most, and returns its
// output and what exec.Cmd.Wait returned.
func (m *Machine) Run(argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var out bytes.Buffer
	proc, err := m.Spawn(ctx, &out, argv...)
	if err != nil {
		return "", err
	}
	err = proc.Wait()
	return strings.TrimSpace(out.String()), err
}

// Status is what a sub-command of cl_status says; "" while it does not answer.
func (m *Machine) Status(args ...string) string {
	m.TB.Helper()
	if m.proc == nil {
		return ""
	}
	out, err := m.Run(append([]string{"cl_status"}, args...)...)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		m.TB.Fatalf("%s (heartbeat): cl_status: %v", m.host.Name, err)
	}
	return out
}

// Holds says whether the machine has an address, and so answers ARP for it.
func (m *Machine) Holds(a netip.Addr) bool {
	m.TB.Helper()
	return m.addr(a) != nil
}

// Forget takes an address away that a killed daemon left, as an operator
// would, or a reboot.
func (m *Machine) Forget(a netip.Addr) {
	m.TB.Helper()
	if addr := m.addr(a); addr != nil {
		link, err := m.host.Netlink().LinkByName(netlab.NIC)
		m.must(err)
		m.must(m.host.Netlink().AddrDel(link, addr))
	}
}

func (m *Machine) addr(a netip.Addr) *netlink.Addr {
	m.TB.Helper()
	link, err := m.host.Netlink().LinkByName(netlab.NIC)
	m.must(err)
	addrs, err := m.host.Netlink().AddrList(link, netlink.FAMILY_V4)
	m.must(err)
	for i := range addrs {
		if addrs[i].IP.Equal(a.AsSlice()) {
			return &addrs[i]
		}
	}
	return nil
}

// Log is the daemon's log, and that of its scripts, from a mark on; the mark for
// later is its length.
func (m *Machine) Log(from int) string {
	b, err := os.ReadFile(filepath.Join(m.dir, "log", "ha-log"))
	if err != nil || len(b) < from {
		return ""
	}
	return string(b[from:])
}
