package control

import (
	"testing"
	"testing/synctest"
	"time"

	"systole/control/neighbour"
	"systole/hb"
)

// After a planned hand-over connections are sent back to the peer that began
// them, for as long as its data plane may know them.
func TestSecondChance(t *testing.T) {
	dead := hb.NodeChanged{Node: "node2", From: hb.Active, To: hb.Dead}
	back := hb.NodeChanged{Node: "node2", From: hb.Dead, To: hb.Active, Returned: true}
	for name, tt := range map[string]struct {
		happens func(w *world, d *Director)
		after   time.Duration
		want    bool
	}{
		"the peer lives":            {func(*world, *Director) {}, time.Minute, true},
		"its memory is over":        {func(*world, *Director) {}, handoverMemory + time.Second, false},
		"it stands still, or fell":  {func(w *world, _ *Director) { w.events <- dead }, afterlife - time.Second, true},
		"it is gone":                {func(w *world, _ *Director) { w.events <- dead }, afterlife + time.Second, false},
		"it came back":              {func(w *world, _ *Director) { w.events <- dead; w.events <- back }, time.Minute, true},
		"it came back too late":     {func(w *world, _ *Director) { w.events <- dead; time.Sleep(afterlife + time.Second); w.events <- back }, 0, false},
		"its MAC address is lost":   {func(_ *world, d *Director) { d.NeighbourChanged(neighbour.Update{Addr: peerAddr}) }, 0, false},
		"it said that it would end": {func(w *world, _ *Director) { w.hear("shutdone", "st", "dead"); w.events <- dead }, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, d, _ := startDirector(t)
				w.pair(t, d)
				_ = d.do(t.Context(), func() error { d.handedBy = d.Now(); d.secondChance(); return nil })
				tt.happens(w, d)
				time.Sleep(tt.after)
				synctest.Wait()
				w.mu.Lock()
				defer w.mu.Unlock()
				if w.table.SecondChance != tt.want {
					t.Errorf("second chance %t, want %t", w.table.SecondChance, tt.want)
				}
			})
		})
	}
}
