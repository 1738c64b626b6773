package control

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"systole/hb"
)

// A redundant link that fails is told of at once and counted, though nothing
// else suffers.
func TestAFailedLinkIsToldOfAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d, _ := startDirector(t)
		w.peer = hb.PeerView{Name: "node2", Status: hb.Active, Heard: true, Links: []hb.LinkView{
			{Medium: "ucast eth0", Up: true, State: hb.LinkUp, Age: time.Millisecond, Loss: 0.25, RTT: time.Millisecond, Received: 30, Missed: 10}, {Medium: "serial ttyS0", Age: 2 * time.Second}, {Medium: "ucast eth9", Age: -1},
		}}
		for range 2 {
			w.events <- hb.LinkChanged{Node: "node2", Medium: "serial ttyS0", State: hb.LinkLate}
			w.events <- hb.LinkChanged{Node: "node2", Medium: "serial ttyS0", Silence: 2 * time.Second}
			w.events <- hb.LinkChanged{Node: "node2", Medium: "serial ttyS0", Up: true, State: hb.LinkUp}
		}
		w.events <- hb.LinkChanged{Node: "node2", Medium: "serial ttyS0", Silence: 2 * time.Second}
		synctest.Wait()
		s := status(t, d)
		got := s.Nodes[1].Links
		if len(got) != 3 || got[0].State != "up" || !got[0].Up || got[0].Failures != 0 ||
			got[0].Loss != 0.25 || got[0].RTT != time.Millisecond || got[0].Received != 30 || got[0].Missed != 10 ||
			got[1].State != "dead" || got[1].Up || got[1].Failures != 3 || got[1].Age != 2*time.Second {
			t.Errorf("links %+v", got)
		}
		if all := strings.Join(s.Problems, "; "); !strings.Contains(all, "link serial ttyS0 to node2 is dead") || strings.Contains(all, "eth") {
			t.Errorf("problems %s", all)
		}
		if last := s.Events[len(s.Events)-1].Text; last != "link serial ttyS0 to node2 is dead: silent for 2s" {
			t.Errorf("event %q", last)
		}
	})
}
