package interop

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"systole/test/netlab"
)

const (
	realDaemon = "/usr/libexec/heartbeat/heartbeat"
	realTools  = "/usr/share/heartbeat" // hb_standby, hb_takeover
)

//go:embed testdata/boot.sh
var bootScript []byte

// real is the machine that runs the real heartbeat.
type real struct {
	t    *testing.T
	host *netlab.Host
	name string
	dir  string
	proc *netlab.Process // unshare; its child is pid 1 in there
	init int             // that child's pid out here
}

// realConfig is what goes into /etc/ha.d.
type realConfig struct {
	keepalive, deadtime, initdead time.Duration
	media                         []string // its lines
	autoFailback                  string
	netstring                     bool
	resources                     map[string][]netip.Addr // by preferred node
	key                           secret
}

func newReal(t *testing.T, lab *netlab.Lab, host *netlab.Host, name string, cfg realConfig) *real {
	t.Helper()
	r := &real{t: t, host: host, name: name, dir: filepath.Join(lab.Dir(), name+".d")}
	for _, d := range []string{"", "ha.d", "lib", "log"} {
		r.must(os.Mkdir(filepath.Join(r.dir, d), 0o755))
	}
	// Debian's scripts, and nothing of a configuration that the machine has.
	for _, d := range []string{"rc.d", "resource.d"} {
		r.must(os.CopyFS(filepath.Join(r.dir, "ha.d", d), os.DirFS(filepath.Join("/etc/ha.d", d))))
	}
	for _, f := range []string{"harc", "shellfuncs"} {
		b, err := os.ReadFile(filepath.Join("/etc/ha.d", f))
		r.must(err)
		r.must(os.WriteFile(filepath.Join(r.dir, "ha.d", f), b, 0o755))
	}
	r.must(os.WriteFile(filepath.Join(r.dir, "boot.sh"), bootScript, 0o755))
	r.owned("lib/ccm", "lib/crm", "lib/pengine")
	r.root("lib/api", "lib/casual", "lib/ckpt", "lib/cores/root", "lib/cores/nobody", "lib/cores/hacluster", "lib/lrm")
	format := map[bool]string{true: "netstring", false: "classic"}
	r.write("ha.d/ha.cf", 0o644, fmt.Sprintf(`logfile /var/log/ha-log
debugfile /var/log/ha-debug
keepalive %dms
deadtime %dms
initdead %dms
udpport 694
baud %d
%s
auto_failback %s
msgfmt %s
node node1 node2
realtime off
coredumps off
`, cfg.keepalive.Milliseconds(), cfg.deadtime.Milliseconds(), cfg.initdead.Milliseconds(), baud, strings.Join(cfg.media, "\n"), cfg.autoFailback, format[cfg.netstring]))
	var groups strings.Builder
	for _, n := range nodes {
		for _, a := range cfg.resources[n] {
			fmt.Fprintf(&groups, "%s IPaddr2::%s/32/%s\n", n, a, netlab.NIC)
		}
	}
	r.write("ha.d/haresources", 0o644, groups.String())
	r.key(cfg.key)
	return r
}

// key writes authkeys; it is read at the next start.
func (r *real) key(key secret) {
	r.t.Helper()
	r.write("ha.d/authkeys", 0o600, key.authkeys())
}

func (r *real) write(name string, mode os.FileMode, text string) {
	r.t.Helper()
	r.must(os.WriteFile(filepath.Join(r.dir, name), []byte(text), mode))
}

// root makes directories for the daemon itself.
func (r *real) root(dirs ...string) {
	r.t.Helper()
	for _, d := range dirs {
		r.must(os.MkdirAll(filepath.Join(r.dir, d), 0o755))
	}
}

// owned makes directories for the daemon's unprivileged children.
func (r *real) owned(dirs ...string) {
	r.t.Helper()
	u, err := user.Lookup("hacluster")
	r.must(err)
	uid, err := strconv.Atoi(u.Uid)
	r.must(err)
	gid, err := strconv.Atoi(u.Gid)
	r.must(err)
	for _, d := range dirs {
		path := filepath.Join(r.dir, d)
		r.must(os.MkdirAll(path, 0o750))
		r.must(os.Chown(path, uid, gid))
	}
}

func (r *real) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatalf("%s (real): %v", r.name, err)
	}
}

// start boots the machine. The namespaces die with unshare (--kill-child).
func (r *real) start() {
	r.t.Helper()
	r.must(os.RemoveAll(filepath.Join(r.dir, "run"))) // as a boot does; pids begin anew
	r.root("run", "run/lock", "run/resource-agents")
	r.owned("run/heartbeat", "run/heartbeat/ccm", "run/heartbeat/crm", "run/heartbeat/dopd")
	cmd := r.host.Command(context.Background(), "unshare", "--uts", "--mount", "--pid", "--ipc", "--fork", "--kill-child",
		"sh", filepath.Join(r.dir, "boot.sh"), r.name, r.dir)
	var err error
	r.proc, err = r.host.Start(cmd)
	r.must(err)
	children := fmt.Sprintf("/proc/%d/task/%[1]d/children", r.proc.Pid())
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		b, err := os.ReadFile(children)
		r.must(err)
		if r.init, err = strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			return
		}
		if time.Now().After(end) {
			r.t.Fatalf("%s (real) did not boot: %q in %s", r.name, b, children)
		}
	}
}

// kill is kill -9 of all of it at once. Its kernel (the network namespace)
// lives on, with the addresses it has.
func (r *real) kill() {
	r.t.Helper()
	if r.proc == nil {
		return
	}
	r.proc.Kill()
	<-r.proc.Done()
	r.proc = nil
	// The first process of a pid namespace dies when all others have; who
	// reaps it after that may take its time.
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.init))
		if _, state, ok := bytes.Cut(b, []byte(") ")); err != nil || ok && state[0] == 'Z' {
			return
		}
		if time.Now().After(end) {
			r.t.Fatalf("%s (real) does not die: %s", r.name, b)
		}
	}
}

// stop is `heartbeat -k`: it returns when the daemon has ended.
func (r *real) stop() {
	r.t.Helper()
	if out, err := r.run(realDaemon, "-k"); err != nil {
		r.t.Fatalf("%s (real): heartbeat -k: %v\n%s", r.name, err, out)
	}
	r.kill()
}

// run runs a program on the machine.
func (r *real) run(argv ...string) (string, error) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	enter := []string{"nsenter", "--target", strconv.Itoa(r.init), "--mount", "--root", "--uts", "--ipc", "--pid"}
	cmd := r.host.Command(ctx, append(enter, argv...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	proc, err := r.host.Start(cmd)
	if err != nil {
		return "", err
	}
	err = proc.Wait()
	return strings.TrimSpace(out.String()), err
}

// status is what a sub-command of cl_status says; "" while it does not answer.
func (r *real) status(args ...string) string {
	r.t.Helper()
	if r.proc == nil {
		return ""
	}
	out, err := r.run(append([]string{"cl_status"}, args...)...)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		r.t.Fatalf("%s (real): cl_status: %v", r.name, err)
	}
	return out
}

// holds says whether the machine has an address, and so answers ARP for it.
func (r *real) holds(a netip.Addr) bool {
	r.t.Helper()
	return r.link(a) != nil
}

func (r *real) link(a netip.Addr) *netlink.Addr {
	r.t.Helper()
	link, err := r.host.Netlink().LinkByName(netlab.NIC)
	r.must(err)
	addrs, err := r.host.Netlink().AddrList(link, netlink.FAMILY_V4)
	r.must(err)
	for i := range addrs {
		if addrs[i].IP.Equal(a.AsSlice()) {
			return &addrs[i]
		}
	}
	return nil
}

// forget takes an address away that a killed daemon left, as an operator
// would, or a reboot.
func (r *real) forget(a netip.Addr) {
	r.t.Helper()
	if addr := r.link(a); addr != nil {
		link, err := r.host.Netlink().LinkByName(netlab.NIC)
		r.must(err)
		r.must(r.host.Netlink().AddrDel(link, addr))
	}
}

// log is the daemon's log from a mark on; the mark for later is its length.
func (r *real) log(from int) string {
	b, err := os.ReadFile(filepath.Join(r.dir, "log", "ha-log"))
	if err != nil || len(b) < from {
		return ""
	}
	return string(b[from:])
}

// loud are the lines that say something is wrong, in either one's log.
var loud = regexp.MustCompile(`\b(ERROR|CRIT|EMERG|ALERT):|level=ERROR|[Hh]ist queue|[Ii]rretrievably|assert`)

// complaints are lines of weight that are not among the known ones.
func complaints(log string, known ...string) []string {
	var out []string
	for line := range strings.Lines(log) {
		if !loud.MatchString(line) {
			continue
		}
		ok := false
		for _, k := range known {
			ok = ok || strings.Contains(line, k)
		}
		if !ok {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out
}
