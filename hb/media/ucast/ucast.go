// Package ucast is the heartbeat medium of IPv4 datagrams to each peer
// (heartbeat-wire.md section 1). Importing it registers "ucast" with package
// media.
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
		Out: func(fd, _ int) error { return netdev.Set(fd, unix.IPPROTO_IP, unix.IP_TOS, "IP_TOS", tosLowDelay) },
		In: func(fd, _ int) error {
			return netdev.Set(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, "SO_REUSEPORT", 1)
		},
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
		p = netip.AddrPortFrom(p.Addr().Unmap(), cmp.Or(p.Port(), media.DefaultPort))
		switch a := p.Addr(); {
		case !a.Is4():
			return nil, cfg.Bad("peer %s is not an IPv4 address", a)
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
