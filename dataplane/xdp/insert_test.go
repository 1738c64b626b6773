package xdp

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"systole/dataplane"
)

// While the plane is detached another one has the packets: it may know a newer
// owner of a client's port. Attached, packets know better.
func TestInsertOfAnActiveAddress(t *testing.T) { families(t, insertOfAnActiveAddress) }

func insertOfAnActiveAddress(t *testing.T, in family) {
	for _, tt := range []struct {
		name     string
		detached bool
		here     time.Duration // since the last packet that came here
		age      time.Duration // since that of the other plane, as it tells
		replaced bool
	}{
		{"attached", false, time.Minute, 0, false},
		{"detached", true, time.Minute, 0, true},
		{"detached, in the same second", true, 0, time.Second, true},
		{"detached, of an earlier stay", true, 0, 10 * time.Second, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, on := in.ready(t, 1024, 2)
			on(client(0, "S"))
			on(client(0, "A"))
			p.grow(tt.here)
			var was dataplane.Flow
			for was = range p.Flows() {
			}
			now := was
			for _, r := range in.snapshot(twoServices(2)).Services[0].Servers {
				if r.Addr != was.Server {
					now.Server = r.Addr
				}
			}
			now.Age, now.Expires = tt.age, timeoutEstablished-tt.age
			jiffies, err := p.jiffies()
			if err != nil {
				t.Fatal(err)
			}
			p.mu.Lock()
			ok := p.insert(&now, uint32(jiffies>>p.kernel.aging.shift), tt.detached)
			p.mu.Unlock()
			var is dataplane.Flow
			for is = range p.Flows() {
			}
			if ok != inTable || (is.Server == now.Server) != tt.replaced {
				t.Errorf("%d: it was %s, the other plane says %s, it is %s", ok, was.Server, now.Server, is.Server)
			}
		})
	}
}

// Of two states that came within the error of their ages the one that came last
// is the flow's, and it is as young as the younger.
func TestInsertTakesTheLastState(t *testing.T) { families(t, insertTakesTheLastState) }

func insertTakesTheLastState(t *testing.T, in family) {
	p, _ := in.ready(t, 1024, 1)
	apply(t, p, in.snapshot(asRole(twoServices(1), dataplane.Standby)))
	for _, step := range []struct {
		state dataplane.FlowState
		age   time.Duration
		want  dataplane.FlowState
	}{
		{dataplane.FlowSyn, 0, dataplane.FlowSyn},
		{dataplane.FlowEstablished, time.Second, dataplane.FlowEstablished},
		{dataplane.FlowFin, coarse, dataplane.FlowFin},
		{dataplane.FlowEstablished, 10 * time.Second, dataplane.FlowFin},
	} {
		f := in.flow(dataplane.Flow{Client: netip.MustParseAddrPort("10.9.8.7:1234"), Service: web, Server: serverAddr(1), State: step.state, Age: step.age})
		if n, _, err := p.Insert([]dataplane.Flow{f}); n != 1 || err != nil {
			t.Fatalf("%d stored, %v", n, err)
		}
		if got := slices.Collect(p.Flows()); len(got) != 1 || got[0].State != step.want || got[0].Age > 2*p.unit() {
			t.Errorf("after %s, %s old: %+v, want %s", step.state, step.age, got, step.want)
		}
	}
}
