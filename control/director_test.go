package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"systole/control/config"
	"systole/control/health"
	"systole/control/neighbour"
	"systole/control/takeover"
	"systole/control/vip"
	"systole/dataplane"
	"systole/dataplane/fallback"
	"systole/hb"
	"systole/hb/membership"
	"systole/hb/wire"
)

// world is all that a director touches, and the order in which it did.
type world struct {
	keys             wire.Keys // in the authkeys file
	keysSet          []int     // Send of those that were set
	readErr, keysErr error

	mu     sync.Mutex
	did    []string
	table  dataplane.Snapshot
	refuse error         // of Apply
	slow   time.Duration // an Apply takes it
	gone   bool          // its interface
	both   *fallback.Plane

	inherited []netip.Addr // of a predecessor, until the first Apply
	// interfaces are the plane's, if it has several.
	interfaces []dataplane.Interface

	leaseless bool
	outlives  bool     // the lease does not end with the daemon
	rights    []string // what was granted, and told of it, in order
	addErr    error    // of Add
	delErr    error    // of Del
	granted   time.Duration
	here      map[netip.Addr]bool
	sent      []string

	events  chan hb.Event
	peer    hb.PeerView
	more    hb.View // beside the peer
	save    func(nodes, deleted []string) error
	view    func(membership.View)
	targets map[health.ID]health.Check
	flows   FlowSync
	cfg     *config.Config
	next    *config.Config
	loadErr error
}

func (w *world) note(format string, a ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.did = append(w.did, fmt.Sprintf(format, a...))
}

// take returns what was done since the last call.
func (w *world) take() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := strings.Join(w.did, "; ")
	w.did = nil
	return s
}

// plane

func (w *world) Info() dataplane.Info {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone {
		return dataplane.Info{Name: "fake", Mode: dataplane.Detached, Reason: "interface eth0 is gone", Interface: "eth0", Lease: true}
	}
	return dataplane.Info{Name: "fake", Interface: "eth0", Lease: !w.leaseless, EndsWithDaemon: !w.leaseless && !w.outlives, Inherited: w.inherited, Interfaces: w.interfaces}
}
func (w *world) Apply(s dataplane.Snapshot) (dataplane.Generation, error) {
	time.Sleep(w.slow)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuse != nil {
		return 0, w.refuse
	}
	for i, v := range s.VIPs {
		if i >= len(w.table.VIPs) || w.table.VIPs[i].Role != v.Role {
			w.did = append(w.did, "role "+v.Role.String())
		}
	}
	w.table, w.inherited = s, nil
	return 1, nil
}
func (w *world) Renew(d time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.granted = d
	w.rights = append(w.rights, map[bool]string{true: "unlimited", false: "limited"}[d == dataplane.Unlimited])
	return nil
}
func (w *world) Stats() (dataplane.Stats, error) {
	return dataplane.Stats{Flows: 7, Services: map[dataplane.ServiceKey]dataplane.Counters{http80: {Packets: 3}}}, nil
}
func (w *world) Close() error { return nil }

// servers are the servers in the table that get new connections.
func (w *world) servers() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, s := range w.table.Services[0].Servers {
		out = append(out, fmt.Sprintf("%s=%d", s.Addr, s.Weight))
	}
	return strings.Join(out, " ")
}

// cluster, addresses, neighbours, checks

type fakeCluster struct{ *world }

func (f fakeCluster) Submit(m wire.Message) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sent = append(f.sent, m.Type())
	return nil
}
func (f fakeCluster) SetKeys(k wire.Keys) error {
	if f.keysErr == nil {
		f.keysSet = append(f.keysSet, k.Send)
	}
	return f.keysErr
}
func (f fakeCluster) SetEnds(ends bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rights = append(f.rights, fmt.Sprintf("ends=%v", ends))
	return nil
}
func (f fakeCluster) Beat() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rights = append(f.rights, "beat")
	return nil
}
func (f fakeCluster) Events() <-chan hb.Event { return f.events }
func (f fakeCluster) View() hb.View {
	return hb.View{Node: "node1", Status: hb.Active, Peers: []hb.PeerView{f.peer}, Nodes: f.more.Nodes, Pings: f.more.Pings}
}

func (f fakeCluster) AddNodes(names []string) error {
	f.note("add node %s", strings.Join(names, " "))
	return nil
}
func (f fakeCluster) RemoveNodes(names []string) error { return errors.New("not dead") }

func (w *world) Add(a vip.Addr) error {
	if w.addErr != nil {
		return w.addErr
	}
	w.note("add %s", a.IP)
	w.here[a.IP] = true
	return nil
}
func (w *world) Del(a vip.Addr) error {
	w.mu.Lock()
	err := w.delErr
	w.mu.Unlock()
	if err != nil {
		return err
	}
	w.note("del %s", a.IP)
	delete(w.here, a.IP)
	return nil
}
func (w *world) Present(a vip.Addr) (bool, error) { return w.here[a.IP], nil }
func (w *world) Announce(a vip.Addr)              { w.note("announce %s", a.IP) }

type fakeNeighbours struct{}

func (fakeNeighbours) Set([]netip.Addr) {}

type fakeChecks struct{ *world }

func (f fakeChecks) Set(t map[health.ID]health.Check) { f.targets = maps.Clone(t) }

// startDirector runs a director in a bubble of virtual time; both servers are
// healthy and known.
func startDirector(t *testing.T, prepare ...func(*world)) (*world, *Director, context.CancelFunc) {
	t.Helper()
	w := &world{events: make(chan hb.Event, 64), here: map[netip.Addr]bool{}, cfg: testConfig(), next: testConfig()}
	for _, f := range prepare {
		f(w)
	}
	planes, carriers := []dataplane.Plane{w}, Carriers(nil)
	if w.both != nil {
		planes, carriers = []dataplane.Plane{w.both}, w.both
	}
	d := New(Options{
		Config: w.cfg, Load: func() (*config.Config, error) { return w.next, w.loadErr }, Version: "test",
		Keys:   func() (wire.Keys, error) { return w.keys, w.readErr },
		Planes: planes, Carriers: carriers, Absent: []PlaneState{{Info: dataplane.Info{Name: "ipvs", Reason: "this kernel has no IPVS"}, Absent: true}},
		Cluster: fakeCluster{w}, Addresses: w, Neighbours: fakeNeighbours{}, Checks: fakeChecks{w},
		Lease: NewLease(testDeadtime, w.Renew), Log: slog.New(slog.DiscardHandler), Now: time.Now, SaveNodes: w.save, ViewChanged: w.view, Sync: w.flows,
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		if err := d.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	for _, u := range []neighbour.Update{{Addr: server1, MAC: mac1}, {Addr: server2, MAC: mac2}, {Addr: peerAddr, MAC: macPeer}} {
		d.NeighbourChanged(u)
	}
	w.check(d, server1, nil)
	w.check(d, server2, nil)
	synctest.Wait()
	t.Cleanup(func() {
		cancel()
		d.Kill()
		<-d.done
	})
	return w, d, cancel
}

// check reports a health check's result.
func (w *world) check(d *Director, server netip.Addr, err error) {
	d.HealthChanged(health.Result{ID: health.ID{Service: http80.String(), Server: server}, Up: err == nil, Err: err, At: time.Now()})
}

// alone makes the director the only one: its peer never came.
func (w *world) alone() {
	w.peer = hb.PeerView{Name: "node2", Status: hb.Dead, Age: time.Second}
	w.events <- hb.NodeChanged{Node: "node2", From: hb.Init, To: hb.Dead, Why: "never heard"}
	w.events <- hb.Joined{}
	synctest.Wait()
}

func status(t *testing.T, d *Director) *State {
	t.Helper()
	s, err := d.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAloneTakesEverythingInTheRightOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d, _ := startDirector(t)
		if s := status(t, d); s.Role != "standby" || len(w.here) != 0 {
			t.Fatalf("before the cluster is complete: %s, addresses %v", s.Role, w.here)
		}
		w.take()
		w.alone()
		// A packet must never find the address without a forwarder behind it.
		if got, want := w.take(), "role active; add 192.168.145.101; announce 192.168.145.101"; got != want {
			t.Errorf("did %q, want %q", got, want)
		}
		s := status(t, d)
		if s.Role != "active" || s.Holds != "all" || s.Lease != "unlimited" || s.Groups[0].Owner != "node1" || !s.Groups[0].VIPs[0].Present {
			t.Errorf("state %+v", s)
		}
		if s.Services[0].Counters.Packets != 3 || s.Flows != 7 {
			t.Errorf("counters %+v, flows %d", s.Services[0].Counters, s.Flows)
		}
		if s.Health != "degraded" || !slices.Contains(s.Problems, "node node2 is dead") {
			t.Errorf("health %s, problems %q", s.Health, s.Problems)
		}
	})
}

// Who says that his data plane ends with him is believed as soon as his port is
// closed: it must be true before it is said, and be taken back before it is not.
func TestSaysThatTheDataPlaneEndsOnlyWhileItDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, _ := startDirector(t)
		w.peer = hb.PeerView{Name: "node2", Status: hb.Active, Heard: true}
		w.events <- hb.NodeChanged{Node: "node2", From: hb.Init, To: hb.Active}
		w.events <- hb.Joined{}
		synctest.Wait()
		w.peer.Status = hb.Dead
		w.events <- hb.NodeChanged{Node: "node2", From: hb.Active, To: hb.Dead}
		synctest.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		if got, want := strings.Join(w.rights, " "), "limited ends=true ends=false unlimited"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w, _, _ := startDirector(t, func(w *world) { w.outlives = true })
		w.peer = hb.PeerView{Name: "node2", Status: hb.Active, Heard: true}
		w.events <- hb.NodeChanged{Node: "node2", From: hb.Init, To: hb.Active}
		w.events <- hb.Joined{}
		time.Sleep(time.Minute)
		synctest.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		if slices.Contains(w.rights, "ends=true") {
			t.Errorf("%s, of a plane that outlives the daemon", w.rights)
		}
	})
}

// A lease that has lapsed begins anew with a beat: it is sent at once, not when
// the next is due.
func TestBeatsAtOnceWhenArmedAfterALapse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d, _ := startDirector(t)
		w.peer = hb.PeerView{Name: "node2", Status: hb.Active, Heard: true}
		w.events <- hb.NodeChanged{Node: "node2", From: hb.Init, To: hb.Active}
		w.events <- hb.Joined{}
		synctest.Wait()
		beats := func() (n int) {
			for _, what := range w.rights {
				if what == "beat" {
					n++
				}
			}
			return n
		}
		d.lease(takeover.Lease{Mode: takeover.LeaseArmed})
		if n := beats(); n != 0 {
			t.Errorf("%d beats for a lease that runs", n)
		}
		d.lease(takeover.Lease{Mode: takeover.LeaseSuspended})
		d.lease(takeover.Lease{Mode: takeover.LeaseArmed})
		if n := beats(); n != 1 {
			t.Errorf("%d beats for a lease that begins anew", n)
		}
	})
}

// The first packet of a living peer need not be its status: the cluster is
// complete then, and the peer's groups must not be taken for orphans.
func TestAPeerHeardBeforeItsFirstStatusIsNotAbsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d, _ := startDirector(t)
		w.peer = hb.PeerView{Name: "node2", Status: hb.Init, Heard: true, Age: -1}
		w.events <- hb.Joined{}
		synctest.Wait()
		if s := status(t, d); s.Holds != "none" || len(w.here) != 0 {
			t.Errorf("holds %s, addresses %v", s.Holds, w.here)
		}
	})
}

func TestStopReleasesBeforeItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d, cancel := startDirector(t)
		w.alone()
		w.take()
		cancel()
		<-d.done
		if got := w.take(); !strings.HasPrefix(got, "del 192.168.145.101; role standby") {
			t.Errorf("did %q", got)
		}
		if _, err := d.Status(t.Context()); !errors.Is(err, ErrStopped) {
			t.Errorf("status of a stopped director: %v", err)
		}
	})
}

func TestHealthMovesServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d, _ := startDirector(t)
		w.alone()
		steps := []struct {
			do   func()
			want string
			svc  string
		}{
			{func() {}, "192.168.145.200=1 192.168.145.201=3", "up"},
			{func() { w.check(d, server1, errors.New("status 503, want 2xx")) }, "192.168.145.201=3", "up"},
			{func() { w.check(d, server2, errors.New("refused")) }, "", "empty"},
			{func() { w.check(d, server1, nil) }, "192.168.145.200=1", "up"},
			{func() { _ = d.Quiesce(t.Context(), "192.168.145.200", "", true) }, "192.168.145.200=0", "empty"},
			{func() { _ = d.Quiesce(t.Context(), "192.168.145.200", "", false) }, "192.168.145.200=1", "up"},
		}
		for i, st := range steps {
			st.do()
			synctest.Wait()
			if got := w.servers(); got != st.want {
				t.Errorf("step %d: table %q, want %q", i, got, st.want)
			}
			if s := status(t, d); s.Services[0].State != st.svc {
				t.Errorf("step %d: service is %s, want %s", i, s.Services[0].State, st.svc)
			}
		}
		s := status(t, d)
		if r := s.Services[0].Servers[1].Reason; r != "health check fails: refused" {
			t.Errorf("reason %q", r)
		}
	})
}

// Whoever is told that a server was quiesced sends the next packet to another.
func TestCommandIsAnsweredWhenThePlaneFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d, _ := startDirector(t)
		w.alone()
		w.slow = time.Second
		for _, on := range []bool{true, false} {
			want := "192.168.145.200=1 192.168.145.201=3"
			if on {
				want = "192.168.145.200=0 192.168.145.201=3"
			}
			if err := d.Quiesce(t.Context(), "192.168.145.200", "", on); err != nil {
				t.Fatal(err)
			}
			if got := w.servers(); got != want {
				t.Errorf("quiesced %t: the table is %q when that is said, want %q", on, got, want)
			}
		}
		w.refuse = errors.New("no room")
		if err := d.Quiesce(t.Context(), "192.168.145.200", "", true); err == nil || !strings.Contains(err.Error(), "not in force: no room") {
			t.Errorf("quiesced, and the plane refuses: %v", err)
		}
	})
}

func TestEmptyServiceIsCriticalWhereItIsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d, _ := startDirector(t)
		w.check(d, server1, errors.New("x"))
		w.check(d, server2, errors.New("x"))
		synctest.Wait()
		if s := status(t, d); s.Health != "degraded" {
			t.Errorf("on standby: %s %q", s.Health, s.Problems)
		}
		w.alone()
		if s := status(t, d); s.Health != "critical" {
			t.Errorf("active: %s %q", s.Health, s.Problems)
		}
	})
}

func TestAPlaneThatRefusesKeepsTheOldGeneration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d, _ := startDirector(t)
		w.alone()
		w.mu.Lock()
		w.refuse = errors.New("map full")
		w.mu.Unlock()
		w.check(d, server1, errors.New("down"))
		synctest.Wait()
		s := status(t, d)
		if s.Health != "critical" || s.Planes[0].Error != "map full" || !strings.Contains(s.Problems[0], "generation 1 is still in force") {
			t.Errorf("health %s, plane %+v, problems %q", s.Health, s.Planes[0], s.Problems)
		}
		w.mu.Lock()
		w.refuse = nil
		w.mu.Unlock()
		time.Sleep(1100 * time.Millisecond) // it is asked again, by itself
		synctest.Wait()
		if s := status(t, d); s.Planes[0].Error != "" || w.servers() != "192.168.145.201=3" {
			t.Errorf("not tried again: %+v, table %q", s.Planes[0], w.servers())
		}
	})
}

func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d, _ := startDirector(t)
		w.alone()
		w.take()

		w.loadErr = errors.New("systole.yaml:3:5: unknown key")
		if err := d.Reload(t.Context()); err == nil {
			t.Fatal("a bad config was taken")
		}
		s := status(t, d)
		if s.Config.ReloadOK || s.Config.Error != w.loadErr.Error() || w.servers() != "192.168.145.200=1 192.168.145.201=3" {
			t.Errorf("after a refused reload: %+v, table %q", s.Config, w.servers())
		}

		w.loadErr = nil
		w.next.Cluster.Deadtime *= 2
		if err := d.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "cluster.deadtime") {
			t.Errorf("a key that cannot change live must be named: %v", err)
		}

		w.next = testConfig()
		w.next.Services[0].Servers = w.next.Services[0].Servers[:1]
		other := netip.MustParseAddr("192.168.145.102")
		w.next.Groups[0].VIPs = append(w.next.Groups[0].VIPs, config.VIP{Addr: other, PrefixLen: 32, Interface: "eth0"})
		if err := d.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if w.servers() != "192.168.145.200=1" || !w.here[other] || !w.here[testVIP] || len(w.targets) != 1 {
			t.Errorf("table %q, addresses %v, targets %v", w.servers(), w.here, w.targets)
		}

		// Keys that cannot be read or used stop all of it.
		w.next = testConfig()
		w.keys.Send = 2
		for what, set := range map[string]*error{"authkeys:3: key 1 has no method": &w.readErr, "no usable key": &w.keysErr} {
			*set = errors.New(what)
			if err := d.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), what) {
				t.Errorf("%s: %v", what, err)
			}
			*set = nil
			synctest.Wait()
			if s := status(t, d); s.Config.ReloadOK || !strings.Contains(s.Config.Error, what) || !w.here[other] || len(w.keysSet) != 1 {
				t.Errorf("%s: %+v, keys set %v, addresses %v", what, s.Config, w.keysSet, w.here)
			}
		}

		if err := d.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if !slices.Equal(w.keysSet, []int{0, 2}) {
			t.Errorf("keys set %v", w.keysSet)
		}
		if w.here[other] || !w.here[testVIP] {
			t.Errorf("addresses %v: the one that left the config must go, the other stay", w.here)
		}
		if s := status(t, d); !s.Config.ReloadOK || s.Config.Error != "" {
			t.Errorf("%+v", s.Config)
		}
	})
}

func TestCommandsAreRefusedInClearWords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d, _ := startDirector(t)
		w.alone()
		w.take()
		for name, err := range map[string]error{
			"no such class":        d.Standby(t.Context(), "everything"),
			"nobody to hand to":    d.Standby(t.Context(), "all"),
			"not an address":       d.Quiesce(t.Context(), "server1", "", true),
			"no such server":       d.Quiesce(t.Context(), "10.0.0.1", "", true),
			"no such service":      d.Quiesce(t.Context(), "192.168.145.200", "192.168.145.101:81/tcp", true),
			"nobody to take from":  d.Takeover(t.Context(), "all"),
			"the class of nothing": d.Takeover(t.Context(), "none"),
		} {
			if err == nil {
				t.Errorf("%s: accepted", name)
			}
		}
		if got := w.take(); got != "" {
			t.Errorf("refused commands changed something: %s", got)
		}
	})
}

func TestAnAddressThatCannotBeAddedIsNotClaimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d, _ := startDirector(t)
		w.addErr = errors.New("no such interface: eth0")
		w.alone()
		s := status(t, d)
		found := slices.ContainsFunc(s.Events, func(e EventState) bool { return strings.Contains(e.Text, "no such interface") })
		if s.Role == "active" || !found {
			t.Errorf("role %s, events %v", s.Role, s.Events)
		}
	})
}

func TestAPlaneWithoutLeaseIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d, _ := startDirector(t, func(w *world) { w.leaseless = true })
		w.alone()
		s := status(t, d)
		if s.Lease != "none" || !slices.ContainsFunc(s.Problems, func(p string) bool { return strings.Contains(p, "keeps a lease") }) {
			t.Errorf("lease %s, problems %q", s.Lease, s.Problems)
		}
	})
}
