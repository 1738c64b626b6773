package fallback

import (
	"context"
	"time"

	"systole/dataplane"
)

// carryTime bounds how long connections are carried; a million flows go to IPVS
// in some seconds.
const carryTime = 30 * time.Second

// A carry that has not brought everything is tried again, so many times in all.
// What keeps failing is a fault of the machine that its log names, and each try
// reads the whole flow table.
const carryTries = 3

// Carry copies the connections of a plane to another, which holds their
// services by then. It returns how many the other one has now, and why not all
// of them. It may be called again, and must end soon after ctx.
type Carry func(ctx context.Context, from, to dataplane.Plane) (flows int, err error)

// carrier copies connections between the planes, beside the director's loop.
// XDP is carried from when it is lost or is to give its services up, and to
// before it is attached again and once more when it is.
type carrier struct {
	carry Carry
	// back tells whether XDP, which is detached, could be attached now.
	back func(xdp dataplane.Plane) bool

	away bool      // XDP was lost, and is not attached again
	home time.Time // when XDP, while away, had got what IPVS has
	due  [2]due    // from XDP, from IPVS
	runs *run      // not nil: under way
}

// due is a carry that has not begun. The zero due is none.
type due struct {
	tries int // left, this one among them
	at    time.Time
}

func (d due) now(t time.Time) bool { return d.tries > 0 && !t.Before(d.at) }

// first is what is due at once.
func (p *Plane) first() due { return due{carryTries, p.now()} }

type run struct {
	from   int
	tries  int // left, if it fails
	begin  time.Time
	cancel context.CancelFunc
	done   chan ran
}

type ran struct {
	flows int
	err   error
}

// able: there are two planes and a way between them.
func (p *Plane) able() bool {
	return p.carry != nil && p.members[0].Plane != nil && p.members[1].Plane != nil
}

// Watch looks every so often whether XDP has been lost, and begins to carry its
// connections at once: what comes before IPVS has them is reset by the kernel.
// It returns after Close.
func (p *Plane) Watch(every time.Duration) {
	look := time.NewTicker(every)
	defer look.Stop()
	for range look.C {
		if !p.watch() {
			return
		}
	}
}

func (p *Plane) watch() (open bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed && p.able() && !p.away && p.members[0].Plane.Info().Mode == dataplane.Detached {
		p.tendCarrier()
	}
	return !p.closed
}

// tendCarrier does what is due. It tells whether XDP can be attached now.
func (p *Plane) tendCarrier() (again bool) {
	if !p.able() {
		return false
	}
	again = p.carried()
	x := p.members[0]
	detached := x.Plane.Info().Mode == dataplane.Detached
	switch {
	case detached && !p.away:
		p.away, p.due = true, [2]due{0: p.first()}
		if p.runs != nil && p.runs.from == 1 {
			p.runs.cancel() // XDP has nothing of it now
		}
	case !p.due[0].now(p.now()) && p.runs == nil && p.mustWait(x):
		p.due[1] = due{1, p.now()} // mustWait tries again
	}
	for from, is := range p.due {
		to := p.members[1-from]
		if is.now(p.now()) && p.runs == nil && to.generation > 0 && (p.away || to.err == nil) {
			p.due[from] = due{}
			p.startCarry(from, is.tries-1)
		}
	}
	return again
}

// mustWait: XDP could be attached, and has to get the connections of IPVS
// first, or its flow table would speak of the time before.
func (p *Plane) mustWait(x *member) bool {
	return p.able() && p.away && p.now().Sub(p.home) >= lookPeriod &&
		x.Plane.Info().Mode == dataplane.Detached && p.back(x.Plane)
}

// attached: XDP may be attached again, and then takes what has begun in IPVS
// since it was told.
func (p *Plane) attached() {
	x := p.members[0]
	if p.away && x.err == nil && x.Plane.Info().Mode != dataplane.Detached {
		p.away, p.home, p.due = false, time.Time{}, [2]due{1: p.first()}
	}
}

// chosen: who is to give services up by command has its connections copied to
// the other plane. It goes on with them; but if it is lost, nothing else is.
func (p *Plane) chosen(was, is Choice) {
	switch {
	case is == IPVS && was != IPVS:
		p.due = [2]due{0: p.first()}
	case is != IPVS && was == IPVS:
		p.due = [2]due{1: p.first()}
	}
}

func (p *Plane) startCarry(from, tries int) {
	ctx, cancel := context.WithTimeout(context.Background(), carryTime)
	r := &run{from, tries, p.now(), cancel, make(chan ran, 1)}
	p.runs = r
	go func(from, to dataplane.Plane) {
		n, err := p.carry(ctx, from, to)
		r.done <- ran{n, err}
	}(p.members[from].Plane, p.members[1-from].Plane)
}

// carried takes the end of what was under way.
func (p *Plane) carried() (again bool) {
	r := p.runs
	if r == nil {
		return false
	}
	var end ran
	select {
	case end = <-r.done:
	default:
		return false
	}
	r.cancel()
	p.runs = nil
	from, to := p.members[r.from].Name, p.members[1-r.from].Name
	attrs := []any{"from", from, "to", to, "flows", end.flows, "took", p.now().Sub(r.begin)}
	if end.err != nil {
		p.log.Warn("connections not all carried", append(attrs, "tries left", r.tries, "error", end.err)...)
		if p.due == [2]due{} && r.tries > 0 { // else something newer is to be done
			p.due[r.from] = due{r.tries, p.now().Add(lookPeriod)}
		}
	} else {
		p.log.Info("connections carried", attrs...)
	}
	if r.from == 1 && p.away {
		p.home = p.now()
		return true
	}
	return false
}

// stopCarry ends what is under way: the planes are about to be closed.
func (p *Plane) stopCarry() {
	if p.runs != nil {
		p.runs.cancel()
		<-p.runs.done
		p.runs = nil
	}
}
