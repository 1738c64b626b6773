package planetest

import (
	"bytes"
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"systole/dataplane"
	"systole/dataplane/scheduler"
)

// Fake is a plane in memory. It records what it is told, forwards frames like
// a real one, and fails on demand. Its methods may be called from several
// goroutines.
type Fake struct {
	// Own is the MAC address of its interface.
	Own net.HardwareAddr

	mu         sync.Mutex
	now        func() time.Time
	applied    []dataplane.Snapshot
	generation dataplane.Generation
	closed     bool
	applyErr   error
	renewErr   error
	renewed    []time.Duration
	leaseEnd   time.Time
	unlimited  bool
	flows      map[flowKey]*flow
	clients    map[clientKey]*flow
	turns      map[dataplane.ServiceKey]uint64
	stats      dataplane.Stats
}

type flowKey struct {
	client  netip.AddrPort
	port    uint16
	service dataplane.ServiceKey
}

// clientKey names a persistent client: the address that its network has.
type clientKey struct {
	client  netip.Addr
	service dataplane.ServiceKey
}

type flow struct {
	server      netip.Addr
	mac         net.HardwareAddr // as it was last known, for flows that are kept
	seen        time.Time
	established bool // TCP: the client answered
	closed      bool // the client sent FIN or RST
}

var _ dataplane.Plane = (*Fake)(nil)

// NewFake returns a plane whose lease runs by the clock now, time.Now if nil.
func NewFake(now func() time.Time) *Fake {
	if now == nil {
		now = time.Now
	}
	return &Fake{
		Own:     net.HardwareAddr{2, 0, 0, 0, 0, 1},
		now:     now,
		flows:   map[flowKey]*flow{},
		clients: map[clientKey]*flow{},
		turns:   map[dataplane.ServiceKey]uint64{},
		stats: dataplane.Stats{
			Services: map[dataplane.ServiceKey]dataplane.Counters{},
			Servers:  map[dataplane.ServerKey]dataplane.Counters{},
			Reasons:  map[string]uint64{},
		},
	}
}

// FailApply makes Apply fail with err until it is called with nil.
func (f *Fake) FailApply(err error) { f.mu.Lock(); f.applyErr = err; f.mu.Unlock() }

// FailRenew makes Renew fail with err until it is called with nil.
func (f *Fake) FailRenew(err error) { f.mu.Lock(); f.renewErr = err; f.mu.Unlock() }

// Applied are the snapshots put in force, oldest first.
func (f *Fake) Applied() []dataplane.Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.applied)
}

// Last is the snapshot in force; ok is false before the first.
func (f *Fake) Last() (s dataplane.Snapshot, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last(), len(f.applied) > 0
}

func (f *Fake) last() dataplane.Snapshot {
	if len(f.applied) == 0 {
		return dataplane.Snapshot{}
	}
	return f.applied[len(f.applied)-1]
}

// Renewed are the leases granted, oldest first.
func (f *Fake) Renewed() []time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.renewed)
}

// Closed tells whether Close was called.
func (f *Fake) Closed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closed
}

// Info implements dataplane.Plane.
func (f *Fake) Info() dataplane.Info {
	return dataplane.Info{Name: "fake", Mode: "memory", Lease: true}
}

// Apply implements dataplane.Plane.
func (f *Fake) Apply(s dataplane.Snapshot) (dataplane.Generation, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed:
		return 0, fmt.Errorf("%w: it was closed", dataplane.ErrUnavailable)
	case f.applyErr != nil:
		return 0, f.applyErr
	}
	if err := check(s); err != nil {
		return 0, fmt.Errorf("%w: %w", dataplane.ErrInvalid, err)
	}
	f.applied = append(f.applied, clone(s))
	f.generation++
	return f.generation, nil
}

// clone keeps a snapshot from its owner's later changes.
func clone(s dataplane.Snapshot) dataplane.Snapshot {
	s.VIPs, s.Peers = slices.Clone(s.VIPs), slices.Clone(s.Peers)
	s.Services = slices.Clone(s.Services)
	for i := range s.Services {
		s.Services[i].Servers = slices.Clone(s.Services[i].Servers)
		for j := range s.Services[i].Servers {
			r := &s.Services[i].Servers[j]
			r.MAC, r.ServerID = slices.Clone(r.MAC), slices.Clone(r.ServerID)
		}
	}
	return s
}

// check holds what every plane must refuse.
func check(s dataplane.Snapshot) error {
	vips := map[netip.Addr]bool{}
	for _, v := range s.VIPs {
		if !v.Addr.IsValid() || vips[v.Addr] || v.Role > dataplane.Draining {
			return fmt.Errorf("virtual address %s: not valid, or listed twice, or role %s", v.Addr, v.Role)
		}
		vips[v.Addr] = true
	}
	services := map[dataplane.ServiceKey]bool{}
	for _, svc := range s.Services {
		if !vips[svc.VIP] || services[svc.ServiceKey] || svc.LastPort != 0 && svc.LastPort <= svc.Port ||
			(svc.Protocol != dataplane.TCP && svc.Protocol != dataplane.UDP) {
			return fmt.Errorf("service %s: not valid, or listed twice, or without its virtual address", svc.ServiceKey)
		}
		services[svc.ServiceKey] = true
		if _, err := slots(svc); err != nil {
			return fmt.Errorf("service %s: %w", svc.ServiceKey, err)
		}
		servers := map[netip.Addr]bool{}
		for _, r := range svc.Servers {
			if !r.Addr.IsValid() || servers[r.Addr] {
				return fmt.Errorf("service %s: real server %s: not valid or listed twice", svc.ServiceKey, r.Addr)
			}
			servers[r.Addr] = true
		}
	}
	return nil
}

func slots(svc dataplane.Service) ([]int, error) {
	servers := make([]scheduler.Server, len(svc.Servers))
	for i, r := range svc.Servers {
		servers[i].Addr = r.Addr
		if known(r.MAC) {
			servers[i].Weight = r.Weight
		}
	}
	return scheduler.Slots(svc.Scheduler, servers)
}

func known(mac net.HardwareAddr) bool {
	return bytes.ContainsFunc(mac, func(r rune) bool { return r != 0 })
}

// Renew implements dataplane.Plane.
func (f *Fake) Renew(d time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed:
		return fmt.Errorf("%w: it was closed", dataplane.ErrUnavailable)
	case f.renewErr != nil:
		return f.renewErr
	}
	f.renewed = append(f.renewed, d)
	f.unlimited = d == dataplane.Unlimited
	if !f.unlimited {
		f.leaseEnd = f.now().Add(d)
	}
	return nil
}

// Stats implements dataplane.Plane.
func (f *Fake) Stats() (dataplane.Stats, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return dataplane.Stats{}, fmt.Errorf("%w: it was closed", dataplane.ErrUnavailable)
	}
	st := dataplane.Stats{
		Services: map[dataplane.ServiceKey]dataplane.Counters{},
		Servers:  map[dataplane.ServerKey]dataplane.Counters{},
		Conns:    map[dataplane.ServerKey]dataplane.Conns{},
		Reasons:  maps.Clone(f.stats.Reasons),
		Flows:    int64(len(f.flows)),
	}
	for _, svc := range f.last().Services {
		st.Services[svc.ServiceKey] = f.stats.Services[svc.ServiceKey]
		for _, r := range svc.Servers {
			key := dataplane.ServerKey{Service: svc.ServiceKey, Server: r.Addr}
			st.Servers[key] = f.stats.Servers[key]
		}
	}
	for k, fl := range f.flows {
		key := dataplane.ServerKey{Service: k.service, Server: fl.server}
		c := st.Conns[key]
		if k.service.Protocol == dataplane.TCP && !fl.closed {
			c.Active++
		} else {
			c.Inactive++
		}
		st.Conns[key] = c
	}
	return st, nil
}

// Close implements dataplane.Plane.
func (f *Fake) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return nil
}

// Send puts a frame before the plane and tells what became of it.
func (f *Fake) Send(fr Frame) Outcome {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.last()
	v := slices.IndexFunc(s.VIPs, func(v dataplane.VIP) bool { return v.Addr == fr.To.Addr() })
	if v < 0 || !bytes.Equal(fr.Dst, f.Own) {
		return Outcome{Verdict: Passed}
	}
	peer := slices.ContainsFunc(s.Peers, func(mac net.HardwareAddr) bool { return bytes.Equal(mac, fr.Src) })
	ended := !f.unlimited && !f.now().Before(f.leaseEnd)
	leave := func(reason string) Outcome {
		if ended {
			f.stats.Reasons["lease_ended"]++
			return Outcome{Verdict: Dropped}
		}
		f.stats.Reasons[reason]++
		return Outcome{Verdict: Passed}
	}
	if !peer && (ended || s.VIPs[v].Role == dataplane.Standby) {
		return leave("standby")
	}
	svc, ok := service(s, fr)
	if !ok {
		return leave("no_service")
	}
	return f.serve(s, svc, fr, peer, leave)
}

// service is the service of a frame: the one with the narrowest range around
// its port.
func service(s dataplane.Snapshot, fr Frame) (found dataplane.Service, ok bool) {
	best := 1 << 16
	for _, svc := range s.Services {
		first, last := svc.Ports()
		if svc.VIP == fr.To.Addr() && svc.Protocol == fr.Protocol && first <= fr.To.Port() && fr.To.Port() <= last &&
			int(last)-int(first) < best {
			found, ok, best = svc, true, int(last)-int(first)
		}
	}
	return found, ok
}

func (f *Fake) serve(s dataplane.Snapshot, svc dataplane.Service, fr Frame, peer bool, leave func(string) Outcome) Outcome {
	key := flowKey{fr.From, fr.To.Port(), svc.ServiceKey}
	tcp := svc.Protocol == dataplane.TCP
	moves := false
	if fl := f.flows[key]; fl != nil && !svc.OnePacket {
		i := slices.IndexFunc(svc.Servers, func(r dataplane.RealServer) bool { return r.Addr == fl.server })
		r := dataplane.RealServer{Addr: fl.server, MAC: fl.mac}
		if i >= 0 {
			r = svc.Servers[i]
		}
		if (i >= 0 || svc.Lost == dataplane.Keep) && (!fr.Opens() || !fl.closed && !f.expired(svc, fl)) {
			fl.established = fl.established || tcp && !fr.Opens()
			fl.closed = fl.closed || bytes.ContainsAny([]byte(fr.Flags), "FR")
			fl.seen, fl.mac = f.now(), r.MAC
			if c := f.clients[client(svc, fr)]; c != nil && c.server == fl.server {
				c.seen = fl.seen
			}
			return f.forward(svc, r, fr, 0)
		}
		if moves = i < 0 && svc.Lost == dataplane.Reschedule; !fr.Opens() && !moves {
			return leave("server_gone")
		}
	}
	switch {
	case peer:
		return leave("peer_no_flow")
	case fr.Opens() || moves:
	case s.SecondChance && len(s.Peers) > 0:
		f.stats.Reasons["second_chance"]++
		return Outcome{Verdict: Forwarded, To: s.Peers[0]}
	default:
		return leave("no_flow")
	}
	r, ok := named(svc, fr)
	if !ok {
		r, ok = f.schedule(svc, fr)
	}
	if !ok {
		return leave("no_server")
	}
	if !svc.OnePacket {
		f.flows[key] = &flow{server: r.Addr, mac: r.MAC, seen: f.now(), established: moves && tcp}
	}
	return f.forward(svc, r, fr, 1)
}

// Timeouts of IPVS.
const (
	timeoutSyn    = time.Minute
	timeoutTCP    = 15 * time.Minute
	timeoutTCPFin = 2 * time.Minute
	timeoutUDP    = 5 * time.Minute
)

func (f *Fake) expired(svc dataplane.Service, fl *flow) bool {
	limit := cmp.Or(svc.Timeouts.UDP, timeoutUDP)
	if svc.Protocol == dataplane.TCP {
		switch {
		case fl.closed:
			limit = cmp.Or(svc.Timeouts.TCPFin, timeoutTCPFin)
		case fl.established:
			limit = cmp.Or(svc.Timeouts.TCP, timeoutTCP)
		default:
			limit = timeoutSyn
		}
	}
	return f.now().Sub(fl.seen) > limit
}

// client is the key of a frame's client for persistence.
func client(svc dataplane.Service, fr Frame) clientKey {
	addr := fr.From.Addr()
	n := cmp.Or(svc.Persistence.PrefixLen, addr.BitLen())
	network, err := addr.Prefix(n)
	must(err)
	return clientKey{network.Addr(), svc.ServiceKey}
}

// named is the server that a QUIC connection ID names. Only short headers have
// one here: the suite has no Handshake packets.
func named(svc dataplane.Service, fr Frame) (dataplane.RealServer, bool) {
	const id = 2 // behind the first bytes of packet and connection ID
	data, n := fr.payload(), svc.ServerIDLength
	if n == 0 || len(data) < id+n || data[0]&0x80 != 0 || data[1]>>5 == 7 {
		return dataplane.RealServer{}, false
	}
	i := slices.IndexFunc(svc.Servers, func(r dataplane.RealServer) bool { return bytes.Equal(r.ServerID, data[id:id+n]) })
	if i < 0 {
		return dataplane.RealServer{}, false
	}
	return svc.Servers[i], true
}

// schedule chooses the server of a new flow.
func (f *Fake) schedule(svc dataplane.Service, fr Frame) (dataplane.RealServer, bool) {
	key := client(svc, fr)
	if c := f.clients[key]; c != nil && svc.Persistence.Timeout > 0 && f.now().Sub(c.seen) <= svc.Persistence.Timeout {
		if i := slices.IndexFunc(svc.Servers, func(r dataplane.RealServer) bool { return r.Addr == c.server }); i >= 0 {
			c.seen = f.now()
			return svc.Servers[i], true
		}
	}
	table, err := slots(svc)
	if err != nil || len(table) == 0 {
		return dataplane.RealServer{}, false
	}
	turn := f.turns[svc.ServiceKey]
	if scheduler.Least(svc.Scheduler) {
		turn = f.fewest(svc, table)
	} else if scheduler.Hashed(svc.Scheduler) {
		h := fnv.New64a()
		h.Write(fr.From.Addr().AsSlice())
		if slices.Contains(svc.SchedulerFlags, svc.Scheduler+"-port") {
			h.Write([]byte{byte(fr.From.Port() >> 8), byte(fr.From.Port())})
		}
		turn = h.Sum64()
	} else {
		f.turns[svc.ServiceKey]++
	}
	r := svc.Servers[table[turn%uint64(len(table))]]
	if svc.Persistence.Timeout > 0 {
		f.clients[key] = &flow{server: r.Addr, seen: f.now()}
	}
	return r, true
}

// fewest is the slot of the server with the fewest connections.
func (f *Fake) fewest(svc dataplane.Service, table []int) uint64 {
	servers := make([]scheduler.Server, len(table))
	overheads := make([]int64, len(table))
	for i, at := range table {
		r := svc.Servers[at]
		servers[i] = scheduler.Server{Addr: r.Addr, Weight: r.Weight}
		for k, fl := range f.flows {
			switch {
			case k.service != svc.ServiceKey || fl.server != r.Addr || f.expired(svc, fl):
			case svc.Protocol == dataplane.TCP && !fl.closed:
				overheads[i] += scheduler.Overhead(1, 0)
			default:
				overheads[i] += scheduler.Overhead(0, 1)
			}
		}
	}
	return uint64(scheduler.Fewest(svc.Scheduler, servers, overheads))
}

func (f *Fake) forward(svc dataplane.Service, r dataplane.RealServer, fr Frame, connections uint64) Outcome {
	if !known(r.MAC) {
		f.stats.Reasons["no_mac"]++
		return Outcome{Verdict: Dropped}
	}
	count := func(c dataplane.Counters) dataplane.Counters {
		c.Packets++
		c.Bytes += uint64(fr.IPLength())
		c.Connections += connections
		return c
	}
	key := dataplane.ServerKey{Service: svc.ServiceKey, Server: r.Addr}
	f.stats.Servers[key] = count(f.stats.Servers[key])
	f.stats.Services[svc.ServiceKey] = count(f.stats.Services[svc.ServiceKey])
	return Outcome{Verdict: Forwarded, To: r.MAC}
}
