package xdp

import (
	"fmt"
	"sync/atomic"

	"github.com/cilium/ebpf"

	"systole/bpf"
	"systole/dataplane"
)

// reasonNames are the keys of dataplane.Stats.Reasons.
var reasonNames = [...]string{
	bpf.DirectorReasonREASON_LEASE_ENDED:     "lease_ended",
	bpf.DirectorReasonREASON_ARP_LEASE_ENDED: "arp_lease_ended",
	bpf.DirectorReasonREASON_ARP_DRAINING:    "arp_draining",
	bpf.DirectorReasonREASON_STANDBY:         "standby",
	bpf.DirectorReasonREASON_OTHER_PROTOCOL:  "other_protocol",
	bpf.DirectorReasonREASON_FRAGMENT:        "fragment",
	bpf.DirectorReasonREASON_MALFORMED:       "malformed",
	bpf.DirectorReasonREASON_NO_SERVICE:      "no_service",
	bpf.DirectorReasonREASON_NO_SERVER:       "no_server",
	bpf.DirectorReasonREASON_NO_FLOW:         "no_flow",
	bpf.DirectorReasonREASON_SERVER_GONE:     "server_gone",
	bpf.DirectorReasonREASON_PEER_NO_FLOW:    "peer_no_flow",
	bpf.DirectorReasonREASON_SECOND_CHANCE:   "second_chance",
	bpf.DirectorReasonREASON_NO_MAC:          "no_mac",
	bpf.DirectorReasonREASON_SYN_EVICTED:     "syn_evicted",
	bpf.DirectorReasonREASON_FLOW_EVICTED:    "flow_evicted",
	bpf.DirectorReasonREASON_FLOW_NOT_STORED: "flow_not_stored",
	bpf.DirectorReasonREASON_ND_LEASE_ENDED:  "nd_lease_ended",
	bpf.DirectorReasonREASON_ND_DRAINING:     "nd_draining",
	bpf.DirectorReasonREASON_FLOW_LIMIT:      "flow_limit",

	bpf.DirectorReasonREASON_OTHER_INTERFACE: "other_interface",
	bpf.DirectorReasonREASON_INTERFACE_GONE:  "interface_gone",
	bpf.DirectorReasonREASON_NO_REDIRECT:     "no_redirect",
	bpf.DirectorReasonREASON_TUNNELLED:       "tunnelled",
	bpf.DirectorReasonREASON_TUNNEL_TOO_BIG:  "tunnel_too_big",
	bpf.DirectorReasonREASON_TUNNEL_SILENT:   "tunnel_silent",
	bpf.DirectorReasonREASON_TUNNEL_FRAGMENT: "tunnel_fragment",
	bpf.DirectorReasonREASON_TUNNEL_NO_ROOM:  "tunnel_no_room",
	bpf.DirectorReasonREASON_QUIC_KEPT:       "quic_kept",
	bpf.DirectorReasonREASON_QUIC_UNKNOWN:    "quic_unknown",
}

// fragmentSentOn counts what early did, beside what the program did.
const fragmentSentOn = "fragment_sent_on"

// Stats implements dataplane.Plane. It has the services and servers of the
// generation in force; a service's counters include those of servers that have
// left it. If an id is taken back just then, one reading may be off.
func (p *Plane) Stats() (dataplane.Stats, error) {
	st, servers, timeouts, err := p.named()
	if err != nil {
		return dataplane.Stats{}, err
	}
	defer p.reading.RUnlock()

	flows, err := p.census(timeouts)
	if err != nil {
		return dataplane.Stats{}, err
	}
	st.CPUs = make([]dataplane.CPUStats, ebpf.MustPossibleCPU())
	for _, s := range servers {
		c, err := p.serverCounters(s.id, st.CPUs)
		if err != nil {
			return dataplane.Stats{}, err
		}
		st.Services[s.key.Service] = add(st.Services[s.key.Service], c)
		if s.listed {
			st.Servers[s.key], st.Conns[s.key] = c, flows.conns[s.id].conns(s.key.Service.Protocol)
		}
	}
	if st.Interfaces, err = p.portCounters(st.Services); err != nil {
		return dataplane.Stats{}, err
	}
	st.Flows, st.FlowTableSize = flows.total, p.cfg.Flows+p.cfg.Flows6
	st.FlowTableBytes = int64(len(p.kernel.flows.raw) + len(p.kernel.flows6.raw))

	var perCPU []bpf.DirectorReasons
	if err := p.kernel.objects.ReasonStats.Lookup(uint32(0), &perCPU); err != nil {
		return dataplane.Stats{}, fmt.Errorf("read reason counters: %w", err)
	}
	for n := range st.CPUs {
		st.CPUs[n].CPU, st.CPUs[n].Reasons = n, map[string]uint64{}
		for i, reason := range reasonNames {
			st.Reasons[reason] += perCPU[n].Count[i]
			st.CPUs[n].Reasons[reason] = perCPU[n].Count[i]
		}
	}
	if p.early != nil {
		st.Reasons[fragmentSentOn] = p.early.sent.Load()
	}
	return st, nil
}

// counted is a server whose counters are to be read.
type counted struct {
	id     uint16
	key    dataplane.ServerKey
	listed bool // in the generation in force
}

// named begins a reading: what there is to count, by name. The slow part, the
// counters and the flow table, comes after it and holds up nobody but Close;
// the caller unlocks p.reading.
func (p *Plane) named() (dataplane.Stats, []counted, *serviceTimeouts, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return dataplane.Stats{}, nil, nil, errClosed
	}
	p.reading.RLock()
	st := dataplane.Stats{
		Services: map[dataplane.ServiceKey]dataplane.Counters{},
		Servers:  map[dataplane.ServerKey]dataplane.Counters{},
		Conns:    map[dataplane.ServerKey]dataplane.Conns{},
		Reasons:  map[string]uint64{},
	}
	for id := range serviceIDs(p.active()) {
		key, _ := p.ids.serviceKey(id)
		st.Services[key] = counters(p.ids.serviceNames[id].Gone)
	}
	var servers []counted
	for name, id := range p.ids.servers {
		key, _ := p.ids.serviceKey(name.service)
		if _, ok := st.Services[key]; ok {
			servers = append(servers, counted{
				id: id, key: dataplane.ServerKey{Service: key, Server: name.addr},
				listed: p.active().Servers[id].Service == name.service,
			})
		}
	}
	return st, servers, p.timeouts(), nil
}

func counters(c bpf.DirectorCounters) dataplane.Counters {
	return dataplane.Counters{Packets: c.Packets, Bytes: c.Bytes, Connections: c.Connections}
}

func add(a, b dataplane.Counters) dataplane.Counters {
	return dataplane.Counters{
		Packets:     a.Packets + b.Packets,
		Bytes:       a.Bytes + b.Bytes,
		Connections: a.Connections + b.Connections,
	}
}

// serverCounters adds up a server's counters over all CPUs, and adds them to
// those of cpus, if there are any.
func (p *Plane) serverCounters(id uint16, cpus []dataplane.CPUStats) (dataplane.Counters, error) {
	var perCPU []bpf.DirectorCounters
	if err := p.kernel.objects.ServerStats.Lookup(uint32(id), &perCPU); err != nil {
		return dataplane.Counters{}, fmt.Errorf("read counters of server id %d: %w", id, err)
	}
	var sum dataplane.Counters
	for i, cpu := range perCPU {
		sum = add(sum, counters(cpu))
		if cpus != nil {
			cpus[i].Counters = add(cpus[i].Counters, counters(cpu))
		}
	}
	return sum, nil
}

// settle books what is left of ids that were taken back: a server's counters
// go to its service, and both start from zero for whoever gets the id next.
func (p *Plane) settle(services, servers []uint16) error {
	zero := make([]bpf.DirectorCounters, ebpf.MustPossibleCPU())
	for _, id := range servers {
		c, err := p.serverCounters(id, nil)
		if err != nil {
			return err
		}
		gone := &p.ids.serviceNames[p.ids.serverNames[id].Service].Gone
		gone.Packets += c.Packets
		gone.Bytes += c.Bytes
		gone.Connections += c.Connections
		if err := p.kernel.objects.ServerStats.Put(uint32(id), zero); err != nil {
			return fmt.Errorf("reset counters of server id %d: %w", id, err)
		}
		atomic.StoreInt64(&p.kernel.loads.elements[0].Of[id], 0)
	}
	for _, id := range services {
		p.kernel.turns.elements[id] = bpf.DirectorTurn{}
	}
	return nil
}
