package metrics

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"systole/control"
	"systole/dataplane"
)

// scrapeTimeout bounds the wait for a State: a stuck director gives a failed
// scrape, which is what should alert.
const scrapeTimeout = 2 * time.Second

// Every metric the director has.
var (
	buildInfo = desc("build_info", "Always 1; the version is the label.", "version")
	startTime = desc("start_time_seconds", "When the daemon started, as a Unix time.")
	healthy   = desc("health", "1 for the director's health: ok, degraded or critical.", "state")
	role      = desc("role", "1 for the role: active, standby or witness.", "state")
	lease     = desc("lease", "1 for how the data plane's lease is kept: ended, armed, unlimited, suspended, fenced, or none.", "state")
	flows     = desc("flows", "Entries of the flow table in use.")
	reasons   = desc("dataplane_packets_total", "Packets not forwarded by a flow, by what became of them.", "reason")

	cpuPackets = desc("dataplane_cpu_packets_total", "Packets forwarded, by CPU.", "cpu")
	cpuReasons = desc("dataplane_cpu_reasons_total", "Packets not forwarded by a flow, by CPU and by what became of them.", "cpu", "reason")

	node     = desc("node_status", "1 for a director's status as heartbeat sees it: init, up, active or dead.", "node", "state")
	lastBeat = desc("node_last_beat_seconds", "Time since the last beat of a director.", "node")
	link     = desc("link_up", "1 if packets arrive from a director on a medium.", "node", "medium")

	linkState    = desc("link_state", "1 for how a director is heard on a medium: up, late or dead.", "node", "medium", "state")
	linkLoss     = desc("link_loss_ratio", "Share of a director's latest packets that did not come on a medium.", "node", "medium")
	linkRTT      = desc("link_rtt_seconds", "Round trip to a director on a medium, smoothed; absent if not known.", "node", "medium")
	linkReceived = desc("link_packets_received_total", "Numbered packets of a director heard on a medium.", "node", "medium")
	linkMissed   = desc("link_packets_missed_total", "Numbered packets of a director not heard on a medium.", "node", "medium")
	linkFailures = desc("link_failures_total", "How often a medium to a director died.", "node", "medium")

	viewNumber  = desc("view_number", "The number of the membership view in force.")
	viewMembers = desc("view_members", "How many nodes are in the view.")
	viewQuorum  = desc("quorum", "1 if our part of the cluster has the quorum.")
	viewSettled = desc("view_settled", "1 if no node outside the view can have the quorum any more.")
	pingNode    = desc("ping_node_up", "1 if a ping node answers.", "node")

	group      = desc("group_role", "1 for our role for a resource group: standby, active or draining.", "group", "state")
	vipPresent = desc("vip_present", "1 if a virtual address is configured on this machine.", "group", "address")

	serviceState   = desc("service_state", "1 for a virtual service's state: up, fallback or empty.", "service", "state")
	servicePlane   = desc("service_plane", "1 for the data plane that carries a service: xdp, ipvs, or none.", "service", "plane")
	servicePackets = desc("service_packets_total", "Packets forwarded.", "service")
	serviceBytes   = desc("service_bytes_total", "Bytes forwarded.", "service")
	serviceConns   = desc("service_connections_total", "Connections scheduled.", "service")

	serverUp      = desc("real_server_up", "1 if a real server's health check passes.", "service", "real_server")
	serverWeight  = desc("real_server_weight", "A real server's weight in the table now; 0: no new connections.", "service", "real_server")
	serverTook    = desc("real_server_check_seconds", "How long the last health check took.", "service", "real_server")
	serverFails   = desc("real_server_check_failures_total", "Health checks that failed.", "service", "real_server")
	serverPackets = desc("real_server_packets_total", "Packets forwarded.", "service", "real_server")
	serverBytes   = desc("real_server_bytes_total", "Bytes forwarded.", "service", "real_server")
	serverConns   = desc("real_server_connections_total", "Connections scheduled.", "service", "real_server")

	planeUp      = desc("dataplane_up", "1 if a data plane follows the director, 0 if it is absent or refused the last change.", "plane", "mode")
	planeGen     = desc("dataplane_generation", "The generation a data plane has in force.", "plane")
	planeLeaving = desc("dataplane_leaving_services", "Services that a data plane carries no more, but whose connections it still has.", "plane")
	planeChoice  = desc("plane_choice", "1 for which data plane the operator wants: auto, xdp or ipvs.", "state")
	planeApply   = desc("dataplane_apply_seconds", "How long the last change of a data plane took.", "plane")

	nicUp    = desc("dataplane_interface_up", "1 for how a data plane is attached to an interface: native, generic or detached.", "plane", "interface", "mode")
	nicPkts  = desc("dataplane_interface_packets_total", "Packets forwarded that came in by an interface, or went out by it.", "interface", "direction")
	nicBytes = desc("dataplane_interface_bytes_total", "Bytes of them.", "interface", "direction")

	reloadOK = desc("config_last_reload_successful", "1 if the last reload was taken, 0 if it was refused.")
	loadTime = desc("config_load_time_seconds", "When the running config was loaded, as a Unix time.")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("systole_"+name, help, labels, nil)
}

// Source is where a scrape's State comes from.
type Source func(context.Context) (*control.State, error)

// Collector gives Prometheus a director's State.
type Collector struct {
	source Source
}

// NewCollector returns a collector that asks source once a scrape.
func NewCollector(source Source) *Collector { return &Collector{source} }

// Describe sends nothing: the label values depend on the config.
func (c *Collector) Describe(chan<- *prometheus.Desc) {}

// Collect renders one State.
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	s, err := c.source(ctx)
	if err != nil {
		out <- prometheus.NewInvalidMetric(buildInfo, err)
		return
	}
	r := renderer{out}
	r.director(s)
	r.cluster(s)
	r.services(s)
	r.planes(s)
	r.sync(s)
}

// renderer turns parts of a State into metrics.
type renderer struct {
	out chan<- prometheus.Metric
}

func (r renderer) gauge(d *prometheus.Desc, v float64, labels ...string) {
	r.out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (r renderer) counter(d *prometheus.Desc, v uint64, labels ...string) {
	r.out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

// state sends one gauge per possible value, so that a query can name any.
func (r renderer) state(d *prometheus.Desc, is string, labels []string, all ...string) {
	for _, s := range all {
		r.gauge(d, flag(s == is), append(append([]string{}, labels...), s)...)
	}
}

func (r renderer) director(s *control.State) {
	r.gauge(buildInfo, 1, s.Version)
	r.gauge(startTime, float64(s.Started.UnixNano())/1e9)
	r.state(healthy, s.Health, nil, "ok", "degraded", "critical")
	r.state(role, s.Role, nil, "active", "standby", control.RoleWitness)
	r.state(lease, s.Lease, nil, "ended", "armed", "unlimited", "suspended", "fenced", "none")
	if s.Flows >= 0 {
		r.gauge(flows, float64(s.Flows))
	}
	for name, n := range s.Reasons {
		r.counter(reasons, n, name)
	}
	for _, c := range s.CPUs {
		cpu := strconv.Itoa(c.CPU)
		r.counter(cpuPackets, c.Counters.Packets, cpu)
		for name, n := range c.Reasons {
			r.counter(cpuReasons, n, cpu, name)
		}
	}
	r.gauge(reloadOK, flag(s.Config.ReloadOK))
	r.gauge(loadTime, float64(s.Config.Loaded.UnixNano())/1e9)
}

func (r renderer) cluster(s *control.State) {
	for _, n := range s.Nodes {
		r.state(node, n.Status, []string{n.Name}, "init", "up", "active", "dead")
		if n.LastBeat >= 0 {
			r.gauge(lastBeat, n.LastBeat.Seconds(), n.Name)
		}
		for _, l := range n.Links {
			r.link(n.Name, l)
		}
	}
	r.gauge(viewNumber, float64(s.View.Number))
	r.gauge(viewMembers, float64(len(s.View.Members)))
	r.gauge(viewQuorum, flag(s.View.Quorum))
	r.gauge(viewSettled, flag(s.View.Settled))
	for _, p := range s.Pings {
		r.gauge(pingNode, flag(p.Status == "ping"), p.Name)
	}
	for _, g := range s.Groups {
		r.state(group, g.Role, []string{g.Name}, "standby", "active", "draining")
		for _, v := range g.VIPs {
			r.gauge(vipPresent, flag(v.Present), g.Name, v.Address)
		}
	}
}

func (r renderer) link(node string, l control.LinkState) {
	r.gauge(link, flag(l.Up), node, l.Medium)
	r.state(linkState, l.State, []string{node, l.Medium}, "up", "late", "dead")
	r.gauge(linkLoss, l.Loss, node, l.Medium)
	if l.RTT > 0 {
		r.gauge(linkRTT, l.RTT.Seconds(), node, l.Medium)
	}
	r.counter(linkReceived, l.Received, node, l.Medium)
	r.counter(linkMissed, l.Missed, node, l.Medium)
	r.counter(linkFailures, l.Failures, node, l.Medium)
}

func (r renderer) services(s *control.State) {
	for _, svc := range s.Services {
		r.state(serviceState, svc.State, []string{svc.Service}, "up", "fallback", "empty")
		carrier := svc.Plane
		if carrier == "" {
			carrier = "none"
		}
		r.state(servicePlane, carrier, []string{svc.Service}, "xdp", "ipvs", "none")
		r.counter(servicePackets, svc.Counters.Packets, svc.Service)
		r.counter(serviceBytes, svc.Counters.Bytes, svc.Service)
		r.counter(serviceConns, svc.Counters.Connections, svc.Service)
		for _, srv := range svc.Servers {
			labels := []string{svc.Service, srv.Address}
			if !srv.Fallback { // it is not checked
				r.gauge(serverUp, flag(srv.Health == "up"), labels...)
				r.gauge(serverTook, srv.CheckTook.Seconds(), labels...)
				r.counter(serverFails, srv.CheckFails, labels...)
			}
			r.gauge(serverWeight, float64(srv.Effective), labels...)
			r.counter(serverPackets, srv.Counters.Packets, labels...)
			r.counter(serverBytes, srv.Counters.Bytes, labels...)
			r.counter(serverConns, srv.Counters.Connections, labels...)
		}
	}
}

func (r renderer) planes(s *control.State) {
	for _, p := range s.Planes {
		r.gauge(planeUp, flag(!p.Absent && p.Error == ""), p.Name, p.Mode)
		if !p.Absent {
			r.gauge(planeGen, float64(p.Generation), p.Name)
			r.gauge(planeApply, p.ApplyTook.Seconds(), p.Name)
			r.gauge(planeLeaving, float64(p.Leaving), p.Name)
		}
		r.interfaces(p)
	}
	if s.PlaneChoice != "" { // a witness has no planes
		r.state(planeChoice, s.PlaneChoice, nil, "auto", "xdp", "ipvs")
	}
}

// interfaces are those of a plane that is attached to some.
func (r renderer) interfaces(p control.PlaneState) {
	for _, i := range p.Interfaces {
		r.state(nicUp, i.Mode, []string{p.Name, i.Name}, "native", "generic", dataplane.Detached)
		if c, ok := p.Traffic[i.Name]; ok {
			r.counter(nicPkts, c.InPackets, i.Name, "in")
			r.counter(nicBytes, c.InBytes, i.Name, "in")
			r.counter(nicPkts, c.OutPackets, i.Name, "out")
			r.counter(nicBytes, c.OutBytes, i.Name, "out")
		}
	}
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Handler is the scrape endpoint: the director's metrics and the Go runtime's.
func Handler(source Source, log *slog.Logger) http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(NewCollector(source), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	})
}
