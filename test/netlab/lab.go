package netlab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"sync"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Limits. A lab is a handful of machines, not a data centre.
const (
	maxHosts     = 32
	maxProcesses = 64
)

// Errors of this package, to be tested with errors.Is.
var (
	// ErrBusy means that a living program has a lab of this prefix.
	ErrBusy = errors.New("lab prefix in use")
	// ErrName refuses a prefix or host name.
	ErrName = errors.New("bad name")
	// ErrExists means that a namespace of that name is there and not ours.
	ErrExists = errors.New("namespace exists")
	// ErrClosed is returned by every method after Close.
	ErrClosed = errors.New("lab is closed")
	// ErrLimit refuses what would make the lab too large.
	ErrLimit = errors.New("lab limit reached")
)

// A switch port bears its host's name: IFNAMSIZ allows it 15 bytes.
var (
	prefixForm = regexp.MustCompile(`^[a-z][a-z0-9-]{0,19}$`)
	hostForm   = regexp.MustCompile(`^[a-z][a-z0-9]{0,11}$`)
)

// Lab is a switch and the hosts on it. Its methods may be called from several
// goroutines.
type Lab struct {
	prefix string
	claim  *claim
	sw     *namespace

	mu        sync.Mutex
	closed    bool
	hosts     map[string]*Host
	order     []*Host // as added
	spaces    []*namespace
	links     []link.Link
	processes map[*process]struct{}
}

// New makes an empty lab: the switch and no host. It first removes what a
// dead program left of a lab with this prefix.
func New(prefix string) (_ *Lab, err error) {
	if !prefixForm.MatchString(prefix) {
		return nil, fmt.Errorf("%w: lab prefix %q: use 1 to 20 of a-z, 0-9 and -, beginning with a letter", ErrName, prefix)
	}
	c, err := newClaim(prefix)
	if err != nil {
		return nil, err
	}
	l := &Lab{
		prefix:    prefix,
		claim:     c,
		hosts:     make(map[string]*Host),
		processes: make(map[*process]struct{}),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	if l.sw, err = l.addNamespace("switch"); err != nil {
		return nil, err
	}
	if err = l.sw.addBridge(); err != nil {
		return nil, err
	}
	return l, nil
}

// Prefix is what the names of the lab's namespaces begin with.
func (l *Lab) Prefix() string { return l.prefix }

// Dir is a directory of the lab's own, mode 0700, on a tmpfs as a rule. It is
// removed by Close, with whatever is mounted below it.
func (l *Lab) Dir() string { return l.claim.dir }

// Host returns the host of that name, nil if there is none.
func (l *Lab) Host(name string) *Host {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hosts[name]
}

// Hosts lists the hosts in the order in which they were added.
func (l *Lab) Hosts() []*Host {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*Host(nil), l.order...)
}

// AddHost adds a host with one address on eth0 and plugs it in. The MAC
// address is 02:00 followed by the four bytes of the IPv4 address.
func (l *Lab) AddHost(name string, addr netip.Prefix) (*Host, error) {
	switch {
	case !hostForm.MatchString(name) || name == "switch":
		return nil, fmt.Errorf("%w: host %q: use 1 to 12 of a-z and 0-9, beginning with a letter; \"switch\" is taken", ErrName, name)
	case !addr.Addr().Is4():
		return nil, fmt.Errorf("%w: host %s: address %s: IPv4 only", ErrName, name, addr)
	}
	l.mu.Lock()
	_, twice := l.hosts[name]
	n := len(l.hosts)
	l.mu.Unlock()
	if twice {
		return nil, fmt.Errorf("%w: host %s is there already", ErrName, name)
	}
	if n >= maxHosts {
		return nil, fmt.Errorf("%w: %d hosts", ErrLimit, maxHosts)
	}

	// A namespace is the lab's as soon as it exists, so that Close takes it
	// down should the rest fail.
	ns, err := l.addNamespace(name)
	if err != nil {
		return nil, err
	}
	h := &Host{Name: name, Namespace: ns.name, Addr: addr, MAC: macOf(addr.Addr()), lab: l, ns: ns}
	if err := h.connect(l.sw); err != nil {
		return nil, fmt.Errorf("host %s: %w", name, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	l.hosts[name] = h
	l.order = append(l.order, h)
	return h, nil
}

// MountBPF mounts a bpffs of the lab's own in a new directory of Dir, for
// pins that nobody else sees and that Close takes away.
func (l *Lab) MountBPF(name string) (string, error) {
	if name == "" || filepath.Base(name) != name {
		return "", fmt.Errorf("%w: directory %q", ErrName, name)
	}
	dir := filepath.Join(l.Dir(), name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	if err := unix.Mount("bpf", dir, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
		return "", fmt.Errorf("mount -t bpf bpf %s: %w", dir, err)
	}
	return dir, nil
}

// Close takes the lab down: processes, then links, namespaces, mounts and
// files. It may be called more than once. What could not be removed is in the
// error and stays recorded, for the next New of this prefix to try again.
func (l *Lab) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	procs, links, spaces := l.processes, l.links, l.spaces
	l.mu.Unlock()

	for p := range procs {
		p.kill()
	}
	for p := range procs {
		<-p.ended
	}
	var errs []error
	for _, x := range links {
		errs = append(errs, x.Close())
	}
	for _, ns := range spaces {
		errs = append(errs, ns.close())
	}
	if err := errors.Join(errs...); err != nil {
		return errors.Join(err, l.claim.abandon())
	}
	return l.claim.release()
}

func (l *Lab) addNamespace(name string) (*namespace, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	ns, err := newNamespace(l.prefix+"-"+name, l.claim.record)
	if ns != nil {
		l.spaces = append(l.spaces, ns)
	}
	if err != nil {
		return nil, fmt.Errorf("namespace %s-%s: %w", l.prefix, name, err)
	}
	return ns, nil
}
