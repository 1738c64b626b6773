package fallback

import (
	"maps"
	"slices"

	"systole/dataplane"
)

// tables is what a plane has in force, and of that what is leaving it: services
// that another plane carries by now, and whose connections end here.
type tables struct {
	has     map[dataplane.ServiceKey]dataplane.Service
	leaving map[dataplane.ServiceKey]bool
}

// next is the table of a plane that is to hold those of services for which
// holds is true. What it had and shall not hold any more is quiesced: its
// servers keep what they have. It changes nothing; a plane may refuse.
func (t tables) next(services []dataplane.Service, holds func(i int) bool) ([]dataplane.Service, tables) {
	var out []dataplane.Service
	n := tables{make(map[dataplane.ServiceKey]dataplane.Service), make(map[dataplane.ServiceKey]bool)}
	for i, svc := range services {
		if !holds(i) {
			had, ok := t.has[svc.ServiceKey]
			if !ok {
				continue
			}
			svc = quiesced(had, svc)
			n.leaving[svc.ServiceKey] = true
		}
		n.has[svc.ServiceKey] = svc
		out = append(out, svc)
	}
	return out, n
}

// quiesced is the service as the plane had it, without new connections, with
// the servers that are still in it and where they are now.
func quiesced(had, now dataplane.Service) dataplane.Service {
	old := had.Servers
	had.Servers = nil
	for _, r := range old {
		i := slices.IndexFunc(now.Servers, func(n dataplane.RealServer) bool { return n.Addr == r.Addr })
		if i < 0 {
			continue
		}
		r.Weight, r.MAC, r.Interface = 0, now.Servers[i].MAC, now.Servers[i].Interface
		had.Servers = append(had.Servers, r)
	}
	return had
}

// forget drops the services that are leaving and have no connections left, and
// tells whether there were any.
func (t tables) forget(st dataplane.Stats) bool {
	busy := make(map[dataplane.ServiceKey]bool)
	for k, c := range st.Conns {
		busy[k.Service] = busy[k.Service] || c.Active+c.Inactive > 0
	}
	before := len(t.leaving)
	maps.DeleteFunc(t.leaving, func(k dataplane.ServiceKey, _ bool) bool {
		if busy[k] {
			return false
		}
		delete(t.has, k)
		return true
	})
	return len(t.leaving) < before
}
