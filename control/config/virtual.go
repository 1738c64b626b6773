package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"systole/dataplane"
)

// endpoint is what a service is reached by: an address and one port, a range
// of ports, or all.
type endpoint struct {
	addr        netip.Addr
	first, last uint16 // as in Service
}

// virtual is "VIP:PORT", "VIP:FIRST-LAST" or "VIP:*" (also "VIP:0"); an IPv6
// address stands in brackets.
func virtual(s scalar) (endpoint, error) {
	bad := func() (endpoint, error) {
		return endpoint{}, fmt.Errorf("%q is not a VIP and a port: write one such as 192.0.2.101:80, in numbers", s.text)
	}
	if a, err := netip.ParseAddr(s.text); err == nil {
		return endpoint{}, fmt.Errorf("%q has no port: write %s", s.text, quoted(netip.AddrPortFrom(a, 80).String()))
	}
	colon := strings.LastIndexByte(s.text, ':')
	if colon < 0 {
		return bad()
	}
	ports := s.text[colon+1:]
	ap, err := netip.ParseAddrPort(s.text[:colon] + ":0")
	if err != nil {
		return bad()
	}
	e := endpoint{addr: ap.Addr()}
	if _, err := lanAddress(scalar{text: e.addr.String()}); err != nil {
		return endpoint{}, err
	}
	if ports == "*" || ports == "0" {
		return e, nil
	}
	first, last, isRange := strings.Cut(ports, "-")
	if e.first, err = portOf(first); err != nil {
		return endpoint{}, fmt.Errorf("%s: %w", s.text, err)
	}
	if !isRange {
		return e, nil
	}
	if e.last, err = portOf(last); err != nil {
		return endpoint{}, fmt.Errorf("%s: %w", s.text, err)
	}
	if e.last <= e.first {
		return endpoint{}, fmt.Errorf("%s: a range of ports goes from the lower to the higher one: write %s:%d-%d, or one port", s.text, s.text[:colon], min(e.first, e.last), max(e.first, e.last))
	}
	return e, nil
}

// quoted is how an address with brackets, which YAML takes for a list, is written.
func quoted(s string) string {
	if strings.HasPrefix(s, "[") {
		return "'" + s + "'"
	}
	return s
}

func portOf(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 || s != strconv.FormatUint(n, 10) {
		return 0, fmt.Errorf("the port %q is not a number from 1 to 65535", s)
	}
	return uint16(n), nil
}

// fwmark is a mark as "iptables -j MARK" and nftables set it.
func fwmark(s scalar) (uint32, error) {
	n, err := number(1, 1<<32-1)(s)
	return uint32(n), err
}

var laterProtocols = map[string]string{
	"fwm": "is the key fwmark here: write fwmark: 7 in place of virtual and protocol",
}

// named reads what a service is called by: virtual and protocol, or fwmark. The
// place of the field is that of the name; it is bad if the name is.
func (d *decoder) named(e *mapping, f *facts) (Service, field[endpoint]) {
	var s Service
	var v field[endpoint]
	if e.has("fwmark") {
		mark := read(e, "fwmark", 0, fwmark)
		s.FWMark, v.at, v.bad = mark.val, mark.at, mark.bad
		s.VIP = netip.IPv4Unspecified()
		for _, key := range []string{"virtual", "protocol"} {
			if x := e.take(key); x != nil {
				d.errorf(x.at, "%s has no effect with fwmark, whose service is every packet with that mark: remove one of them", key)
			}
		}
	} else {
		v = need(e, "virtual", "the address and port of the service, such as virtual: 192.0.2.101:80", virtual)
		e.asked = append(e.asked, "fwmark")
		protocol := read(e, "protocol", "tcp", oneOf([]string{"tcp", "udp", "sctp"}, laterProtocols))
		s.VIP, s.Port, s.LastPort, s.Protocol = v.val.addr, v.val.first, v.val.last, protocol.val
		if _, ok := f.vips[s.VIP]; !v.bad && !ok && f.vipsGood {
			d.errorf(v.at, "virtual: %s is not a VIP of any group: add it to the vips of a group", s.VIP)
		}
		v.bad = v.bad || protocol.bad
	}
	return s, v
}

// markFamily gives a service of a firewall mark the address family that its
// servers have: IPVS counts marks of either by themselves.
func (d *decoder) markFamily(s *Service, at pos) {
	if len(s.Servers) == 0 || !s.Servers[0].Addr.IsValid() {
		return
	}
	if s.Servers[0].Addr.Is6() {
		s.VIP = netip.IPv6Unspecified()
	}
	switch most := s.VIP.BitLen(); {
	case s.Persistent.PrefixLen > most:
		d.errorf(at, "fwmark: its netmask has %d bits, more than the %d of the clients' addresses", s.Persistent.PrefixLen, most)
	case s.Persistent.PrefixLen == most:
		s.Persistent.PrefixLen = 0 // each address is its own
	}
	all := s.Servers
	if s.Fallback != nil {
		all = append(all[:len(all):len(all)], *s.Fallback)
	}
	for _, r := range all {
		if r.Addr.IsValid() && r.Addr.Is6() != s.VIP.Is6() {
			d.errorf(at, "fwmark: %s and %s are of two address families: make a service of each, with the same mark", s.Servers[0].Addr, r.Addr)
			return
		}
	}
}

// unique reports a service that is there already, or whose range of ports
// overlaps another's. A single port within a range, and both within all ports,
// is no contradiction: the narrower service has the packet.
func (d *decoder) unique(before []Service, at []pos, s *Service, here pos) {
	for i := range before {
		o := &before[i]
		if o.VIP != s.VIP || o.Protocol != s.Protocol || o.FWMark != s.FWMark {
			continue
		}
		switch {
		case s.FWMark != 0:
			d.errorf(here, "fwmark: %d is there already, in line %d: put its servers there", s.FWMark, at[i].line)
		case o.Port == s.Port && o.LastPort == s.LastPort:
			d.errorf(here, "virtual: %s is there already, in line %d: put its servers there", s.Name(), at[i].line)
		case s.LastPort != 0 && o.LastPort != 0 && s.Port <= o.LastPort && o.Port <= s.LastPort:
			d.errorf(here, "virtual: %s overlaps %s, in line %d: a port is in one range only", s.Name(), o.Name(), at[i].line)
		default:
			continue
		}
		return
	}
}

// Key is the data plane's name for the service.
func (s *Service) Key() dataplane.ServiceKey {
	k := dataplane.ServiceKey{VIP: s.VIP, Port: s.Port, LastPort: s.LastPort, Mark: s.FWMark}
	switch {
	case s.FWMark != 0:
	case s.Protocol == "udp":
		k.Protocol = dataplane.UDP
	case s.Protocol == "sctp":
		k.Protocol = dataplane.SCTP
	default:
		k.Protocol = dataplane.TCP
	}
	return k
}
