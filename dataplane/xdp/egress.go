package xdp

import (
	"fmt"

	"github.com/cilium/ebpf"

	"systole/bpf"
	"systole/dataplane"
)

// The kernel side of this file is egress.h.

// The values of enum via.
const (
	viaAny  = uint8(bpf.DirectorViaVIA_ANY)
	viaPort = uint8(bpf.DirectorViaVIA_PORT)
	viaNone = uint8(bpf.DirectorViaVIA_NONE)
)

// via is by which of ports the interface of a server or peer is meant.
func via(ports []*port, name string) uint8 {
	if name == "" {
		return viaAny
	}
	for _, t := range ports {
		if t.name == name {
			return viaPort + uint8(t.number)
		}
	}
	return viaNone
}

// reachable is s with the weight of servers set to 0 that no frame can be sent
// to: behind none of our interfaces, or behind one that is gone.
func (p *Plane) reachable(s dataplane.Snapshot) dataplane.Snapshot {
	gone := map[string]bool{}
	copied := false
	for i, svc := range s.Services {
		fresh := false
		for j, r := range svc.Servers {
			if r.Interface == "" || r.Weight == 0 {
				continue
			}
			lost, known := gone[r.Interface]
			if !known {
				lost = !p.reaches(r.Interface)
				gone[r.Interface] = lost
			}
			if !lost {
				continue
			}
			if !copied {
				s.Services, copied = append([]dataplane.Service(nil), s.Services...), true
			}
			if !fresh {
				s.Services[i].Servers, fresh = append([]dataplane.RealServer(nil), svc.Servers...), true
			}
			s.Services[i].Servers[j].Weight = 0
		}
	}
	return s
}

// reaches tells whether a frame can leave by the interface.
func (p *Plane) reaches(name string) bool {
	for _, t := range p.ports {
		if t.name == name {
			return len(t.at) > 0
		}
	}
	return false
}

// compileEgress completes an image with what depends on interfaces: it has the
// addresses of the servers so far, and no more. Of one interface only those
// servers go to generation.far to whom no frame can be sent.
func (p *Plane) compileEgress(c *canvas, s dataplane.Snapshot, ids identities, left []leftServer) {
	img := &c.image
	lies := func(id uint16, via uint8) {
		if !p.several() && via != viaNone {
			return
		}
		e, far := draw(c, &img.Servers[id]), draw(c, &img.Far[id])
		far.Mac, far.Via = e.Mac, uint16(via)
		if t := tunnelOf(img, id); t != (tunnel{}) {
			far.Mac = t.Mac
		}
		e.Mac = [6]uint8{}
		if via == viaNone {
			*draw(c, &img.TunnelOf[id]) = 0
		}
	}
	for i, svc := range s.Services {
		for j, r := range svc.Servers {
			lies(ids.servers[i][j], via(p.ports, r.Interface))
		}
	}
	for _, l := range left {
		by := viaAny
		if was := p.active().Far[l.id]; was.Via != 0 && img.Servers[l.id].Mac == ([6]uint8{}) {
			by = uint8(was.Via)
			if l.tunnel == (tunnel{}) {
				img.Servers[l.id].Mac = was.Mac // drawn by compile
			}
		}
		lies(l.id, by)
	}
	if !p.several() {
		return
	}
	// Own and peers are among the words in front, which compile has drawn.
	img.Own.Addr = [6]uint8{} // no station's: the program asks the ports
	for i := range s.Peers {
		name := ""
		if i < len(s.PeerInterfaces) {
			name = s.PeerInterfaces[i]
		}
		img.Peers[i].Via = uint16(via(p.ports, name))
	}
	draw(c, &img.Ndevices)
	draw(c, &img.Devices)
	draw(c, &img.Ports)
	for _, t := range p.ports {
		p.compilePort(img, t)
	}
}

// compilePort writes a port and the devices that it takes frames from, all of
// them drawn.
func (p *Plane) compilePort(img *image, t *port) {
	if len(t.at) == 0 {
		// What is for it is dropped, and counted. No frame comes by it.
		img.Ports[t.number] = bpf.DirectorPort{Native: 1}
		return
	}
	out := &img.Ports[t.number]
	copy(out.Mac[:], t.nic.mac)
	native := t.at[0].mode == ModeNative
	out.Native, out.Ifindex = flag16(native), uint32(t.target())
	add := func(index int) {
		if img.Ndevices < uint32(len(img.Devices)) {
			img.Devices[img.Ndevices] = bpf.DirectorDevice{Ifindex: uint32(index), Port: uint16(t.number), Native: flag16(native)}
			img.Ndevices++
		}
	}
	add(t.nic.index)
	for _, m := range t.nic.members {
		add(m.index)
	}
}

// target is the device that frames for t are redirected to.
func (t *port) target() int {
	if t.onMembers() {
		return t.nic.target()
	}
	return t.nic.index
}

func flag16(b bool) uint16 {
	if b {
		return 1
	}
	return 0
}

// openEgress makes all devices known to which the program may redirect: those of
// the ports, and those of the generation in force.
func (p *Plane) openEgress(img *image) error {
	targets := map[uint32]bool{}
	for _, out := range img.Ports {
		if out.Ifindex != 0 {
			targets[out.Ifindex] = true
		}
	}
	var failed error
	for index := range targets {
		if err := p.kernel.objects.EgressDevices.Put(index, index); err != nil {
			failed = fmt.Errorf("interface %d: frames cannot be redirected to it: %w", index, err)
		}
	}
	return failed
}

// firstPort is the first interface there is, as frames leave by it. p.mu is held.
func (p *Plane) firstPort() (way bpf.DirectorPort, ok bool) {
	if p.deferred {
		return way, false
	}
	for _, t := range p.ports {
		if len(t.at) > 0 {
			copy(way.Mac[:], p.own)
			way.Ifindex = uint32(t.target())
			return way, true
		}
	}
	return way, false
}

// wayTo is where a frame for a server is sent, and by which interface: by one, if
// that is the only one or nothing is known of where the server is. None goes as
// it is to a server behind a tunnel.
func wayTo(img *image, id uint16, one bpf.DirectorPort) (mac [6]uint8, by bpf.DirectorPort, ok bool) {
	s := &img.Servers[id]
	mac, by = s.Mac, one
	if far := &img.Far[id]; mac == ([6]uint8{}) && far.Via != 0 {
		mac = far.Mac
		switch n := int(far.Via) - int(viaPort); {
		case uint8(far.Via) == viaNone:
			return mac, by, false
		case n >= 0 && n < len(img.Ports):
			by = img.Ports[n]
		}
	}
	return mac, by, s.Service != 0 && img.TunnelOf[id] == 0 && mac != [6]uint8{} && by.Ifindex != 0
}

// portCounters are those of the interfaces, by name.
func (p *Plane) portCounters(services map[dataplane.ServiceKey]dataplane.Counters) (map[string]dataplane.InterfaceCounters, error) {
	if len(p.ports) == 0 {
		return nil, nil
	}
	if !p.several() {
		var sum dataplane.InterfaceCounters
		for _, c := range services {
			sum.InPackets += c.Packets
			sum.InBytes += c.Bytes
		}
		sum.OutPackets, sum.OutBytes = sum.InPackets, sum.InBytes
		return map[string]dataplane.InterfaceCounters{p.ports[0].name: sum}, nil
	}
	var perCPU []bpf.DirectorPortStats
	if err := p.kernel.objects.PortStats.Lookup(uint32(0), &perCPU); err != nil {
		return nil, fmt.Errorf("read the counters of the interfaces: %w", err)
	}
	all := make(map[string]dataplane.InterfaceCounters, len(p.ports))
	for _, t := range p.ports {
		var sum dataplane.InterfaceCounters
		for _, cpu := range perCPU {
			c := cpu.Port[t.number]
			sum.InPackets += c.InPackets
			sum.InBytes += c.InBytes
			sum.OutPackets += c.OutPackets
			sum.OutBytes += c.OutBytes
		}
		all[t.name] = sum
	}
	return all, nil
}

// resetPorts begins the counters of ports anew.
func (p *Plane) resetPorts(numbers []int) error {
	if len(numbers) == 0 {
		return nil
	}
	perCPU := make([]bpf.DirectorPortStats, ebpf.MustPossibleCPU())
	if err := p.kernel.objects.PortStats.Lookup(uint32(0), &perCPU); err != nil {
		return fmt.Errorf("read the counters of the interfaces: %w", err)
	}
	for i := range perCPU {
		for _, n := range numbers {
			perCPU[i].Port[n] = bpf.DirectorPortCounters{}
		}
	}
	if err := p.kernel.objects.PortStats.Put(uint32(0), perCPU); err != nil {
		return fmt.Errorf("reset the counters of the interfaces: %w", err)
	}
	return nil
}
