package control

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"systole/control/config"
	"systole/dataplane"
)

// Facts are what Plan goes by, besides the config: everything that changes
// while the director runs.
type Facts struct {
	// Roles is our role per resource group; a group not named is Standby.
	Roles map[string]dataplane.Role
	// Health is the verdict of the last checks; a server not named has not
	// been checked yet and gets nothing.
	Health map[dataplane.ServerKey]bool
	// Quiesced are the servers an operator took out of rotation.
	Quiesced map[dataplane.ServerKey]bool
	// Neighbours are the MAC addresses known on the LAN.
	Neighbours map[netip.Addr]Neighbour
	// Peers are the other directors' addresses on the LAN.
	Peers []netip.Addr
	// SecondChance is set while connections that the peer began may go on.
	SecondChance bool
}

// Neighbour is what is known about a machine on the LAN.
type Neighbour struct {
	MAC net.HardwareAddr // nil: unknown
	Why string           // why it is unknown
}

// Placement is what Plan decided about one real server, and why.
type Placement struct {
	InTable   bool
	Effective uint32
	Fallback  bool
	Reason    string // why it gets no new connections; "" if it gets them
}

// Explanation says for each server of each service what Plan decided.
type Explanation map[dataplane.ServerKey]Placement

// Plan computes what the data planes are to do. It is pure, and total: any
// valid config with any facts gives a valid Snapshot.
func Plan(cfg *config.Config, f Facts) (dataplane.Snapshot, Explanation) {
	var snap dataplane.Snapshot
	why := make(Explanation)
	for _, g := range cfg.Groups {
		for _, v := range g.VIPs {
			snap.VIPs = append(snap.VIPs, dataplane.VIP{Addr: v.Addr, Role: f.Roles[g.Name]})
		}
	}
	for i := range cfg.Services {
		snap.Services = append(snap.Services, planService(&cfg.Services[i], f, why))
	}
	for _, p := range f.Peers {
		if n := f.Neighbours[p]; n.MAC != nil {
			snap.Peers = append(snap.Peers, n.MAC)
		}
	}
	snap.SecondChance = f.SecondChance && len(snap.Peers) > 0
	return snap, why
}

func planService(s *config.Service, f Facts, why Explanation) dataplane.Service {
	key := serviceKey(s)
	out := dataplane.Service{ServiceKey: key, Scheduler: s.Scheduler}
	serving := false
	for _, srv := range s.Servers {
		id := dataplane.ServerKey{Service: key, Server: srv.Addr}
		p := place(id, srv.Weight, s.Quiescent, f)
		why[id] = p
		serving = serving || p.Reason == ""
		if p.InTable {
			out.Servers = append(out.Servers, realServer(srv.Addr, p.Effective, f))
		}
	}
	if s.Fallback == nil {
		return out
	}
	// The fallback is not checked: it serves when nobody else can, and a
	// page saying "sorry" beats a refused connection.
	id := dataplane.ServerKey{Service: key, Server: s.Fallback.Addr}
	p := Placement{Fallback: true, Reason: "fallback: not needed"}
	if !serving {
		p = Placement{Fallback: true, InTable: true, Effective: max(1, s.Fallback.Weight)}
		if n := f.Neighbours[s.Fallback.Addr]; n.MAC == nil {
			p.Reason = unknownMAC(n)
		}
		out.Servers = slices.DeleteFunc(out.Servers, func(r dataplane.RealServer) bool { return r.Addr == s.Fallback.Addr })
		out.Servers = append(out.Servers, realServer(s.Fallback.Addr, p.Effective, f))
	}
	if _, also := why[id]; !also {
		why[id] = p
	}
	return out
}

// place decides about one real server.
func place(id dataplane.ServerKey, weight uint32, quiescent bool, f Facts) Placement {
	up, checked := f.Health[id]
	switch {
	case !up:
		// Quiescent keeps the line, and with it the connections, at weight 0.
		// A server that was never checked starts the same way: a director
		// that has just come up must not send clients to a dead server.
		reason := "health check fails"
		if !checked {
			reason = "not checked yet"
		}
		return Placement{InTable: quiescent, Reason: reason}
	case f.Quiesced[id]:
		return Placement{InTable: true, Reason: "quiesced by the operator"}
	case weight == 0:
		return Placement{InTable: true, Reason: "weight 0 in the config"}
	}
	p := Placement{InTable: true, Effective: weight}
	if n := f.Neighbours[id.Server]; n.MAC == nil {
		p.Reason = unknownMAC(n)
	}
	return p
}

func unknownMAC(n Neighbour) string {
	if n.Why == "" {
		return "MAC address not known yet"
	}
	return fmt.Sprintf("MAC address unknown: %s", n.Why)
}

func realServer(a netip.Addr, weight uint32, f Facts) dataplane.RealServer {
	return dataplane.RealServer{Addr: a, Weight: weight, MAC: f.Neighbours[a].MAC}
}

// serviceKey is the data plane's name for a configured service.
func serviceKey(s *config.Service) dataplane.ServiceKey {
	k := dataplane.ServiceKey{VIP: s.VIP, Port: s.Port, Protocol: dataplane.TCP}
	if s.Protocol == "udp" {
		k.Protocol = dataplane.UDP
	}
	return k
}
