package fallback

import (
	"testing"

	"systole/dataplane"
)

// When the interfaces of XDP have changed the last snapshot is applied again, and
// only then.
func TestTendWhenInterfacesHaveChanged(t *testing.T) {
	p := newPair(t)
	stale := false
	p.stale = func(x dataplane.Plane) bool { return x == dataplane.Plane(p.xdp) && stale }
	p.apply()
	p.tend() // what the first looks find
	if p.tend() {
		t.Error("nothing has changed")
	}
	stale = true
	if !p.tend() {
		t.Error("the change is not taken in")
	}
	stale = false
	if p.tend() {
		t.Error("it is taken in for ever")
	}
}
