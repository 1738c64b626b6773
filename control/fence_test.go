package control

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"systole/control/config"
	"systole/hb"
	"systole/hb/wire"
)

// beats renews the lease as the heartbeat does.
func beats(t *testing.T, d *Director) {
	beat, stop, ended := time.NewTicker(testDeadtime/3), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-beat.C:
				d.Lease.BeforeBeat(time.Now())
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-ended; beat.Stop() })
}

// pair makes the director the owner of all beside a living peer that is an old
// node and stable.
func (w *world) pair(t *testing.T, d *Director) {
	beats(t, d)
	w.peer = hb.PeerView{Name: "node2", Status: hb.Active, Heard: true, Deadtime: testDeadtime}
	w.events <- hb.NodeChanged{Node: "node2", From: hb.Init, To: hb.Active, Why: "heard"}
	w.events <- hb.Joined{}
	w.hear("resource", "rsc_hold", "none", "rtype", "full", "isstable", "1")
	synctest.Wait()
	time.Sleep(5 * time.Second) // what nobody holds is taken
	synctest.Wait()
}

// jam makes every Del fail, or none.
func (w *world) jam(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.delErr = err
}

// lent is what the plane was granted last.
func (w *world) lent() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.granted
}

// hear delivers a message of the peer.
func (w *world) hear(typ string, kv ...string) {
	w.events <- hb.Delivered{Node: "node2", Message: wire.New(typ, kv...)}
}

// standby asks for a hand-over, which the peer agrees to; the first Release
// fails, and 200 ms later the second.
func (w *world) standby(t *testing.T, d *Director) {
	t.Helper()
	if err := d.Standby(t.Context(), "all"); err != nil {
		t.Fatal(err)
	}
	w.hear("ask_resources", "rsc_hold", "all", "info", "other")
	synctest.Wait()
	time.Sleep(200 * time.Millisecond)
	synctest.Wait()
}

func (w *world) dones() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, typ := range w.sent {
		if typ == "ask_resources" {
			n++
		}
	}
	return n - 1 // the first one was "me"
}

func TestAnAddressThatStaysFencesTheDirector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d, _ := startDirector(t)
		w.pair(t, d)
		if s := status(t, d); s.Holds != "all" || s.Lease != "armed" {
			t.Fatalf("holds %s, lease %s", s.Holds, s.Lease)
		}
		w.jam(errors.New("device busy"))
		w.standby(t, d)
		s := status(t, d)
		if s.Lease != "fenced" || !s.Takeover.Fenced || w.lent() != 0 || s.Health != "critical" || !strings.HasPrefix(s.Problems[0], "fenced:") {
			t.Errorf("lease %s, granted %v, %s: %q", s.Lease, w.lent(), s.Health, s.Problems)
		}
		if !slices.ContainsFunc(s.Events, func(e EventState) bool { return strings.Contains(e.Text, "device busy") }) {
			t.Errorf("no event names the error: %v", s.Events)
		}
		if w.dones() != 1 {
			t.Errorf("handed over %d times behind the fence", w.dones())
		}
		// A beat must not lift it.
		if !d.Lease.BeforeBeat(time.Now()) || w.lent() != 0 {
			t.Errorf("a beat granted %v", w.lent())
		}
		w.hear("ask_resources", "rsc_hold", "all", "info", "done")
		w.hear("resource", "rsc_hold", "all", "rtype", "full", "isstable", "1")
		w.jam(nil)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if s := status(t, d); s.Lease != "armed" || s.Takeover.Fenced || s.Holds != "none" || len(w.here) != 0 {
			t.Errorf("when it was removed: lease %s, holds %s, addresses %v", s.Lease, s.Holds, w.here)
		}
	})
}

// No plane keeps a lease where the address is: the hand-over is held back.
func TestWithoutALeaseAnAddressThatStaysHoldsTheHandOverBack(t *testing.T) {
	for name, prepare := range map[string]func(*world){
		"no lease":          func(w *world) { w.leaseless = true },
		"another interface": func(w *world) { w.cfg.Groups[0].VIPs[0].Interface = "eth1" },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, d, _ := startDirector(t, prepare)
				w.pair(t, d)
				w.jam(errors.New("device busy"))
				w.standby(t, d)
				if s := status(t, d); s.Takeover.Fenced || s.Lease == "fenced" || w.dones() != 0 {
					t.Errorf("lease %s, %d hand-overs", s.Lease, w.dones())
				}
				w.jam(nil)
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if w.dones() != 1 {
					t.Errorf("%d hand-overs when it was removed", w.dones())
				}
			})
		})
	}
}

func TestGroupKeys(t *testing.T) {
	cfg := testConfig()
	cfg.Groups = append(cfg.Groups, config.Group{Name: "db", Preferred: "node2", Haresources: "IPaddr2::192.168.145.102/24/eth0"})
	ours, theirs := groupKeys(cfg)
	if !slices.Equal(ours, []string{"192.168.145.101"}) || !slices.Equal(theirs, []string{"IPaddr2::192.168.145.102/24/eth0"}) {
		t.Errorf("ours %q, theirs %q", ours, theirs)
	}
}
