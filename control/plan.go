package control

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"systole/control/config"
	"systole/control/neighbour"
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
	MAC net.HardwareAddr // its own, or that of the router Via; nil: unknown
	Via netip.Addr       // not valid: it is on the LAN
	Way neighbour.Way
	// Interfaces are by which it is reached, as in neighbour.Update.
	Interfaces []string
	Why        string // why it is unknown
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
		snap.Services = append(snap.Services, planService(cfg, &cfg.Services[i], f, why))
	}
	for _, p := range f.Peers {
		if n := f.Neighbours[p]; n.MAC != nil && !n.Via.IsValid() {
			by, _ := reachedBy(cfg, n)
			snap.Peers, snap.PeerInterfaces = append(snap.Peers, n.MAC), append(snap.PeerInterfaces, by)
		}
	}
	snap.SecondChance = f.SecondChance && len(snap.Peers) > 0
	return snap, why
}

func planService(cfg *config.Config, s *config.Service, f Facts, why Explanation) dataplane.Service {
	key := serviceKey(s)
	out := bare(s)
	serving := false
	for _, srv := range s.Servers {
		id := dataplane.ServerKey{Service: key, Server: srv.Addr}
		p := place(id, &srv, s.Quiescent, f)
		why[id] = p
		serving = serving || p.Reason == ""
		if p.InTable {
			out.Servers = append(out.Servers, realServer(cfg, &srv, p.Effective, f))
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
		p.Reason = unreachable(key, s.Fallback, f)
		out.Servers = slices.DeleteFunc(out.Servers, func(r dataplane.RealServer) bool { return r.Addr == s.Fallback.Addr })
		out.Servers = append(out.Servers, realServer(cfg, s.Fallback, p.Effective, f))
	}
	if _, also := why[id]; !also {
		why[id] = p
	}
	return out
}

// Services are the services of a config whole: with every server that each may
// have, whatever its health.
func Services(cfg *config.Config) []dataplane.Service {
	var out []dataplane.Service
	for i := range cfg.Services {
		s := &cfg.Services[i]
		svc := bare(s)
		for j := range s.Servers {
			svc.Servers = append(svc.Servers, realServer(cfg, &s.Servers[j], s.Servers[j].Weight, Facts{}))
		}
		if s.Fallback != nil {
			svc.Servers = append(svc.Servers, realServer(cfg, s.Fallback, s.Fallback.Weight, Facts{}))
		}
		out = append(out, svc)
	}
	return out
}

// bare is a service without its servers.
func bare(s *config.Service) dataplane.Service {
	return dataplane.Service{
		ServiceKey: serviceKey(s), Scheduler: s.Scheduler, SchedulerFlags: s.SchedulerFlags,
		Persistence: dataplane.Persistence{Timeout: s.Persistent.Timeout, PrefixLen: s.Persistent.PrefixLen},
		OnePacket:   s.OnePacket, ServerIDLength: s.QUIC.ServerIDLength,
		Timeouts: dataplane.Timeouts{TCP: s.Timeouts.TCP, TCPFin: s.Timeouts.TCPFin, UDP: s.Timeouts.UDP},
		Lost:     lostFates[s.Lost],
	}
}

// place decides about one real server.
func place(id dataplane.ServerKey, srv *config.Server, quiescent bool, f Facts) Placement {
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
	case srv.Weight == 0:
		return Placement{InTable: true, Reason: "weight 0 in the config"}
	}
	return Placement{InTable: true, Effective: srv.Weight, Reason: unreachable(id.Service, srv, f)}
}

// unreachable is why no frame can be sent to a server, "" if one can. Only the
// kernel's IPVS does masq, and it finds its way by itself.
func unreachable(svc dataplane.ServiceKey, s *config.Server, f Facts) string {
	n := f.Neighbours[s.Addr]
	r := without(s, n)
	switch {
	case forwards[s.Forward] == dataplane.Masq:
	case n.MAC == nil && n.Why == "":
		return "MAC address not known yet"
	case n.MAC == nil:
		return fmt.Sprintf("MAC address unknown: %s", n.Why)
	case !direct(s, n):
		return fmt.Sprintf("not on a connected network: gate (DR) needs the real server on the director's LAN, not behind %s; write forward: ipip or gue", n.Via)
	case r.Tunnelled() && !r.Source.IsValid():
		return "no address of this machine to send to it from"
	case r.Narrow(svc):
		return fmt.Sprintf("the MTU of %d on the way to it leaves %d bytes for a packet in the tunnel, too few", r.MTU, r.Most())
	}
	return ""
}

// reachedBy is the interface of the data plane by which n is reached. "" if it
// is not known, or several would do: the one that a packet came in by. If none is
// ours it is the one that the route names: XDP gives such a server nothing, but
// IPVS, which may carry the service, finds its way.
func reachedBy(cfg *config.Config, n Neighbour) (name string, ours bool) {
	nics := cfg.DataPlane.NICs()
	if len(nics) == 0 || len(n.Interfaces) == 0 || cfg.DataPlane.Mode == "ipvs" {
		return "", true
	}
	found := slices.DeleteFunc(slices.Clone(n.Interfaces), func(i string) bool { return !slices.Contains(nics, i) })
	switch len(found) {
	case 0:
		return n.Interfaces[0], false
	case 1:
		return found[0], true
	}
	return "", true
}

// direct: a frame to the router for a server that has the VIP itself would come
// back to us, or go to another director.
func direct(s *config.Server, n Neighbour) bool {
	return forwards[s.Forward] != dataplane.Gate || !n.Via.IsValid()
}

func realServer(cfg *config.Config, s *config.Server, weight uint32, f Facts) dataplane.RealServer {
	n := f.Neighbours[s.Addr]
	if !direct(s, n) {
		n.MAC = nil
	}
	r := without(s, n)
	r.Weight, r.MAC = weight, n.MAC
	r.Interface, _ = reachedBy(cfg, n)
	return r
}

// without is a real server without its weight and where frames for it go.
func without(s *config.Server, n Neighbour) dataplane.RealServer {
	r := dataplane.RealServer{
		Addr: s.Addr, Forward: forwards[s.Forward], Port: s.Port, TunnelPort: s.TunnelPort, Upper: s.Upper, Lower: s.Lower,
		ServerID: s.ID(),
	}
	if r.Tunnelled() {
		r.Source, r.MTU = n.Way.Source, n.Way.MTU
	}
	return r
}

// The config's words are the data plane's.
var (
	lostFates = wordsOf(dataplane.Reset, dataplane.Reschedule, dataplane.Keep)
	forwards  = wordsOf(dataplane.Gate, dataplane.IPIP, dataplane.GUE, dataplane.Masq)
)

func wordsOf[T fmt.Stringer](values ...T) map[string]T {
	out := make(map[string]T, len(values))
	for _, v := range values {
		out[v.String()] = v
	}
	return out
}

// serviceKey is the data plane's name for a configured service.
func serviceKey(s *config.Service) dataplane.ServiceKey { return s.Key() }
