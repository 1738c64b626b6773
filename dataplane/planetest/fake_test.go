package planetest

import (
	"errors"
	"testing"
	"time"

	"systole/dataplane"
)

// carries is what check says of one service.
func carries(svc dataplane.Service) error {
	return check(dataplane.Snapshot{VIPs: []dataplane.VIP{{Addr: svc.VIP}}, Services: []dataplane.Service{svc}})
}

// The reference passes its own suite.
func TestFakeKeepsTheContract(t *testing.T) {
	Run(t, func(t *testing.T) Harness {
		f := NewFake(nil)
		t.Cleanup(func() { f.Close() })
		return Harness{Plane: f, Own: f.Own, Send: f.Send, Carries: carries}
	})
}

func TestFakeRecordsAndFails(t *testing.T) {
	now := time.Unix(0, 0)
	f := NewFake(func() time.Time { return now })
	if _, ok := f.Last(); ok {
		t.Error("a snapshot before the first Apply")
	}
	broken := errors.New("broken")
	f.FailApply(broken)
	if _, err := f.Apply(dataplane.Snapshot{}); err != broken {
		t.Errorf("Apply: %v, want %v", err, broken)
	}
	f.FailApply(nil)

	s := snapshot(dataplane.Active, server(1, 1))
	if g, err := f.Apply(s); g != 1 || err != nil {
		t.Fatalf("Apply: %d, %v", g, err)
	}
	s.Services[0].Servers[0].Weight = 9 // the caller's to change
	if last, ok := f.Last(); !ok || last.Services[0].Servers[0].Weight != 1 {
		t.Errorf("Last() = %+v, %v, want the snapshot as it was applied", last, ok)
	}
	if n := len(f.Applied()); n != 1 {
		t.Errorf("%d snapshots applied, want 1", n)
	}

	f.FailRenew(broken)
	if err := f.Renew(time.Second); err != broken {
		t.Errorf("Renew: %v, want %v", err, broken)
	}
	f.FailRenew(nil)
	if err := f.Renew(time.Second); err != nil || len(f.Renewed()) != 1 {
		t.Errorf("Renew: %v, recorded %v", err, f.Renewed())
	}
	b := bench{t, Harness{Plane: f, Own: f.Own, Send: f.Send}}
	b.expectTo(b.frame(web, 0, "S"), server(1, 1))
	now = now.Add(time.Second) // to the instant
	b.expect(b.frame(web, 0, "A"), Outcome{Verdict: Dropped})
	if f.Close(); !f.Closed() {
		t.Error("not closed")
	}
}
