package xdp

import (
	"fmt"
	"sync/atomic"
	"time"

	"systole/bpf"
	"systole/dataplane"
	"systole/dataplane/scheduler"
)

// MaxLeast is how many real servers a service of lc or wlc can have: for each
// new connection the program looks at all of them.
const MaxLeast = 1024 // LEAST_SERVERS of least.h

// The load of a real server of lc and wlc is a word that the program changes
// with each flow that it stores and each state that it changes (least.h). What it
// does not see is found by weighing: a census of the flow table tells what each
// word should be, and to each is added by what it was off. A flow that begins or
// changes while the table is read may be counted twice, or not at all, until the
// next census: that is the share of the flows of some milliseconds, which hits
// all servers alike.

// weighEvery is how often it is done; but it may take this share of a CPU's time
// at most, however large the table.
const (
	weighEvery = time.Second
	weighShare = 20
)

// carriesLeast is Carries for what only lc and wlc ask of a service.
func carriesLeast(svc dataplane.Service) error {
	if !scheduler.Least(svc.Scheduler) {
		return nil
	}
	if n := len(svc.Servers); n > MaxLeast {
		return fmt.Errorf("%d real servers: the xdp plane looks at all of them for each new connection with %s, and at %d at most", n, svc.Scheduler, MaxLeast)
	}
	servers := make([]scheduler.Server, len(svc.Servers))
	for i, r := range svc.Servers {
		servers[i] = scheduler.Server{Addr: r.Addr, Weight: r.Weight}
	}
	slots, err := scheduler.Slots(svc.Scheduler, servers)
	if err == nil {
		_, err = scheduler.Weights(svc.Scheduler, servers, slots)
	}
	return err
}

// leastOf are the ids of the services of s by the fewest connections.
func leastOf(s dataplane.Snapshot, ids identities) map[uint16]bool {
	least := make(map[uint16]bool)
	for i, svc := range s.Services {
		if scheduler.Least(svc.Scheduler) {
			least[ids.services[i]] = true
		}
	}
	return least
}

// leastServices are the same of the image that a predecessor left.
func leastServices(img *image) map[uint16]bool {
	ids := make(map[uint16]bool)
	const least = uint16(bpf.DirectorServiceFlagsSERVICE_LEAST)
	for i := range img.Services {
		if s := &img.Services[i]; s.Flags&least != 0 {
			ids[s.Id] = true
		}
	}
	for i := range img.Services6 {
		if s := &img.Services6[i].Service; s.Flags&least != 0 {
			ids[s.Id] = true
		}
	}
	return ids
}

// becomesLeast tells whether s has a service by the fewest connections whose
// servers may have some, and that nobody has weighed: Apply takes as long as a
// census then, ten milliseconds for a million flows. p.mu is held.
func (p *Plane) becomesLeast(s dataplane.Snapshot) bool {
	for _, svc := range s.Services {
		if !scheduler.Least(svc.Scheduler) {
			continue
		}
		if id := p.ids.service(svc.ServiceKey); id != 0 && !p.least[id] {
			return true
		}
	}
	return false
}

// weighing is one census: what it needs of the plane.
type weighing struct {
	servers  map[uint16]dataplane.Protocol // by server id; also of those that have left
	timeouts *serviceTimeouts
}

// newWeighing is one of the servers of these services. p.mu is held.
func (p *Plane) newWeighing(services map[uint16]bool) weighing {
	w := weighing{servers: make(map[uint16]dataplane.Protocol), timeouts: p.timeouts()}
	for name, id := range p.ids.servers {
		if services[name.service] {
			key, _ := p.ids.serviceKey(name.service)
			w.servers[id] = key.Protocol
		}
	}
	return w
}

// weigh corrects the loads of the servers of w. The maps must stay: p.mu or
// p.reading is held.
func (p *Plane) weigh(w weighing) error {
	p.scales.Lock()
	defer p.scales.Unlock()
	loads := &p.kernel.loads.elements[0].Of
	was := make(map[uint16]int64, len(w.servers))
	for id := range w.servers {
		was[id] = atomic.LoadInt64(&loads[id])
	}
	flows, err := p.census(w.timeouts)
	if err != nil {
		return fmt.Errorf("count the connections of real servers: %w", err)
	}
	for id, protocol := range w.servers {
		n := flows.conns[id].conns(protocol)
		if off := scheduler.Overhead(n.Active, n.Inactive) - was[id]; off != 0 {
			atomic.AddInt64(&loads[id], off)
		}
	}
	return nil
}

// weighNow weighs the servers of the generation in force, and tells how long
// that took.
func (p *Plane) weighNow() (took time.Duration, err error) {
	p.mu.Lock()
	if p.closed || len(p.least) == 0 {
		p.mu.Unlock()
		return 0, nil
	}
	w := p.newWeighing(p.least)
	p.reading.RLock()
	p.mu.Unlock()
	defer p.reading.RUnlock()
	begin := time.Now()
	err = p.weigh(w)
	return time.Since(begin), err
}

// keepWeighing weighs again and again, until the plane is closed.
func (p *Plane) keepWeighing(every time.Duration) {
	pause := time.NewTimer(every)
	defer pause.Stop()
	for {
		select {
		case <-p.ended:
			return
		case <-pause.C:
		}
		took, err := p.weighNow()
		if err != nil {
			p.cfg.Log.Warn("least-connection scheduling goes by old counts", "error", err)
		}
		pause.Reset(max(every, took*weighShare))
	}
}

// watchLoads keeps the loads of services right from now on, if packets come.
// p.mu is held, or nobody else has p yet.
func (p *Plane) watchLoads(services map[uint16]bool) {
	p.least = services
	if len(services) > 0 && len(p.ports) > 0 && !p.watched {
		p.watched = true
		go p.keepWeighing(weighEvery)
	}
}

// inheritLoads weighs the servers of the generation that a predecessor left in
// force, before packets come to our program: loads are not pinned.
func (p *Plane) inheritLoads() error {
	least := leastServices(p.active())
	p.watchLoads(least)
	if len(least) == 0 {
		return nil
	}
	return p.weigh(p.newWeighing(least))
}
