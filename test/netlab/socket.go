package netlab

import (
	"context"
	"net"

	"github.com/mdlayher/packet"
)

// Listen is net.Listen in the host. Addresses are literals: a look-up by name
// would run on another thread and so in another namespace.
func (h *Host) Listen(network, address string) (ln net.Listener, err error) {
	err = h.Do(func() error {
		ln, err = net.Listen(network, address)
		return err
	})
	return ln, err
}

// ListenPacket is net.ListenPacket in the host, of address literals.
func (h *Host) ListenPacket(network, address string) (pc net.PacketConn, err error) {
	err = h.Do(func() error {
		pc, err = net.ListenPacket(network, address)
		return err
	})
	return pc, err
}

// DialContext is net.Dialer.DialContext in the host, of address literals; fit
// for http.Transport. It takes a thread until the connection stands.
func (h *Host) DialContext(ctx context.Context, network, address string) (c net.Conn, err error) {
	err = h.Do(func() error {
		var d net.Dialer
		c, err = d.DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// ListenRaw opens a packet socket on the host's eth0 for frames of one
// EtherType (host byte order). Frames are read and written with their
// Ethernet header.
func (h *Host) ListenRaw(etherType uint16) (c *packet.Conn, err error) {
	err = h.Do(func() error {
		ifi, err := net.InterfaceByName(NIC)
		if err != nil {
			return err
		}
		c, err = packet.Listen(ifi, packet.Raw, int(etherType), nil)
		return err
	})
	return c, err
}
