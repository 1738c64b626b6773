package observe

import (
	"fmt"
	"net/netip"
	"strings"

	"systole/dataplane"
)

// Verdict is what became of a frame: the values of the kernel's enum
// xdp_action.
type Verdict uint32

// The verdicts.
const (
	Aborted Verdict = iota
	Drop
	Pass     // to the kernel's network stack
	Tx       // out of the NIC it came in by
	Redirect // out of another
)

var verdicts = [...]string{"aborted", "drop", "pass", "tx", "redirect"}

// String is the verdict's name: "aborted", "drop", "pass", "tx", "redirect".
func (v Verdict) String() string {
	if int(v) >= len(verdicts) {
		return fmt.Sprintf("verdict-%d", uint32(v))
	}
	return verdicts[v]
}

// MarshalText is String.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads what MarshalText writes, of the known ones.
func (v *Verdict) UnmarshalText(text []byte) error {
	for i, name := range verdicts {
		if name == string(text) {
			*v = Verdict(i)
			return nil
		}
	}
	return fmt.Errorf("verdict %q: one of %s", text, strings.Join(verdicts[:], ", "))
}

// Sent tells whether the frame left by a NIC.
func (v Verdict) Sent() bool { return v == Tx || v == Redirect }

// Taken are the verdicts whose frames do not reach the kernel's network stack,
// and so no packet socket.
func Taken() []Verdict { return []Verdict{Aborted, Drop, Tx, Redirect} }

// Filter says which packets are wanted: those that fit all of it. An empty one
// wants all.
type Filter struct {
	// Client is the source address; with ICMP errors, which come from a router,
	// the client of the packet they quote. Zero: any.
	Client     netip.Prefix
	ClientPort uint16 // 0: any

	// Service is whom the packet is for. A port 0 and a protocol 0 are any; ICMP
	// errors count by the packet they quote. What has no port, as later
	// fragments, fits every port. Zero: any.
	Service dataplane.ServiceKey

	// Server is the real server it is sent to. Zero: any, also none.
	Server netip.Addr

	// Verdicts are those wanted; none: all.
	Verdicts []Verdict
}

func (f Filter) check() error {
	switch {
	case f.ClientPort != 0 && !f.Client.IsValid():
		return fmt.Errorf("client port %d: name the client's address too", f.ClientPort)
	case f.Client.Addr().Is4In6() || f.Service.VIP.Is4In6() || f.Server.Is4In6():
		return fmt.Errorf("an IPv4 address in IPv6 clothes: write it as IPv4")
	case f.Service.Mark != 0:
		return fmt.Errorf("service %s: firewall marks are given after XDP: name an address and port", f.Service)
	}
	for _, v := range f.Verdicts {
		if int(v) >= len(verdicts) {
			return fmt.Errorf("%s: unknown", v)
		}
	}
	return nil
}

// ParseService reads a service, or only its address: any port and protocol.
func ParseService(s string) (dataplane.ServiceKey, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return dataplane.ServiceKey{VIP: a}, nil
	}
	return dataplane.ParseServiceKey(s)
}

// ParseClient reads "10.0.0.1", "10.0.0.1:40000", "[2001:db8::1]:40000" or a
// prefix, "10.0.0.0/8"; the port is 0 if there is none.
func ParseClient(s string) (netip.Prefix, uint16, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), 0, nil
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), 0, nil
	}
	if ap, err := netip.ParseAddrPort(s); err == nil && ap.Addr().Zone() == "" && ap.Port() != 0 {
		return netip.PrefixFrom(ap.Addr(), ap.Addr().BitLen()), ap.Port(), nil
	}
	return netip.Prefix{}, 0, fmt.Errorf("client %q: write an address, an address with a port (10.0.0.1:40000, [2001:db8::1]:40000) or a prefix (10.0.0.0/8)", s)
}
