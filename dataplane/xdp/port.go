package xdp

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/cilium/ebpf"

	"systole/bpf"
	"systole/dataplane"
)

// MaxInterfaces is how many a plane can be attached to.
const MaxInterfaces = len(bpf.DirectorGeneration{}.Ports)

// port is one interface of the configuration, which is what a generation speaks
// of: a bond is one, wherever its program is.
type port struct {
	name string
	// number is where generations have it. It goes with the interface over a
	// restart: the generation in force speaks of it, and so do the counters.
	number int
	nic    nic           // as it was when it was last looked at; index 0: it is not there
	at     []*attachment // on itself, or on members of a bond; none: detached
	why    string        // why detached
}

// gone tells whether the interface went away under the program, or has none.
func (t *port) gone() bool {
	return len(t.at) == 0 || slices.ContainsFunc(t.at, (*attachment).gone)
}

// onMembers tells of a bond that its program is on each of its members.
func (t *port) onMembers() bool {
	return len(t.at) > 0 && t.nic.bond && t.at[0].index != t.nic.index
}

// lags tells whether what is attached is not what should be, now that the
// interface is as n.
func (t *port) lags(n nic) bool {
	switch {
	case len(t.at) == 0 || t.nic.index != n.index || t.nic.mac.String() != n.mac.String():
		return true
	case !slices.Equal(t.nic.memberIndexes(), n.memberIndexes()):
		return true
	}
	return t.gone() || t.nic.target() != n.target()
}

// info is the port for status.
func (t *port) info() dataplane.Interface {
	i := dataplane.Interface{Name: t.name, Mode: dataplane.Detached, Reason: t.why}
	if len(t.at) == 0 {
		return i
	}
	if t.gone() {
		i.Reason = fmt.Sprintf("interface %s is gone", t.name)
		return i
	}
	i.Mode, i.Reason = t.at[0].mode, t.at[0].reason
	if t.onMembers() {
		for _, a := range t.at {
			i.Members = append(i.Members, a.name)
		}
	}
	return i
}

func (t *port) detach() error {
	var errs []error
	for _, a := range t.at {
		errs = append(errs, a.detach())
	}
	t.at = nil
	return errors.Join(errs...)
}

// newPorts are the ports of a configuration, with the numbers that the
// generation in force has for those it knows; fresh are the other numbers.
func newPorts(names []string, img *image) (ports []*port, fresh []int, err error) {
	var used, taken [MaxInterfaces]bool
	of := map[int]int{} // interface index: number
	for _, d := range img.Devices[:img.Ndevices] {
		used[d.Port], of[int(d.Ifindex)] = true, int(d.Port)
	}
	for _, name := range names {
		t := &port{name: name, number: -1, why: fmt.Sprintf("interface %s is not there", name)}
		n, err := findNIC(name)
		if err != nil && !errors.Is(err, errNoNIC) {
			return nil, nil, err
		}
		if err == nil {
			t.nic = n
			for _, index := range append([]int{n.index}, n.memberIndexes()...) {
				if number, ok := of[index]; ok && !taken[number] {
					t.number, taken[number] = number, true
					break
				}
			}
		}
		ports = append(ports, t)
	}
	for _, t := range ports {
		// One that the generation has for another interface only if there is
		// no other: there are counters under it.
		for n := 0; t.number < 0 && n < 2*MaxInterfaces; n++ {
			number := n % MaxInterfaces
			if taken[number] || used[number] && n < MaxInterfaces {
				continue
			}
			t.number, taken[number] = number, true
			fresh = append(fresh, number)
		}
	}
	return ports, fresh, nil
}

// openPorts finds the interfaces.
func (p *Plane) openPorts() (err error) {
	var fresh []int
	if p.ports, fresh, err = newPorts(p.cfg.Interfaces, p.active()); err != nil {
		return err
	}
	p.chooseOwn()
	if p.several() {
		if err := p.resetPorts(fresh); err != nil {
			return err
		}
	}
	if err := p.openEgress(p.active()); err != nil {
		p.cfg.Log.Warn("what a predecessor redirects is not all known here", "error", err)
	}
	return nil
}

// anyNIC is an error if none of the interfaces is there.
func anyNIC(names []string) error {
	var first error
	for _, name := range names {
		switch _, err := findNIC(name); {
		case err == nil:
			return nil
		case first == nil:
			first = err
		}
	}
	return first
}

// chooseOwn takes the address of the first interface there is for ours.
func (p *Plane) chooseOwn() {
	if macs := p.ownMACs(); len(macs) > 0 {
		p.own = macs[0]
	}
}

// attachments are those of all ports.
func (p *Plane) attachments() []*attachment {
	var all []*attachment
	for _, t := range p.ports {
		all = append(all, t.at...)
	}
	return all
}

// detached: no packet comes here, since all interfaces are gone.
func (p *Plane) detached() bool {
	return len(p.ports) > 0 && !slices.ContainsFunc(p.ports, func(t *port) bool { return !t.gone() })
}

// several: the configuration has more than one interface.
func (p *Plane) several() bool { return len(p.ports) > 1 }

// ownMACs are the addresses of all interfaces there are.
func (p *Plane) ownMACs() []net.HardwareAddr {
	if len(p.ports) == 0 {
		return []net.HardwareAddr{p.own}
	}
	var macs []net.HardwareAddr
	for _, t := range p.ports {
		if t.nic.index != 0 {
			macs = append(macs, t.nic.mac)
		}
	}
	return macs
}

// replace puts prog in the place of the program on all interfaces, in one step
// on each.
func replace(at []*attachment, prog *ebpf.Program) error {
	var errs []error
	for _, a := range at {
		if err := a.link.Update(prog); err != nil {
			errs = append(errs, fmt.Errorf("interface %s: %w", a.name, err))
		}
	}
	return errors.Join(errs...)
}

// adoptLinks takes over what a predecessor pinned: on our interfaces, with the
// program replaced if update says so, and off all others.
func (p *Plane) adoptLinks(update bool) error {
	prog := p.kernel.objects.SystoleXdp
	pinned, err := p.pins.linked()
	if err != nil {
		return unavailable("links of a predecessor: %w", err)
	}
	ours := map[string]bool{}
	for _, t := range p.ports {
		if t.nic.index == 0 {
			continue
		}
		for _, n := range append([]nic{t.nic}, t.nic.members...) {
			path := p.pins.link(n.name)
			if !slices.Contains(pinned, path) || ours[path] {
				continue
			}
			ours[path] = true
			a, err := adopt(n, path, prog, p.cfg.Mode, update, p.cfg.Log)
			if err != nil {
				return err
			}
			if a != nil {
				t.at = append(t.at, a)
			}
			if a != nil && n.index == t.nic.index {
				break // its members are its own affair
			}
		}
	}
	for _, path := range pinned {
		if ours[path] {
			continue
		}
		if err := unlink(path); err != nil {
			return unavailable("%w", err)
		}
		p.cfg.Log.Info("detached from an interface that is not configured any more, or is gone", "pinned_as", path)
	}
	return nil
}

// attachAll attaches to the interfaces where nothing of ours is. It is an error
// if one that is there refuses, or none is there.
func (p *Plane) attachAll() error {
	for _, t := range p.ports {
		if len(t.at) == 0 && t.nic.index != 0 {
			if err := p.attach(t); err != nil {
				return err
			}
		}
		if t.nic.index == 0 && p.several() {
			p.cfg.Log.Warn("an interface is not there: it is attached to when it comes", "interface", t.name)
		}
	}
	if len(p.attachments()) == 0 {
		return unavailable("%s", p.ports[0].why)
	}
	return nil
}

// attach puts the program on t, and pins the links.
func (p *Plane) attach(t *port) error {
	// A detached predecessor is no foreign program any more.
	if fresh, err := findNIC(t.name); err == nil {
		t.nic = fresh
	}
	t.at = nil
	at, err := p.attachNIC(t.nic)
	if err != nil {
		t.why = err.Error()
		return err
	}
	for _, a := range at {
		if err := a.link.Pin(p.pins.link(a.name)); err != nil {
			for _, b := range at {
				_ = b.detach() // none that is not pinned stays
			}
			t.why = err.Error()
			return unavailable("pin the link: %w", err)
		}
	}
	t.at, t.why = at, ""
	return nil
}

// refreshPorts notices a changed MAC address, interfaces that have gone, and
// those that have come, which it attaches to.
func (p *Plane) refreshPorts() error {
	var firstErr error
	for _, t := range p.ports {
		if err := p.refresh(t); err != nil && firstErr == nil {
			firstErr = err
		}
	}
	p.chooseOwn()
	if len(p.ports) > 0 && len(p.attachments()) == 0 {
		return firstErr
	}
	return nil
}

func (p *Plane) refresh(t *port) error {
	n, err := findNIC(t.name)
	if err == nil && !t.lags(n) {
		return nil
	}
	was := t.nic
	t.nic = n
	if len(t.at) > 0 && (err != nil || t.gone() || was.index != n.index ||
		t.onMembers() && !slices.Equal(was.memberIndexes(), n.memberIndexes())) {
		p.changes++
		if e := t.detach(); e != nil {
			p.cfg.Log.Warn("link to an interface that is gone", "interface", t.name, "error", e)
		}
		if err != nil && p.several() {
			p.cfg.Log.Warn("an interface is gone: its real servers get nothing until it is back", "interface", t.name)
		}
	}
	if err != nil {
		t.nic, t.why = nic{}, fmt.Sprintf("interface %s is gone", t.name)
		return err
	}
	if len(t.at) > 0 {
		return nil
	}
	before := t.why
	if err := p.attach(t); err != nil {
		if p.several() && before != t.why {
			p.cfg.Log.Warn("an interface cannot be attached to", "interface", t.name, "error", err)
		}
		return err
	}
	p.changes++
	p.cfg.Log.Info("attached again", "interface", t.name, "mode", t.at[0].mode, "reason", t.at[0].reason)
	return nil
}

// Stale tells whether an interface has come, gone or changed since the last
// Apply: the next one takes that in.
func (p *Plane) Stale() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	for _, t := range p.ports {
		n, err := findNIC(t.name)
		switch {
		case err != nil && len(t.at) > 0: // it has gone
			return true
		case err == nil && len(t.at) == 0 && n.xdp.Attached && !p.cfg.Evict: // somebody else's
		case err == nil && t.lags(n):
			return true
		}
	}
	return false
}
