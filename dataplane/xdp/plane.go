package xdp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"systole/dataplane"
)

// name is what this plane is called in status, log and metrics.
const name = "xdp"

// Plane implements dataplane.Plane.
type Plane struct {
	cfg    Config
	kernel *kernelSide

	mu       sync.Mutex       // all below; but see leaseMu
	own      net.HardwareAddr // the address of one interface; of several the first's
	ports    []*port          // none: not on any interface (Load)
	changes  int              // of the attachments, since Open
	pins     *pins            // nil: nothing is pinned (Load)
	death    link.Link        // ends the lease with this process; nil: cannot
	deferred bool             // the link still has a predecessor's program, and its maps are pinned
	fresh    bool             // there was no predecessor; until Open succeeds
	// inherited is what a predecessor left serving, until the first Apply.
	inherited []netip.Addr
	ids       *idTable
	wide      wideServices // of the generation when it was asked for
	scratch   *canvas
	halves    [2]blocks             // what of the kernel's images may not be empty
	since     map[netip.Addr]uint32 // of the active addresses: since when, in age units
	grace     chan struct{}         // closed when nobody uses the idle half any more
	closed    bool
	ended     chan struct{}   // closed with the plane
	least     map[uint16]bool // ids of the services by the fewest connections in force
	watched   bool            // their servers' loads: keepWeighing runs
	scales    sync.Mutex      // one weighs at a time; taken after reading

	observation *Observation // nil: nobody looks
	early       *early       // nil: fragments that overtake their first are lost

	leaseMu sync.Mutex   // taken after mu, if both are
	old     predecessor  // while deferred, if its flows can be read; its end under leaseMu too
	reading sync.RWMutex // held while the maps are read for Stats; taken after mu
}

var _ dataplane.Plane = (*Plane)(nil)

// Open attaches a plane to cfg.Interface, or takes over what a predecessor left
// there: its flows, counters and the generation in force. Without a predecessor
// no packet is touched before the first Apply, and the lease has ended.
//
// Errors wrap dataplane.ErrUnavailable.
func Open(cfg Config) (*Plane, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	if err := anyNIC(cfg.Interfaces); err != nil {
		return nil, err
	}
	p := &Plane{cfg: cfg}
	if p.pins, err = openPins(cfg.PinDir, cfg.Interfaces); err != nil {
		return nil, err
	}
	if err := p.open(); err != nil {
		return nil, errors.Join(err, p.abandon())
	}
	p.fresh = false // what is pinned now is worth keeping
	if p.early, err = startEarly(p); err != nil {
		p.cfg.Log.Warn("fragments that come before their first one will not be forwarded", "error", err)
	}
	for _, t := range p.ports {
		i := t.info()
		p.cfg.Log.Info("data plane attached", "interface", i.Name, "mode", i.Mode, "reason", i.Reason,
			"generation", p.active().Number, "flows", p.cfg.Flows, "flows6", p.cfg.Flows6)
	}
	return p, nil
}

func (p *Plane) open() error {
	spec, err := loadSpec(p.cfg)
	if err != nil {
		return unavailable("%w", err)
	}
	adopted := p.pins.adopt(spec, p.cfg.Log)
	defer closeMaps(adopted)
	if p.kernel, err = load(spec, adopted); err != nil {
		return unavailable("%w", err)
	}
	p.start()
	p.watchDeath()

	if err := p.openPorts(); err != nil {
		return err
	}
	update := len(adopted) > 0
	if update {
		if err := p.inheritLoads(); err != nil {
			return unavailable("%w", err)
		}
	}
	if err := p.adoptLinks(update); err != nil {
		return err
	}
	taken := len(p.attachments()) > 0
	if taken && !update {
		// A predecessor whose maps we cannot use goes on with them until
		// our first generation is ready.
		p.follow()
		return nil
	}
	if taken {
		p.inherited = p.inherit()
	}
	p.fresh = !taken && !update
	if err := p.pins.keep(p.kernel, adopted); err != nil {
		return unavailable("%w", err)
	}
	return p.attachAll()
}

// start prepares what Apply needs.
func (p *Plane) start() {
	p.ids = newIDTable(p.kernel.serviceNames.elements, p.kernel.serverNames.elements)
	p.scratch = newCanvas(p.kernel.aging)
	p.halves = [2]blocks{allBlocks(), allBlocks()}
	p.ended = make(chan struct{})
	p.grace = make(chan struct{})
	// A predecessor may have flipped a moment ago.
	go passGrace(p.grace)
}

func passGrace(done chan<- struct{}) {
	waitForReaders()
	close(done)
}

// Load puts the plane into the kernel without attaching or pinning it, for
// tests and benchmarks that run Program themselves. own is the MAC address it
// takes for the interface's.
func Load(cfg Config, own net.HardwareAddr) (*Plane, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	if err := checkOwn(cfg.Interface, own); err != nil {
		return nil, err
	}
	spec, err := loadSpec(cfg)
	if err != nil {
		return nil, unavailable("%w", err)
	}
	p := &Plane{cfg: cfg, own: own}
	if p.kernel, err = load(spec, nil); err != nil {
		return nil, unavailable("%w", err)
	}
	p.start()
	return p, nil
}

// Program is the XDP program, for BPF_PROG_TEST_RUN.
func (p *Plane) Program() *ebpf.Program { return p.kernel.objects.SystoleXdp }

var errClosed = fmt.Errorf("%w: it was closed", dataplane.ErrUnavailable)

// Info implements dataplane.Plane.
func (p *Plane) Info() dataplane.Info {
	p.mu.Lock()
	defer p.mu.Unlock()
	info := dataplane.Info{Name: name, Interface: p.cfg.Interface, Lease: true, EndsWithDaemon: p.death != nil}
	switch {
	case p.closed:
		info.Mode, info.Reason = dataplane.Detached, "closed"
	case len(p.ports) == 0:
		info.Mode, info.Reason = dataplane.Detached, "loaded without an interface"
	default:
		for _, t := range p.ports {
			info.Interfaces = append(info.Interfaces, t.info())
		}
		info.Mode, info.Reason = sumUp(info.Interfaces)
		if info.Mode != dataplane.Detached {
			info.Inherited = slices.Clone(p.inherited)
		}
	}
	return info
}

// Attachable tells of a plane that is detached whether the next Apply could
// attach it: an interface of it is there, and nobody else's program is on that.
func (p *Plane) Attachable() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	for _, name := range p.cfg.Interfaces {
		if n, err := findNIC(name); err == nil && (p.cfg.Evict || !n.xdp.Attached) {
			return true
		}
	}
	return false
}

// active is the half the program uses.
func (p *Plane) active() *image {
	state := &p.kernel.state.elements[0]
	return &state.Generation[atomic.LoadUint32(&state.Active)&1]
}

// Apply implements dataplane.Plane. Invalid snapshots (dataplane.ErrInvalid)
// include those above the limits of this package.
//
// If an interface was removed and has come back, Apply attaches to it again;
// while all are missing, Apply fails with dataplane.ErrUnavailable.
func (p *Plane) Apply(s dataplane.Snapshot) (dataplane.Generation, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0, errClosed
	}
	if err := p.refreshPorts(); err != nil {
		return 0, err
	}
	if err := validate(s, p.ownMACs()...); err != nil {
		return 0, err
	}
	slots, err := slotTables(p.reachable(s))
	if err != nil {
		return 0, err
	}
	<-p.grace
	weigh := p.becomesLeast(s)
	ids, err := p.giveIDs(s)
	if err != nil {
		return 0, err
	}
	since, err := p.activeSince(s)
	if err != nil {
		return 0, err
	}
	left := p.left(s)
	if err := compile(p.scratch, s, slots, p.own, ids, since, p.kernel.aging, left); err != nil {
		return 0, invalid("%v", err)
	}
	if err := p.applyQUIC(s, ids, left); err != nil {
		return 0, invalid("%v", err)
	}
	p.compileEgress(p.scratch, s, ids, left)
	if err := p.openEgress(&p.scratch.image); err != nil {
		return 0, unavailable("%w", err)
	}

	if p.deferred {
		if err := p.takeOver(&p.scratch.image); err != nil {
			return 0, err
		}
		weigh = true
	}
	least := leastOf(s, ids)
	if weigh && len(least) > 0 {
		if err := p.weigh(p.newWeighing(least)); err != nil {
			return 0, unavailable("%w", err)
		}
	}
	state := &p.kernel.state.elements[0]
	old := atomic.LoadUint32(&state.Active) & 1
	p.scratch.image.Number = state.Generation[old].Number + 1
	p.scratch.onto(&state.Generation[old^1], &p.halves[old^1])
	atomic.StoreUint32(&state.Active, old^1)
	p.since = since
	p.inherited = nil
	p.watchLoads(least)
	p.grace = make(chan struct{})
	go passGrace(p.grace)
	return dataplane.Generation(p.scratch.image.Number), nil
}

// activeSince tells since when the active addresses of s are: those that were
// active before keep their time.
func (p *Plane) activeSince(s dataplane.Snapshot) (map[netip.Addr]uint32, error) {
	now, err := p.jiffies()
	if err != nil {
		return nil, err
	}
	since := make(map[netip.Addr]uint32)
	for _, v := range s.VIPs {
		if v.Role != dataplane.Active {
			continue
		}
		at, was := p.since[v.Addr]
		if !was {
			at = uint32(now >> p.kernel.aging.shift)
		}
		since[v.Addr] = at
	}
	return since, nil
}

// left are the servers that keep their flows although they have left the
// services of s (dataplane.Keep).
func (p *Plane) left(s dataplane.Snapshot) []leftServer {
	if !slices.ContainsFunc(s.Services, func(svc dataplane.Service) bool { return svc.Lost == dataplane.Keep }) {
		return nil
	}
	keep := make(map[uint16]bool)
	stays := make(map[uint16]bool)
	for _, svc := range s.Services {
		id := p.ids.service(svc.ServiceKey)
		keep[id] = svc.Lost == dataplane.Keep
		for _, r := range svc.Servers {
			stays[p.ids.server(id, r.Addr)] = true
		}
	}
	var left []leftServer
	for i, entry := range p.active().Servers {
		service := entry.Service &^ serverLeft
		// An id taken back since has no name, or another.
		if service != 0 && keep[service] && !stays[uint16(i)] && p.ids.serverNames[i].Service == service {
			left = append(left, leftServer{uint16(i), service, entry.Mac, tunnelOf(p.active(), uint16(i))})
		}
	}
	return left
}

// timeouts are those in force.
func (p *Plane) timeouts() *serviceTimeouts {
	t := new(serviceTimeouts)
	for i := range t {
		t[i] = p.active().Timeouts[i].ByState
	}
	return t
}

// Renew implements dataplane.Plane. The lease ends at most d from now, and at
// most two kernel ticks (a few milliseconds) earlier.
func (p *Plane) Renew(d time.Duration) error {
	p.leaseMu.Lock()
	defer p.leaseMu.Unlock()
	if p.kernel.lease.attr.progFD == 0 {
		return errClosed
	}
	ticks := unlimitedTicks
	if d != dataplane.Unlimited {
		ticks = uint64(max(d, 0) / p.kernel.jiffy)
	}
	if err := p.kernel.lease.set(ticks); err != nil {
		return fmt.Errorf("renew the lease: %w", err)
	}
	p.shareLease()
	return nil
}

// jiffies is the kernel's time.
func (p *Plane) jiffies() (uint64, error) {
	p.leaseMu.Lock()
	defer p.leaseMu.Unlock()
	return p.kernel.lease.now()
}

// Close implements dataplane.Plane: it detaches the program and removes every
// pin.
func (p *Plane) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	var errs []error
	for _, t := range p.ports {
		errs = append(errs, t.detach())
	}
	if p.pins != nil {
		errs = append(errs, p.pins.remove())
	}
	return errors.Join(append(errs, p.letGo())...)
}

// abandon is Close for a plane that failed to open: what a predecessor left
// stays, for the next attempt.
func (p *Plane) abandon() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	var errs []error
	for _, a := range p.attachments() {
		if p.fresh {
			errs = append(errs, a.detach())
		} else {
			errs = append(errs, a.link.Close())
		}
	}
	if p.fresh {
		errs = append(errs, p.pins.remove())
	} else {
		errs = append(errs, p.pins.release())
	}
	return errors.Join(append(errs, p.letGo())...)
}

// letGo gives back file descriptors and mappings.
func (p *Plane) letGo() error {
	if p.kernel == nil {
		return nil
	}
	close(p.ended)
	<-p.grace
	p.reading.Lock()
	defer p.reading.Unlock()
	err := errors.Join(p.unfollow(), p.early.stop())
	p.leaseMu.Lock()
	defer p.leaseMu.Unlock()
	if p.death != nil {
		err = errors.Join(err, p.death.Close())
	}
	err = errors.Join(err, p.kernel.close())
	p.kernel.lease.attr.progFD = 0
	return err
}
