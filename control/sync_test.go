package control

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"systole/dataplane/flowsync"
	"systole/hb"
	"systole/hb/wire"
)

// fakeSync carries nothing.
type fakeSync struct {
	mu    sync.Mutex
	lost  int
	keys  int
	state flowsync.State
}

func (f *fakeSync) State() flowsync.State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}
func (f *fakeSync) PeerLost() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lost++
}
func (f *fakeSync) SetKeys(k wire.Keys) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys = k.Send
	return nil
}

// The peer's death is told to flow synchronisation, its news to takeover, and
// all of it to status.
func TestFlowSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSync{}
		w, d, _ := startDirector(t, func(w *world) { w.flows = f })
		w.peer = hb.PeerView{Name: "node2", Status: hb.Active, Heard: true}
		w.events <- hb.NodeChanged{Node: "node2", From: hb.Init, To: hb.Active}
		w.events <- hb.Joined{}
		synctest.Wait()
		f.state = flowsync.State{Peer: true, InSync: true, Stats: flowsync.Stats{Resent: 5}}
		d.FlowsChanged(f.state)
		synctest.Wait()
		s := status(t, d)
		if s.Sync == nil || !s.Sync.InSync || s.Sync.Resent != 5 {
			t.Errorf("%+v", s.Sync)
		}
		told := func(text string) bool {
			for _, e := range status(t, d).Events {
				if strings.Contains(e.Text, text) {
					return true
				}
			}
			return false
		}
		if !told("the other director has our flow table") {
			t.Error("nobody is told of the flow table")
		}
		if f.lost != 0 {
			t.Errorf("lost %d times", f.lost)
		}
		w.events <- hb.NodeChanged{Node: "node2", From: hb.Active, To: hb.Dead}
		w.events <- hb.NodeChanged{Node: "node3", From: hb.Active, To: hb.Dead} // another one's
		synctest.Wait()
		w.events <- hb.NodeChanged{Node: "node2", From: hb.Active, To: hb.Up, Restarted: true}
		synctest.Wait()
		if f.lost != 2 {
			t.Errorf("lost %d times, want by a death and by a restart", f.lost)
		}
		d.FlowsChanged(flowsync.State{})
		synctest.Wait()
		if !told("has not all of our flow table any more") {
			t.Error("nobody is told that the flow table is lost")
		}
		w.keys = wire.Keys{Send: 3}
		if err := d.Reload(t.Context()); err != nil || f.keys != 3 {
			t.Errorf("reload: key %d, %v", f.keys, err)
		}
	})
}

func TestFlowSyncWithoutItsPeerIsAProblem(t *testing.T) {
	f := &fakeSync{}
	d := &Director{Options: Options{Sync: f}}
	at := time.Unix(1e9, 0)
	for _, tt := range []struct {
		systole, peer bool
		up            time.Duration
		want          int
	}{{true, false, time.Minute, 1}, {true, false, time.Second, 0}, {false, false, time.Minute, 0}, {true, true, time.Minute, 0}} {
		f.state.Peer = tt.peer
		s := &State{Health: "ok", Started: at, At: at.Add(tt.up), Takeover: TakeoverState{PeerSystole: tt.systole}}
		d.countFlows(s)
		if len(s.Problems) != tt.want || (s.Health == "degraded") != (tt.want == 1) {
			t.Errorf("%+v: %s, %q", tt, s.Health, s.Problems)
		}
	}
	without := &State{}
	(&Director{}).countFlows(without)
	if without.Sync != nil {
		t.Errorf("%+v", without.Sync)
	}
}
