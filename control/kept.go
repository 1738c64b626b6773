package control

import (
	"log/slog"
	"slices"

	"systole/control/config"
	"systole/control/takeover"
	"systole/control/vip"
	"systole/dataplane"
)

// Kept are the virtual addresses of a configuration that a predecessor served
// alone and its data plane still serves. They may stay until the director has
// decided. It is to be asked before the first Apply.
func Kept(cfg *config.Config, planes []dataplane.Plane) []vip.Addr {
	if cfg.Witness() || cfg.Cluster.Partition == config.AtMostOne || cfg.Cluster.Legacy {
		return nil // takeover would not have them
	}
	var kept []vip.Addr
	for _, p := range planes {
		inherited := p.Info().Inherited
		for _, g := range cfg.Groups {
			for _, v := range g.VIPs {
				if slices.Contains(inherited, v.Addr) {
					kept = append(kept, vipAddr(v))
				}
			}
		}
	}
	return kept
}

// keep leaves to takeover what a predecessor has left serving (takeover.Kept),
// and the generation in force as it is, see ready.
func (d *Director) keep() {
	kept := Kept(d.cfg, d.Planes)
	class := takeover.None
	for i := range d.cfg.Groups {
		g := &d.cfg.Groups[i]
		if slices.ContainsFunc(g.VIPs, func(v config.VIP) bool { return slices.Contains(kept, vipAddr(v)) }) {
			d.facts.Roles[g.Name] = dataplane.Active
			class |= d.classOf(g)
		}
	}
	if class == takeover.None {
		return
	}
	d.kept = true
	_ = d.step(takeover.Kept{Class: class}) // not an order: never refused
	d.event("dataplane", slog.LevelInfo, "the generation of an earlier daemon stays in force")
}

// ready tells whether a generation of ours would serve as well as the
// predecessor's: it has to know all real servers first, or connections would be
// refused by servers that nobody has looked at yet.
func (d *Director) ready() bool {
	for i := range d.cfg.Services {
		s := &d.cfg.Services[i]
		for j := range s.Servers {
			srv := &s.Servers[j]
			up, checked := d.facts.Health[dataplane.ServerKey{Service: serviceKey(s), Server: srv.Addr}]
			if !checked || up && unreachable(serviceKey(s), srv, d.facts) != "" {
				return false
			}
		}
	}
	return true
}
