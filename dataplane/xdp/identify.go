package xdp

import (
	"cmp"
	"net/netip"
	"slices"

	"systole/dataplane"
)

// identify finds the service and the server of a flow from elsewhere, of those
// that are in force; 0, 0 if they are not. Sync messages tell the one port that
// a flow goes to, so its service may be one of several ports.
func (p *Plane) identify(f *dataplane.Flow) (service, server uint16) {
	service = p.ids.service(f.Service)
	if server = p.serverOf(service, f.Server); server != 0 {
		return service, server
	}
	w := p.wideServices()
	if w.inForce[service] {
		return 0, 0 // it has the port, but not the server
	}
	port := cmp.Or(f.Port, f.Service.Port)
	for _, s := range w.spans[spanned{f.Service.VIP, f.Service.Protocol}] {
		if s.first <= port && port <= s.last {
			server = p.serverOf(s.service, f.Server)
			return s.service, server
		}
	}
	return 0, 0
}

// serverOf is the id of a server of a service, 0 unless flows may go to it.
func (p *Plane) serverOf(service uint16, addr netip.Addr) uint16 {
	id := p.ids.server(service, addr)
	if service == 0 || id == 0 || p.active().Servers[id].Service&^serverLeft != service {
		return 0
	}
	return id
}

// wideServices are the services of several ports in a generation.
type wideServices struct {
	generation uint64
	inForce    map[uint16]bool // ids of all services
	spans      map[spanned][]span
}

type spanned struct {
	vip      netip.Addr
	protocol dataplane.Protocol
}

type span struct{ first, last, service uint16 }

// wideServices are those of the generation in force; of one address and
// protocol the narrowest first, as the program looks for them.
func (p *Plane) wideServices() *wideServices {
	if number := p.active().Number; p.wide.spans == nil || p.wide.generation != number {
		p.wide = wideServices{number, make(map[uint16]bool), make(map[spanned][]span)}
		for id := range serviceIDs(p.active()) {
			p.wide.inForce[id] = true
			key, ok := p.ids.serviceKey(id)
			if !ok || !manyPorts(key) {
				continue
			}
			first, last := key.Ports()
			at := spanned{key.VIP, key.Protocol}
			p.wide.spans[at] = append(p.wide.spans[at], span{first, last, id})
		}
		for _, s := range p.wide.spans {
			slices.SortFunc(s, func(a, b span) int {
				return cmp.Or(cmp.Compare(a.last-a.first, b.last-b.first), cmp.Compare(a.first, b.first))
			})
		}
	}
	return &p.wide
}
