package control

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"systole/control/config"
	"systole/hb"
	"systole/hb/membership"
	"systole/hb/wire"
)

// report is what node2 says of the view of both.
func report(serial string, accepted, installed string) hb.Delivered {
	return hb.Delivered{Node: "node2", Message: wire.New("systole-view", "about", "node2", "gen", "1", "serial", serial, "votes", "2",
		"alive", "node1 node2", "accepted", accepted, "members", "node1 node2", "installed", installed)}
}

// TestViewAndQuorum: two directors agree; when one dies the other's view says
// so and, by this rule, it has the quorum no more.
func TestViewAndQuorum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []string
		w, d, _ := startDirector(t, func(w *world) {
			w.cfg.Cluster.Quorum = config.Quorum{Kind: "majority"}
			w.view = func(v membership.View) { told = append(told, fmt.Sprint(v.Number, v.Members, v.Quorum)) }
		})
		beats(t, d)
		if s := status(t, d); s.View.Quorum || !slices.Contains(s.Problems, "no quorum with 1 of 2 votes") {
			t.Errorf("alone: %+v, %q", s.View, s.Problems)
		}
		w.peer = hb.PeerView{Name: "node2", Status: hb.Up, Heard: true, Systole: true}
		w.events <- hb.NodeChanged{Node: "node2", From: hb.Init, To: hb.Up}
		w.events <- report("1", "5:1:node2", "5:1:node2")
		time.Sleep(testDeadtime)
		synctest.Wait()
		// We are the coordinator, and its number is the highest so far.
		echoed := report("2", "6:1:node1", "5:1:node2")
		echoed.Message.Set("echo", "node1:2")
		w.events <- echoed
		synctest.Wait()
		s := status(t, d)
		if s.View.Number != 6 || s.View.Coordinator != "node1" || !slices.Equal(s.View.Members, []string{"node1", "node2"}) || !s.View.Quorum || !s.View.Settled {
			t.Errorf("together: %+v", s.View)
		}
		if !slices.Contains(w.sent, "systole-view") {
			t.Errorf("sent only %q", w.sent)
		}
		w.peer.Status = hb.Dead
		w.events <- hb.NodeChanged{Node: "node2", From: hb.Up, To: hb.Dead}
		synctest.Wait()
		if s := status(t, d); s.View.Number != 7 || s.View.Quorum || !slices.Equal(s.View.Members, []string{"node1"}) {
			t.Errorf("after its death: %+v", s.View)
		}
		if all := strings.Join(told, "; "); !strings.HasPrefix(all, "1 [node1] false; ") || !strings.HasSuffix(all, "6 [node1 node2] true; 7 [node1] false") {
			t.Errorf("told of the views %s", all)
		}
		w.events <- hb.Delivered{Node: "node2", Message: wire.New("systole-view", "about", "node2", "gen", "x")}
		synctest.Wait()
		if s := status(t, d); !strings.Contains(s.Events[len(s.Events)-1].Text, "field gen") {
			t.Errorf("a bad report: %+v", s.Events)
		}
	})
}

// TestOthersAreNotThePeer: ping nodes, and nodes that were added, are shown; who
// owns what does not concern them.
func TestOthersAreNotThePeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var saved string
		w, d, _ := startDirector(t, func(w *world) {
			w.cfg.Cluster.Quorum = config.Quorum{Kind: "tie_breaker", TieBreaker: "gw"}
			w.save = func(nodes, deleted []string) error {
				saved = strings.Join(nodes, " ") + " | " + strings.Join(deleted, " ")
				return nil
			}
		})
		w.alone()
		w.take()
		w.events <- hb.NodeChanged{Node: "gw", Ping: true, From: hb.Init, To: hb.Ping}
		synctest.Wait()
		if s := status(t, d); !s.View.Quorum || s.Role != "active" {
			t.Errorf("with the tie-breaker: %s, %+v", s.Role, s.View)
		}
		w.more = hb.View{
			Nodes: []string{"node1", "node2", "node3"},
			Pings: []hb.PingView{{Name: "gw", Status: hb.Dead, Age: time.Second}},
		}
		w.events <- hb.NodeChanged{Node: "gw", Ping: true, From: hb.Ping, To: hb.Dead}
		w.events <- hb.NodesChanged{Added: []string{"node3"}, Nodes: w.more.Nodes, Deleted: []string{"x"}, By: "node1"}
		w.events <- hb.NodeChanged{Node: "node3", From: hb.Init, To: hb.Active}
		w.events <- hb.Delivered{Node: "node3", Message: wire.New("resource", "rsc_hold", "all", "rtype", "full", "isstable", "1")}
		synctest.Wait()
		s := status(t, d)
		if s.Role != "active" || s.Takeover.PeerHolds != "none" || w.take() != "" {
			t.Errorf("%s, the peer holds %s", s.Role, s.Takeover.PeerHolds)
		}
		if len(s.Nodes) != 3 || len(s.Pings) != 1 || s.Pings[0].Status != "dead" || saved != "node1 node2 node3 | x" {
			t.Errorf("%+v, %+v, saved %q", s.Nodes, s.Pings, saved)
		}
		all := strings.Join(s.Problems, "\n")
		for _, want := range []string{"no quorum with 1 of 3 votes", "ping node gw is dead", "node node3 was added at run time"} {
			if !strings.Contains(all, want) {
				t.Errorf("no problem %q in\n%s", want, all)
			}
		}
		if err := d.AddNodes(t.Context(), []string{"node4"}); err != nil || !strings.Contains(w.take(), "add node node4") {
			t.Errorf("add: %v", err)
		}
		if err := d.RemoveNodes(t.Context(), []string{"node4"}); err == nil {
			t.Error("a refusal is not passed on")
		}
	})
}

// TestQuorumIsToldToTakeover: with at most one, who has no quorum owns nothing.
func TestQuorumIsToldToTakeover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d, _ := startDirector(t, func(w *world) {
			w.cfg.Cluster.Partition = config.AtMostOne
			w.cfg.Cluster.Quorum = config.Quorum{Kind: "tie_breaker", TieBreaker: "gw"}
		})
		beats(t, d)
		w.alone()
		time.Sleep(10 * testDeadtime)
		synctest.Wait()
		if s := status(t, d); s.Role != "standby" {
			t.Errorf("without quorum: %s", s.Role)
		}
		w.more.Pings = []hb.PingView{{Name: "gw", Status: hb.Ping}}
		w.events <- hb.NodeChanged{Node: "gw", Ping: true, From: hb.Init, To: hb.Ping}
		time.Sleep(10 * testDeadtime)
		synctest.Wait()
		if s := status(t, d); s.Role != "active" || s.Takeover.Pings != 1 {
			t.Errorf("with quorum: %s, %+v", s.Role, s.Takeover)
		}
		w.more.Pings[0].Status = hb.Dead
		w.events <- hb.NodeChanged{Node: "gw", Ping: true, From: hb.Ping, To: hb.Dead}
		synctest.Wait()
		if s := status(t, d); s.Role != "standby" || len(w.here) != 0 {
			t.Errorf("quorum lost: %s, %v", s.Role, w.here)
		}
	})
}

// TestRemovedStops: a director that another took off the list lets go.
func TestRemovedStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d, _ := startDirector(t)
		w.alone()
		w.events <- hb.Removed{By: "node2"}
		<-d.done
		if len(w.here) != 0 {
			t.Errorf("addresses left: %v", w.here)
		}
	})
}
