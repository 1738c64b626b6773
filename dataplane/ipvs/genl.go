package ipvs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"systole/dataplane"
)

// The part of IPVS's generic netlink family that moby/ipvs lacks. Numbers from
// include/uapi/linux/ip_vs.h; integers are in host byte order, ports and
// addresses in network byte order.
const (
	cmdGetService = 4
	cmdGetDest    = 8
	cmdGetInfo    = 15

	attrService = 1 // in all commands
	attrDest    = 2

	infoVersion = 1
	infoSize    = 2

	svcFamily   = 1
	svcProtocol = 2
	svcAddr     = 3
	svcPort     = 4
	svcFWMark   = 5
	svcStats64  = 12

	dstAddr    = 1
	dstPort    = 2
	dstFamily  = 11
	dstStats64 = 12

	typeMask = 0x3fff // an attribute's type without its flags (linux/netlink.h)

	statsConns   = 1
	statsInPkts  = 2
	statsInBytes = 4
)

// errMessage wraps what is wrong with a kernel's message.
var errMessage = errors.New("unreadable IPVS message")

// serviceCounters are the counters of a service and its servers.
type serviceCounters struct {
	service dataplane.Counters
	servers map[netip.AddrPort]dataplane.Counters
}

func (k *linux) counters(s *Service) (serviceCounters, error) {
	c := serviceCounters{servers: make(map[netip.AddrPort]dataplane.Counters)}
	msgs, err := k.request(cmdGetService, 0, serviceAttr(s))
	if err != nil {
		return c, err
	}
	for _, m := range msgs {
		if c.service, err = parseService(m); err != nil {
			return c, err
		}
	}
	if msgs, err = k.request(cmdGetDest, unix.NLM_F_DUMP, serviceAttr(s)); err != nil {
		return c, err
	}
	for _, m := range msgs {
		addr, count, err := parseDest(m)
		if err != nil {
			return c, err
		}
		c.servers[addr] = count
	}
	return c, nil
}

func (k *linux) info() (version string, size int, err error) {
	msgs, err := k.request(cmdGetInfo, 0, nil)
	if err != nil {
		return "", 0, err
	}
	if len(msgs) != 1 {
		return "", 0, fmt.Errorf("%w: %d answers", errMessage, len(msgs))
	}
	return parseInfo(msgs[0])
}

// genlHeader is struct genlmsghdr: command, version, two reserved bytes.
type genlHeader [headerSize]byte

const headerSize = 4

func (h genlHeader) Len() int          { return headerSize }
func (h genlHeader) Serialize() []byte { return h[:] }

// request sends one command and returns the attributes of its answers.
func (k *linux) request(cmd uint8, flags int, data *nl.RtAttr) ([][]byte, error) {
	req := nl.NewNetlinkRequest(int(k.family), flags)
	req.AddData(genlHeader{cmd, 1})
	if data != nil {
		req.AddData(data)
	}
	msgs, err := req.Execute(unix.NETLINK_GENERIC, 0)
	if err != nil {
		return nil, err
	}
	for i, m := range msgs {
		if len(m) < headerSize {
			return nil, fmt.Errorf("%w: %d bytes", errMessage, len(m))
		}
		msgs[i] = m[headerSize:]
	}
	return msgs, nil
}

// serviceAttr names a service.
func serviceAttr(s *Service) *nl.RtAttr {
	a := nl.NewRtAttr(attrService|unix.NLA_F_NESTED, nil)
	a.AddRtAttr(svcFamily, nl.Uint16Attr(family(s.Key.VIP)))
	if s.FWMark != 0 {
		a.AddRtAttr(svcFWMark, nl.Uint32Attr(s.FWMark))
		return a
	}
	a.AddRtAttr(svcProtocol, nl.Uint16Attr(uint16(s.Key.Protocol)))
	a.AddRtAttr(svcAddr, s.Key.VIP.AsSlice())
	a.AddRtAttr(svcPort, binary.BigEndian.AppendUint16(nil, s.Key.Port))
	return a
}

// attrs are a message's attributes by type.
type attrs map[uint16][]byte

func parse(b []byte) (attrs, error) {
	out := make(attrs)
	for len(b) > 0 {
		if len(b) < 4 {
			return nil, fmt.Errorf("%w: %d bytes left over", errMessage, len(b))
		}
		n, typ := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])
		if n < 4 || n > len(b) {
			return nil, fmt.Errorf("%w: attribute of length %d in %d bytes", errMessage, n, len(b))
		}
		out[typ&typeMask] = b[4:n]
		b = b[min((n+3)&^3, len(b)):] // attributes begin at multiples of four
	}
	return out, nil
}

// get is an attribute of at least n bytes.
func (a attrs) get(typ uint16, n int) ([]byte, error) {
	if v := a[typ]; len(v) >= n {
		return v, nil
	}
	return nil, fmt.Errorf("%w: attribute %d has %d bytes, want %d", errMessage, typ, len(a[typ]), n)
}

// nested is an attribute that holds attributes.
func (a attrs) nested(typ uint16) (attrs, error) {
	v, ok := a[typ]
	if !ok {
		return nil, fmt.Errorf("%w: no attribute %d", errMessage, typ)
	}
	return parse(v)
}

// parseService reads a service's 64-bit counters (Linux 4.1 and newer).
func parseService(b []byte) (dataplane.Counters, error) {
	top, err := parse(b)
	if err != nil {
		return dataplane.Counters{}, err
	}
	svc, err := top.nested(attrService)
	if err != nil {
		return dataplane.Counters{}, err
	}
	return parseStats(svc, svcStats64)
}

// parseDest reads a server's address and 64-bit counters.
func parseDest(b []byte) (netip.AddrPort, dataplane.Counters, error) {
	none := func(err error) (netip.AddrPort, dataplane.Counters, error) {
		return netip.AddrPort{}, dataplane.Counters{}, err
	}
	top, err := parse(b)
	if err != nil {
		return none(err)
	}
	dst, err := top.nested(attrDest)
	if err != nil {
		return none(err)
	}
	fam, err := dst.get(dstFamily, 2)
	if err != nil {
		return none(err)
	}
	n := 4
	if binary.NativeEndian.Uint16(fam) == syscall.AF_INET6 {
		n = 16
	}
	ip, err := dst.get(dstAddr, n)
	if err != nil {
		return none(err)
	}
	port, err := dst.get(dstPort, 2)
	if err != nil {
		return none(err)
	}
	count, err := parseStats(dst, dstStats64)
	if err != nil {
		return none(err)
	}
	addr, _ := netip.AddrFromSlice(ip[:n])
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(port)), count, nil
}

func parseStats(a attrs, typ uint16) (dataplane.Counters, error) {
	var c dataplane.Counters
	stats, err := a.nested(typ)
	if err != nil {
		return c, err
	}
	for _, f := range []struct {
		typ uint16
		to  *uint64
	}{{statsConns, &c.Connections}, {statsInPkts, &c.Packets}, {statsInBytes, &c.Bytes}} {
		v, err := stats.get(f.typ, 8)
		if err != nil {
			return dataplane.Counters{}, err
		}
		*f.to = binary.NativeEndian.Uint64(v)
	}
	return c, nil
}

func parseInfo(b []byte) (version string, size int, err error) {
	a, err := parse(b)
	if err != nil {
		return "", 0, err
	}
	v, err := a.get(infoVersion, 4)
	if err != nil {
		return "", 0, err
	}
	n, err := a.get(infoSize, 4)
	if err != nil {
		return "", 0, err
	}
	u := binary.NativeEndian.Uint32(v)
	return fmt.Sprintf("%d.%d.%d", u>>16&0xff, u>>8&0xff, u&0xff), int(binary.NativeEndian.Uint32(n)), nil
}
