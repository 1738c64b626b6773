package xdp

import (
	"bytes"
	"net/netip"
	"testing"

	"systole/dataplane"
	"systole/dataplane/flowsync"
	"systole/dataplane/planetest"
)

// tenThousand is ten thousand services of one real server each, every other
// one of IPv6.
func tenThousand() dataplane.Snapshot {
	s := wide(10_000)
	for _, v := range s.VIPs {
		s.VIPs = append(s.VIPs, dataplane.VIP{Addr: to6(v.Addr), Role: v.Role})
	}
	for i := range s.Services {
		if svc := &s.Services[i]; i%2 == 1 {
			svc.VIP, svc.Servers[0].Addr = to6(svc.VIP), to6(svc.Servers[0].Addr)
		}
	}
	return s
}

// Each of ten thousand services is found, schedules, keeps its flow and counts;
// and a change of one server is in force with the next packet.
func TestTenThousandServices(t *testing.T) {
	p := loaded(t, 1<<16)
	if err := p.Renew(dataplane.Unlimited); err != nil {
		t.Fatal(err)
	}
	s := tenThousand()
	apply(t, p, s)
	on := sender(t, p.Program(), ownMAC)
	to := func(i int, flags string) planetest.Outcome {
		key := s.Services[i].ServiceKey
		from := netip.MustParseAddr("10.1.2.3")
		if key.VIP.Is6() {
			from = to6(from)
		}
		return on(planetest.Frame{
			Dst: ownMAC, Src: client(1, "").Src, From: netip.AddrPortFrom(from, uint16(1024+i)),
			To: netip.AddrPortFrom(key.VIP, key.Port), Protocol: key.Protocol, Flags: flags,
		})
	}
	check := func(when string) {
		t.Helper()
		for i, svc := range s.Services {
			if got := to(i, "A"); got.Verdict != planetest.Forwarded || !bytes.Equal(got.To, svc.Servers[0].MAC) {
				t.Fatalf("%s: service %s: %s, want it at %s", when, svc.ServiceKey, got, svc.Servers[0].MAC)
			}
		}
	}
	for i, svc := range s.Services {
		if got := to(i, "S"); got.Verdict != planetest.Forwarded || !bytes.Equal(got.To, svc.Servers[0].MAC) {
			t.Fatalf("service %s: %s, want it at %s", svc.ServiceKey, got, svc.Servers[0].MAC)
		}
	}
	check("a flow")
	s.Services[7].Servers[0].MAC = serverMAC(20_000)
	s.Services[9998].Servers[0].MAC = serverMAC(20_001)
	apply(t, p, s)
	check("after a change of two")
	st, err := p.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if len(st.Services) != len(s.Services) || len(st.Conns) != len(s.Services) {
		t.Fatalf("%d services and %d real servers are counted", len(st.Services), len(st.Conns))
	}
	for _, svc := range s.Services {
		if c := st.Services[svc.ServiceKey]; c.Connections != 1 || c.Packets != 3 {
			t.Fatalf("service %s counted %+v", svc.ServiceKey, c)
		}
	}
	// Half of them go; the others do not notice.
	s.Services = s.Services[:5000]
	apply(t, p, s)
	check("after half of them have gone")
}

// A table that no service has flows in costs a sweep nothing; and what is in it
// is found when one has.
func TestSweepLeavesOutAFamilyWithoutServices(t *testing.T) {
	p, on := ready(t, 1024, 2)
	on(client(1, "S"))
	s := p.NewSweep()
	if flows, _ := sweepAll(t, s, flowsync.Sent); len(flows) != 1 || s.end() != len(p.kernel.flows.elements) {
		t.Errorf("%d flows in %d buckets", len(flows), s.end())
	}
	both, in := twoServices(2), family(to6)
	v6 := in.snapshot(both)
	both.VIPs, both.Services = append(both.VIPs, v6.VIPs...), append(both.Services, v6.Services...)
	apply(t, p, both)
	on(in.frame(client(1, "S")))
	if flows, _ := sweepAll(t, s, flowsync.Sent); len(flows) != 1 || s.end() != p.kernel.buckets() {
		t.Errorf("with IPv6: %d flows more in %d buckets", len(flows), s.end())
	}
}
