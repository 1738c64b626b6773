package fallback

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"systole/dataplane"
	"systole/dataplane/planetest"
)

// nic is an XDP plane in memory whose interface can go.
type nic struct {
	*planetest.Fake
	mu   sync.Mutex
	gone bool
}

func (n *nic) detach(gone bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.gone = gone
	if gone {
		n.FailApply(dataplane.ErrUnavailable)
	} else {
		n.FailApply(nil)
	}
}

func (n *nic) Info() dataplane.Info {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.gone {
		return dataplane.Info{Name: "xdp", Mode: dataplane.Detached, Interface: "eth0", Reason: "interface eth0 is gone", Lease: true}
	}
	return dataplane.Info{Name: "xdp", Mode: "native", Interface: "eth0", Lease: true, EndsWithDaemon: true}
}

// table is IPVS in memory: it keeps no lease.
type table struct{ *planetest.Fake }

func (table) Info() dataplane.Info      { return dataplane.Info{Name: "ipvs"} }
func (table) Renew(time.Duration) error { return dataplane.ErrNoLease }

// pair is the plane of both and its surroundings: XDP lacks wrr.
type pair struct {
	*Plane
	t    *testing.T
	xdp  *nic
	ipvs table
	at   time.Time
	snap dataplane.Snapshot
}

var (
	serverMAC = net.HardwareAddr{2, 0, 0, 0, 1, 1}
	serverIP  = netip.MustParseAddr("192.0.2.200")
)

func newPair(t *testing.T) *pair {
	p := &pair{t: t, at: time.Unix(1e9, 0)}
	now := func() time.Time { return p.at }
	p.xdp, p.ipvs = &nic{Fake: planetest.NewFake(now)}, table{planetest.NewFake(now)}
	if err := p.ipvs.Fake.Renew(dataplane.Unlimited); err != nil { // it forwards always
		t.Fatal(err)
	}
	p.Plane = New(Config{
		XDP:  Member{Name: "xdp", Carries: without("xdp", "wrr"), Plane: p.xdp},
		IPVS: Member{Name: "ipvs", Carries: without("ipvs"), Plane: p.ipvs},
		Log:  slog.New(slog.DiscardHandler), Now: now,
	})
	p.snap = dataplane.Snapshot{
		VIPs:     []dataplane.VIP{{Addr: vip, Role: dataplane.Active}},
		Services: []dataplane.Service{service(80, "rr"), service(81, "wrr")},
	}
	for i := range p.snap.Services {
		p.snap.Services[i].Servers = []dataplane.RealServer{{Addr: serverIP, Weight: 5, MAC: serverMAC}}
	}
	return p
}

func (p *pair) apply() {
	p.t.Helper()
	if _, err := p.Apply(p.snap); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pair) choose(c Choice) {
	p.t.Helper()
	if err := p.Choose(c); err != nil {
		p.t.Fatal(err)
	}
	p.apply()
}

// tend lets time pass, and does what Tend asks for.
func (p *pair) tend() bool {
	p.t.Helper()
	p.at = p.at.Add(lookPeriod)
	again := p.Tend()
	for p.counting() { // it is told with the next call
		again = p.Tend() || again
	}
	if again {
		p.apply()
	}
	return again
}

func (p *pair) counting() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.members[0].counts != nil || p.members[1].counts != nil
}

// has is what a fake was last told: "80=5 81=0", ports and weights.
func has(f *planetest.Fake) string {
	s, _ := f.Last()
	var out []string
	for _, svc := range s.Services {
		text := fmt.Sprint(svc.Port)
		for _, r := range svc.Servers {
			text += fmt.Sprintf("=%d", r.Weight)
		}
		out = append(out, text)
	}
	return strings.Join(out, " ")
}

func (p *pair) want(xdp, ipvs, carried string) {
	p.t.Helper()
	r := p.Report()
	var got []string
	for _, s := range p.snap.Services {
		c := r.Carriages[s.ServiceKey]
		text := c.Plane
		if c.Why != "" {
			text += ": " + c.Why
		}
		got = append(got, text)
	}
	if x, i, c := has(p.xdp.Fake), has(p.ipvs.Fake), strings.Join(got, " | "); x != xdp || i != ipvs || c != carried {
		p.t.Errorf("xdp %q, ipvs %q, carried %q; want %q, %q, %q", x, i, c, xdp, ipvs, carried)
	}
}

const lacksWRR = "ipvs: the xdp plane has no scheduler wrr"

func (p *pair) frame(f *planetest.Fake, client, port uint16, flags string) planetest.Outcome {
	return f.Send(planetest.Frame{
		From: netip.AddrPortFrom(netip.MustParseAddr("198.51.100.1"), client), To: netip.AddrPortFrom(vip, port),
		Protocol: dataplane.TCP, Flags: flags, Dst: f.Own,
	})
}

func TestEachServiceHasItsPlane(t *testing.T) {
	p := newPair(t)
	p.apply()
	p.want("80=5", "80=5 81=5", "xdp | "+lacksWRR)
	if i := p.Info(); i.Name != "xdp" || !i.Lease {
		t.Errorf("%+v", i)
	}
}

// The operator sends XDP's connections to IPVS and back: what began in a plane
// ends there.
func TestChoice(t *testing.T) {
	p := newPair(t)
	if err := p.Renew(dataplane.Unlimited); err != nil {
		t.Fatal(err)
	}
	p.apply()
	p.frame(p.xdp.Fake, 1, 80, "S")
	p.frame(p.xdp.Fake, 1, 80, "A")

	p.choose(IPVS)
	p.want("80=0", "80=5 81=5", "ipvs: chosen by the operator | "+lacksWRR)
	if got := p.frame(p.xdp.Fake, 1, 80, "A"); got.Verdict != planetest.Forwarded {
		t.Errorf("xdp's connection: %v", got)
	}
	if got := p.frame(p.xdp.Fake, 2, 80, "S"); got.Verdict != planetest.Passed {
		t.Errorf("a new connection: %v", got)
	}
	p.frame(p.ipvs.Fake, 2, 80, "S")
	p.frame(p.ipvs.Fake, 2, 80, "A")
	if p.tend() {
		t.Error("a connection is left in xdp, and it was not waited for")
	}
	if m := p.Report().Members[0]; m.Leaving != 1 {
		t.Errorf("%+v", m)
	}

	// Back: IPVS goes on with its connection.
	p.snap.SecondChance, p.snap.Peers = true, []net.HardwareAddr{{2, 0, 0, 0, 9, 9}}
	p.choose(Auto)
	p.want("80=5", "80=5 81=5", "xdp | "+lacksWRR)
	if got := p.frame(p.xdp.Fake, 2, 80, "A"); got.Verdict != planetest.Passed {
		t.Errorf("ipvs's connection: %v: it must not go to a peer", got)
	}
	if got := p.frame(p.ipvs.Fake, 2, 80, "FA"); got.Verdict != planetest.Forwarded {
		t.Errorf("ipvs's connection: %v", got)
	}
	if !p.tend() { // the last of them has been closed
		t.Error("second chances stay off")
	}
	if got := p.frame(p.xdp.Fake, 3, 80, "A"); got.Verdict != planetest.Forwarded {
		t.Errorf("a segment for the peer: %v", got)
	}

	p.choose(XDP)
	p.want("80=5", "80=0 81=5", "xdp | "+lacksWRR)
	if got := p.frame(p.ipvs.Fake, 4, 80, "S"); got.Verdict != planetest.Passed {
		t.Errorf("%v", got)
	}
}

// A plane forgets a service when the last connection of it has ended.
func TestLeavingEnds(t *testing.T) {
	p := newPair(t)
	p.apply()
	p.choose(IPVS)
	p.want("80=0", "80=5 81=5", "ipvs: chosen by the operator | "+lacksWRR)
	if !p.tend() {
		t.Error("nothing was left, and it stays")
	}
	p.want("", "80=5 81=5", "ipvs: chosen by the operator | "+lacksWRR)
	if m := p.Report().Members[0]; m.Leaving != 0 {
		t.Errorf("%+v", m)
	}
}

// What was counted before a service began to leave says nothing of it.
func TestCountsOfAnEarlierGeneration(t *testing.T) {
	p := newPair(t)
	p.apply()
	p.choose(IPVS)
	p.at = p.at.Add(lookPeriod)
	p.Tend() // counts
	p.apply()
	for p.counting() {
		if p.Tend() {
			t.Error("something was forgotten")
		}
	}
	p.want("80=0", "80=5 81=5", "ipvs: chosen by the operator | "+lacksWRR)
}

// Another scheduler, which XDP lacks: its servers keep their connections there
// as long as they are in the service.
func TestReloadMovesAService(t *testing.T) {
	p := newPair(t)
	other := netip.MustParseAddr("192.0.2.201")
	p.snap.Services[0].Servers = append(p.snap.Services[0].Servers, dataplane.RealServer{Addr: other, Weight: 3, MAC: serverMAC})
	p.apply()
	p.want("80=5=3", "80=5=3 81=5", "xdp | "+lacksWRR)
	moved := p.snap.Services[0]
	moved.Scheduler, moved.Servers = "wrr", []dataplane.RealServer{{Addr: serverIP, Weight: 9, MAC: net.HardwareAddr{2, 0, 0, 0, 7, 7}}}
	p.snap.Services = []dataplane.Service{moved, p.snap.Services[1]}
	p.apply()
	p.want("80=0", "80=9 81=5", lacksWRR+" | "+lacksWRR)
	if s, _ := p.xdp.Last(); s.Services[0].Scheduler != "rr" || s.Services[0].Servers[0].MAC[4] != 7 {
		t.Errorf("%+v", s.Services[0])
	}
	p.snap.Services = p.snap.Services[1:]
	p.apply()
	p.want("", "81=5", lacksWRR)
}

// Which servers are up moves nothing: the whole service counts.
func TestHealthMovesNothing(t *testing.T) {
	p := newPair(t)
	masq := func(s dataplane.Service) error {
		for _, r := range s.Servers {
			if r.Forward == dataplane.Masq {
				return errors.New("the xdp plane has no masq")
			}
		}
		return nil
	}
	p.members[0].Carries = masq
	whole := p.snap.Services[0]
	whole.Servers = append(whole.Servers[:1:1], dataplane.RealServer{Addr: netip.MustParseAddr("192.0.2.201"), Forward: dataplane.Masq})
	if err := p.Declare([]dataplane.Service{whole}); err != nil {
		t.Fatal(err)
	}
	p.snap.Services = p.snap.Services[:1] // without the other server
	p.apply()
	p.want("", "80=5", "ipvs: the xdp plane has no masq")
}

func TestDeclareRefuses(t *testing.T) {
	p := newPair(t)
	if err := p.Declare(p.snap.Services); err != nil {
		t.Fatal(err)
	}
	p.apply()
	p.members[1].Carries = without("ipvs", "wrr")
	for name, do := range map[string]func() error{
		"Declare": func() error { return p.Declare(p.snap.Services) },
		"Apply":   func() error { _, err := p.Apply(p.snap); return err },
	} {
		if err := do(); !errors.Is(err, dataplane.ErrInvalid) || !strings.Contains(err.Error(), "no plane can carry it: xdp: the xdp plane has no scheduler wrr, and ipvs: the ipvs plane") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(p.xdp.Applied())+len(p.ipvs.Applied()) != 2 {
		t.Error("a plane was changed before the refusal")
	}
}

// The interface goes, and comes back.
func TestDetached(t *testing.T) {
	p := newPair(t)
	p.apply()
	p.xdp.detach(true)
	if !p.tend() {
		t.Error("nothing to do with a plane that is detached")
	}
	p.want("80=5", "80=5 81=5", "ipvs: interface eth0 is gone | "+lacksWRR)
	if i := p.Info(); i.Mode != dataplane.Detached {
		t.Errorf("%+v: its lease holds nothing", i)
	}
	p.snap.Services[0].Servers[0].Weight = 6
	p.apply()
	p.want("80=5", "80=6 81=5", "ipvs: interface eth0 is gone | "+lacksWRR)
	p.xdp.detach(false)
	if !p.tend() {
		t.Error("it was not attached again")
	}
	p.want("80=6", "80=6 81=5", "xdp | "+lacksWRR)
}

// A plane that refuses keeps what it has; the other goes on.
func TestOneRefuses(t *testing.T) {
	p := newPair(t)
	p.apply()
	p.ipvs.FailApply(errors.New("netlink"))
	p.apply()
	r := p.Report()
	if r.Members[1].Err == nil || r.Members[1].Generation != 1 || r.Members[0].Generation != 2 || !p.Tend() {
		t.Errorf("%+v", r.Members)
	}
	p.xdp.FailApply(dataplane.ErrInvalid)
	if _, err := p.Apply(p.snap); !errors.Is(err, dataplane.ErrInvalid) || !strings.Contains(err.Error(), "netlink") {
		t.Error(err)
	}
}

func TestLease(t *testing.T) {
	p := newPair(t)
	if err := p.Renew(time.Second); err != nil {
		t.Fatal(err)
	}
	if got := p.xdp.Renewed(); len(got) != 1 || got[0] != time.Second {
		t.Errorf("%v", got)
	}
	p.members[0].Plane = nil
	if err := p.Renew(time.Second); !errors.Is(err, dataplane.ErrNoLease) {
		t.Error(err)
	}
}

// XDP is refused at the start, and comes when the other program has gone: it
// gets the services, and what is left of the lease.
func TestLateComer(t *testing.T) {
	p := newPair(t)
	p.members[0].Plane, p.members[0].Why = nil, "interface eth0 carries another XDP program"
	var mu sync.Mutex
	refuse := errors.New("still there")
	tried := make(chan bool, 9)
	p.members[0].Open = func() (dataplane.Plane, error) {
		mu.Lock()
		defer mu.Unlock()
		defer func() { tried <- true }()
		if refuse != nil {
			return nil, refuse
		}
		return p.xdp, nil
	}
	p.apply()
	p.want("", "80=5 81=5", "ipvs: interface eth0 carries another XDP program | "+lacksWRR)
	if err := p.Choose(XDP); err == nil || !strings.Contains(err.Error(), "another XDP program") {
		t.Error(err)
	}
	if err := p.Renew(30 * time.Second); !errors.Is(err, dataplane.ErrNoLease) {
		t.Error(err)
	}
	p.tend()
	<-tried
	for p.Report().Members[0].Reason != "still there" {
		p.Tend()
	}
	mu.Lock()
	refuse = nil
	mu.Unlock()
	p.tend()
	<-tried
	for p.Report().Members[0].Absent {
		p.Tend()
	}
	p.apply()
	p.want("80=5", "80=5 81=5", "xdp | "+lacksWRR)
	if got := p.xdp.Renewed(); len(got) != 1 || got[0] != 20*time.Second {
		t.Errorf("granted %v, want the 20 s that are left", got)
	}
}

func TestStatsAreOfBoth(t *testing.T) {
	p := newPair(t)
	p.apply()
	if err := p.Renew(dataplane.Unlimited); err != nil {
		t.Fatal(err)
	}
	p.frame(p.xdp.Fake, 1, 80, "S")
	p.frame(p.ipvs.Fake, 2, 80, "S")
	p.frame(p.ipvs.Fake, 3, 81, "S")
	st, err := p.Stats()
	if err != nil {
		t.Fatal(err)
	}
	web, db := p.snap.Services[0].ServiceKey, p.snap.Services[1].ServiceKey
	if st.Services[web].Connections != 2 || st.Services[db].Packets != 1 || st.Flows != 1 ||
		st.Conns[dataplane.ServerKey{Service: web, Server: serverIP}].Active != 2 {
		t.Errorf("%+v", st)
	}
	if err := errors.Join(p.Close(), p.Close()); err != nil || !p.xdp.Closed() || !p.ipvs.Closed() {
		t.Errorf("%v", err)
	}
	if _, err := p.Apply(p.snap); !errors.Is(err, dataplane.ErrUnavailable) {
		t.Error(err)
	}
}
