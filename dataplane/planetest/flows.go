package planetest

import (
	"bytes"
	"iter"
	"net/netip"
	"testing"

	"systole/dataplane"
)

// flowPlane is a plane whose flows can be read and written: what synchronisation
// needs, and a change of planes.
type flowPlane interface {
	dataplane.Plane
	Flows() iter.Seq[dataplane.Flow]
	Insert([]dataplane.Flow) (stored, noRoom int, err error)
}

// flowTest is about two such planes: the first has flows, the second is given
// them.
type flowTest struct {
	name   string
	change func(web *dataplane.Service)
	ports  uint16 // that clients send to, 80 and on
	// named is a flow of web as the second plane is told of it.
	named func(dataplane.Flow) dataplane.Flow
	// left: the first server leaves before they are read.
	left bool
}

var flowTests = []flowTest{
	{name: "as they are", ports: 1},
	{
		name: "of a range, named by a port", ports: 10, // as sync messages name it
		change: func(s *dataplane.Service) { s.LastPort = s.Port + 9 },
		named:  func(f dataplane.Flow) dataplane.Flow { f.Service.Port, f.Service.LastPort = f.Port, 0; return f },
	},
	{
		name: "of all ports, named by a port", ports: 10,
		change: func(s *dataplane.Service) { s.Port = 0 },
		named:  func(f dataplane.Flow) dataplane.Flow { f.Service.Port = f.Port; return f },
	},
	{
		name: "of a server that has left", ports: 1, left: true,
		change: func(s *dataplane.Service) { s.Lost = dataplane.Keep },
	},
}

// runFlows tests the planes that can.
func runFlows(t *testing.T, newPlane func(t *testing.T) Harness) {
	for _, tt := range flowTests {
		t.Run(tt.name, func(t *testing.T) {
			s := snapshot(dataplane.Active, servers(3)...)
			if tt.change != nil {
				tt.change(&s.Services[0])
			}
			var both [2]*bench
			for i := range both {
				h := newPlane(t)
				if _, ok := h.Plane.(flowPlane); !ok || h.Carries == nil || h.Carries(s.Services[0]) != nil {
					t.Skip("the plane does not show its flows, or does not carry this")
				}
				if err := h.Plane.Renew(dataplane.Unlimited); err != nil {
					t.Fatalf("Renew: %v", err)
				}
				both[i] = &bench{t, h}
				both[i].apply(s)
			}
			tt.run(both[0], both[1], s)
		})
	}
}

// run: every flow is listed once, with its server and state, and the plane that
// is given the list goes on with it.
func (tt *flowTest) run(a, b *bench, s dataplane.Snapshot) {
	const clients = 40
	kinds := []struct {
		flags []string
		state dataplane.FlowState
	}{
		{[]string{"S"}, dataplane.FlowSyn}, {[]string{"S", "A"}, dataplane.FlowEstablished},
		{[]string{"S", "A", "FA"}, dataplane.FlowFin}, {[]string{""}, dataplane.FlowUDP},
	}
	frame := func(client int, flags string) Frame {
		if flags == "" || client%4 == 3 {
			return a.frame(dns, client, "")
		}
		return at(a.frame(web, client, flags), web.Port+uint16(client)%tt.ports)
	}
	servers := map[netip.Addr][]byte{}
	for _, r := range s.Services[0].Servers {
		servers[r.Addr] = r.MAC
	}
	var went [clients]Outcome
	for i := range clients {
		for _, flags := range kinds[i%4].flags {
			went[i] = a.Send(frame(i, flags))
		}
	}
	if tt.left {
		s = clone(s)
		s.Services[0].Servers = s.Services[0].Servers[1:]
		// Who has left must have been there.
		a.apply(s)
		b.apply(s)
	}

	var list []dataplane.Flow
	for f := range a.Plane.(flowPlane).Flows() {
		i := int(f.Client.Port()) - 1024
		if i < 0 || i >= clients {
			a.Fatalf("nobody's flow: %+v", f)
		}
		fr, svc := frame(i, "A"), s.Services[i%4/3].ServiceKey
		if f.Client != fr.From || f.Port != fr.To.Port() || f.Service != svc || f.State != kinds[i%4].state ||
			!bytes.Equal(servers[f.Server], went[i].To) || f.Age < 0 || f.Expires <= 0 {
			a.Errorf("client %d, %s: listed as %+v", i, went[i], f)
		}
		if tt.named != nil && f.Service.Protocol == web.Protocol {
			f = tt.named(f)
		}
		list = append(list, f)
	}
	if len(list) != clients {
		a.Fatalf("%d flows are listed, want %d", len(list), clients)
	}

	b.Send(b.frame(web, 1000, "S")) // so the round robins are not in step
	b.Send(b.frame(dns, 1000, ""))
	stored, _, err := b.Plane.(flowPlane).Insert(list)
	if err != nil || stored != clients {
		b.Fatalf("%d of %d flows stored, %v", stored, clients, err)
	}
	for i := range clients {
		b.expect(frame(i, "A"), went[i])
	}
}
