package control

import "systole/hb"

// linkFailures is how often each medium to each node has died.
type linkFailures map[linkOf]uint64

type linkOf struct{ node, medium string }

// note counts the event if it is a failure.
func (f linkFailures) note(ev hb.Event) {
	if e, ok := ev.(hb.LinkChanged); ok && e.State == hb.LinkDead {
		f[linkOf{e.Node, e.Medium}]++
	}
}

// state is a link to a node for people and metrics.
func (f linkFailures) state(node string, l hb.LinkView) LinkState {
	return LinkState{
		Medium: l.Medium, Up: l.Up, State: l.State.String(), Age: l.Age,
		Loss: l.Loss, RTT: l.RTT, Received: l.Received, Missed: l.Missed,
		Failures: f[linkOf{node, l.Medium}],
	}
}
