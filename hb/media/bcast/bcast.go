// Package bcast is the heartbeat medium of datagrams to the IPv4 broadcast
// address of an interface (heartbeat-wire.md section 1): it needs no address of
// any peer, and a node hears itself. Importing it registers "bcast" with
// package media.
package bcast

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"systole/hb/internal/netdev"
	"systole/hb/media"
	"systole/hb/media/internal/udp"
)

func init() { media.Register("bcast", open) }

func open(spec media.Spec) (media.Medium, error) {
	cfg := udp.Config{
		Kind: "bcast", Device: spec.Interface, Port: cmp.Or(spec.Port, media.DefaultPort),
		Out: func(fd, _ int) error { return netdev.Set(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, "SO_BROADCAST", 1) },
	}
	if f := spec.Unused("interface", "port"); f != "" {
		return nil, cfg.Bad("%s means nothing to it", f)
	}
	cfg.To = func(fd int) ([]netip.AddrPort, error) {
		a, err := broadcast(fd, cfg.Device)
		if err != nil {
			return nil, err
		}
		return []netip.AddrPort{netip.AddrPortFrom(a, cfg.Port)}, nil
	}
	m, err := udp.Open(cfg)
	if err != nil {
		return nil, err
	}
	return m, nil
}

// broadcast is the broadcast address of an interface. One that was given its
// address without ("ip addr add" does so) has that of its network, for which
// the kernel makes a route all the same (fib_add_ifaddr in
// net/ipv4/fib_frontend.c).
func broadcast(fd int, device string) (a netip.Addr, err error) {
	addr, err := address(fd, device, unix.SIOCGIFADDR)
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return a, fmt.Errorf("interface %s has no IPv4 address, which bcast needs: IPv6 has no broadcast, use mcast with an IPv6 group", device)
	}
	if err != nil {
		return a, err
	}
	mask, err := address(fd, device, unix.SIOCGIFNETMASK)
	if err != nil {
		return a, err
	}
	brd, err := address(fd, device, unix.SIOCGIFBRDADDR)
	switch {
	case err != nil:
		return a, err
	case brd != 0 && brd != addr:
	case ^mask <= 1: // /31 and /32 (RFC 3021)
		return a, fmt.Errorf("the network of interface %s is too small for a broadcast address: use ucast or mcast", device)
	default:
		brd = addr | ^mask
	}
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], brd)
	return netip.AddrFrom4(b), nil
}

// address asks for one of the IPv4 addresses of an interface, in host order.
func address(fd int, device string, request uint) (uint32, error) {
	ifr, err := netdev.Ask(fd, device, request)
	if err != nil {
		return 0, err
	}
	a, err := ifr.Inet4Addr()
	if err != nil {
		return 0, fmt.Errorf("interface %s: %w", device, err)
	}
	return binary.BigEndian.Uint32(a), nil
}
