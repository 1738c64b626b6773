package driver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"systole/hb"
	"systole/hb/media"
	"systole/hb/wire"
)

var (
	// ErrStopped: Run has returned.
	ErrStopped = errors.New("heartbeat has stopped")
	// ErrOverflow: nobody read Events for so long that the next event would
	// have been lost. The process must not go on as if it were in control.
	ErrOverflow = errors.New("heartbeat events are not read: the control loop hangs")
	// ErrConfig is wrapped by the errors of New.
	ErrConfig = errors.New("heartbeat driver")
)

// Config is what a driver runs. Core and Media belong to it from New on.
type Config struct {
	Core *hb.Core
	// Media are the paths to the other nodes; their names are those that the
	// core was configured with. Run closes them.
	Media []media.Medium
	// Hosts, if set, asks the machines of the other nodes and tells what the
	// network says of them and of our interfaces: without it no node is declared
	// dead before its dead time for its silence. Run closes it.
	Hosts Hosts
	// BeforeBeat, if set, is asked in the loop right before a beat is sent,
	// with the present time. If it returns false the beat is not sent, and if
	// it goes on the others hold this node for dead. It must be quick, since
	// it delays the beat, and must not call the driver. It is not asked for
	// retransmitted ones, with which others do not begin to count anew: for
	// these its last answer holds.
	BeforeBeat func(now time.Time) bool
	// Load, if set, returns the text of /proc/loadavg for the peers. It is
	// called at most once a second; see LoadAverage.
	Load func() string
	// Precise makes short waits exact; see alarm. Not for the fake clock of
	// package synctest.
	Precise bool
	// Queue is how many events wait for a reader before Run gives up.
	// Default 4096.
	Queue int
}

// Hosts tells of the machines on which the other nodes run, as opposed to their
// daemons; package hb/host does it.
type Hosts interface {
	// Ask asks the node's machine whether it runs. It never waits.
	Ask(node string)
	// Receive waits for the next notice. An error is the last thing it returns,
	// above all after Close.
	Receive() (hb.Notice, error)
	Close() error
}

// Stats counts since the start.
type Stats struct {
	Beats   uint64 // sent, on all media together
	Refused uint64 // not sent, as BeforeBeat did not agree
	// MaxLate is the longest time by which the loop missed a deadline of the
	// core. It shows how close this machine is to being held for dead.
	MaxLate        time.Duration
	ReportsDropped uint64 // left out as nobody read the events
}

const (
	defaultQueue = 4096
	eventBuffer  = 64
	loadPeriod   = time.Second
	viewPeriod   = 10 * time.Millisecond
)

// Driver runs a core; see the package comment.
type Driver struct {
	cfg  Config
	core *hb.Core // the loop's

	in       chan *datagram // what readers have read; has room for all there are
	notices  chan notice    // what Hosts has said
	troubles chan hb.Report // what readers have to say
	calls    chan call      // what other goroutines want of the loop
	events   chan hb.Event  // what the loop gives away
	stop     chan struct{}  // closed: readers end
	done     chan struct{}  // closed: Run has returned
	queue    queue          // the loop's: what waits for room in events
	sending  []trouble      // the loop's: one for each medium
	pinging  []bool         // by medium: it leads to a ping node, which gets only what is for it
	refusing trouble        // the loop's
	noBeats  bool           // the loop's: BeforeBeat's last answer
	loadAt   time.Time      // the loop's: when Load was last called
	viewAt   time.Time      // the loop's: when view was last made
	view     views
	started  atomic.Bool

	beats, refused, reportsDropped atomic.Uint64
	maxLate                        atomic.Int64
}

// call is a function to run in the loop.
type call struct {
	f   func(now time.Time)
	ran chan struct{}
}

// New returns a driver that is ready to Run. The error wraps ErrConfig.
func New(cfg Config) (*Driver, error) {
	if cfg.Core == nil {
		return nil, fmt.Errorf("%w: no core", ErrConfig)
	}
	if len(cfg.Media) == 0 {
		return nil, fmt.Errorf("%w: no medium, so no way to any other node", ErrConfig)
	}
	names := make(map[string]bool)
	for _, m := range cfg.Media {
		if names[m.Name()] {
			return nil, fmt.Errorf("%w: medium %q is there twice", ErrConfig, m.Name())
		}
		names[m.Name()] = true
	}
	if cfg.Queue < 0 {
		return nil, fmt.Errorf("%w: queue of %d events", ErrConfig, cfg.Queue)
	}
	if cfg.Queue == 0 {
		cfg.Queue = defaultQueue
	}
	d := &Driver{
		cfg:      cfg,
		core:     cfg.Core,
		in:       make(chan *datagram, len(cfg.Media)*datagramsPerMedium),
		notices:  make(chan notice, noticeBuffer),
		troubles: make(chan hb.Report, len(cfg.Media)+1),
		calls:    make(chan call),
		events:   make(chan hb.Event, eventBuffer),
		stop:     make(chan struct{}),
		done:     make(chan struct{}),
		queue:    queue{limit: cfg.Queue},
		refusing: trouble{what: "beats"},
	}
	for _, m := range cfg.Media {
		d.sending = append(d.sending, trouble{what: m.Name() + ": sending"})
	}
	d.view.set(d.core, time.Now())
	for _, m := range cfg.Media {
		d.pinging = append(d.pinging, slices.ContainsFunc(d.View().Pings, func(p hb.PingView) bool { return p.Medium == m.Name() }))
	}
	return d, nil
}

// Events are the core's events and the driver's own Reports, in order. The
// channel is closed when Run returns.
func (d *Driver) Events() <-chan hb.Event { return d.events }

// View is the cluster as it was a moment ago; what an event told is in it
// before that event can be read. It never waits, even if the loop hangs: then
// View.At tells.
func (d *Driver) View() hb.View { return d.view.get() }

// Stats may be called by any goroutine.
func (d *Driver) Stats() Stats {
	return Stats{
		Beats:          d.beats.Load(),
		Refused:        d.refused.Load(),
		MaxLate:        time.Duration(d.maxLate.Load()),
		ReportsDropped: d.reportsDropped.Load(),
	}
}

// Submit sends a message to the cluster, from any goroutine; it waits for its
// turn in the loop. The errors are those of hb.Core.Submit, and ErrStopped.
func (d *Driver) Submit(m wire.Message) error {
	var err error
	if stopped := d.do(func(now time.Time) { err = d.core.Submit(now, m) }); stopped != nil {
		return stopped
	}
	return err
}

// SetKeys replaces the keys; see hb.Core.SetKeys. The errors are its, and
// ErrStopped.
func (d *Driver) SetKeys(keys wire.Keys) error {
	var err error
	if stopped := d.do(func(now time.Time) { err = d.core.SetKeys(now, keys) }); stopped != nil {
		return stopped
	}
	return err
}

// SetEnds tells the other nodes whether our data plane ends with this process;
// see hb.Core.SetEnds.
func (d *Driver) SetEnds(ends bool) error {
	return d.do(func(now time.Time) { d.core.SetEnds(now, ends) })
}

// Beat sends a beat now; see hb.Core.Beat.
func (d *Driver) Beat() error {
	return d.do(func(now time.Time) { d.core.Beat(now) })
}

// AddNodes adds nodes to the cluster, RemoveNodes removes some that are dead.
// The errors are those of hb.Core, and ErrStopped.
func (d *Driver) AddNodes(names []string) error {
	return d.change(func(now time.Time) error { return d.core.AddNodes(now, names) })
}

// RemoveNodes: see AddNodes.
func (d *Driver) RemoveNodes(names []string) error {
	return d.change(func(now time.Time) error { return d.core.RemoveNodes(now, names) })
}

func (d *Driver) change(f func(now time.Time) error) error {
	var err error
	if stopped := d.do(func(now time.Time) { err = f(now) }); stopped != nil {
		return stopped
	}
	return err
}

// Stop begins a graceful end: no message can be submitted any more, while
// beats and retransmissions go on until the context of Run ends, which should
// be 2 to 3 s later (heartbeat-wire.md section 11).
func (d *Driver) Stop() error { return d.do(d.core.Stop) }

// do runs f in the loop and returns when it has run.
func (d *Driver) do(f func(now time.Time)) error {
	c := call{f, make(chan struct{})}
	select {
	case d.calls <- c:
		<-c.ran
		return nil
	case <-d.done:
		return ErrStopped
	}
}

// Run runs the core until ctx ends, and then returns nil at once: beats end
// with it, so that the others hold this node for dead unless they were told
// otherwise. It can be called once. The only error is ErrOverflow.
func (d *Driver) Run(ctx context.Context) error {
	if d.started.Swap(true) {
		panic("driver: Run called twice")
	}
	var readers sync.WaitGroup
	for _, m := range d.cfg.Media {
		readers.Go(func() { d.read(m) })
	}
	if d.cfg.Hosts != nil {
		readers.Go(d.readHosts)
	}
	err := d.loop(ctx)
	close(d.stop)
	if d.cfg.Hosts != nil {
		d.cfg.Hosts.Close()
	}
	for _, m := range d.cfg.Media {
		m.Close()
	}
	readers.Wait()
	close(d.done)
	close(d.events)
	return err
}
