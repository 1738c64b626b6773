package health

import (
	"testing"

	"pgregory.net/rapid"
)

func TestHysteresis(t *testing.T) {
	for _, c := range []struct {
		name       string
		rise, fall int
		results    string // + is a success, - a failure
		want       string // U and D: changed to; u and d: stays
	}{
		{"first is up", 3, 3, "+", "U"},
		{"first is down", 3, 3, "-", "D"},
		{"one by one", 1, 1, "+-+--++", "UDUDdUu"},
		{"fall 3", 1, 3, "+---", "UuuD"},
		{"fall 3, forgiven", 1, 3, "+--+--+---", "UuuuuuuuuD"},
		{"rise 2", 2, 1, "-+-++", "DdddU"},
		{"both", 2, 2, "+-+--++-", "UuuuDdUu"},
	} {
		h := hysteresis{rise: c.rise, fall: c.fall}
		got := ""
		for _, r := range c.results {
			changed := h.observe(r == '+')
			got += map[[2]bool]string{{true, true}: "U", {true, false}: "u", {false, true}: "D", {false, false}: "d"}[[2]bool{h.up, changed}]
		}
		if got != c.want {
			t.Errorf("%s: %s gives %s, want %s", c.name, c.results, got, c.want)
		}
	}
}

// After the first result the state is what the last unbroken run that was long
// enough said.
func TestHysteresisFollowsTheLastLongRun(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := hysteresis{rise: rapid.IntRange(1, 5).Draw(t, "rise"), fall: rapid.IntRange(1, 5).Draw(t, "fall")}
		results := rapid.SliceOfN(rapid.Bool(), 1, 60).Draw(t, "results")
		want, run := results[0], 0
		for i, ok := range results {
			if i > 0 && ok == results[i-1] {
				run++
			} else {
				run = 1
			}
			before := want
			if ok && run >= h.rise || !ok && run >= h.fall {
				want = ok
			}
			if changed := h.observe(ok); h.up != want || changed != (i == 0 || want != before) {
				t.Fatalf("after %v: up %v, changed %v; want up %v, before %v", results[:i+1], h.up, changed, want, before)
			}
		}
	})
}
