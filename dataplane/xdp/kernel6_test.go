package xdp

import (
	"iter"
	"net/netip"
	"testing"

	"systole/dataplane"
	"systole/dataplane/planetest"
)

// six is a plane that has everything of IPv4 in IPv6: what it is told and shown
// is translated on the way in, what it answers on the way out.
type six struct{ dataplane.Plane }

// to6 is 2001:db8::/96 with a in its last bits, as is not if it is no IPv4.
func to6(a netip.Addr) netip.Addr {
	if !a.Is4() || a.IsUnspecified() {
		return a
	}
	b, v4 := [16]byte{0x20, 1, 0xd, 0xb8}, a.As4()
	copy(b[12:], v4[:])
	return netip.AddrFrom16(b)
}

func from6(a netip.Addr) netip.Addr {
	b := a.As16()
	return netip.AddrFrom4([4]byte(b[12:]))
}

func service6(s dataplane.Service) dataplane.Service {
	s.VIP = to6(s.VIP)
	if s.Persistence.PrefixLen > 0 {
		s.Persistence.PrefixLen += 96
	}
	servers := s.Servers
	s.Servers = nil
	for _, r := range servers {
		r.Addr = to6(r.Addr)
		s.Servers = append(s.Servers, r)
	}
	return s
}

func (p six) Apply(s dataplane.Snapshot) (dataplane.Generation, error) {
	vips, services := s.VIPs, s.Services
	s.VIPs, s.Services = nil, nil
	for _, v := range vips {
		v.Addr = to6(v.Addr)
		s.VIPs = append(s.VIPs, v)
	}
	for _, svc := range services {
		s.Services = append(s.Services, service6(svc))
	}
	return p.Plane.Apply(s)
}

func (p six) Stats() (dataplane.Stats, error) {
	st, err := p.Plane.Stats()
	if err != nil {
		return st, err
	}
	out := st
	out.Services = map[dataplane.ServiceKey]dataplane.Counters{}
	out.Servers = map[dataplane.ServerKey]dataplane.Counters{}
	out.Conns = map[dataplane.ServerKey]dataplane.Conns{}
	shorter := func(c dataplane.Counters) dataplane.Counters {
		c.Bytes -= c.Packets * (40 - 20) // the header
		return c
	}
	for k, c := range st.Services {
		k.VIP = from6(k.VIP)
		out.Services[k] = shorter(c)
	}
	server := func(k dataplane.ServerKey) dataplane.ServerKey {
		k.Service.VIP, k.Server = from6(k.Service.VIP), from6(k.Server)
		return k
	}
	for k, c := range st.Servers {
		out.Servers[server(k)] = shorter(c)
	}
	for k, c := range st.Conns {
		out.Conns[server(k)] = c
	}
	return out, nil
}

// Flows are all of IPv6 here.
func (p six) Flows() iter.Seq[dataplane.Flow] {
	return func(yield func(dataplane.Flow) bool) {
		for f := range p.Plane.(*Plane).Flows() {
			f.Client = netip.AddrPortFrom(from6(f.Client.Addr()), f.Client.Port())
			f.Service.VIP, f.Server = from6(f.Service.VIP), from6(f.Server)
			if !yield(f) {
				return
			}
		}
	}
}

func (p six) Insert(flows []dataplane.Flow) (stored, noRoom int, err error) {
	return p.Plane.(*Plane).Insert(family(to6).flows(flows))
}

// The whole contract holds for IPv6.
func TestConformance6(t *testing.T) {
	planetest.Run(t, func(t *testing.T) planetest.Harness {
		p := loadedWith(t, Config{Flows: planetestFlows, Flows6: planetestFlows})
		send := sender(t, p.Program(), ownMAC)
		return planetest.Harness{
			Plane: six{p}, Own: ownMAC,
			Carries: func(s dataplane.Service) error { return Carries(service6(s)) },
			Send: func(f planetest.Frame) planetest.Outcome {
				f.From = netip.AddrPortFrom(to6(f.From.Addr()), f.From.Port())
				f.To = netip.AddrPortFrom(to6(f.To.Addr()), f.To.Port())
				return send(f)
			},
		}
	})
}
