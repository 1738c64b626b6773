// Package realserver prepares a real server for gate (direct routing): the
// director sends it frames that are addressed to the virtual address, so it
// must own that address, and must never tell the LAN that it does.
//
//	VIP/32 on lo                      the server accepts packets to the VIP
//	arp_ignore = 1   on all and lo    it answers ARP only for addresses of the
//	                                  interface that was asked: not for those on lo
//	arp_announce = 2 on all and lo    it never asks by ARP in the VIP's name,
//	                                  which would make the LAN learn its MAC
//
// The kernel takes the larger of "all" and the interface's own value
// (Documentation/networking/ip-sysctl.rst), so "all" covers each NIC; "lo" is
// set as well because that is how every guide has it and how it is checked.
//
// An IPv6 address needs no more than to be there, as VIP/128 on lo: the kernel
// answers a neighbour solicitation only for addresses of the interface that was
// asked (net/ipv6/ndisc.c), and never solicits in the name of one on lo. It is
// added without duplicate address detection, and deprecated, so that nothing of
// the server's own leaves with it as its source (RFC 4862 5.5.4).
//
// All functions work in the network namespace of the calling thread. Nothing
// survives a reboot: Persist prints what does.
package realserver

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Loopback is the interface that Setup is meant for.
const Loopback = "lo"

// Errors of this package, to be tested with errors.Is.
var (
	// ErrAddress refuses what cannot be a virtual address.
	ErrAddress = errors.New("not a virtual address")
	// ErrOnNIC means that the address is on an interface that faces the LAN.
	ErrOnNIC = errors.New("the address is on a network interface")
)

// Item is one thing that must be so, and whether it is.
type Item struct {
	What string // "192.168.145.101/32 on lo"
	OK   bool
	Seen string // what is there instead; empty if OK
	Fix  string // the command that puts it right; empty if OK
}

// String is the item as a line for people.
func (i Item) String() string {
	if i.OK {
		return "ok     " + i.What
	}
	return fmt.Sprintf("WRONG  %s: %s; fix: %s", i.What, i.Seen, i.Fix)
}

// setting is a sysctl and what gate forwarding wants of it.
type setting struct {
	key, want string
}

// settings are in the order in which they must be made: silence first, then
// the address, so that the LAN never hears of it.
func settings(vip netip.Addr, iface string) []setting {
	if vip.Is6() {
		return []setting{{"net.ipv6.conf." + iface + ".disable_ipv6", "0"}}
	}
	return []setting{
		{"net.ipv4.conf.all.arp_ignore", "1"},
		{"net.ipv4.conf.all.arp_announce", "2"},
		{"net.ipv4.conf." + iface + ".arp_ignore", "1"},
		{"net.ipv4.conf." + iface + ".arp_announce", "2"},
	}
}

// Check tells, item by item, whether this machine can serve vip. The error is
// of looking, not of what was found.
func Check(vip netip.Addr) ([]Item, error) {
	if err := valid(vip); err != nil {
		return nil, err
	}
	var items []Item
	on, err := where(vip)
	if err != nil {
		return nil, err
	}
	items = append(items, addressItem(vip, on))
	for _, s := range settings(vip, Loopback) {
		got, err := readSysctl(s.key)
		if err != nil {
			return nil, err
		}
		it := Item{What: s.key + " = " + s.want, OK: got == s.want}
		if !it.OK {
			it.Seen, it.Fix = "it is "+got, fmt.Sprintf("sysctl -w %s=%s", s.key, s.want)
		}
		items = append(items, it)
	}
	lo, err := netlink.LinkByName(Loopback)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", Loopback, err)
	}
	up := Item{What: "interface lo is up", OK: lo.Attrs().Flags&net.FlagUp != 0}
	if !up.OK {
		up.Seen, up.Fix = "it is down", "ip link set lo up"
	}
	return append(items, up), nil
}

// place is where an address was found.
type place struct {
	iface string
	bits  int
	loop  bool // a loopback or dummy interface: nobody asks there
}

func addressItem(vip netip.Addr, on []place) Item {
	it := Item{What: fmt.Sprintf("%s on lo", host(vip))}
	add := fmt.Sprintf("ip addr add %s dev lo", host(vip))
	asked := "ARP"
	if vip.Is6() {
		add += " nodad preferred_lft 0"
		asked = "neighbour solicitations"
	}
	if len(on) == 0 {
		it.Seen, it.Fix = "no interface has the address", add
		return it
	}
	for _, p := range on {
		switch {
		case !p.loop:
			it.Seen = fmt.Sprintf("%s has it as /%d, so this server answers %s for it in the director's place", p.iface, p.bits, asked)
			it.Fix = fmt.Sprintf("ip addr del %s/%d dev %s && %s", vip, p.bits, p.iface, add)
			return it
		case p.bits != vip.BitLen():
			it.Seen = fmt.Sprintf("%s has it as /%d, which makes the whole prefix local: the clients in it get no answer", p.iface, p.bits)
			it.Fix = fmt.Sprintf("ip addr del %s/%d dev %s && %s", vip, p.bits, p.iface, add)
			return it
		}
	}
	it.OK = true // also on a dummy interface, as some prefer
	return it
}

// Applied remembers what Setup changed.
type Applied struct {
	iface   string
	vip     netip.Addr
	added   bool
	before  []setting // former values, in the order of change
	Changes []string  // for people, one line each; empty if all was so already
}

// Setup makes this machine ready to serve vip: iface (Loopback, or a dummy
// interface) gets the address, and ARP is silenced. What is right already is
// left as it is. On error everything is as before.
func Setup(vip netip.Addr, iface string) (_ *Applied, err error) {
	if err := valid(vip); err != nil {
		return nil, err
	}
	link, err := netlink.LinkByName(iface)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", iface, err)
	}
	if !quiet(link) {
		return nil, fmt.Errorf("%w: %s faces the LAN; a real server has the virtual address on lo", ErrOnNIC, iface)
	}
	on, err := where(vip)
	if err != nil {
		return nil, err
	}
	there := false
	for _, p := range on {
		if it := addressItem(vip, []place{p}); !it.OK {
			return nil, fmt.Errorf("%w: %s; first: %s", ErrOnNIC, it.Seen, it.Fix)
		}
		there = true
	}

	a := &Applied{iface: iface, vip: vip}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Undo())
		}
	}()
	for _, s := range settings(vip, iface) {
		old, err := readSysctl(s.key)
		if err != nil {
			return nil, err
		}
		if old == s.want {
			continue
		}
		if err := writeSysctl(s.key, s.want); err != nil {
			return nil, err
		}
		a.before = append(a.before, setting{s.key, old})
		a.Changes = append(a.Changes, fmt.Sprintf("%s = %s (was %s)", s.key, s.want, old))
	}
	if !there {
		if err := netlink.AddrAdd(link, hostAddr(vip)); err != nil {
			return nil, fmt.Errorf("add %s to %s: %w", host(vip), iface, err)
		}
		a.added = true
		a.Changes = append(a.Changes, fmt.Sprintf("%s added to %s", host(vip), iface))
	}
	return a, nil
}

// Undo puts back what Setup changed, the address first. It may be called more
// than once.
func (a *Applied) Undo() error {
	var errs []error
	if a.added {
		link, err := netlink.LinkByName(a.iface)
		if err == nil {
			err = netlink.AddrDel(link, hostAddr(a.vip))
		}
		if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			errs = append(errs, fmt.Errorf("remove %s from %s: %w", host(a.vip), a.iface, err))
		}
		a.added = false
	}
	for i := len(a.before) - 1; i >= 0; i-- {
		errs = append(errs, writeSysctl(a.before[i].key, a.before[i].want))
	}
	a.before = nil
	return errors.Join(errs...)
}

// Persist is what makes the set-up outlive a reboot, for the operator to put
// in place: the two files of a Debian with ifupdown.
func Persist(vip netip.Addr) string {
	var b strings.Builder
	b.WriteString("# /etc/sysctl.d/60-systole-real-server.conf\n")
	for _, s := range settings(vip, Loopback) {
		fmt.Fprintf(&b, "%s = %s\n", s.key, s.want)
	}
	b.WriteString("# /etc/network/interfaces.d/systole-vip\n")
	if vip.Is6() {
		fmt.Fprintf(&b, "iface lo inet6 static\n    address %s\n    dad-attempts 0\n    preferred-lifetime 0\n", host(vip))
		return b.String()
	}
	fmt.Fprintf(&b, "auto lo:%s\niface lo:%s inet static\n    address %s\n", label(vip), label(vip), host(vip))
	return b.String()
}

// label names an alias of lo after the last byte of the address; it must be
// unique on the machine and fit in IFNAMSIZ with "lo:".
func label(vip netip.Addr) string {
	b := vip.As4()
	return fmt.Sprintf("vip%d", b[3])
}

func valid(vip netip.Addr) error {
	switch {
	case !vip.IsValid():
		return fmt.Errorf("%w: write one as 192.168.145.101 or 2001:db8::101", ErrAddress)
	case vip.Is4In6():
		return fmt.Errorf("%w: %s: write it as %s", ErrAddress, vip, vip.Unmap())
	case vip.Zone() != "", vip.Is6() && vip.IsLinkLocalUnicast():
		return fmt.Errorf("%w: %s: a link-local address is of one link, and no client beyond it reaches it", ErrAddress, vip)
	case vip.IsLoopback(), vip.IsMulticast(), vip.IsUnspecified(), vip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("%w: %s cannot be shared by servers on a LAN", ErrAddress, vip)
	}
	return nil
}

// where lists the interfaces that have the address.
func where(vip netip.Addr) ([]place, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	family := netlink.FAMILY_V4
	if vip.Is6() {
		family = netlink.FAMILY_V6
	}
	var out []place
	for _, l := range links {
		addrs, err := netlink.AddrList(l, family)
		if err != nil {
			return nil, fmt.Errorf("addresses of %s: %w", l.Attrs().Name, err)
		}
		for _, a := range addrs {
			if a.IP.Equal(vip.AsSlice()) {
				bits, _ := a.Mask.Size()
				out = append(out, place{l.Attrs().Name, bits, quiet(l)})
			}
		}
	}
	return out, nil
}

// quiet tells whether nobody can ask for addresses through the interface.
func quiet(l netlink.Link) bool {
	return l.Attrs().Flags&net.FlagLoopback != 0 || l.Type() == "dummy"
}

// host is the address with the prefix length of a single host.
func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func hostAddr(a netip.Addr) *netlink.Addr {
	n := &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}}
	if a.Is6() {
		n.Flags = unix.IFA_F_NODAD
		forever := ^uint32(0) // in seconds, the kernel's INFINITY_LIFE_TIME
		n.PreferedLft, n.ValidLft = 0, int(forever)
	}
	return n
}

func sysctlPath(key string) string {
	return "/proc/sys/" + strings.ReplaceAll(key, ".", "/")
}

func readSysctl(key string) (string, error) {
	b, err := os.ReadFile(sysctlPath(key))
	if err != nil {
		return "", fmt.Errorf("sysctl %s: %w", key, err)
	}
	return strings.TrimSpace(string(b)), nil
}

func writeSysctl(key, value string) error {
	err := os.WriteFile(sysctlPath(key), []byte(value), 0)
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		return fmt.Errorf("sysctl %s = %s: %w (this needs root, and /proc/sys writable)", key, value, err)
	case err != nil:
		return fmt.Errorf("sysctl %s = %s: %w", key, value, err)
	}
	return nil
}
