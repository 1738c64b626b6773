package main

import (
	"fmt"
	"io"
	"time"

	"systole/control"
)

// writeNodes renders the directors, and under each of them its media, each
// judged on its own: a redundant link that has failed must be seen though all
// else is well.
func writeNodes(w io.Writer, nodes []control.NodeState) {
	fmt.Fprintln(w, "NODE\tSTATUS\tLAST BEAT\tLOSS\tROUND TRIP\tFAILURES")
	for _, n := range nodes {
		if n.Self {
			fmt.Fprintf(w, "%s\t%s\t(this one)\t\t\t\n", n.Name, n.Status)
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t\t\t\n", n.Name, n.Status, age(n.LastBeat))
		for _, l := range n.Links {
			fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\t%d\n", l.Medium, l.State, age(l.Age), loss(l), roundTrip(l.RTT), l.Failures)
		}
	}
}

// loss is the share that a medium lost lately, if anything could come on it.
func loss(l control.LinkState) string {
	if l.Received+l.Missed == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", 100*l.Loss)
}

func roundTrip(d time.Duration) string {
	switch {
	case d <= 0:
		return "-"
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	}
	return d.Round(10 * time.Microsecond).String()
}
