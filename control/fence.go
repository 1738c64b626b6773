package control

import (
	"fmt"
	"slices"

	"systole/control/config"
	"systole/control/takeover"
	"systole/control/vip"
	"systole/dataplane"
)

// fence ends the lease for good. It must silence every virtual address, so
// each must be on the interface of a plane that keeps a lease and is attached:
// any other one the kernel would go on answering for.
func (d *Director) fence() error {
	err := d.eachVIP(takeover.All, func(a vip.Addr) error {
		if !slices.ContainsFunc(d.Planes, func(p dataplane.Plane) bool { return keepsLease(p.Info(), a.Interface) }) {
			return fmt.Errorf("no data plane keeps a lease for %s", a)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return d.Lease.Set(d.Now(), LeaseFenced)
}

func keepsLease(i dataplane.Info, iface string) bool {
	return i.Lease && i.Mode != dataplane.Detached && attachedTo(i, iface)
}

// groupKeys are the names of our groups, and of the others, to an old node with
// auto_failback legacy.
func groupKeys(c *config.Config) (ours, theirs []string) {
	for _, g := range c.Groups {
		if g.Preferred == c.Node {
			ours = append(ours, g.Key())
		} else {
			theirs = append(theirs, g.Key())
		}
	}
	return ours, theirs
}
