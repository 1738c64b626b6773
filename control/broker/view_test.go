package broker

import (
	"fmt"
	"testing"
	"testing/synctest"

	"systole/control/broker/brokertest"
	"systole/control/client"
	"systole/hb"
)

// TestViews: who wants views hears each change once, and who comes later hears
// the last one first.
func TestViews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, brokertest.New(), make(chan hb.Event, 100))
		s, others := subscribe(t, b, client.Wanted{Kinds: []client.Kind{client.KindView}}), subscribe(t, b, client.Wanted{Kinds: []client.Kind{client.KindLink}})
		waiting(t, others)
		views := func(s *Subscription) (out []string) {
			synctest.Wait()
			for {
				e, ok := s.Waiting()
				if !ok {
					return out
				}
				if e.Kind == client.KindView {
					out = append(out, fmt.Sprintf("%s %+v %s self=%t snapshot=%t", e.Node, *e.View, e.Why, e.Self, e.Snapshot))
				}
			}
		}
		expect(t, views(s)) // none is known yet
		v := client.View{Number: 7, Coordinator: "node1", Members: []string{"node1", "node2"}, Quorum: true, Settled: true}
		b.ViewChanged(v, "quorum with 2 of 2 votes")
		v.Members[1] = "spoilt" // the broker has its own
		v.Members = []string{"node1", "node2"}
		b.ViewChanged(v, "said otherwise")
		v.Number, v.Members, v.Quorum, v.Settled = 8, v.Members[:1], false, false
		b.ViewChanged(v, "no quorum with 1 of 2 votes")
		last := "node1 {Number:8 Coordinator:node1 Members:[node1] Quorum:false Settled:false} no quorum with 1 of 2 votes self=true snapshot="
		expect(t, views(s),
			"node1 {Number:7 Coordinator:node1 Members:[node1 node2] Quorum:true Settled:true} quorum with 2 of 2 votes self=true snapshot=false",
			last+"false")
		expect(t, views(subscribe(t, b, client.Wanted{})), last+"true")
		expect(t, waiting(t, others))
	})
}
