package main

import (
	"slices"

	"systole/control/config"
	"systole/hb/driver"
	"systole/hb/host"
)

// openHosts watches the machines of the other nodes, on every path that goes by
// an interface. names are those of the media in cfg, in their order. Without
// cluster.suspicion there is nothing to find out.
func openHosts(cfg *config.Config, names []string) (driver.Hosts, error) {
	paths := hostPaths(cfg, names)
	if len(paths) == 0 {
		return nil, nil
	}
	h, err := host.Open(host.Config{Paths: paths})
	if err != nil {
		return nil, err
	}
	return h, nil
}

func hostPaths(cfg *config.Config, names []string) []host.Path {
	var paths []host.Path
	if !cfg.Cluster.Suspicion {
		return nil
	}
	for i, m := range cfg.Cluster.Media {
		if m.Interface == "" {
			continue
		}
		for _, n := range cfg.Cluster.Members() {
			if n == cfg.Node {
				continue
			}
			p := host.Path{Node: n, Medium: names[i], Interface: m.Interface}
			switch {
			case m.Peers != nil:
				p.Addr, p.Port, p.Local = m.Peers[n], m.Port, m.Peers[cfg.Node]
			case slices.Contains(cfg.DataPlane.NICs(), m.Interface):
				// What goes to a group is not refused, so no port.
				p.Addr, _ = cfg.DirectorAddr(n)
			}
			paths = append(paths, p)
		}
	}
	return paths
}
