package dataplane

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Protocol is an IP protocol number as it stands in the IP header.
type Protocol uint8

// The protocols a virtual service can have.
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

// String is the protocol's name as operators write it: "tcp", "udp", "sctp".
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case SCTP:
		return "sctp"
	}
	return fmt.Sprintf("proto-%d", uint8(p))
}

// parseProtocol reads what String writes, of the three.
func parseProtocol(s string) (Protocol, bool) {
	for _, p := range []Protocol{TCP, UDP, SCTP} {
		if s == p.String() {
			return p, true
		}
	}
	return 0, false
}

// ServiceKey names a virtual service: what a packet is matched by.
//
// A service has one port, a range of them (LastPort) or all of them (Port 0);
// the narrower one wins. Or it has a firewall mark: then VIP is the unspecified
// address of its family, and port and protocol are zero.
type ServiceKey struct {
	VIP      netip.Addr
	Port     uint16 // host byte order; 0: every port that no other service has
	LastPort uint16 // the last of a range that begins at Port; 0: Port alone
	Protocol Protocol
	Mark     uint32 // of packets, as the firewall sets it; 0: none
}

// Ports are the first and the last port of the service.
func (k ServiceKey) Ports() (first, last uint16) {
	switch {
	case k.Port == 0:
		return 0, 65535
	case k.LastPort == 0:
		return k.Port, k.Port
	}
	return k.Port, k.LastPort
}

// String is "192.168.145.101:80/tcp", the label used in logs and metrics.
// Ranges are "192.168.145.101:8000-8099/tcp", all ports
// "192.168.145.101:0/tcp", firewall marks "fwmark:7" and "fwmark6:7".
func (k ServiceKey) String() string {
	switch {
	case k.Mark != 0 && k.VIP.Is6():
		return fmt.Sprintf("fwmark6:%d", k.Mark)
	case k.Mark != 0:
		return fmt.Sprintf("fwmark:%d", k.Mark)
	case k.LastPort != 0:
		return fmt.Sprintf("%s-%d/%s", netip.AddrPortFrom(k.VIP, k.Port), k.LastPort, k.Protocol)
	}
	return netip.AddrPortFrom(k.VIP, k.Port).String() + "/" + k.Protocol.String()
}

// ParseServiceKey reads what String writes.
func ParseServiceKey(s string) (ServiceKey, error) {
	if k, ok := parseMark(s); ok {
		return k, nil
	}
	bad := func(why string) (ServiceKey, error) {
		return ServiceKey{}, fmt.Errorf("service %q: %s: write it as 192.168.145.101:80/tcp (or /udp, /sctp), 192.168.145.101:8000-8099/tcp, or fwmark:7", s, why)
	}
	addr, name, _ := strings.Cut(s, "/")
	var k ServiceKey
	var ok bool
	if k.Protocol, ok = parseProtocol(name); !ok {
		return bad("no protocol")
	}
	if dash := strings.LastIndexByte(addr, '-'); dash >= 0 {
		last, err := strconv.ParseUint(addr[dash+1:], 10, 16)
		if err != nil || addr[dash+1:] != strconv.FormatUint(last, 10) {
			return bad("the last port is none")
		}
		k.LastPort, addr = uint16(last), addr[:dash]
	}
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return bad(err.Error())
	}
	k.VIP, k.Port = ap.Addr(), ap.Port()
	if strings.Contains(s, "-") && (k.Port == 0 || k.LastPort <= k.Port) {
		return bad("the range is empty")
	}
	return k, nil
}

func parseMark(s string) (ServiceKey, bool) {
	family, mark, _ := strings.Cut(s, ":")
	n, err := strconv.ParseUint(mark, 10, 32)
	if err != nil || n == 0 || mark != strconv.FormatUint(n, 10) {
		return ServiceKey{}, false
	}
	switch family {
	case "fwmark":
		return ServiceKey{VIP: netip.IPv4Unspecified(), Mark: uint32(n)}, true
	case "fwmark6":
		return ServiceKey{VIP: netip.IPv6Unspecified(), Mark: uint32(n)}, true
	}
	return ServiceKey{}, false
}

// Compare orders keys by mark, address, port and protocol.
func (k ServiceKey) Compare(o ServiceKey) int {
	return cmp.Or(
		cmp.Compare(k.Mark, o.Mark),
		k.VIP.Compare(o.VIP),
		cmp.Compare(k.Port, o.Port),
		cmp.Compare(k.LastPort, o.LastPort),
		cmp.Compare(k.Protocol, o.Protocol),
	)
}
