package ipvs

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"systole/dataplane"
)

// Save writes t as "ipvsadm-save -n" (1.31) does: the options of the commands
// that make it. Thresholds are among them, which ipvsadm's own leaves out and
// its ipvsadm-restore understands.
func Save(w io.Writer, t Table) error {
	b := bufio.NewWriter(w)
	for _, s := range sorted(t.Services) {
		name := optionOf(&s)
		fmt.Fprintf(b, "-A %s -s %s%s\n", name, s.Scheduler, serviceOptions(&s))
		for i := range s.Servers {
			d := &s.Servers[i]
			fmt.Fprintf(b, "-a %s -r %s %s -w %d%s\n", name, d.Addr, forwardOption(d.Forward), d.Weight, serverOptions(d))
		}
	}
	return b.Flush()
}

// optionOf is how ipvsadm is told of a service.
func optionOf(s *Service) string {
	addr := netip.AddrPortFrom(s.Key.VIP, s.Key.Port)
	switch {
	case s.Key.Mark != 0 && s.v6():
		return fmt.Sprintf("-f %d -6", s.Key.Mark)
	case s.Key.Mark != 0:
		return fmt.Sprintf("-f %d", s.Key.Mark)
	case s.Key.Protocol == dataplane.UDP:
		return fmt.Sprintf("-u %s", addr)
	case s.Key.Protocol == dataplane.SCTP:
		return fmt.Sprintf("--sctp-service %s", addr)
	}
	return fmt.Sprintf("-t %s", addr)
}

func serviceOptions(s *Service) string {
	var b strings.Builder
	if s.Flags&Persistent != 0 {
		fmt.Fprintf(&b, " -p %d", s.Timeout)
		if s.Netmask != wholeMask(s.Key.VIP) {
			b.WriteString(" -M " + maskOf(s))
		}
		if s.Engine != "" {
			b.WriteString(" --pe " + s.Engine)
		}
	}
	if s.Flags&OnePacket != 0 {
		b.WriteString(" -o")
	}
	if names := schedFlags(s.Scheduler, s.Flags); len(names) > 0 {
		b.WriteString(" -b " + strings.Join(names, ","))
	}
	return b.String()
}

func forwardOption(f Forward) string {
	switch f {
	case Masq:
		return "-m"
	case Tunnel:
		return "-i"
	}
	return "-g"
}

func serverOptions(d *Server) string {
	var b strings.Builder
	if d.Forward == Tunnel {
		fmt.Fprintf(&b, " --tun-type %s", d.Tunnel.Type)
		if d.Tunnel.Type == GUE {
			fmt.Fprintf(&b, " --tun-port %d", d.Tunnel.Port)
		}
		if d.Tunnel.Type != IPIP {
			b.WriteString(map[uint16]string{0: " --tun-nocsum", tunCsum: " --tun-csum", tunRemCsum: " --tun-remcsum"}[d.Tunnel.Flags&(tunCsum|tunRemCsum)])
		}
	}
	if d.Upper != 0 {
		fmt.Fprintf(&b, " -x %d", d.Upper)
	}
	if d.Lower != 0 {
		fmt.Fprintf(&b, " -y %d", d.Lower)
	}
	return b.String()
}
