package xdp

import (
	"cmp"
	"fmt"

	"systole/bpf"
	"systole/dataplane"
)

// MaxTunnels is how many ways through tunnels one generation holds at most: the
// real servers with their methods, each counted once however many services it
// has.
const MaxTunnels = len(bpf.DirectorGeneration{}.Tunnels) - 1

// gueDefault is the port of GUE with IANA.
const gueDefault = 6080

// maxMTU is the largest that an interface can have.
const maxMTU = 65535

// tunnel is a way to a real server as the program reads it; zero: there is none.
type tunnel = bpf.DirectorTunnel

// deliverable tells whether a frame for r can be sent at present.
func deliverable(svc dataplane.ServiceKey, r dataplane.RealServer) bool {
	if !known(r.MAC) {
		return false
	}
	return !r.Tunnelled() || r.Source.IsValid() && !r.Narrow(svc)
}

// tunnelTo is the way to r, if there is one at present.
func tunnelTo(svc dataplane.ServiceKey, r dataplane.RealServer) (t tunnel) {
	if !deliverable(svc, r) {
		return tunnel{}
	}
	copy(t.Mac[:], r.MAC)
	t.Most = uint16(r.Most())
	if r.Addr.Is4() {
		t.Kind = uint8(bpf.DirectorTunnelKindTUNNEL_IPV4)
		t.Source[0], t.Target[0] = addrWord(r.Source), addrWord(r.Addr)
	} else {
		t.Kind = uint8(bpf.DirectorTunnelKindTUNNEL_IPV6)
		t.Source, t.Target = words6(r.Source), words6(r.Addr)
	}
	if r.Forward == dataplane.GUE {
		t.Kind |= uint8(bpf.DirectorTunnelKindTUNNEL_GUE)
		t.Port = portWord(cmp.Or(r.TunnelPort, gueDefault))
	}
	return t
}

// tunnelOf is the way to a server in an image.
func tunnelOf(img *image, server uint16) tunnel {
	return img.Tunnels[img.TunnelOf[server]]
}

// tunnelTable puts ways into an image, equal ones once.
type tunnelTable struct {
	on *canvas
	at map[tunnel]uint16
}

func newTunnelTable(c *canvas) *tunnelTable {
	return &tunnelTable{on: c, at: map[tunnel]uint16{{}: 0}}
}

func (t *tunnelTable) add(server uint16, to tunnel) error {
	at, ok := t.at[to]
	if !ok {
		if at = uint16(len(t.at)); int(at) > MaxTunnels {
			return fmt.Errorf("more than %d real servers behind tunnels", MaxTunnels)
		}
		t.at[to] = at
		*draw(t.on, &t.on.image.Tunnels[at]) = to
	}
	if at != 0 {
		*draw(t.on, &t.on.image.TunnelOf[server]) = at
	}
	return nil
}

// validateWay refuses what cannot be the way to r.
func validateWay(r dataplane.RealServer) error {
	switch {
	case r.Source.IsValid() && (r.Source.Is4() != r.Addr.Is4() || r.Source.Is4In6() || r.Source.IsUnspecified() || r.Source.IsMulticast() || r.Source == r.Addr):
		return fmt.Errorf("tunnelled packets cannot come from %s: want an address of the director", r.Source)
	case r.MTU < 0 || r.MTU > maxMTU:
		return fmt.Errorf("an MTU of %d on the way to it: want 1 to %d, or 0 for 1500", r.MTU, maxMTU)
	}
	return nil
}
