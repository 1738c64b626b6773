package ipvs

import (
	"fmt"
	"net/netip"
	"slices"

	"systole/dataplane"
)

// verb is what a command does.
type verb int

const (
	addService verb = iota
	setService
	delService
	addServer
	setServer
	delServer
)

var verbs = [...]string{"add service", "change service", "remove service", "add server", "change server", "remove server"}

// op is one command to the kernel. Server is meaningful with the last three.
type op struct {
	verb    verb
	service *Service // its Servers do not count
	server  Server
}

// String names the command for errors: "add server 192.168.145.11:80 of ...".
func (o op) String() string {
	if o.verb < addServer {
		return fmt.Sprintf("%s %s", verbs[o.verb], o.service)
	}
	return fmt.Sprintf("%s %s of %s", verbs[o.verb], o.server.Addr, o.service)
}

// diff is what turns the services of old into those of want, in an order that
// never takes from a service its last server with a weight if it is to have
// one: per service servers are added, then weights raised, then lowered, then
// servers removed. Services are removed last. A service that is equal gives
// nothing.
//
// The last server is added first: the kernel puts a new one at the head of its
// list, where turns begin. So they go through the servers of a new service in
// the order in which they are configured, as they do in the other planes.
func diff(old, want []Service) []op {
	have := make(map[dataplane.ServiceKey]*Service, len(old))
	for i := range old {
		have[old[i].Key] = &old[i]
	}
	var ops []op
	stays := make(map[dataplane.ServiceKey]bool, len(want))
	for i := range want {
		w := &want[i]
		stays[w.Key] = true
		h := have[w.Key]
		switch {
		case h == nil:
			ops = append(ops, op{verb: addService, service: w})
			h = &Service{}
		case !h.sameSettings(w):
			ops = append(ops, op{verb: setService, service: w})
		}
		ops = append(ops, diffServers(w, h.Servers)...)
	}
	for i := range old {
		if !stays[old[i].Key] {
			ops = append(ops, op{verb: delService, service: &old[i]})
		}
	}
	return ops
}

func diffServers(w *Service, old []Server) []op {
	have := make(map[netip.AddrPort]Server, len(old))
	for _, s := range old {
		have[s.Addr] = s
	}
	var serving, quiesced, raised, lowered, removed []op
	stays := make(map[netip.AddrPort]bool, len(w.Servers))
	for _, s := range w.Servers {
		stays[s.Addr] = true
		h, ok := have[s.Addr]
		switch {
		case !ok && s.Weight > 0: // first, so that a new service serves soonest
			serving = append(serving, op{addServer, w, s})
		case !ok:
			quiesced = append(quiesced, op{addServer, w, s})
		case h.sameSettings(s):
		case s.Weight >= h.Weight:
			raised = append(raised, op{setServer, w, s})
		default:
			lowered = append(lowered, op{setServer, w, s})
		}
	}
	for _, s := range old {
		if !stays[s.Addr] {
			removed = append(removed, op{delServer, w, s})
		}
	}
	slices.Reverse(serving)
	slices.Reverse(quiesced)
	ops := append(serving, quiesced...)
	ops = append(ops, raised...)
	ops = append(ops, lowered...)
	return append(ops, removed...)
}

func (s *Service) sameSettings(o *Service) bool {
	return s.Scheduler == o.Scheduler && s.Flags&^hashed == o.Flags&^hashed &&
		s.Timeout == o.Timeout && s.Netmask == o.Netmask && s.Engine == o.Engine
}

func (s Server) sameSettings(o Server) bool {
	return s.Weight == o.Weight && s.Forward == o.Forward && s.Tunnel == o.Tunnel && s.Upper == o.Upper && s.Lower == o.Lower
}
