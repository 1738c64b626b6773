package control

import "systole/hb"

// linkFailures is how often each medium to each node has died.
type linkFailures map[linkOf]uint64

type linkOf struct{ node, medium string }

// note counts the event if it is a failure.
func (f linkFailures) note(ev hb.Event) {
	if e, ok := ev.(hb.LinkChanged); ok && !e.Up {
		f[linkOf{e.Node, e.Medium}]++
	}
}

// state is a link to a node for people and metrics.
func (f linkFailures) state(node string, l hb.LinkView) LinkState {
	state := "dead"
	if l.Up {
		state = "up"
	}
	return LinkState{Medium: l.Medium, Up: l.Up, State: state, Age: l.Age, Failures: f[linkOf{node, l.Medium}]}
}
