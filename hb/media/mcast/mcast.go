// Package mcast is the heartbeat medium of datagrams to an IPv4 multicast group
// (heartbeat-wire.md section 1): it needs no address of any peer, and a node
// does not hear itself. Importing it registers "mcast" with package media.
//
// Switches that look at IGMP forget a member when its cable is pulled, and the
// kernel tells them of it only when the interface is set up, or when somebody
// asks. So the group is joined anew when the carrier is back, and now and then
// while nothing is heard.
package mcast

import (
	"cmp"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"systole/hb/internal/netdev"
	"systole/hb/media"
	"systole/hb/media/internal/udp"
)

func init() { media.Register("mcast", open) }

// DefaultGroup is where heartbeat sends to unless told otherwise.
var DefaultGroup = netip.AddrFrom4([4]byte{225, 0, 0, 1})

func open(spec media.Spec) (media.Medium, error) {
	cfg := udp.Config{Kind: "mcast", Device: spec.Interface, Port: cmp.Or(spec.Port, media.DefaultPort)}
	if f := spec.Unused("interface", "port", "group", "ttl"); f != "" {
		return nil, cfg.Bad("%s means nothing to it", f)
	}
	group, ttl := spec.Group.Unmap(), cmp.Or(spec.TTL, 1)
	switch {
	case spec.Group == netip.Addr{}:
		group = DefaultGroup
	case !group.Is4() || !group.IsMulticast():
		return nil, cfg.Bad("group %s is not an IPv4 multicast address", spec.Group)
	case group.IsLinkLocalMulticast():
		return nil, cfg.Bad("group %s belongs to routers and the like (224.0.0.0/24, RFC 5771)", group)
	}
	if ttl < 1 || ttl > 255 {
		return nil, cfg.Bad("ttl %d is not within 1 to 255", ttl)
	}
	member := func(fd, ifindex, option int, name string) error {
		mreq := &unix.IPMreqn{Multiaddr: group.As4(), Ifindex: int32(ifindex)}
		if err := unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, option, mreq); err != nil {
			return fmt.Errorf("%s %s: %w", name, group, err)
		}
		return nil
	}
	join := func(fd, ifindex int) error { return member(fd, ifindex, unix.IP_ADD_MEMBERSHIP, "join") }
	cfg.Out = func(fd, ifindex int) error {
		if err := netdev.Set(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, "IP_MULTICAST_TTL", ttl); err != nil {
			return err
		}
		if err := netdev.Set(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP, "IP_MULTICAST_LOOP", 0); err != nil {
			return err
		}
		return member(fd, ifindex, unix.IP_MULTICAST_IF, "send to")
	}
	cfg.In = func(fd, ifindex int) error {
		// Not what other programs of this machine joined.
		if err := netdev.Set(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, "IP_MULTICAST_ALL", 0); err != nil {
			return err
		}
		return join(fd, ifindex)
	}
	cfg.Revive = func(fd, ifindex int) error {
		if err := member(fd, ifindex, unix.IP_DROP_MEMBERSHIP, "leave"); err != nil {
			return err
		}
		return join(fd, ifindex)
	}
	to := []netip.AddrPort{netip.AddrPortFrom(group, cfg.Port)}
	cfg.To = func(int) ([]netip.AddrPort, error) { return to, nil }
	m, err := udp.Open(cfg)
	if err != nil {
		return nil, err
	}
	return m, nil
}
