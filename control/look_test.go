package control

import (
	"errors"
	"iter"
	"net/netip"
	"slices"
	"testing"

	"systole/dataplane"
	"systole/dataplane/observe"
)

// seeing is a plane that shows what it has.
type seeing struct {
	dataplane.Plane
	name  string
	flows []dataplane.Flow
}

func (s seeing) Info() dataplane.Info { return dataplane.Info{Name: s.name} }

func (s seeing) Flows() iter.Seq[dataplane.Flow] { return slices.Values(s.flows) }
func (s seeing) Observe(observe.Config) (observe.Source, error) {
	return nil, observe.ErrBusy
}

// two is a plane of several.
type two struct {
	dataplane.Plane
	members []dataplane.Plane
}

func (t two) Members() []dataplane.Plane { return t.members }

func TestFlowsOfAllPlanes(t *testing.T) {
	flow := func(last byte) dataplane.Flow {
		return dataplane.Flow{Client: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, last}), 1)}
	}
	blind := struct{ dataplane.Plane }{}
	d := &Director{Options: Options{Planes: []dataplane.Plane{
		two{members: []dataplane.Plane{seeing{name: "xdp", flows: []dataplane.Flow{flow(1), flow(2)}}, blind}},
		seeing{name: "ipvs", flows: []dataplane.Flow{flow(3)}},
	}}}
	all, err := d.Flows("")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := slices.Collect(all), []dataplane.Flow{flow(1), flow(2), flow(3)}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if one, err := d.Flows("ipvs"); err != nil || !slices.Equal(slices.Collect(one), []dataplane.Flow{flow(3)}) {
		t.Errorf("of ipvs: %v", err)
	}
	if _, err := d.Flows("other"); !errors.Is(err, ErrNoFlows) {
		t.Errorf("of a plane that is not there: %v", err)
	}
	for f := range all {
		if f != flow(1) {
			t.Errorf("first %v", f)
		}
		break // and no more is asked for
	}
	if _, err := d.Observe(observe.Config{}); !errors.Is(err, observe.ErrBusy) {
		t.Errorf("the plane was not asked: %v", err)
	}
	d.Planes = []dataplane.Plane{blind}
	if _, err := d.Flows(""); !errors.Is(err, ErrNoFlows) {
		t.Errorf("%v", err)
	}
	if _, err := d.Observe(observe.Config{}); !errors.Is(err, observe.ErrUnobservable) {
		t.Errorf("%v", err)
	}
}
