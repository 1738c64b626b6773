package driver

import (
	"testing"
	"time"
)

// A beat that is sent again renews no lease: a peer that had it before does not
// begin to count anew. It goes out if the last new one did.
func TestABeatSentAgainAsksNobody(t *testing.T) {
	asked, allowed := 0, true
	d := &Driver{queue: queue{limit: 8}, cfg: Config{BeforeBeat: func(time.Time) bool { asked++; return allowed }}}
	for _, step := range []struct{ allowed, again, want bool }{
		{true, false, true},
		{false, true, true}, // not asked yet
		{false, false, false},
		{true, true, false},
		{true, false, true},
		{true, true, true},
	} {
		before := asked
		allowed = step.allowed
		if got := d.mayBeat(step.again); got != step.want || (asked > before) == step.again {
			t.Errorf("%+v: got %v, asked %v", step, got, asked > before)
		}
	}
}
