package fallback

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"systole/dataplane"
)

// MemberState is one plane for status, log and metrics.
type MemberState struct {
	dataplane.Info
	Absent     bool // it is not there, and Info.Reason says why
	Generation dataplane.Generation
	Applied    time.Time // when the generation came into force
	Took       time.Duration
	Err        error // of the last Apply; the generation before it is still in force
	Leaving    int   // services it carries no more, but whose connections it still has
}

// Report is what there is to say of the planes.
type Report struct {
	Choice    Choice
	Members   []MemberState // XDP, IPVS
	Carriages map[dataplane.ServiceKey]Carriage
}

// Report tells how things are now.
func (p *Plane) Report() Report {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := Report{Choice: p.choice, Carriages: make(map[dataplane.ServiceKey]Carriage)}
	for _, m := range p.members {
		s := MemberState{Generation: m.generation, Applied: m.applied, Took: m.took, Err: m.err, Leaving: len(m.leaving)}
		if m.Plane != nil {
			s.Info = m.Plane.Info()
		} else {
			s.Info, s.Absent = dataplane.Info{Name: m.Name, Reason: m.Why}, true
		}
		r.Members = append(r.Members, s)
	}
	services := p.services
	if carriages, err := p.decide(services, p.choice); err == nil {
		for _, c := range carriages {
			r.Carriages[c.Service] = c
		}
	}
	return r
}

// Stats implements dataplane.Plane. What both planes forwarded of a service is
// added up; connections are those of both, too, and reasons and the flow table
// are of XDP, if that is there.
func (p *Plane) Stats() (dataplane.Stats, error) {
	p.mu.Lock()
	planes := [2]dataplane.Plane{p.members[0].Plane, p.members[1].Plane}
	names := [2]string{p.members[0].Name, p.members[1].Name}
	p.mu.Unlock()
	sum := dataplane.Stats{Flows: -1}
	var errs []error
	first := true
	for i, pl := range planes {
		if pl == nil {
			continue
		}
		st, err := pl.Stats()
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", names[i], err))
		case first:
			sum, first = copied(st), false
		default:
			add(&sum, st)
		}
	}
	if first {
		return dataplane.Stats{}, errors.Join(errs...)
	}
	return sum, nil
}

// copied is st with maps of its own: a plane may go on with those it gave.
func copied(st dataplane.Stats) dataplane.Stats {
	services, servers, conns := st.Services, st.Servers, st.Conns
	st.Services = make(map[dataplane.ServiceKey]dataplane.Counters, len(services))
	st.Servers = make(map[dataplane.ServerKey]dataplane.Counters, len(servers))
	st.Conns = make(map[dataplane.ServerKey]dataplane.Conns, len(conns))
	maps.Copy(st.Services, services)
	maps.Copy(st.Servers, servers)
	maps.Copy(st.Conns, conns)
	return st
}

// add adds what st counts of services and servers.
func add(sum *dataplane.Stats, st dataplane.Stats) {
	for k, c := range st.Services {
		sum.Services[k] = plus(sum.Services[k], c)
	}
	for k, c := range st.Servers {
		sum.Servers[k] = plus(sum.Servers[k], c)
	}
	for k, c := range st.Conns {
		have := sum.Conns[k]
		sum.Conns[k] = dataplane.Conns{Active: have.Active + c.Active, Inactive: have.Inactive + c.Inactive}
	}
}

func plus(a, b dataplane.Counters) dataplane.Counters {
	return dataplane.Counters{Packets: a.Packets + b.Packets, Bytes: a.Bytes + b.Bytes, Connections: a.Connections + b.Connections}
}
