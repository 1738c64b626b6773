package fallback

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"systole/dataplane"
)

// Member is one of the two planes.
type Member struct {
	Name    string
	Carries func(dataplane.Service) error // nil, or why this plane cannot
	Plane   dataplane.Plane               // nil: not there, and Why says why
	Why     string
	// Open is asked for the plane again, from time to time, while it is not
	// there; nil: it is never going to be.
	Open func() (dataplane.Plane, error)
}

// Config is what New needs.
type Config struct {
	XDP, IPVS Member
	Carry     Carry // nil: connections end in the plane where they began
	// Back tells whether an XDP plane that is detached could be attached now.
	// It is needed with Carry.
	Back func(xdp dataplane.Plane) bool
	// Stale tells whether the XDP plane would do something else with the last
	// snapshot if it got it again; nil: never.
	Stale func(xdp dataplane.Plane) bool
	Log   *slog.Logger
	Now   func() time.Time
}

// Plane implements dataplane.Plane over the two.
type Plane struct {
	log *slog.Logger
	now func() time.Time
	// stale is Config.Stale.
	stale func(xdp dataplane.Plane) bool

	mu         sync.Mutex
	members    [2]*member // XDP, IPVS
	choice     Choice
	whole      map[dataplane.ServiceKey]dataplane.Service // as declared
	services   []dataplane.Service                        // of the last snapshot
	generation dataplane.Generation
	strayed    bool      // IPVS may have connections of services that XDP carries
	looked     time.Time // when Tend last did something
	closed     bool
	carrier

	// Taken after mu, if both are; Renew takes this one alone.
	leaseMu sync.Mutex
	granted time.Duration // by the last Renew, at grantedAt
	grantAt time.Time
}

type member struct {
	Member
	tables
	generation dataplane.Generation
	applied    time.Time
	took       time.Duration
	err        error
	opened     chan opened  // not nil: being opened
	counts     chan counted // not nil: being counted
}

// counted are a plane's counters, read beside Tend.
type counted struct {
	stats dataplane.Stats
	err   error
	at    dataplane.Generation // of Plane, when it began
}

type opened struct {
	plane dataplane.Plane
	err   error
}

var _ dataplane.Plane = (*Plane)(nil)

// New returns the plane of c's members, at least one of which is there.
func New(c Config) *Plane {
	return &Plane{
		log: c.Log, now: c.Now, stale: c.Stale, members: [2]*member{{Member: c.XDP}, {Member: c.IPVS}},
		carrier: carrier{carry: c.Carry, back: c.Back},
	}
}

// candidate is what Decide needs to know of a member.
func (m *member) candidate() Candidate {
	c := Candidate{Name: m.Name, Carries: m.Carries}
	switch {
	case m.Plane != nil:
		if i := m.Plane.Info(); i.Mode == dataplane.Detached {
			c.Down = i.Reason
		}
	case m.Open != nil:
		c.Down = m.Why
	default:
		c.Absent = m.Why
	}
	return c
}

func (p *Plane) decide(services []dataplane.Service, choice Choice) ([]Carriage, error) {
	whole := slices.Clone(services)
	for i := range whole {
		whole[i] = p.declared(whole[i])
	}
	return Decide(whole, p.members[0].candidate(), p.members[1].candidate(), choice)
}

// declared is the whole of a service of a snapshot.
func (p *Plane) declared(svc dataplane.Service) dataplane.Service {
	if whole, ok := p.whole[svc.ServiceKey]; ok {
		return whole
	}
	return svc
}

// Declare tells which services there are, with every server each may ever have.
// It is an error, and changes nothing, if one of them cannot be carried.
func (p *Plane) Declare(services []dataplane.Service) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := Decide(services, p.members[0].candidate(), p.members[1].candidate(), p.choice); err != nil {
		return err
	}
	p.whole = make(map[dataplane.ServiceKey]dataplane.Service, len(services))
	for _, svc := range services {
		p.whole[svc.ServiceKey] = svc
	}
	return nil
}

// Choose makes the next Apply go by c.
func (p *Plane) Choose(c Choice) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, want := range []Choice{XDP, IPVS} {
		if m := p.members[i]; c == want && m.Plane == nil {
			return fmt.Errorf("plane %s: %s", c, m.Why)
		}
	}
	p.chosen(p.choice, c)
	p.choice = c
	return nil
}

// Apply implements dataplane.Plane. It is an error if no member follows; if one
// does, what the other one says is in Report.
func (p *Plane) Apply(s dataplane.Snapshot) (dataplane.Generation, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0, fmt.Errorf("%w: it was closed", dataplane.ErrUnavailable)
	}
	carriages, err := p.decide(s.Services, p.choice)
	if err != nil {
		return 0, err
	}
	// Who shall carry more comes first: no packet is passed to a plane that
	// does not know its service yet.
	order := []int{1, 0}
	if p.choice == XDP {
		order = []int{0, 1}
	}
	var errs []error
	followed := false
	for _, i := range order {
		m := p.members[i]
		if m.Plane == nil || i == 0 && p.mustWait(m) {
			continue
		}
		part := s
		var next tables
		part.Services, next = m.next(s.Services, func(j int) bool { return carriages[j].Holds[i] })
		// A segment without a flow in XDP may be of a connection that IPVS has.
		part.SecondChance = s.SecondChance && !p.strayed
		if m.apply(part, next, p.now); m.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", m.Name, m.err))
		} else {
			followed = true
		}
	}
	if !followed {
		return 0, errors.Join(errs...)
	}
	p.services = s.Services
	p.generation++
	if p.able() {
		p.attached()
	}
	p.note(carriages)
	return p.generation, nil
}

func (m *member) apply(s dataplane.Snapshot, next tables, now func() time.Time) {
	begin := now()
	gen, err := m.Plane.Apply(s)
	if m.err = err; err != nil {
		return
	}
	m.tables, m.generation, m.applied, m.took = next, gen, begin, now().Sub(begin)
}

// note remembers that IPVS carries what XDP could.
func (p *Plane) note(carriages []Carriage) {
	for i, c := range carriages {
		if c.Plane == p.members[1].Name && p.members[0].Carries(p.declared(p.services[i])) == nil {
			p.strayed = true
		}
	}
}

// Renew implements dataplane.Plane.
func (p *Plane) Renew(d time.Duration) error {
	p.leaseMu.Lock()
	defer p.leaseMu.Unlock()
	p.granted, p.grantAt = d, p.now()
	err := dataplane.ErrNoLease
	for _, m := range p.members {
		if m.Plane == nil {
			continue
		}
		switch e := m.Plane.Renew(d); {
		case errors.Is(e, dataplane.ErrNoLease):
		case e != nil:
			return fmt.Errorf("%s: %w", m.Name, e)
		default:
			err = nil
		}
	}
	return err
}

// Info implements dataplane.Plane: it is the one of XDP, if that is there, for
// it is XDP that keeps a lease.
func (p *Plane) Info() dataplane.Info {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.members {
		if m.Plane != nil {
			return m.Plane.Info()
		}
	}
	return dataplane.Info{Mode: dataplane.Detached, Reason: "no plane is there"}
}

// Close implements dataplane.Plane.
func (p *Plane) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.stopCarry()
	var errs []error
	for _, m := range p.members {
		if m.opened != nil { // it may have come a moment ago
			if o := <-m.opened; o.err == nil {
				errs = append(errs, o.plane.Close())
			}
			m.opened = nil
		}
		if m.Plane != nil {
			errs = append(errs, m.Plane.Close())
		}
	}
	return errors.Join(errs...)
}
