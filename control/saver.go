package control

import "log/slog"

// nodeLists are the lists of nodes to be kept over a restart.
type nodeLists struct{ nodes, deleted []string }

// keepNodes has lists kept that were changed at run time. The disk may be slow,
// and the loop lets no beat wait for it: of several lists only the newest
// matters.
func (d *Director) keepNodes(l nodeLists) {
	if d.SaveNodes == nil {
		return
	}
	select {
	case <-d.saves:
	default:
	}
	d.saves <- l // only the loop fills it, so there is room
}

// saveNodes does that beside the loop, until the loop ends and the last list is
// kept.
func (d *Director) saveNodes() {
	for l := range d.saves {
		if err := d.SaveNodes(l.nodes, l.deleted); err != nil {
			d.send(func() {
				d.event("cluster", slog.LevelError, "the new list of nodes is not kept over a restart: %v", err)
			})
		}
	}
}
