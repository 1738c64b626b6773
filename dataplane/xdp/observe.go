package xdp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"systole/bpf"
	"systole/dataplane"
	"systole/dataplane/observe"
)

// Observation implements observe.Source.
//
// While it goes on the interface has another program: the same source compiled
// with an eye on it (bpf/observe.c), with the same maps. It comes and goes by a
// replacement of the pinned link's program, which loses no packet; whoever takes
// the plane over from a daemon that died meanwhile replaces it as well.
type Observation struct {
	p       *Plane
	at      []*attachment // where it was put
	changes int           // Plane.changes then
	closing bool          // p.mu
	program *ebpf.Program
	records *ebpf.Map
	losses  *ebpf.Map
	reader  *ringbuf.Reader
	raw     ringbuf.Record
	epoch   time.Time // when CLOCK_MONOTONIC was zero
}

var _ observe.Source = (*Observation)(nil)

// Observe begins to tell of packets. It needs Linux 5.18. Errors may be
// observe.ErrBusy, or wrap dataplane.ErrUnavailable.
func (p *Plane) Observe(cfg observe.Config) (observe.Source, error) {
	o, err := p.observe(cfg)
	if err != nil {
		return nil, err // not a nil *Observation in an interface
	}
	return o, nil
}

func (p *Plane) observe(cfg observe.Config) (*Observation, error) {
	cfg, err := cfg.Complete()
	if err != nil {
		return nil, err
	}
	o := &Observation{p: p}
	spec, replacements, err := o.reserve(cfg)
	if err != nil {
		return nil, err
	}
	err = o.open(spec, replacements)
	p.reading.RUnlock()
	if err != nil {
		return nil, errors.Join(err, o.Close())
	}
	return o, nil
}

// reserve makes o the plane's observation. The slow part, the load and the
// replacement of the program, comes after it and holds up nobody but the
// plane's Close; the caller unlocks p.reading.
func (o *Observation) reserve(cfg observe.Config) (*ebpf.CollectionSpec, map[string]*ebpf.Map, error) {
	p := o.p
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return nil, nil, errClosed
	case p.observation != nil:
		return nil, nil, observe.ErrBusy
	case p.deferred:
		return nil, nil, unavailable("the program of a predecessor still forwards: try again when this daemon has its first generation in force")
	}
	spec, replacements, err := p.observerSpec(cfg)
	if err != nil {
		return nil, nil, err
	}
	o.at, o.changes = p.attachments(), p.changes
	p.observation = o
	p.reading.RLock()
	return spec, replacements, nil
}

// open loads the observing program and puts it in the place of ours.
func (o *Observation) open(spec *ebpf.CollectionSpec, replacements map[string]*ebpf.Map) error {
	var err error
	if o.epoch, err = monotonicEpoch(); err != nil {
		return err
	}
	var objects struct {
		Program *ebpf.Program `ebpf:"systole_observe"`
		Records *ebpf.Map     `ebpf:"see_records"`
		Losses  *ebpf.Map     `ebpf:"see_losses"`
	}
	if err := spec.LoadAndAssign(&objects, &ebpf.CollectionOptions{MapReplacements: replacements}); err != nil {
		return unavailable("load the observing program (Linux 5.18 or newer is needed): %w", err)
	}
	o.program, o.records, o.losses = objects.Program, objects.Records, objects.Losses
	if o.reader, err = ringbuf.NewReader(o.records); err != nil {
		return err
	}
	if err := replace(o.at, o.program); err != nil {
		return unavailable("put the observing program in place: %w", err)
	}
	return nil
}

// observerSpec is the compiled program with the constants and the maps of the
// one that forwards.
func (p *Plane) observerSpec(cfg observe.Config) (*ebpf.CollectionSpec, map[string]*ebpf.Map, error) {
	spec, err := bpf.Observer()
	if err != nil {
		return nil, nil, err
	}
	for name, value := range p.kernel.constants {
		if v := spec.Variables[name]; v != nil {
			if err := v.Set(value); err != nil {
				return nil, nil, fmt.Errorf("constant %s: %w", name, err)
			}
		}
	}
	servers, err := p.serverSet(cfg.Filter.Server)
	if err != nil {
		return nil, nil, err
	}
	for name, value := range map[string]any{
		bpf.ObserverVarSeeFilter:  criteria(cfg.Filter),
		bpf.ObserverVarSeeServers: servers,
		bpf.ObserverVarSeeSnap:    uint32(cfg.Snap),
		bpf.ObserverVarSeeIn:      truth(cfg.In),
		bpf.ObserverVarSeeOut:     truth(cfg.Out),
		bpf.ObserverVarSeeRate:    uint64(cfg.Rate),
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, nil, fmt.Errorf("constant %s: %w", name, err)
		}
	}
	spec.Maps[bpf.ObserverMapSeeRecords].MaxEntries = uint32(cfg.Buffer)
	replacements := p.kernel.shared()
	for name, m := range replacements {
		if spec.Maps[name] == nil {
			delete(replacements, name)
			continue
		}
		spec.Maps[name].MaxEntries = m.MaxEntries()
	}
	return spec, replacements, nil
}

// criteria is a filter as the program has it.
func criteria(f observe.Filter) bpf.ObserverCriteria {
	var c bpf.ObserverCriteria
	if f.Client.IsValid() {
		c.Client, c.ClientFamily = addrBytes(f.Client.Masked().Addr())
		c.ClientBits, c.ClientPort = uint8(f.Client.Bits()), f.ClientPort
	}
	if s := f.Service; s.VIP.IsValid() {
		c.Vip, c.VipFamily = addrBytes(s.VIP)
		c.Protocol = uint8(s.Protocol)
		if s.Port != 0 {
			c.FirstPort, c.LastPort = s.Ports()
		}
	}
	c.Server = truth(f.Server.IsValid())
	for _, v := range f.Verdicts {
		c.Verdicts |= 1 << v
	}
	if len(f.Verdicts) == 0 {
		c.Verdicts = ^uint32(0)
	}
	return c
}

// serverSet are the ids of a real server in all its services. p.mu is held.
func (p *Plane) serverSet(addr netip.Addr) (set [(MaxServers + 1) / 64]uint64, err error) {
	if !addr.IsValid() {
		return set, nil
	}
	found := false
	for name, id := range p.ids.servers {
		if name.addr == addr {
			set[id/64] |= 1 << (id % 64)
			found = true
		}
	}
	if !found {
		return set, fmt.Errorf("real server %s: no service has it", addr)
	}
	return set, nil
}

// addrBytes is an address as the program has it, with its family.
func addrBytes(a netip.Addr) (out [16]uint8, family uint8) {
	if a.Is4() {
		four := a.As4()
		copy(out[:], four[:])
		return out, 4
	}
	return a.As16(), 6
}

func truth(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

// monotonicEpoch is when the kernel's monotonic clock was zero, or a moment
// earlier: no packet comes from the future.
func monotonicEpoch() (time.Time, error) {
	now := time.Now()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return time.Time{}, os.NewSyscallError("clock_gettime", err)
	}
	return now.Add(-time.Duration(ts.Nano())), nil
}

// Program is the XDP program in force during the observation, for
// BPF_PROG_TEST_RUN.
func (o *Observation) Program() *ebpf.Program { return o.program }

// Read implements observe.Source.
func (o *Observation) Read(p *observe.Packet) error {
	if err := o.reader.ReadInto(&o.raw); err != nil {
		return err
	}
	server, err := decodeRecord(o.raw.RawSample, o.epoch, p)
	if err != nil {
		return err
	}
	p.Interface = o.p.deviceName(recordDevice(o.raw.RawSample))
	if server != 0 {
		o.p.nameServer(server, p)
	}
	return nil
}

// nameServer says which service and server an id stands for. Ids are taken back
// only after their flows are gone, so a packet's is good for long.
func (p *Plane) nameServer(id uint16, to *observe.Packet) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	if name, ok := p.ids.serverName(id); ok {
		to.Server = name.addr
		if key, ok := p.ids.serviceKey(name.service); ok {
			to.Service = key.String()
		}
	}
}

// SetDeadline implements observe.Source.
func (o *Observation) SetDeadline(at time.Time) { o.reader.SetDeadline(at) }

// Lost implements observe.Source.
func (o *Observation) Lost() (observe.Lost, error) {
	var sum observe.Lost
	var perCPU []bpf.ObserverSeeLost
	if err := o.losses.Lookup(uint32(0), &perCPU); err != nil {
		return sum, fmt.Errorf("read the losses: %w", err)
	}
	for _, c := range perCPU {
		sum.Full += c.Full
		sum.Rate += c.Rate
	}
	o.p.mu.Lock()
	defer o.p.mu.Unlock()
	if o.p.closed || o.p.changes != o.changes {
		return sum, observe.ErrEnded
	}
	return sum, nil
}

// Close implements observe.Source: the interface has its program back.
func (o *Observation) Close() error {
	p := o.p
	p.mu.Lock()
	mine := p.observation == o && !o.closing
	o.closing = true
	var back []*attachment
	if mine && !p.closed && o.program != nil {
		back = p.still(o.at)
	}
	if len(back) > 0 {
		p.reading.RLock() // our program stays until then
	}
	p.mu.Unlock()
	if !mine {
		return nil
	}
	var err error
	if len(back) > 0 {
		err = replace(back, p.kernel.objects.SystoleXdp)
		p.reading.RUnlock()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.observation = nil
	if err != nil && (p.closed || slices.ContainsFunc(back, (*attachment).gone) || len(p.still(back)) < len(back)) {
		err = nil // there is no place any more
	}
	if err != nil {
		err = fmt.Errorf("put the program back in its place: %w", err)
	}
	return errors.Join(err, o.release())
}

// still are those of at that are the plane's yet. p.mu is held.
func (p *Plane) still(at []*attachment) []*attachment {
	now := p.attachments()
	return slices.DeleteFunc(slices.Clone(at), func(a *attachment) bool { return !slices.Contains(now, a) })
}

// recordDevice is the index of the interface that a record's packet came in by.
func recordDevice(raw []byte) int {
	const at = unsafe.Offsetof(bpf.ObserverSeeRecord{}.Ifindex)
	return int(binary.NativeEndian.Uint32(raw[at:]))
}

// deviceName is the configured interface to which a device belongs.
func (p *Plane) deviceName(index int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.ports {
		if t.nic.index == index || slices.Contains(t.nic.memberIndexes(), index) {
			return t.name
		}
	}
	return p.cfg.Interface
}

// release gives back what this side holds.
func (o *Observation) release() error {
	var err error
	if o.reader != nil {
		err = o.reader.Close()
	}
	return errors.Join(err, o.program.Close(), o.records.Close(), o.losses.Close())
}

// observedStates are the words for the program's states of a flow.
var observedStates = [...]string{
	bpf.DirectorFlowStateFLOW_FREE:        dataplane.FlowState(0).String(),
	bpf.DirectorFlowStateFLOW_SYN:         dataplane.FlowSyn.String(),
	bpf.DirectorFlowStateFLOW_ESTABLISHED: dataplane.FlowEstablished.String(),
	bpf.DirectorFlowStateFLOW_FIN:         dataplane.FlowFin.String(),
	bpf.DirectorFlowStateFLOW_UDP:         dataplane.FlowUDP.String(),
}

// recordSize is what stands before the bytes of the frames.
var recordSize = binary.Size(bpf.ObserverSeeRecord{})

var errRecord = errors.New("a record of the kernel is not understood")

// decodeRecord reads a record as the program wrote it, and returns the id of
// the server. The frames are not copied.
func decodeRecord(raw []byte, epoch time.Time, p *observe.Packet) (server uint16, err error) {
	var r bpf.ObserverSeeRecord
	if len(raw) < recordSize {
		return 0, fmt.Errorf("%w: %d bytes", errRecord, len(raw))
	}
	if _, err := binary.Decode(raw, binary.NativeEndian, &r); err != nil {
		return 0, fmt.Errorf("%w: %w", errRecord, err)
	}
	frames := raw[recordSize:]
	if in, out := uint64(r.InKept), uint64(r.OutKept); in+out > uint64(len(frames)) {
		return 0, fmt.Errorf("%w: frames of %d and %d bytes in %d", errRecord, in, out, len(frames))
	}
	if int(r.Server) > MaxServers || r.Time > 1<<62 {
		return 0, fmt.Errorf("%w: server %d at %d", errRecord, r.Server, r.Time)
	}
	*p = observe.Packet{
		At: epoch.Add(time.Duration(r.Time)), Queue: int(r.Queue), CPU: int(r.Cpu), Verdict: observe.Verdict(r.Verdict),
		Scheduled: r.Scheduled != 0, Reasons: reasonsOf(r.Reasons),
		In: frames[:r.InKept:r.InKept], InLength: int(r.InLength),
		Out: frames[r.InKept : r.InKept+r.OutKept], OutLength: int(r.OutLength),
	}
	if r.After != 0 {
		p.Before, p.After = stateName(r.Before), stateName(r.After)
	}
	return uint16(r.Server), nil
}

func stateName(state uint8) string {
	if int(state) < len(observedStates) && observedStates[state] != "" {
		return observedStates[state]
	}
	return fmt.Sprintf("state-%d", state)
}

// reasonsOf are the names of a bit set of reasons.
func reasonsOf(set uint64) (names []string) {
	for i, name := range reasonNames {
		if set>>i&1 != 0 {
			names = append(names, name)
		}
	}
	return names
}
