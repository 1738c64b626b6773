package control

import (
	"errors"
	"log/slog"
	"slices"

	"systole/control/takeover"
	"systole/control/vip"
	"systole/dataplane"
)

// tellEnds lets the other nodes know whether our data plane ends with this
// process: then a peer to whom our port is closed may take over at once
// (hb/doc.go). While the lease is unlimited it does not end; who is about to
// grant that says so before.
func (d *Director) tellEnds(mode LeaseMode) {
	ends := mode != LeaseUnlimited && d.endsWithDaemon()
	if ends == d.ends {
		return
	}
	if err := d.Cluster.SetEnds(ends); err != nil {
		d.event("cluster", slog.LevelError, "the other nodes are not told that the data plane ends with this daemon (%v): %v", ends, err)
		return
	}
	d.ends = ends
}

var errOutlives = errors.New("outlives the daemon")

// endsWithDaemon: each virtual address is on the interface of an attached plane
// whose lease ends with the process.
func (d *Director) endsWithDaemon() bool {
	return d.eachVIP(takeover.All, func(a vip.Addr) error {
		if !slices.ContainsFunc(d.Planes, func(p dataplane.Plane) bool { i := p.Info(); return i.EndsWithDaemon && keepsLease(i, a.Interface) }) {
			return errOutlives
		}
		return nil
	}) == nil
}
