package mcast

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"systole/hb/internal/netdev"
)

// member does to a socket what a group needs, in the way of its family.
type member interface {
	// send prepares a sending socket: by this interface, across ttl-1 routers,
	// not to ourselves.
	send(fd, ifindex, ttl int) error
	// join and leave have a receiving socket hear the group, and nothing that
	// other programs of this machine joined.
	join(fd, ifindex int) error
	leave(fd, ifindex int) error
}

// v4 is ip(7)'s way.
type v4 struct{ group netip.Addr }

func (v v4) send(fd, ifindex, ttl int) error {
	if err := netdev.Set(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, "IP_MULTICAST_TTL", ttl); err != nil {
		return err
	}
	if err := netdev.Set(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP, "IP_MULTICAST_LOOP", 0); err != nil {
		return err
	}
	return v.set(fd, ifindex, unix.IP_MULTICAST_IF, "send to")
}

func (v v4) join(fd, ifindex int) error {
	if err := netdev.Set(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, "IP_MULTICAST_ALL", 0); err != nil {
		return err
	}
	return v.set(fd, ifindex, unix.IP_ADD_MEMBERSHIP, "join")
}

func (v v4) leave(fd, ifindex int) error {
	return v.set(fd, ifindex, unix.IP_DROP_MEMBERSHIP, "leave")
}

func (v v4) set(fd, ifindex, option int, what string) error {
	mreq := &unix.IPMreqn{Multiaddr: v.group.As4(), Ifindex: int32(ifindex)}
	if err := unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, option, mreq); err != nil {
		return fmt.Errorf("%s %s: %w", what, v.group, err)
	}
	return nil
}

// v6 is ipv6(7)'s way.
type v6 struct{ group netip.Addr }

func (v v6) send(fd, ifindex, ttl int) error {
	if err := netdev.Set(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, "IPV6_MULTICAST_HOPS", ttl); err != nil {
		return err
	}
	if err := netdev.Set(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP, "IPV6_MULTICAST_LOOP", 0); err != nil {
		return err
	}
	return netdev.Set(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, "IPV6_MULTICAST_IF", ifindex)
}

func (v v6) join(fd, ifindex int) error {
	if err := netdev.Set(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_ALL, "IPV6_MULTICAST_ALL", 0); err != nil {
		return err
	}
	return v.set(fd, ifindex, unix.IPV6_ADD_MEMBERSHIP, "join")
}

func (v v6) leave(fd, ifindex int) error {
	return v.set(fd, ifindex, unix.IPV6_DROP_MEMBERSHIP, "leave")
}

func (v v6) set(fd, ifindex, option int, what string) error {
	mreq := &unix.IPv6Mreq{Multiaddr: v.group.As16(), Interface: uint32(ifindex)}
	if err := unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, option, mreq); err != nil {
		return fmt.Errorf("%s %s: %w", what, v.group, err)
	}
	return nil
}
