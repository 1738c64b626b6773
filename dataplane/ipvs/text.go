package ipvs

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"systole/dataplane"
)

// View is one of the forms in which ipvsadm lists its table.
type View uint8

// The views, by ipvsadm's options.
const (
	ViewTable      View = iota // -ln
	ViewStats                  // -ln --stats
	ViewRate                   // -ln --rate
	ViewThresholds             // -ln --thresholds
	ViewPersistent             // -ln --persistent-conn
	ViewTunnels                // -ln --tun-info
)

// columns are the headings of the views, blanks at the end included.
var columns = [...]string{
	"Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n",
	"Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes\n  -> RemoteAddress:Port\n",
	"Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS\n  -> RemoteAddress:Port\n",
	"Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn \n  -> RemoteAddress:Port\n",
	"Prot LocalAddress:Port            Weight    PersistConn ActiveConn InActConn \n  -> RemoteAddress:Port\n",
	"Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn\n",
}

// List writes t as "ipvsadm -ln" (1.31) does, byte for byte, blanks at line
// ends included: scripts that read that read this. Exact is --exact: counters
// are not shortened to thousands (K), millions (M) and so on.
func List(w io.Writer, t Table, v View, exact bool) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "IP Virtual Server version %s (size=%d)\n", cmp.Or(t.Version, "1.2.1"), t.Size)
	b.WriteString(columns[v])
	for _, s := range sorted(t.Services) {
		if v == ViewStats || v == ViewRate {
			fmt.Fprintf(b, "%-33s%s\n", nameOf(&s), s.Stats.columns(v, exact))
		} else {
			fmt.Fprintf(b, "%s %s%s\n", nameOf(&s), s.Scheduler, flagsOf(&s))
		}
		for i := range s.Servers {
			fmt.Fprintf(b, "  -> %-28s%s\n", s.Servers[i].Addr, s.Servers[i].columns(v, exact))
		}
	}
	return b.Flush()
}

func (d *Server) columns(v View, exact bool) string {
	conns := fmt.Sprintf(" %-10d %-10d", d.Active, d.Inactive)
	switch v {
	case ViewStats, ViewRate:
		return d.Stats.columns(v, exact)
	case ViewThresholds:
		return fmt.Sprintf(" %-10d %-10d", d.Upper, d.Lower) + conns
	case ViewPersistent:
		return fmt.Sprintf(" %-9d %-11d", d.Weight, d.Persistent) + conns
	case ViewTunnels:
		return fmt.Sprintf(" %-7s %-13s %-6d", d.Forward, tunnelOf(d), d.Weight) + conns
	}
	return fmt.Sprintf(" %-7s %-6d", d.Forward, d.Weight) + conns
}

func (s *Stats) columns(v View, exact bool) string {
	n := [...]uint64{s.Connections, s.InPackets, s.OutPackets, s.InBytes, s.OutBytes}
	if r := &s.Rate; v == ViewRate {
		n = [...]uint64{r.Connections, r.InPackets, r.OutPackets, r.InBytes, r.OutBytes}
	}
	var b strings.Builder
	for _, x := range n {
		b.WriteString(number(x, exact))
	}
	return b.String()
}

// number is a counter in ipvsadm's nine columns.
func number(n uint64, exact bool) string {
	switch {
	case exact || n < 1e8:
		return fmt.Sprintf(" %8d", n)
	case n < 1e9:
		return fmt.Sprintf("%8dK", n/1e3)
	case n < 1e11:
		return fmt.Sprintf("%8dM", n/1e6)
	case n < 1e14:
		return fmt.Sprintf("%8dG", n/1e9)
	}
	return fmt.Sprintf("%8dT", n/1e12)
}

func nameOf(s *Service) string {
	switch {
	case s.Key.Mark != 0 && s.v6():
		return fmt.Sprintf("FWM  %d IPv6", s.Key.Mark)
	case s.Key.Mark != 0:
		return fmt.Sprintf("FWM  %d", s.Key.Mark)
	}
	return fmt.Sprintf("%-4s %s", strings.ToUpper(s.Key.Protocol.String()), netip.AddrPortFrom(s.Key.VIP, s.Key.Port))
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
		if s.Engine != "" {
			b.WriteString(" pe " + s.Engine)
		}
	}
	if s.Flags&OnePacket != 0 {
		b.WriteString(" ops")
	}
	return b.String()
}

// schedFlags are the names of the scheduler's own flags.
func schedFlags(scheduler string, f Flags) []string {
	names, ok := schedFlagNames[scheduler]
	if !ok {
		names = schedFlagNames[""]
	}
	var out []string
	for i, name := range names {
		if f&(Sched1<<i) != 0 {
			out = append(out, name)
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

// tunnelOf is "gue:6080:-c": kind, port, and whether there are checksums.
func tunnelOf(d *Server) string {
	if d.Forward != Tunnel {
		return "n/a"
	}
	sum := map[uint16]string{0: ":-c", tunCsum: ":+c", tunRemCsum: ":r+c"}[d.Tunnel.Flags&(tunCsum|tunRemCsum)]
	switch d.Tunnel.Type {
	case GUE:
		return fmt.Sprintf("gue:%d%s", d.Tunnel.Port, sum)
	case GRE:
		return "gre" + sum
	}
	return d.Tunnel.Type.String()
}

// ListTimeouts writes what "ipvsadm -l --timeout" does.
func ListTimeouts(w io.Writer, t dataplane.Timeouts) error {
	_, err := fmt.Fprintf(w, "Timeout (tcp tcpfin udp): %d %d %d\n", t.TCP/time.Second, t.TCPFin/time.Second, t.UDP/time.Second)
	return err
}

// ListDaemons writes what "ipvsadm -l --daemon" does.
func ListDaemons(w io.Writer, daemons []Daemon) error {
	b := bufio.NewWriter(w)
	for _, d := range daemons {
		fmt.Fprintf(b, "%s sync daemon (mcast=%s, syncid=%d, maxlen=%d, group=%s, port=%d, ttl=%d)\n",
			d.Role, d.Interface, d.SyncID, d.MaxLen, d.Group, d.Port, d.TTL)
	}
	return b.Flush()
}

// ListConnections writes what "ipvsadm -lnc" does; with engine, what "-lnc
// --persistent-conn" does, which shows what persistence engines found.
func ListConnections(w io.Writer, conns []Connection, engine bool) error {
	b := bufio.NewWriter(w)
	b.WriteString("IPVS connection entries\npro expire state       source             virtual            destination")
	if engine {
		b.WriteString("        pe name          pe_data")
	}
	b.WriteByte('\n')
	for _, c := range conns {
		s := int(c.Expires / time.Second)
		fmt.Fprintf(b, "%-3s %-6s %-11s %-18s %-18s ", c.Protocol, fmt.Sprintf("%02d:%02d", s/60, s%60), c.State, c.Client, c.Virtual)
		if engine && c.Engine != "" {
			fmt.Fprintf(b, "%-18s %-18s %s\n", c.Server, c.Engine, c.EngineData)
		} else {
			fmt.Fprintf(b, "%s\n", c.Server)
		}
	}
	return b.Flush()
}
