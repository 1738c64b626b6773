// Package ucast is the heartbeat medium of datagrams to each peer
// (heartbeat-wire.md section 1), over IPv4 or, where the peers' addresses are
// such, IPv6. Importing it registers "ucast" with package media.
//
// An IPv6 address can be used about a second after its interface came up, when
// the kernel has found that nobody else has it (RFC 4862 section 5.4); what is
// sent before is lost, as the kernel finds no better source than ::1. Link-local addresses are those of the medium's interface.
package ucast

import (
	"cmp"
	"net/netip"

	"golang.org/x/sys/unix"

	"systole/hb/internal/netdev"
	"systole/hb/media"
	"systole/hb/media/internal/udp"
)

func init() { media.Register("ucast", open) }

// tosLowDelay marks the packets as the original does (section 1).
const tosLowDelay = 0x10

func open(spec media.Spec) (media.Medium, error) {
	cfg := udp.Config{
		Kind: "ucast", Device: spec.Interface, Port: cmp.Or(spec.Port, media.DefaultPort),
		V6: len(spec.Peers) > 0 && spec.Peers[0].Addr().Unmap().Is6(),
		In: func(fd, _ int) error {
			return netdev.Set(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, "SO_REUSEPORT", 1)
		},
	}
	cfg.Out = func(fd, _ int) error {
		if cfg.V6 {
			return netdev.Set(fd, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, "IPV6_TCLASS", tosLowDelay)
		}
		return netdev.Set(fd, unix.IPPROTO_IP, unix.IP_TOS, "IP_TOS", tosLowDelay)
	}
	if f := spec.Unused("interface", "port", "peers"); f != "" {
		return nil, cfg.Bad("%s means nothing to it", f)
	}
	if len(spec.Peers) == 0 {
		return nil, cfg.Bad("no peer to send to")
	}
	var peers []netip.AddrPort
	seen := make(map[netip.AddrPort]bool)
	for _, p := range spec.Peers {
		a, err := cfg.Host(p.Addr())
		if err != nil {
			return nil, err
		}
		p = netip.AddrPortFrom(a, cmp.Or(p.Port(), media.DefaultPort))
		switch {
		case !a.IsValid():
			return nil, cfg.Bad("a peer has no address")
		case a.Is6() != cfg.V6:
			return nil, cfg.Bad("peer %s is of another family than the first: IPv4 and IPv6 need a medium each", a)
		case a.IsUnspecified(), a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
			return nil, cfg.Bad("peer %s is not the address of one node", a)
		case seen[p]:
			return nil, cfg.Bad("peer %s is there twice", p)
		}
		seen[p] = true
		peers = append(peers, p)
	}
	cfg.To = func(int) ([]netip.AddrPort, error) { return peers, nil }
	m, err := udp.Open(cfg)
	if err != nil {
		return nil, err
	}
	return m, nil
}
