package broker

import (
	"slices"
	"time"

	"systole/control/client"
)

// sizeOfView is about how much memory the event of a view holds.
const sizeOfView = 500

// ViewChanged tells the programs which view of the cluster is in force, and why
// it has the quorum or has not. It waits for nobody. What says the same as the
// last one is not told again.
func (b *Broker) ViewChanged(v client.View, why string) {
	v.Members = slices.Clone(v.Members)
	e := client.Event{At: time.Now(), Kind: client.KindView, Node: b.node, Self: true, View: &v, Why: why}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.view != nil && sameView(*b.view.View, v) {
		return
	}
	b.view = &e
	for s := range b.subs {
		if s.filter.wantsKind(client.KindView) {
			s.queueUp(entry{view: &e, at: e.At, size: sizeOfView})
		}
	}
}

func sameView(a, b client.View) bool {
	return a.Number == b.Number && a.Coordinator == b.Coordinator && a.Quorum == b.Quorum && a.Settled == b.Settled &&
		slices.Equal(a.Members, b.Members)
}
