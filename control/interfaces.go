package control

import (
	"fmt"
	"log/slog"
	"slices"

	"systole/dataplane"
)

// attachedTo tells whether a plane has the packets that come in by an interface.
func attachedTo(i dataplane.Info, iface string) bool {
	if len(i.Interfaces) == 0 {
		return i.Interface == iface
	}
	return slices.ContainsFunc(i.Interfaces, func(n dataplane.Interface) bool {
		return n.Name == iface && n.Mode != dataplane.Detached
	})
}

// interfacesChanged tells of those of several interfaces that have come or gone.
// What becomes of one alone is the plane's own mode.
func (d *Director) interfacesChanged(before, now dataplane.Info) {
	if len(now.Interfaces) < 2 {
		return
	}
	for _, n := range now.Interfaces {
		i := slices.IndexFunc(before.Interfaces, func(b dataplane.Interface) bool { return b.Name == n.Name })
		if i < 0 || before.Interfaces[i].Mode == n.Mode {
			continue
		}
		d.event("dataplane", slog.LevelWarn, "%s on %s: %s -> %s %s", now.Name, n.Name, before.Interfaces[i].Mode, n.Mode, n.Reason)
	}
}

// otherInterfaces notes which servers of the services that XDP carries are behind
// none of its interfaces.
func (d *Director) otherInterfaces(s *State) {
	for i := range s.Services {
		svc := &s.Services[i]
		if svc.Plane != "xdp" {
			continue
		}
		for j := range svc.Servers {
			srv := &svc.Servers[j]
			if by, ours := reachedBy(d.cfg, d.facts.Neighbours[srv.key.Server]); !ours && srv.Reason == "" {
				srv.Reason = fmt.Sprintf("reached by %s, to which XDP is not attached: it gets nothing from XDP; add it to dataplane.interfaces", by)
			}
		}
	}
}

// detachedInterfaces says which of several interfaces a plane lacks; all of them
// is the plane's own affair.
func detachedInterfaces(p PlaneState) (problems []string) {
	if p.Mode == dataplane.Detached {
		return nil
	}
	for _, n := range p.Interfaces {
		if n.Mode == dataplane.Detached {
			problems = append(problems, fmt.Sprintf("%s is not attached to %s: %s", p.Name, n.Name, n.Reason))
		}
	}
	return problems
}
