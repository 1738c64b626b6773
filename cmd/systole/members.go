package main

import (
	"fmt"
	"net/netip"

	"systole/control/client"
	"systole/control/config"
	"systole/hb"
	"systole/hb/identity"
	"systole/hb/media"
	"systole/hb/membership"
)

// openPings opens the media of the ping nodes. They are no paths to other
// nodes, so the core gets them apart from the others.
func openPings(pings []config.Ping) (nodes []hb.PingNode, ms []media.Medium, err error) {
	for _, p := range pings {
		spec := media.Spec{Name: p.Name}
		for _, h := range p.Hosts {
			spec.Peers = append(spec.Peers, netip.AddrPortFrom(h, 0))
		}
		m, err := media.Open("ping", spec)
		if err != nil {
			for _, m := range ms {
				m.Close()
			}
			return nil, nil, fmt.Errorf("cluster.ping: %s: %w", p, err)
		}
		nodes, ms = append(nodes, hb.PingNode{Name: p.Name, Medium: m.Name()}), append(ms, m)
	}
	return nodes, ms, nil
}

// autojoin is the config's word for it.
func autojoin(word string) hb.Autojoin {
	return map[string]hb.Autojoin{"other": hb.OthersJoin, "any": hb.AnyJoins}[word]
}

// saveNodes keeps a list of nodes that was changed at run time.
func (d *daemon) saveNodes(nodes, deleted []string) error {
	return identity.SaveNodes(d.cfg.Cluster.StateDir, d.cfg.Cluster.Members(), nodes, deleted)
}

// tellView tells the programs which view of the cluster is in force.
func (d *daemon) tellView(v membership.View) {
	d.programs.ViewChanged(client.View{
		Number: v.Number, Coordinator: v.Coordinator, Members: v.Members, Quorum: v.Quorum, Settled: v.Settled,
	}, v.Why)
}
