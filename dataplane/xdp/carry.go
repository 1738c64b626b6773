package xdp

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"systole/bpf"
	"systole/dataplane"
)

// A change of the layout of the maps: the predecessor's program goes on with its
// own maps until our first generation is ready, and then hands over.
//
//  1. Our generation is in force in our maps, which no packet sees yet; but
//     segments without a flow are held: sent nowhere, so that clients send them
//     again. Passed up they would be reset.
//  2. All flows are copied, and what changes is copied again and again, while
//     the program is replaced in one step.
//  3. When no packet can be with the old program any more what has changed last
//     is copied, and the generation as it was meant is put in force.
//
// So no connection is lost. Lost, and sent again by TCP, are at most the first
// segments of connections that were opened within the last milliseconds before
// the replacement. Counters begin anew, as do the turns of round robin.

// layoutVersion is that of this program; tests pretend to be another.
var layoutVersion = uint32(bpf.DirectorLayoutLAYOUT_VERSION)

// predecessor is the data plane of another layout that we take over from.
type predecessor interface {
	// lease is where it reads the end of its lease, in jiffies.
	lease() *uint64
	// addresses are the virtual addresses of its services. With a lease that has
	// no end it owned all of them.
	addresses() []netip.Addr
	// changed calls f for each flow that was not told yet or has changed since.
	changed(now uint64, f func(*dataplane.Flow))
	close() error
}

// layouts are those we can read, by version.
var layouts = map[uint32]func(dir string, jiffy time.Duration) (predecessor, error){
	1: openLayout1,
}

// errNoLayout: there is no predecessor whose flows can be read.
var errNoLayout = errors.New("no maps of a layout that we know")

// findPredecessor opens the maps of the newest layout but ours.
func (p *pins) findPredecessor(jiffy time.Duration) (predecessor, error) {
	for version := uint32(len(layouts)); version > 0; version-- {
		dir := filepath.Join(p.base, fmt.Sprintf("v%d", version))
		if _, err := os.Stat(dir); err != nil || version == layoutVersion {
			continue
		}
		old, err := layouts[version](dir, jiffy)
		if err != nil {
			return nil, fmt.Errorf("maps in %s: %w", dir, err)
		}
		return old, nil
	}
	return nil, errNoLayout
}

// follow prepares to take over from the program that is attached: its lease is
// ours from now on.
func (p *Plane) follow() {
	p.deferred = true
	old, err := p.pins.findPredecessor(p.kernel.jiffy)
	if err != nil {
		p.cfg.Log.Warn("flows of a predecessor cannot be taken over", "why", err)
		return
	}
	p.leaseMu.Lock()
	defer p.leaseMu.Unlock()
	p.old = old
	atomic.StoreUint64(&p.kernel.state.elements[0].LeaseUntil, atomic.LoadUint64(old.lease()))
	p.inherited = p.inherit()
}

// unfollow lets go of the predecessor's maps.
func (p *Plane) unfollow() error {
	p.leaseMu.Lock()
	defer p.leaseMu.Unlock()
	if p.old == nil {
		return nil
	}
	err := p.old.close()
	p.old = nil
	return err
}

// shareLease gives the predecessor's program our lease. leaseMu is held.
func (p *Plane) shareLease() {
	if p.old != nil {
		atomic.StoreUint64(p.old.lease(), atomic.LoadUint64(&p.kernel.state.elements[0].LeaseUntil))
	}
}

// takeOver puts our program in the place of the predecessor's, with its flows.
// next is the generation that is to be in force.
func (p *Plane) takeOver(next *image) error {
	begin := time.Now()
	state := &p.kernel.state.elements[0]
	at := atomic.LoadUint32(&state.Active) & 1
	hold := &state.Generation[at]
	p.halves[at] = allBlocks()
	*hold = *next
	hold.Number = 0 // the next one counts
	hold.Npeers, hold.SecondChance = 1, 1
	hold.Peers[0] = hold.Own

	copied, err := p.carry()
	if err != nil {
		return err
	}
	replaced := make(chan error, 1)
	attachments := p.attachments()
	go func() { replaced <- replace(attachments, p.kernel.objects.SystoleXdp) }()
	for waiting := true; waiting; {
		select {
		case err := <-replaced:
			if err != nil {
				*hold = image{}
				return unavailable("replace the program of a predecessor: %w", err)
			}
			waiting = false
		default:
			n, err := p.carry()
			if err != nil {
				<-replaced
				return err
			}
			copied += n
		}
	}
	waitForReaders()
	n, err := p.carry()
	if err != nil {
		return err
	}
	if err := p.pins.keep(p.kernel, nil); err != nil {
		return unavailable("%w", err)
	}
	p.deferred = false
	p.cfg.Log.Info("took over from a program with another layout of its maps", "flows", copied+n, "took", time.Since(begin))
	if err := p.unfollow(); err != nil {
		p.cfg.Log.Warn("maps of an older layout", "error", err)
	}
	if err := p.pins.dropOldLayouts(); err != nil {
		p.cfg.Log.Warn("maps of an older layout stay pinned", "error", err)
	}
	return nil
}

// carry copies what has come or changed in the predecessor's flow table. Flows
// of servers and services that are not in our generation have ended.
func (p *Plane) carry() (copied int, err error) {
	if p.old == nil {
		return 0, nil
	}
	jiffies, err := p.jiffies()
	if err != nil {
		return 0, err
	}
	now := uint32(jiffies >> p.kernel.aging.shift)
	p.old.changed(jiffies, func(f *dataplane.Flow) {
		if p.insert(f, now, false) == inTable {
			copied++
		}
	})
	return copied, nil
}
