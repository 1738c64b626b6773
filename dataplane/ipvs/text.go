package ipvs

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"systole/dataplane"
)

// List writes t as "ipvsadm -ln" (1.31) does, byte for byte, blanks at line
// ends included: scripts that read that read this.
func List(w io.Writer, t Table) error {
	version := t.Version
	if version == "" {
		version = "1.2.1"
	}
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "IP Virtual Server version %s (size=%d)\n", version, t.Size)
	fmt.Fprintln(b, "Prot LocalAddress:Port Scheduler Flags")
	fmt.Fprintln(b, "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn")
	for _, s := range sorted(t.Services) {
		fmt.Fprintf(b, "%s %s%s\n", nameOf(&s), s.Scheduler, flagsOf(&s))
		for _, d := range s.Servers {
			fmt.Fprintf(b, "  -> %-28s %-7s %-6d %-10d %-10d\n", d.Addr, d.Forward, d.Weight, d.Active, d.Inactive)
		}
	}
	return b.Flush()
}

// sctp is a protocol that IPVS has and we have not.
const sctp dataplane.Protocol = 132

func nameOf(s *Service) string {
	switch {
	case s.FWMark != 0 && s.v6():
		return fmt.Sprintf("FWM  %d IPv6", s.FWMark)
	case s.FWMark != 0:
		return fmt.Sprintf("FWM  %d", s.FWMark)
	}
	protocol := strings.ToUpper(s.Key.Protocol.String())
	if s.Key.Protocol == sctp {
		protocol = "SCTP"
	}
	return fmt.Sprintf("%-4s %s", protocol, netip.AddrPortFrom(s.Key.VIP, s.Key.Port))
}

func flagsOf(s *Service) string {
	var b strings.Builder
	if names := schedFlags(s.Scheduler, s.Flags); len(names) > 0 {
		fmt.Fprintf(&b, " (%s)", strings.Join(names, ","))
	}
	if s.Flags&Persistent != 0 {
		fmt.Fprintf(&b, " persistent %d", s.Timeout)
		if s.Netmask != wholeMask(s.Key.VIP) {
			b.WriteString(" mask " + maskOf(s))
		}
	}
	if s.Flags&OnePacket != 0 {
		b.WriteString(" ops")
	}
	return b.String()
}

// schedFlags are the names of the scheduler's own flags.
func schedFlags(scheduler string, f Flags) []string {
	names := [...]string{"flag-1", "flag-2", "flag-3"}
	switch scheduler {
	case "sh":
		names[0], names[1] = "sh-fallback", "sh-port"
	case "mh":
		names[0], names[1] = "mh-fallback", "mh-port"
	}
	var out []string
	for i, bit := range [...]Flags{Sched1, Sched2, Sched3} {
		if f&bit != 0 {
			out = append(out, names[i])
		}
	}
	return out
}

// maskOf is a persistence mask: dotted for IPv4, a prefix length for IPv6.
func maskOf(s *Service) string {
	if s.v6() {
		return fmt.Sprint(s.Netmask)
	}
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], s.Netmask)
	return netip.AddrFrom4(b).String()
}
