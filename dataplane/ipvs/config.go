package ipvs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"systole/dataplane"
)

// WriteConfig writes services as the "services" of a Systole config file. What
// a table does not know, the VIPs' interfaces and the health checks, is for
// the operator to add, and comments say so. A setting that the config has no
// key for is an error that names the service, and then nothing is written.
func WriteConfig(w io.Writer, services []Service) error {
	var errs []error
	var vips []string
	for i := range services {
		s := &services[i]
		if err := configurable(s); err != nil {
			errs = append(errs, fmt.Errorf("service %s: %w", s, err))
		}
		if vip := s.Key.VIP.String(); s.Key.Mark == 0 && !slices.Contains(vips, vip) {
			vips = append(vips, vip)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	b := bufio.NewWriter(w)
	if len(vips) > 0 {
		fmt.Fprintf(b, "# These must be the vips of a group: %s\n", strings.Join(vips, ", "))
	}
	b.WriteString("services:\n")
	for i := range services {
		writeService(b, &services[i])
	}
	return b.Flush()
}

// configurable tells why the config has no words for a service.
func configurable(s *Service) error {
	if s.Engine != "" {
		return fmt.Errorf("persistence engine %q: the config has clients' addresses only", s.Engine)
	}
	if len(s.Servers) == 0 {
		return errors.New("it has no real server: the config wants at least one")
	}
	seen := make(map[netip.Addr]bool)
	for i := range s.Servers {
		d := &s.Servers[i]
		switch {
		case d.Forward == Tunnel && d.Tunnel.Type > GUE:
			return fmt.Errorf("real server %s: tunnel %s: the config has ipip and gue", d.Addr, d.Tunnel.Type)
		case d.Forward == Tunnel && d.Tunnel.Flags != 0:
			return fmt.Errorf("real server %s: the config has tunnels without checksums only", d.Addr)
		case d.Forward != Masq && d.Addr.Port() != s.Key.Port:
			return fmt.Errorf("real server %s: the port has no meaning but with -m", d.Addr)
		case seen[d.Addr.Addr()]:
			return fmt.Errorf("real server %s: the config has a server once in a service", d.Addr)
		}
		seen[d.Addr.Addr()] = true
	}
	return nil
}

func writeService(b *bufio.Writer, s *Service) {
	line := func(indent int, format string, args ...any) {
		fmt.Fprintf(b, strings.Repeat("  ", indent)+format+"\n", args...)
	}
	switch {
	case s.Key.Mark != 0:
		line(1, "- fwmark: %d", s.Key.Mark)
	case s.Key.Port == 0:
		line(1, "- virtual: '%s:*'", strings.TrimSuffix(netip.AddrPortFrom(s.Key.VIP, 0).String(), ":0"))
	default:
		line(1, "- virtual: '%s'", netip.AddrPortFrom(s.Key.VIP, s.Key.Port))
	}
	if s.Key.Mark == 0 {
		line(2, "protocol: %s", s.Key.Protocol)
	}
	line(2, "scheduler: %s", s.Scheduler)
	if names := schedFlags(s.Scheduler, s.Flags); len(names) > 0 {
		line(2, "scheduler_flags: [%s]", strings.Join(names, ", "))
	}
	if s.Flags&Persistent != 0 {
		mask := ""
		if s.Netmask != wholeMask(s.Key.VIP) {
			mask = ", netmask: " + maskOf(s)
		}
		line(2, "persistent: {timeout: %s%s}", time.Duration(s.Timeout)*time.Second, mask)
	}
	if s.Flags&OnePacket != 0 {
		line(2, "one_packet: true")
	}
	if s.Key.Mark != 0 || s.Key.Port == 0 || s.Key.Protocol != dataplane.TCP {
		line(2, "check: {type: none} # say how to tell that a server is well")
	} else {
		line(2, "check: {type: tcp}")
	}
	line(2, "servers:")
	for i := range s.Servers {
		d := &s.Servers[i]
		line(3, "- {address: '%s', weight: %d%s}", d.Addr.Addr(), d.Weight, configForward(s, d))
	}
}

// configForward is what the config says of a server besides its weight.
func configForward(s *Service, d *Server) string {
	var b strings.Builder
	switch {
	case d.Forward == Masq && d.Addr.Port() != s.Key.Port:
		fmt.Fprintf(&b, ", forward: masq, port: %d", d.Addr.Port())
	case d.Forward == Masq:
		b.WriteString(", forward: masq")
	case d.Forward == Tunnel && d.Tunnel.Type == GUE:
		fmt.Fprintf(&b, ", forward: gue, tunnel_port: %d", d.Tunnel.Port)
	case d.Forward == Tunnel:
		b.WriteString(", forward: ipip")
	}
	if d.Upper != 0 {
		fmt.Fprintf(&b, ", upper: %d", d.Upper)
	}
	if d.Lower != 0 {
		fmt.Fprintf(&b, ", lower: %d", d.Lower)
	}
	return b.String()
}
