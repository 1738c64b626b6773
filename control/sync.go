package control

import (
	"log/slog"
	"time"

	"systole/control/takeover"
	"systole/dataplane/flowsync"
	"systole/hb/wire"
)

// FlowSync carries the flow table to the other director.
type FlowSync interface {
	State() flowsync.State
	// PeerLost says that what the other director had may be gone with it. It
	// does not wait, nor does SetKeys.
	PeerLost()
	SetKeys(wire.Keys) error
}

// FlowsChanged takes the news of the flow table at the peer; for
// flowsync.Options.
func (d *Director) FlowsChanged(s flowsync.State) {
	d.send(func() {
		if s.InSync != d.flowsThere {
			d.flowsThere = s.InSync
			if s.InSync {
				d.event("cluster", slog.LevelInfo, "the other director has our flow table")
			} else {
				d.event("cluster", slog.LevelWarn, "the other director has not all of our flow table any more")
			}
		}
		d.step(takeover.Flows{There: s.InSync})
	})
}

// countFlows puts the synchronisation's part into s. It may have to wait for a
// sweep, so not from the loop.
func (d *Director) countFlows(s *State) {
	if d.Sync == nil {
		return
	}
	st := d.Sync.State()
	s.Sync = &st
	// Where the heartbeat hears a Systole director, so should this.
	if s.Takeover.PeerSystole && !st.Peer && s.At.Sub(s.Started) > syncPatience {
		s.Problems = append(s.Problems, "no flow synchronisation with the other director: if this one dies its connections are cut; is sync in the other's config, the port open, the authkeys the same?")
		if s.Health == "ok" {
			s.Health = "degraded"
		}
	}
}

// syncPatience is how long directors that start have to find each other.
const syncPatience = 10 * time.Second
