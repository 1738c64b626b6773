package ipvs

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"systole/dataplane"
)

// Config is what Open needs.
type Config struct {
	Log *slog.Logger
}

// kernel is IPVS as the plane uses it. Tests have one in memory, which watches
// over the order of the commands.
type kernel interface {
	// services reads the whole table.
	services() ([]Service, error)
	// do carries out one command.
	do(op) error
	// info tells IPVS's version and the size of its connection table.
	info() (version string, size int, err error)
	// connections opens the kernel's list of connections.
	connections() (io.ReadCloser, error)
	daemons() ([]Daemon, error)
	startDaemon(*Daemon) error
	stopDaemon(DaemonRole) error
	timeouts() (dataplane.Timeouts, error)
	setTimeouts(dataplane.Timeouts) error
	// zero sets the counters of a service and its servers to zero.
	zero(*Service) error
	close()
}

// Plane keeps the kernel's IPVS table. It implements dataplane.Plane.
type Plane struct {
	log *slog.Logger

	mu         sync.Mutex
	kernel     kernel
	generation dataplane.Generation
	ours       map[dataplane.ServiceKey]bool // services configured now, or created and not removed yet
	closed     bool
}

var _ dataplane.Plane = (*Plane)(nil)

// ErrClosed is returned after Close.
var ErrClosed = fmt.Errorf("%w: the IPVS plane is closed", dataplane.ErrUnavailable)

// ErrHalfway marks an Apply that failed and could not be undone: the table is
// neither what it was nor what it should be. The next Apply starts from what
// is there.
var ErrHalfway = errors.New("the IPVS table is half way between two generations: apply again, or look at it with ipvsadm -ln")

// Open returns the plane over the IPVS of the process's network namespace. A
// kernel without IPVS gives an error that wraps dataplane.ErrUnavailable. It
// needs CAP_NET_ADMIN, and does not touch the table.
func Open(c Config) (*Plane, error) {
	k, err := openKernel()
	if err != nil {
		return nil, err
	}
	return newPlane(c.Log, k), nil
}

func newPlane(log *slog.Logger, k kernel) *Plane {
	return &Plane{log: log, kernel: k, ours: make(map[dataplane.ServiceKey]bool)}
}

// Info implements dataplane.Plane.
func (p *Plane) Info() dataplane.Info { return dataplane.Info{Name: "ipvs"} }

// Renew implements dataplane.Plane: IPVS cannot end by itself.
func (p *Plane) Renew(time.Duration) error { return dataplane.ErrNoLease }

// Apply implements dataplane.Plane, within the limits the package names. When
// it fails the table is as it was, or the error wraps ErrHalfway.
func (p *Plane) Apply(s dataplane.Snapshot) (dataplane.Generation, error) {
	want, err := want(s)
	if err != nil {
		return 0, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0, ErrClosed
	}
	all, err := p.kernel.services()
	if err != nil {
		return 0, fmt.Errorf("reading the IPVS table: %w", err)
	}
	may := make(map[dataplane.ServiceKey]bool, len(want))
	for i := range want {
		may[want[i].Key] = true
	}
	for k := range p.ours {
		may[k] = true
	}
	before := only(all, may)
	if err := p.run(diff(before, want)); err != nil {
		p.keep(before, want)
		return 0, p.undo(err, before, may)
	}
	p.ours = make(map[dataplane.ServiceKey]bool, len(want))
	for i := range want {
		p.ours[want[i].Key] = true
	}
	p.generation++
	return p.generation, nil
}

// run carries out commands until one fails.
func (p *Plane) run(ops []op) error {
	for _, o := range ops {
		if err := p.kernel.do(o); err != nil {
			return fmt.Errorf("%s: %w", o, err)
		}
		p.log.Debug("ipvs", "command", o.String())
	}
	return nil
}

// keep notes as ours what a failed Apply may have created.
func (p *Plane) keep(before, want []Service) {
	for i := range want {
		if !slices.ContainsFunc(before, func(s Service) bool { return s.Key == want[i].Key }) {
			p.ours[want[i].Key] = true
		}
	}
}

// undo takes the services that may be changed back to before, from whatever
// is there now, and returns cause with what came of it.
func (p *Plane) undo(cause error, before []Service, may map[dataplane.ServiceKey]bool) error {
	now, err := p.kernel.services()
	if err == nil {
		err = p.run(diff(only(now, may), before))
	}
	if err != nil {
		return fmt.Errorf("%w; undoing what was done failed too: %w; %w", cause, err, ErrHalfway)
	}
	return fmt.Errorf("%w; what was done before it was undone", cause)
}

// only are the services whose key is in keys.
func only(all []Service, keys map[dataplane.ServiceKey]bool) []Service {
	var out []Service
	for _, s := range all {
		if keys[s.Key] {
			out = append(out, s)
		}
	}
	return out
}

// Stats implements dataplane.Plane. The counters are the kernel's: those of a
// service that was there before count from before. Flows are the connections
// of our services, FlowTableSize the buckets of the kernel's table, which hold
// any number of them. The kernel brings the counters up to date every two
// seconds.
func (p *Plane) Stats() (dataplane.Stats, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return dataplane.Stats{}, ErrClosed
	}
	all, err := p.kernel.services()
	if err != nil {
		return dataplane.Stats{}, fmt.Errorf("reading the IPVS table: %w", err)
	}
	_, size, err := p.kernel.info()
	if err != nil {
		return dataplane.Stats{}, fmt.Errorf("asking IPVS for its size: %w", err)
	}
	st := dataplane.Stats{
		FlowTableSize: size,
		Services:      make(map[dataplane.ServiceKey]dataplane.Counters),
		Servers:       make(map[dataplane.ServerKey]dataplane.Counters),
		Conns:         make(map[dataplane.ServerKey]dataplane.Conns),
		Reasons:       make(map[string]uint64),
	}
	for _, s := range only(all, p.ours) {
		st.Services[s.Key] = s.Stats.counters()
		for _, d := range s.Servers {
			key := dataplane.ServerKey{Service: s.Key, Server: d.Addr.Addr()}
			st.Servers[key] = d.Stats.counters()
			st.Conns[key] = dataplane.Conns{Active: uint64(d.Active), Inactive: uint64(d.Inactive), Persistent: uint64(d.Persistent)}
			st.Flows += int64(d.Active) + int64(d.Inactive)
		}
	}
	return st, nil
}

func (s *Stats) counters() dataplane.Counters {
	return dataplane.Counters{
		Packets: s.InPackets, Bytes: s.InBytes, Connections: s.Connections,
		OutPackets: s.OutPackets, OutBytes: s.OutBytes,
	}
}

// Table reads the kernel's whole table, other people's services included.
func (p *Plane) Table() (Table, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return Table{}, ErrClosed
	}
	version, size, err := p.kernel.info()
	if err != nil {
		return Table{}, fmt.Errorf("asking IPVS for its version: %w", err)
	}
	all, err := p.kernel.services()
	if err != nil {
		return Table{}, fmt.Errorf("reading the IPVS table: %w", err)
	}
	return Table{Version: version, Size: size, Services: all}, nil
}

// Close removes our services from the kernel. It tries all of them, and may
// be called again if some stayed.
func (p *Plane) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	all, err := p.kernel.services()
	if err != nil {
		return fmt.Errorf("reading the IPVS table: %w", err)
	}
	var errs []error
	for _, o := range diff(only(all, p.ours), nil) {
		errs = append(errs, p.run([]op{o}))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("removing our services from IPVS: %w", err)
	}
	p.closed = true
	p.kernel.close()
	return nil
}
