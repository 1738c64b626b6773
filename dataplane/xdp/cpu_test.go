package xdp

import (
	"testing"

	"systole/dataplane"
)

// What the CPUs counted adds up to what there is in all.
func TestCountersByCPU(t *testing.T) {
	p := observed(t)
	for _, flags := range []string{"S", "A", "A"} {
		if _, _, err := p.Program().Test(segment("10.0.0.1:1000", seenWeb, flags)); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := p.Program().Test(segment("10.0.0.1:1001", seenWeb, "A")); err != nil {
		t.Fatal(err)
	}
	st, err := p.Stats()
	if err != nil {
		t.Fatal(err)
	}
	var sum dataplane.Counters
	var noFlow uint64
	for i, c := range st.CPUs {
		if c.CPU != i {
			t.Errorf("CPU %d stands at %d", c.CPU, i)
		}
		sum = add(sum, c.Counters)
		noFlow += c.Reasons["no_flow"]
	}
	if sum.Packets != 3 || sum.Connections != 1 || sum != st.Services[seenWeb] {
		t.Errorf("the CPUs have %+v, the service %+v", sum, st.Services[seenWeb])
	}
	if noFlow != 1 || st.Reasons["no_flow"] != 1 {
		t.Errorf("no_flow: %d by CPU, %d in all", noFlow, st.Reasons["no_flow"])
	}
}
