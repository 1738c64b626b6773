package ipvs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"systole/dataplane"
)

// errMessage wraps what is wrong with a kernel's message.
var errMessage = errors.New("unreadable IPVS message")

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

// reader takes attributes out of a message and keeps the first error.
type reader struct {
	attrs
	err error
}

// get is an attribute of at least n bytes; n zeros when it has not so many.
func (r *reader) get(typ uint16, n int) []byte {
	if v := r.attrs[typ]; len(v) >= n {
		return v
	}
	if r.err == nil {
		r.err = fmt.Errorf("%w: attribute %d has %d bytes, want %d", errMessage, typ, len(r.attrs[typ]), n)
	}
	return make([]byte, n)
}

func (r *reader) u8(typ uint16) uint8    { return r.get(typ, 1)[0] }
func (r *reader) u16(typ uint16) uint16  { return binary.NativeEndian.Uint16(r.get(typ, 2)) }
func (r *reader) u32(typ uint16) uint32  { return binary.NativeEndian.Uint32(r.get(typ, 4)) }
func (r *reader) u64(typ uint16) uint64  { return binary.NativeEndian.Uint64(r.get(typ, 8)) }
func (r *reader) port(typ uint16) uint16 { return binary.BigEndian.Uint16(r.get(typ, 2)) }
func (r *reader) has(typ uint16) bool    { _, ok := r.attrs[typ]; return ok }
func (r *reader) text(typ uint16) string {
	s, _, _ := bytes.Cut(r.get(typ, 1), []byte{0})
	return string(s)
}
func (r *reader) seconds(typ uint16) time.Duration { return time.Duration(r.u32(typ)) * time.Second }

// addr is an address of the family; the kernel gives 16 bytes for IPv4, too.
func (r *reader) addr(typ, family uint16) netip.Addr {
	n := 4
	if family == syscall.AF_INET6 {
		n = 16
	}
	a, _ := netip.AddrFromSlice(r.get(typ, n)[:n])
	return a
}

// nested is an attribute that holds attributes. What it holds is read, and its
// error kept, by r's own methods.
func (r *reader) nested(typ uint16) *reader {
	v, ok := r.attrs[typ]
	if !ok && r.err == nil {
		r.err = fmt.Errorf("%w: no attribute %d", errMessage, typ)
	}
	a, err := parse(v)
	return &reader{a, errors.Join(r.err, err)}
}

// read begins a message: the attributes within its attribute typ.
func read(b []byte, typ uint16) *reader {
	top, err := parse(b)
	return (&reader{top, err}).nested(typ)
}

// parseService reads a service, without its servers.
func parseService(b []byte) (Service, error) {
	r := read(b, attrService)
	var s Service
	fam := r.u16(svcFamily)
	switch {
	case !r.has(svcFWMark):
		s.Key = dataplane.ServiceKey{
			VIP: r.addr(svcAddr, fam), Port: r.port(svcPort), Protocol: dataplane.Protocol(r.u16(svcProtocol)),
		}
	case fam == syscall.AF_INET6:
		s.Key = dataplane.ServiceKey{VIP: netip.IPv6Unspecified(), Mark: r.u32(svcFWMark)}
	default:
		s.Key = dataplane.ServiceKey{VIP: netip.IPv4Unspecified(), Mark: r.u32(svcFWMark)}
	}
	s.Scheduler, s.Flags = r.text(svcSched), Flags(r.u32(svcFlags))
	s.Timeout, s.Netmask = r.u32(svcTimeout), r.u32(svcNetmask)
	if r.has(svcEngine) {
		s.Engine = r.text(svcEngine)
	}
	return s, r.stats(svcStats64, &s.Stats)
}

// parseServer reads a server.
func parseServer(b []byte) (Server, error) {
	r := read(b, attrDest)
	s := Server{
		Addr:    netip.AddrPortFrom(r.addr(dstAddr, r.u16(dstFamily)), r.port(dstPort)),
		Forward: Forward(r.u32(dstForward)) & forwardMask, Weight: r.u32(dstWeight),
		Upper: r.u32(dstUpper), Lower: r.u32(dstLower),
		Active: r.u32(dstActive), Inactive: r.u32(dstInactive), Persistent: r.u32(dstPersist),
	}
	if s.Forward == Tunnel && r.has(dstTunType) { // Linux 5.3 and newer; before, all were IPIP
		s.Tunnel = TunnelTo{Type: TunnelType(r.u8(dstTunType)), Port: r.port(dstTunPort), Flags: r.u16(dstTunFlags)}
	}
	return s, r.stats(dstStats64, &s.Stats)
}

// stats reads 64-bit counters (Linux 4.1 and newer) and returns the message's
// first error.
func (r *reader) stats(typ uint16, to *Stats) error {
	s := r.nested(typ)
	*to = Stats{
		Connections: s.u64(statsConns), InPackets: s.u64(statsInPkts), OutPackets: s.u64(statsOutPkts),
		InBytes: s.u64(statsInBytes), OutBytes: s.u64(statsOutBytes),
		Rate: Rate{
			Connections: s.u64(statsCPS), InPackets: s.u64(statsInPPS), OutPackets: s.u64(statsOutPPS),
			InBytes: s.u64(statsInBPS), OutBytes: s.u64(statsOutBPS),
		},
	}
	return s.err
}

// parseDaemon reads a sync daemon.
func parseDaemon(b []byte) (Daemon, error) {
	r := read(b, attrDaemon)
	d := Daemon{Role: DaemonRole(r.u32(daemonState)), Interface: r.text(daemonIface), SyncID: uint8(r.u32(daemonSyncID))}
	if r.has(daemonMaxLen) { // this and what follows: Linux 4.3 and newer
		d.MaxLen, d.Port, d.TTL = r.u16(daemonMaxLen), r.u16(daemonPort), r.u8(daemonTTL)
		if r.has(daemonGroup6) {
			d.Group = r.addr(daemonGroup6, syscall.AF_INET6)
		} else {
			d.Group = r.addr(daemonGroup, syscall.AF_INET)
		}
	}
	return d, r.err
}

func parseTimeouts(b []byte) (dataplane.Timeouts, error) {
	a, err := parse(b)
	r := &reader{a, err}
	t := dataplane.Timeouts{TCP: r.seconds(attrTimeoutTCP), TCPFin: r.seconds(attrTimeoutTCPFin), UDP: r.seconds(attrTimeoutUDP)}
	return t, r.err
}

func parseInfo(b []byte) (version string, size int, err error) {
	a, err := parse(b)
	r := &reader{a, err}
	u, n := r.u32(infoVersion), r.u32(infoSize)
	return fmt.Sprintf("%d.%d.%d", u>>16&0xff, u>>8&0xff, u&0xff), int(n), r.err
}
