package control

import (
	"time"

	"systole/control/vip"
	"systole/dataplane"
	"systole/dataplane/flowsync"
)

// State is all there is to know about a director at one moment. The JSON form
// is the documented, stable form of `systole status --json`.
type State struct {
	Node    string    `json:"node"`
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	At      time.Time `json:"at"`

	// Health is "ok", "degraded" (serving, but something wants attention) or
	// "critical" (a virtual service of ours has nobody to serve it, or a data
	// plane is not in force); Problems says what, worst first.
	Health   string   `json:"health"`
	Problems []string `json:"problems"`

	Role     string        `json:"role"`  // "active", "standby", "witness"
	Holds    string        `json:"holds"` // heartbeat's word: "none", "local", "foreign", "all"
	Lease    string        `json:"lease"` // "armed", "unlimited", "suspended", "fenced", "ended"; "none": no plane keeps one
	Takeover TakeoverState `json:"takeover"`

	Nodes    []NodeState    `json:"nodes"`
	View     ViewState      `json:"view"`
	Pings    []PingState    `json:"ping_nodes"`
	Groups   []GroupState   `json:"groups"`
	Services []ServiceState `json:"services"`
	Planes   []PlaneState   `json:"planes"`
	// PlaneChoice is the operator's: "auto", "xdp", "ipvs".
	PlaneChoice string      `json:"plane_choice"`
	Config      ConfigState `json:"config"`

	// Reasons counts packets of the primary plane that were not forwarded by
	// a flow, by what became of them.
	Reasons map[string]uint64 `json:"reasons"`
	// CPUs are the primary plane's counters by CPU, if it can tell them.
	CPUs  []dataplane.CPUStats `json:"cpus,omitempty"`
	Flows int64                `json:"flows"` // -1: not known

	FlowTableSize  int   `json:"flow_table_size"`  // entries
	FlowTableBytes int64 `json:"flow_table_bytes"` // of memory; 0: not known

	Sync *flowsync.State `json:"sync,omitempty"` // nil: no flows are carried to the other director

	Events []EventState `json:"events"` // the latest, oldest first
}

// TakeoverState is the ownership state machine's view.
type TakeoverState struct {
	State        string `json:"state"`      // of a witness: "none"
	PeerHolds    string `json:"peer_holds"` // in its words: "local" are its own groups
	PeerStable   bool   `json:"peer_stable"`
	PeerSystole  bool   `json:"peer_systole"`
	Epoch        uint64 `json:"epoch"`
	Standby      string `json:"standby"` // hand-over: "idle", or its phase: "asked", "giving", "promised", "taking"
	AutoFailback bool   `json:"auto_failback"`

	Legacy    bool          `json:"legacy"`      // the peer is spoken to as auto_failback legacy has it
	Fenced    bool          `json:"fenced"`      // an address could not be removed: we answer for nothing
	AtMostOne bool          `json:"at_most_one"` // nothing is owned without quorum
	Quorum    bool          `json:"quorum"`      // means nothing unless AtMostOne
	Waits     time.Duration `json:"waits_ns"`    // until a dead peer's groups may be taken; 0: nothing waits
	Pings     int           `json:"pings"`       // ping nodes alive; -1: none configured
	PeerPings int           `json:"peer_pings"`  // at the peer; -1: not known
}

// NodeState is one node as heartbeat sees it.
type NodeState struct {
	Name       string        `json:"name"`
	Self       bool          `json:"self"`
	Status     string        `json:"status"`       // "init", "up", "active", "dead"
	Generation uint64        `json:"generation"`   // of its heartbeat daemon
	LastBeat   time.Duration `json:"last_beat_ns"` // -1: none yet, or ourselves
	Deadtime   time.Duration `json:"deadtime_ns"`  // as it announced
	Links      []LinkState   `json:"links"`
}

// ViewState is who is in the cluster, as its nodes have agreed.
type ViewState struct {
	Number      uint64   `json:"number"`
	Coordinator string   `json:"coordinator"`
	Members     []string `json:"members"`
	Old         []string `json:"old"` // members that take no part in the agreement
	Quorum      bool     `json:"quorum"`
	Settled     bool     `json:"settled"` // and no node outside has it any more
	Why         string   `json:"why"`     // quorum in words
}

// PingState is a ping node.
type PingState struct {
	Name   string        `json:"name"`
	Status string        `json:"status"` // "init", "ping", "dead"
	Age    time.Duration `json:"age_ns"` // of its last answer; -1: none yet
}

// LinkState is one medium to one node, judged on its own.
type LinkState struct {
	Medium string        `json:"medium"`
	Up     bool          `json:"up"`     // State is "up"
	State  string        `json:"state"`  // "up", "late" or "dead"
	Age    time.Duration `json:"age_ns"` // since the last packet; -1: never
	// Loss is the share of the node's latest packets that did not come on this
	// medium; RTT the smoothed round trip on it, 0 if not known, as to a node of
	// the old heartbeat.
	Loss     float64       `json:"loss"`
	RTT      time.Duration `json:"rtt_ns"`
	Received uint64        `json:"received"` // numbered packets heard on it
	Missed   uint64        `json:"missed"`   // of those sent meanwhile not heard on it
	Failures uint64        `json:"failures"` // how often it went from up or late to dead
}

// GroupState is a resource group as this director sees it.
type GroupState struct {
	Name      string     `json:"name"`
	Preferred string     `json:"preferred"`
	Owner     string     `json:"owner"` // node name, "" if nobody known
	Role      string     `json:"role"`  // ours: "standby", "active", "draining"
	VIPs      []VIPState `json:"vips"`
}

// VIPState is one virtual address.
type VIPState struct {
	Address   string `json:"address"` // with prefix length
	Interface string `json:"interface"`
	Present   bool   `json:"present"` // configured on this machine

	addr vip.Addr
}

// ServiceState is a virtual service.
type ServiceState struct {
	Service   string               `json:"service"` // "192.168.145.101:80/tcp"
	Scheduler string               `json:"scheduler"`
	State     string               `json:"state"` // "up", "fallback", "empty"
	Servers   []ServerState        `json:"servers"`
	Plane     string               `json:"plane"`               // which carries it: "xdp", "ipvs"; "": none
	PlaneWhy  string               `json:"plane_why,omitempty"` // why not the one that is preferred, or none
	Counters  dataplane.Counters   `json:"counters"`
	Key       dataplane.ServiceKey `json:"-"`
	ServiceSettings
}

// ServerState is a real server of a service.
type ServerState struct {
	Address    string             `json:"address"`
	Weight     uint32             `json:"weight"`    // configured
	Effective  uint32             `json:"effective"` // in the table now
	InTable    bool               `json:"in_table"`
	Fallback   bool               `json:"fallback,omitempty"`
	Health     string             `json:"health"` // "up", "down", "unknown"
	Quiesced   bool               `json:"quiesced"`
	MAC        string             `json:"mac,omitempty"`
	Reason     string             `json:"reason,omitempty"` // why it gets no new connections
	CheckTook  time.Duration      `json:"check_took_ns"`
	LastCheck  time.Time          `json:"last_check,omitzero"`
	CheckFails uint64             `json:"check_failures"`
	Counters   dataplane.Counters `json:"counters"`
	Conns      dataplane.Conns    `json:"conns"`
	ServerSettings

	key dataplane.ServerKey
}

// PlaneState is one data plane.
type PlaneState struct {
	dataplane.Info
	// Traffic is by interface: what came in and was forwarded, and went out.
	Traffic    map[string]dataplane.InterfaceCounters `json:"traffic,omitempty"`
	Generation dataplane.Generation                   `json:"generation"`
	Applied    time.Time                              `json:"applied,omitzero"`
	ApplyTook  time.Duration                          `json:"apply_took_ns"`
	Error      string                                 `json:"error,omitempty"` // of the last Apply; the old generation stays in force
	Absent     bool                                   `json:"absent,omitempty"`
	// Leaving are services it carries no more, but whose connections it has.
	Leaving int `json:"leaving,omitempty"`
}

// ConfigState is what became of the configuration file.
type ConfigState struct {
	File       string    `json:"file"`
	Loaded     time.Time `json:"loaded"`
	LastReload time.Time `json:"last_reload,omitzero"`
	ReloadOK   bool      `json:"reload_ok"`
	Error      string    `json:"error,omitempty"` // of the last reload; the old config stays in force
}

// EventState is one line of the director's recent history.
type EventState struct {
	At   time.Time `json:"at"`
	Kind string    `json:"kind"` // "cluster", "takeover", "health", "dataplane", "config", "operator"
	Text string    `json:"text"`
}
