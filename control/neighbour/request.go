package neighbour

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// sendTimeout bounds the wait for room in a transmit queue: the request is
// repeated anyway.
const sendTimeout = 10 * time.Millisecond

var (
	errNoSender = errors.New("no address of the interface is on its subnet (a /32 does not count): give it one")
	errNoARP    = errors.New("the interface has no ARP")
)

// requester sends ARP requests and neighbour solicitations by raw sockets, one per interface, opened with
// the first and kept. It does not listen: the answers are the kernel's.
type requester struct {
	h          *netlink.Handle
	log        *slog.Logger
	open       map[int]*packet.Conn
	complained map[int]bool // about the interface, since it last worked
}

func newRequester(h *netlink.Handle, log *slog.Logger) *requester {
	return &requester{h, log, make(map[int]*packet.Conn), make(map[int]bool)}
}

// request asks everybody on p's interface for addr. A failure is logged, once
// until the interface works again: the kernel still asks, only more slowly.
func (r *requester) request(addr netip.Addr, p path) {
	err := r.try(addr, p.ifindex)
	switch {
	case err == nil:
		delete(r.complained, p.ifindex)
	case errors.Is(err, unix.ENETDOWN), errors.Is(err, unix.ENOBUFS):
		// The carrier is lost and the message about it under way.
	case !r.complained[p.ifindex]:
		r.complained[p.ifindex] = true
		r.log.Warn("cannot ask myself, by ARP or a neighbour solicitation: after a link-up it may take the kernel a second longer to find a neighbour",
			"address", addr, "interface", p.iface, "error", err)
	}
}

func (r *requester) try(addr netip.Addr, ifindex int) error {
	l, err := r.h.LinkByIndex(ifindex)
	if err != nil {
		return err
	}
	if l.Attrs().RawFlags&unix.IFF_NOARP != 0 {
		return errNoARP
	}
	own, err := r.h.AddrList(l, familyOf(addr))
	if err != nil {
		return fmt.Errorf("listing the addresses of %s: %w", l.Attrs().Name, err)
	}
	from, ok := sender(own, addr)
	if addr.Is6() {
		from, ok = sender6(own)
	}
	if !ok {
		return errNoSender
	}
	ask := request
	if addr.Is6() {
		ask = solicitation
	}
	frame, err := ask(l.Attrs().HardwareAddr, from, addr)
	if err != nil {
		return err
	}
	// A socket remembers that its interface was down once: a failure is tried
	// again on a new one.
	if c := r.open[ifindex]; c != nil {
		if send(c, frame) == nil {
			return nil
		}
		r.drop(ifindex)
	}
	// Protocol 0: the socket sends only, no frame is ever queued on it.
	c, err := packet.Listen(&net.Interface{Index: ifindex, Name: l.Attrs().Name}, packet.Raw, 0, nil)
	if err != nil {
		return fmt.Errorf("opening a raw socket (CAP_NET_RAW is needed): %w", err)
	}
	r.open[ifindex] = c
	return send(c, frame)
}

func send(c *packet.Conn, frame []byte) error {
	if err := c.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	_, err := c.WriteTo(frame, &packet.Addr{HardwareAddr: net.HardwareAddr(frame[:6])})
	return err
}

// drop closes the socket of an interface that is gone.
func (r *requester) drop(ifindex int) {
	if c := r.open[ifindex]; c != nil {
		_ = c.Close() // nothing is buffered in it
		delete(r.open, ifindex)
	}
	delete(r.complained, ifindex)
}

func (r *requester) close() {
	for ifindex := range r.open {
		r.drop(ifindex)
	}
}

// sender chooses the address a request for target bears: of those whose subnet
// has the target, the one of the smallest subnet. Who hears a request may note
// its sender (RFC 826), so a virtual address must not be one. Those are /32,
// or secondary: the kernel marks so every address but the first of a subnet.
func sender(own []netlink.Addr, target netip.Addr) (best netip.Addr, ok bool) {
	most := -1
	for _, a := range own {
		if a.IPNet == nil || a.Flags&unix.IFA_F_SECONDARY != 0 {
			continue
		}
		ip, valid := netip.AddrFromSlice(a.IP.To4())
		bits, size := a.Mask.Size()
		if !valid || size != 32 || bits == 32 || bits <= most || ip == target {
			continue
		}
		if netip.PrefixFrom(ip, bits).Contains(target) {
			best, most = ip, bits
		}
	}
	return best, most >= 0
}

// request builds the Ethernet frame, without FCS, by which the machine at mac
// and from asks everybody who has target (RFC 826).
func request(mac net.HardwareAddr, from, target netip.Addr) ([]byte, error) {
	if len(mac) != 6 {
		return nil, fmt.Errorf("hardware address %q is not an Ethernet one", mac)
	}
	unknown := make(net.HardwareAddr, 6)
	p, err := arp.NewPacket(arp.OperationRequest, mac, from, unknown, target)
	if err != nil {
		return nil, fmt.Errorf("asking for %s: %w", target, err)
	}
	payload, err := p.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("asking for %s: %w", target, err)
	}
	f := ethernet.Frame{
		Destination: ethernet.Broadcast,
		Source:      mac,
		EtherType:   ethernet.EtherTypeARP,
		Payload:     payload,
	}
	return f.MarshalBinary()
}
