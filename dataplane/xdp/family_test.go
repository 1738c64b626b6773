package xdp

import (
	"net/netip"
	"slices"
	"testing"

	"systole/dataplane"
	"systole/dataplane/planetest"
)

// family puts a test's cast, which is of IPv4, into one of the two families.
type family func(netip.Addr) netip.Addr

// families runs a test in both.
func families(t *testing.T, test func(t *testing.T, in family)) {
	t.Run("IPv4", func(t *testing.T) { test(t, func(a netip.Addr) netip.Addr { return a }) })
	t.Run("IPv6", func(t *testing.T) { test(t, to6) })
}

func (in family) port(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(in(a.Addr()), a.Port())
}

func (in family) key(k dataplane.ServiceKey) dataplane.ServiceKey {
	k.VIP = in(k.VIP)
	return k
}

func (in family) flow(f dataplane.Flow) dataplane.Flow {
	f.Client, f.Service, f.Server = in.port(f.Client), in.key(f.Service), in(f.Server)
	return f
}

func (in family) flows(all []dataplane.Flow) (out []dataplane.Flow) {
	for _, f := range all {
		out = append(out, in.flow(f))
	}
	return out
}

func (in family) frame(f planetest.Frame) planetest.Frame {
	f.From, f.To = in.port(f.From), in.port(f.To)
	return f
}

func (in family) snapshot(s dataplane.Snapshot) dataplane.Snapshot {
	s.VIPs, s.Services = slices.Clone(s.VIPs), slices.Clone(s.Services)
	for i := range s.VIPs {
		s.VIPs[i].Addr = in(s.VIPs[i].Addr)
	}
	for i := range s.Services {
		svc := &s.Services[i]
		svc.ServiceKey, svc.Servers = in.key(svc.ServiceKey), slices.Clone(svc.Servers)
		for j := range svc.Servers {
			svc.Servers[j].Addr = in(svc.Servers[j].Addr)
		}
	}
	return s
}

// ready is ready in a family; frames are put into it, too.
func (in family) ready(t testing.TB, flows, servers int) (*Plane, func(planetest.Frame) planetest.Outcome) {
	t.Helper()
	p := loadedWith(t, Config{Flows: flows, Flows6: flows})
	if _, err := p.Apply(in.snapshot(twoServices(servers))); err != nil {
		t.Fatal(err)
	}
	if err := p.Renew(dataplane.Unlimited); err != nil {
		t.Fatal(err)
	}
	send := sender(t, p.Program(), ownMAC)
	return p, func(f planetest.Frame) planetest.Outcome { return send(in.frame(f)) }
}
