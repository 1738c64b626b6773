package control

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"systole/control/config"
	"systole/hb"
	"systole/hb/wire"
)

// witnessed makes node3 a witness of the test's cluster.
func witnessed(w *world) {
	w.cfg.Cluster.Witnesses, w.next.Cluster.Witnesses = []string{"node3"}, []string{"node3"}
}

// TestWitnessOwnsNothing: whatever a witness hears, it adds no address, checks
// nothing and sends no word of takeover, and it ends when it is told to.
func TestWitnessOwnsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{events: make(chan hb.Event, 64), cfg: testConfig(), next: testConfig()}
		witnessed(w)
		w.cfg.Node, w.next.Node = "node3", "node3"
		w.cfg.Cluster.Quorum = config.Quorum{Kind: "majority"}
		w.next.Cluster.Quorum = w.cfg.Cluster.Quorum
		lease := NewLease(testDeadtime, w.Renew)
		d := New(Options{
			Config: w.cfg, Load: func() (*config.Config, error) { return w.next, nil }, Version: "test",
			Keys:    func() (wire.Keys, error) { return w.keys, nil },
			Cluster: fakeCluster{w}, Addresses: w, Neighbours: fakeNeighbours{}, Checks: fakeChecks{w},
			Lease: lease, Log: slog.New(slog.DiscardHandler), Now: time.Now,
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- d.Run(ctx) }()
		beats(t, d)
		synctest.Wait()
		w.more.Nodes = []string{"node1", "node2", "node3"}
		w.alone() // and node1 is nobody's either
		w.events <- hb.NodeChanged{Node: "node1", From: hb.Active, To: hb.Dead}
		w.events <- hb.Delivered{Node: "node2", Message: wire.New("resource", "rsc_hold", "none", "rtype", "full", "isstable", "1")}
		time.Sleep(20 * testDeadtime)
		synctest.Wait()
		if err := d.Reload(t.Context()); err != nil {
			t.Errorf("reload: %v", err)
		}
		for name, err := range map[string]error{
			"standby":  d.Standby(t.Context(), "all"),
			"takeover": d.Takeover(t.Context(), "local"),
			"quiesce":  d.Quiesce(t.Context(), server1.String(), "", true),
		} {
			if !errors.Is(err, ErrWitness) || !strings.HasPrefix(err.Error(), name+": node3 is no director (cluster.witnesses)") {
				t.Errorf("%s: %v", name, err)
			}
		}
		if did := w.take(); did != "" || len(w.targets) != 0 || slices.Contains(w.sent, "resource") || slices.Contains(w.rights, "limited") || slices.Contains(w.rights, "unlimited") {
			t.Errorf("it did %q, checks %v, sent %q, granted %q", did, w.targets, w.sent, w.rights)
		}
		s := status(t, d)
		if s.Role != RoleWitness || s.Holds != "none" || s.Lease != "none" || len(s.Groups)+len(s.Services)+len(s.Planes) != 0 || s.Takeover.AtMostOne || s.Takeover.Pings != -1 {
			t.Errorf("%+v", s)
		}
		if !slices.Contains(s.Problems, "no quorum with 1 of 3 votes") || strings.Contains(strings.Join(s.Problems, "\n"), "data plane") || s.Health != "degraded" {
			t.Errorf("%s: %q", s.Health, s.Problems)
		}
		if mode, _ := lease.Mode(); mode != LeaseEnded || !lease.BeforeBeat(time.Now()) {
			t.Errorf("lease %v, or no beat", mode)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("its end: %v", err)
		}
	})
}

// TestWitnessesDoNotConcernTakeover: to a director the witness is in the view
// and in the list of nodes; its life and death move no group and no lease.
func TestWitnessesDoNotConcernTakeover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d, _ := startDirector(t, witnessed)
		w.more.Nodes = []string{"node1", "node2", "node3"}
		w.alone()
		before := status(t, d)
		w.take()
		w.rights = nil
		for _, ev := range []hb.Event{
			hb.NodeChanged{Node: "node3", From: hb.Init, To: hb.Up},
			hb.NodeChanged{Node: "node3", From: hb.Up, To: hb.Active},
			hb.Delivered{Node: "node3", Message: wire.New("resource", "rsc_hold", "all", "rtype", "full", "isstable", "1")},
			hb.NodeChanged{Node: "node3", From: hb.Active, To: hb.Dead, Ended: true, Why: "silent"},
			hb.NodeChanged{Node: "node3", From: hb.Dead, To: hb.Active, Returned: true, Restarted: true},
			hb.NodeChanged{Node: "node3", From: hb.Active, To: hb.Dead},
		} {
			w.events <- ev
			time.Sleep(2 * testDeadtime)
			synctest.Wait()
		}
		after := status(t, d)
		if did := w.take(); did != "" || len(w.rights) != 0 || after.Role != "active" || after.Lease != before.Lease || after.Takeover != before.Takeover {
			t.Errorf("it did %q, granted %q: %s, lease %s, %+v; before: lease %s, %+v", did, w.rights, after.Role, after.Lease, after.Takeover, before.Lease, before.Takeover)
		}
		if len(after.Nodes) != 3 || strings.Contains(strings.Join(after.Problems, "\n"), "run time") {
			t.Errorf("nodes %+v, %q", after.Nodes, after.Problems)
		}
	})
}
