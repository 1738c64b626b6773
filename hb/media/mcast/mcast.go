// Package mcast is the heartbeat medium of datagrams to a multicast group
// (heartbeat-wire.md section 1), over IPv4 or, where the group's address is
// such, IPv6: it needs no address of any peer, and a node does not hear itself.
// Importing it registers "mcast" with package media.
//
// Switches that look at IGMP or MLD forget a member when its cable is pulled, and the
// kernel tells them of it only when the interface is set up, or when somebody
// asks. So the group is joined anew when the carrier is back, and now and then
// while nothing is heard.
package mcast

import (
	"cmp"
	"fmt"
	"net/netip"

	"systole/hb/media"
	"systole/hb/media/internal/udp"
)

func init() { media.Register("mcast", open) }

// DefaultGroup is where heartbeat sends to unless told otherwise. There is none
// for IPv6.
var DefaultGroup = netip.AddrFrom4([4]byte{225, 0, 0, 1})

func open(spec media.Spec) (media.Medium, error) {
	cfg := udp.Config{Kind: "mcast", Device: spec.Interface, Port: cmp.Or(spec.Port, media.DefaultPort), V6: spec.Group.Unmap().Is6()}
	if f := spec.Unused("interface", "port", "group", "ttl"); f != "" {
		return nil, cfg.Bad("%s means nothing to it", f)
	}
	group := DefaultGroup
	if spec.Group.IsValid() {
		var err error
		if group, err = cfg.Host(spec.Group); err != nil {
			return nil, err
		}
		if err := Usable(group); err != nil {
			return nil, cfg.Bad("group %s", err)
		}
	}
	ttl := cmp.Or(spec.TTL, 1)
	if ttl < 1 || ttl > 255 {
		return nil, cfg.Bad("ttl %d is not within 1 to 255", ttl)
	}
	var m member = v4{group}
	if cfg.V6 {
		m = v6{group}
	}
	cfg.Out = func(fd, ifindex int) error { return m.send(fd, ifindex, ttl) }
	cfg.In = m.join
	cfg.Revive = func(fd, ifindex int) error {
		if err := m.leave(fd, ifindex); err != nil {
			return err
		}
		return m.join(fd, ifindex)
	}
	to := []netip.AddrPort{netip.AddrPortFrom(group, cfg.Port)}
	cfg.To = func(int) ([]netip.AddrPort, error) { return to, nil }
	medium, err := udp.Open(cfg)
	if err != nil {
		return nil, err
	}
	return medium, nil
}

// Usable tells whether hosts may use a group, and why not.
func Usable(group netip.Addr) error {
	a := group.WithZone("").As16()
	switch {
	case !group.IsMulticast():
		return fmt.Errorf("%s is not a multicast address", group)
	case group.Is4() && group.IsLinkLocalMulticast():
		return fmt.Errorf("%s belongs to routers and the like (224.0.0.0/24, RFC 5771)", group)
	case group.Is6() && a[1]&0xf <= 1:
		return fmt.Errorf("%s does not leave the machine (RFC 4291 section 2.7): want one from ff02::100 on", group)
	case group.Is6() && a[1]>>4 == 0 && [13]byte(a[2:15]) == [13]byte{}:
		return fmt.Errorf("%s belongs to hosts, routers and the like (RFC 2375): want another, such as ff02::694", group)
	}
	return nil
}
