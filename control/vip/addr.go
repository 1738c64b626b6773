package vip

import (
	"errors"
	"fmt"
	"net/netip"
)

// Errors of this package, to be tested with errors.Is.
var (
	// ErrInvalid wraps what is wrong with an Addr.
	ErrInvalid = errors.New("invalid virtual address")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("the address manager is closed")
)

// Addr is a virtual address and the interface it lives on.
type Addr struct {
	IP        netip.Addr
	PrefixLen int // in bits, 1 to 32, of IPv6 to 128
	Interface string
}

// String is "192.168.145.101/32 on eth0".
func (a Addr) String() string {
	return fmt.Sprintf("%s/%d on %s", a.IP, a.PrefixLen, a.Interface)
}

// check returns a in normal form, or what is wrong with it.
func (a Addr) check() (Addr, error) {
	a.IP = a.IP.Unmap()
	switch {
	case !a.IP.IsValid():
		return a, fmt.Errorf("%w: no address", ErrInvalid)
	case a.IP.IsUnspecified(), a.IP.IsMulticast(), a.IP.IsLoopback(), a.IP.Is6() && a.IP.IsLinkLocalUnicast(), a.IP.Zone() != "":
		return a, fmt.Errorf("%w: %s cannot be a virtual address: use a unicast address of the LAN", ErrInvalid, a.IP)
	case a.PrefixLen < 1 || a.PrefixLen > a.IP.BitLen():
		return a, fmt.Errorf("%w: %s: prefix length %d is not in 1 to %d", ErrInvalid, a.IP, a.PrefixLen, a.IP.BitLen())
	case a.Interface == "":
		return a, fmt.Errorf("%w: %s: no interface", ErrInvalid, a.IP)
	}
	return a, nil
}

// key is what names an address to this package. The prefix length is not part
// of it: a host has an address on an interface or has not.
type key struct {
	ip    netip.Addr
	iface string
}

func (a Addr) key() key { return key{a.IP, a.Interface} }
