package xdp

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"systole/dataplane"
)

// A bond's program is the master's where the kernel takes it: since Linux 5.15,
// in the modes round robin, active backup, xor and 802.3ad, if the drivers of all
// members have native XDP. It runs in the members' drivers then, and XDP_TX
// leaves by a member that the bond chooses (drivers/net/bonding/bond_main.c,
// bond_xdp_set and bond_xdp_get_xmit_slave). In other modes each member has it,
// and a frame leaves by the member that got it. If neither goes it is generic XDP
// on the master.

// membersOf are the interfaces below a bond, by their index.
func membersOf(bond nic) ([]nic, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	var members []nic
	for _, l := range links {
		if l.Attrs().MasterIndex == bond.index {
			members = append(members, nicOf(l))
		}
	}
	slices.SortFunc(members, func(a, b nic) int { return a.index - b.index })
	return members, nil
}

func (n nic) memberIndexes() []int {
	var out []int
	for _, m := range n.members {
		out = append(out, m.index)
	}
	return out
}

// target is the device by which a frame for n is sent if it did not come in by
// it: n itself, or the member of a bond that sends now.
func (n nic) target() int {
	if !n.bond || len(n.members) == 0 {
		return n.index
	}
	best := n.members[0].index
	for _, m := range slices.Backward(n.members) {
		if m.live {
			best = m.index
		}
	}
	if slices.Contains(n.memberIndexes(), n.active) {
		best = n.active
	}
	return best
}

// attachNIC puts the program on n, or on the members of a bond.
func (p *Plane) attachNIC(n nic) ([]*attachment, error) {
	if !n.bond || p.cfg.Mode == ModeGeneric {
		a, err := p.attachTo(n, p.cfg.Mode)
		if err != nil {
			return nil, err
		}
		return []*attachment{a}, nil
	}
	a, err := p.attachTo(n, ModeNative)
	if err == nil {
		return []*attachment{a}, nil
	}
	if fresh, e := findNIC(n.name); e == nil && fresh.xdp.Attached {
		return nil, err // somebody else's
	}
	why := reasonOf(err)
	at, memberErr := p.attachMembers(n)
	if memberErr == nil {
		for _, a := range at {
			a.reason = "on each member: " + why
		}
		return at, nil
	}
	if p.cfg.Mode == ModeNative {
		return nil, errors.Join(err, memberErr)
	}
	if a, err = p.attachTo(n, ModeGeneric); err != nil {
		return nil, err
	}
	a.reason = why + "; " + reasonOf(memberErr)
	return []*attachment{a}, nil
}

// attachMembers puts the program on all members of a bond, or on none.
func (p *Plane) attachMembers(bond nic) (at []*attachment, err error) {
	if len(bond.members) == 0 {
		return nil, unavailable("bond %s has no members", bond.name)
	}
	for _, m := range bond.members {
		a, err := p.attachTo(m, ModeNative)
		if err != nil {
			for _, b := range at {
				err = errors.Join(err, b.link.Close())
			}
			return nil, err
		}
		at = append(at, a)
	}
	return at, nil
}

// attachTo puts the program on one interface.
func (p *Plane) attachTo(n nic, mode string) (*attachment, error) {
	if p.cfg.Evict && n.xdp.Attached {
		if err := evict(n, p.cfg.Log); err != nil {
			return nil, err
		}
		n.xdp = netlink.LinkXdp{}
	}
	return attach(n, p.kernel.objects.SystoleXdp, mode)
}

// reasonOf is what went wrong, without what to do about it.
func reasonOf(err error) string {
	text := strings.TrimPrefix(err.Error(), dataplane.ErrUnavailable.Error()+": ")
	text, _, _ = strings.Cut(text, "; mode: ")
	return text
}

// sumUp is what several interfaces are together: their mode and its reason.
func sumUp(all []dataplane.Interface) (mode, reason string) {
	if len(all) == 1 {
		return all[0].Mode, all[0].Reason
	}
	var reasons []string
	mode = dataplane.Detached
	for _, i := range all {
		if i.Reason != "" {
			reasons = append(reasons, fmt.Sprintf("%s: %s", i.Name, i.Reason))
		}
		switch {
		case i.Mode == dataplane.Detached || i.Mode == mode:
		case mode == dataplane.Detached:
			mode = i.Mode
		default:
			mode = ModeMixed
		}
	}
	return mode, strings.Join(reasons, "; ")
}
