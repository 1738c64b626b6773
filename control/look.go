package control

import (
	"errors"
	"iter"

	"systole/dataplane"
	"systole/dataplane/observe"
)

// ErrNoFlows means that no data plane here shows its flows.
var ErrNoFlows = errors.New("no such data plane here that shows its flows")

// Flows are the flows of the data plane of that name, "xdp" or "ipvs", or ("")
// of all that show them, as they are met: there is no moment for which the list
// is true. It asks the planes, not the director's loop: nothing waits for who
// reads it. ErrNoFlows if there is no such plane.
func (d *Director) Flows(plane string) (iter.Seq[dataplane.Flow], error) {
	type table interface {
		Flows() iter.Seq[dataplane.Flow]
	}
	var tables []iter.Seq[dataplane.Flow]
	for _, p := range d.singlePlanes() {
		if t, ok := p.(table); ok && (plane == "" || p.Info().Name == plane) {
			tables = append(tables, t.Flows())
		}
	}
	if len(tables) == 0 {
		return nil, ErrNoFlows
	}
	return func(yield func(dataplane.Flow) bool) {
		for _, t := range tables {
			for f := range t {
				if !yield(f) {
					return
				}
			}
		}
	}, nil
}

// Observe begins to tell of single packets of the first data plane that can.
// observe.ErrUnobservable if there is none. The caller closes the source.
func (d *Director) Observe(cfg observe.Config) (observe.Source, error) {
	type observable interface {
		Observe(observe.Config) (observe.Source, error)
	}
	for _, p := range d.singlePlanes() {
		if o, ok := p.(observable); ok {
			return o.Observe(cfg)
		}
	}
	return nil, observe.ErrUnobservable
}

// singlePlanes are the planes; of one that is made of several, those.
func (d *Director) singlePlanes() []dataplane.Plane {
	type several interface {
		Members() []dataplane.Plane
	}
	var out []dataplane.Plane
	for _, p := range d.Planes {
		if s, ok := p.(several); ok {
			out = append(out, s.Members()...)
		} else {
			out = append(out, p)
		}
	}
	return out
}
