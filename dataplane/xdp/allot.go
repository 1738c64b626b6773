package xdp

import "systole/dataplane"

// giveIDs makes sure that everything in s has an id. The generation before the
// one in force must be out of use.
func (p *Plane) giveIDs(s dataplane.Snapshot) (identities, error) {
	ids, needServices, needServers := p.ids.of(s)
	if needServices == 0 && needServers == 0 {
		return ids, nil
	}
	roomServices, roomServers := p.ids.room()
	if needServices > roomServices || needServers > roomServers {
		if err := p.takeBackIDs(s); err != nil {
			return ids, err
		}
		// Taking back a service takes its servers' ids as well.
		_, needServices, needServers = p.ids.of(s)
		roomServices, roomServers = p.ids.room()
		if needServices > roomServices || needServers > roomServers {
			return ids, invalid("%d new services and %d new real servers, there is room for %d and %d until the present ones are gone: apply the change in two steps",
				needServices, needServers, roomServices, roomServers)
		}
	}
	if err := p.ids.assign(s); err != nil {
		return ids, err
	}
	ids, _, _ = p.ids.of(s)
	return ids, nil
}

// takeBackIDs frees the ids that neither the generation in force nor s uses,
// and the flows that name them.
func (p *Plane) takeBackIDs(s dataplane.Snapshot) error {
	services, servers := new(idSet), new(idSet)
	someLeft := false
	for i := range p.active().Servers {
		svc := p.active().Servers[i].Service
		servers[i] = svc != 0 && svc&serverLeft == 0
		someLeft = someLeft || svc&serverLeft != 0
	}
	if someLeft { // who has left stays for the flows it has
		flows, err := p.census(p.timeouts())
		if err != nil {
			return err
		}
		for i, conns := range flows.conns {
			servers[i] = servers[i] || p.active().Servers[i].Service != 0 && conns != (inState{})
		}
	}
	for id := range serviceIDs(p.active()) {
		services[id] = true
	}
	for _, svc := range s.Services {
		id := p.ids.service(svc.ServiceKey)
		services[id] = true
		for _, r := range svc.Servers {
			servers[p.ids.server(id, r.Addr)] = true
		}
	}
	services[0], servers[0] = false, false // the ids that are still missing

	for i := range p.kernel.tables {
		p.kernel.tables[i].clear(services, servers)
	}
	// A datagram's key has no service, but its server belongs to one.
	p.kernel.datagrams().clear(everyID(), servers)
	goneServices, goneServers := p.ids.take(services, servers)
	if err := p.settle(goneServices, goneServers); err != nil {
		return err
	}
	p.ids.forget(goneServices, goneServers)
	p.cfg.Log.Info("took back identities of what was removed", "services", len(goneServices), "real_servers", len(goneServers))
	return nil
}
