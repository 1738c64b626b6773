package ipvs

import (
	"encoding/binary"
	"net/netip"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"systole/dataplane"
)

func family(a netip.Addr) uint16 {
	if a.Is6() {
		return syscall.AF_INET6
	}
	return syscall.AF_INET
}

func bigEndian(port uint16) []byte { return binary.BigEndian.AppendUint16(nil, port) }

// serviceName is the attribute that names a service.
func serviceName(s *Service) *nl.RtAttr {
	a := nl.NewRtAttr(attrService|unix.NLA_F_NESTED, nil)
	a.AddRtAttr(svcFamily, nl.Uint16Attr(family(s.Key.VIP)))
	if s.Key.Mark != 0 {
		a.AddRtAttr(svcFWMark, nl.Uint32Attr(s.Key.Mark))
		return a
	}
	a.AddRtAttr(svcProtocol, nl.Uint16Attr(uint16(s.Key.Protocol)))
	a.AddRtAttr(svcAddr, s.Key.VIP.AsSlice())
	a.AddRtAttr(svcPort, bigEndian(s.Key.Port))
	return a
}

// serviceAttr is a service with all its settings. The flags come with a mask
// of those that are meant (struct ip_vs_flags); all but the kernel's own are.
func serviceAttr(s *Service) *nl.RtAttr {
	a := serviceName(s)
	a.AddRtAttr(svcSched, nl.ZeroTerminated(s.Scheduler))
	if s.Engine != "" {
		a.AddRtAttr(svcEngine, nl.ZeroTerminated(s.Engine))
	}
	a.AddRtAttr(svcFlags, append(nl.Uint32Attr(uint32(s.Flags&^hashed)), nl.Uint32Attr(uint32(^hashed))...))
	a.AddRtAttr(svcTimeout, nl.Uint32Attr(s.Timeout))
	a.AddRtAttr(svcNetmask, nl.Uint32Attr(s.Netmask))
	return a
}

// serverName is the attribute that names a server of a service.
func serverName(s *Server) *nl.RtAttr {
	a := nl.NewRtAttr(attrDest|unix.NLA_F_NESTED, nil)
	a.AddRtAttr(dstFamily, nl.Uint16Attr(family(s.Addr.Addr())))
	a.AddRtAttr(dstAddr, s.Addr.Addr().AsSlice())
	a.AddRtAttr(dstPort, bigEndian(s.Addr.Port()))
	return a
}

// serverAttr is a server with all its settings.
func serverAttr(s *Server) *nl.RtAttr {
	a := serverName(s)
	a.AddRtAttr(dstForward, nl.Uint32Attr(uint32(s.Forward)))
	a.AddRtAttr(dstWeight, nl.Uint32Attr(s.Weight))
	a.AddRtAttr(dstUpper, nl.Uint32Attr(s.Upper))
	a.AddRtAttr(dstLower, nl.Uint32Attr(s.Lower))
	if s.Forward == Tunnel {
		a.AddRtAttr(dstTunType, []byte{byte(s.Tunnel.Type)})
		a.AddRtAttr(dstTunPort, bigEndian(s.Tunnel.Port))
		a.AddRtAttr(dstTunFlags, nl.Uint16Attr(s.Tunnel.Flags))
	}
	return a
}

// daemonAttr is a sync daemon; what is zero is the kernel's to choose.
func daemonAttr(d *Daemon) *nl.RtAttr {
	a := nl.NewRtAttr(attrDaemon|unix.NLA_F_NESTED, nil)
	a.AddRtAttr(daemonState, nl.Uint32Attr(uint32(d.Role)))
	a.AddRtAttr(daemonIface, nl.ZeroTerminated(d.Interface))
	a.AddRtAttr(daemonSyncID, nl.Uint32Attr(uint32(d.SyncID)))
	if d.MaxLen != 0 {
		a.AddRtAttr(daemonMaxLen, nl.Uint16Attr(d.MaxLen))
	}
	if d.Group.Is4() {
		a.AddRtAttr(daemonGroup, d.Group.AsSlice())
	} else if d.Group.IsValid() {
		a.AddRtAttr(daemonGroup6, d.Group.AsSlice())
	}
	if d.Port != 0 {
		a.AddRtAttr(daemonPort, nl.Uint16Attr(d.Port)) // host byte order, unlike a service's
	}
	if d.TTL != 0 {
		a.AddRtAttr(daemonTTL, []byte{d.TTL})
	}
	return a
}

// timeoutAttrs are the timeouts that are to change.
func timeoutAttrs(t dataplane.Timeouts) []*nl.RtAttr {
	var out []*nl.RtAttr
	for _, x := range []struct {
		typ int
		d   time.Duration
	}{{attrTimeoutTCP, t.TCP}, {attrTimeoutTCPFin, t.TCPFin}, {attrTimeoutUDP, t.UDP}} {
		if x.d != 0 {
			out = append(out, nl.NewRtAttr(x.typ, nl.Uint32Attr(uint32(x.d/time.Second))))
		}
	}
	return out
}
