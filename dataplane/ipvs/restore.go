package ipvs

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net/netip"
	"strconv"
	"strings"
	"unicode"

	"systole/dataplane"
)

// What ipvsadm means where a line does not say.
const (
	defaultScheduler   = "wlc"
	defaultPersistence = 360 // seconds
)

// SyntaxError says what is wrong with a saved table, and where: Line and Col
// count from 1, Col in bytes.
type SyntaxError struct {
	Line, Col int
	Text      string
}

// Error is "3:17: text".
func (e *SyntaxError) Error() string { return fmt.Sprintf("%d:%d: %s", e.Line, e.Col, e.Text) }

// ParseSave reads a table that ipvsadm-save -n or Save wrote: on each line the
// options of one ipvsadm command, -A for a service, then -a for each of its
// servers. Empty lines and lines that begin with # say nothing. The error has
// every bad line's first fault, as SyntaxErrors joined.
func ParseSave(r io.Reader) ([]Service, error) {
	var (
		out  []Service
		errs []error
		at   = make(map[dataplane.ServiceKey]int) // index into out
	)
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		if err := parseLine(lines.Text(), &out, at); err != nil {
			err.Line = n
			errs = append(errs, err)
		}
	}
	if err := lines.Err(); err != nil {
		errs = append(errs, fmt.Errorf("a saved table: %w", err))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return out, nil
}

// word is a word of a line and where it begins, from 1.
type word struct {
	text string
	col  int
}

func (w word) bad(format string, args ...any) *SyntaxError {
	return &SyntaxError{Col: w.col, Text: fmt.Sprintf(format, args...)}
}

func split(line string) []word {
	var out []word
	start := -1
	for i, r := range line + " " {
		switch blank := unicode.IsSpace(r); {
		case blank && start >= 0:
			out = append(out, word{line[start:i], start + 1})
			start = -1
		case !blank && start < 0:
			start = i
		}
	}
	return out
}

// options are a line's, by their short names.
type options map[string]word

// kinds of options: without a value, with one, with one that may be absent.
const (
	bare = iota
	valued
	maybe
)

// optionNames are ipvsadm's options and the names they go by here.
var optionNames = map[string]struct {
	name string
	kind int
}{
	"-A": {"-A", bare}, "--add-service": {"-A", bare},
	"-a": {"-a", bare}, "--add-server": {"-a", bare},
	"-t": {"-t", valued}, "--tcp-service": {"-t", valued},
	"-u": {"-u", valued}, "--udp-service": {"-u", valued},
	"--sctp-service": {"--sctp-service", valued},
	"-f":             {"-f", valued}, "--fwmark-service": {"-f", valued},
	"-6": {"-6", bare}, "--ipv6": {"-6", bare},
	"-s": {"-s", valued}, "--scheduler": {"-s", valued},
	"-b": {"-b", valued}, "--sched-flags": {"-b", valued},
	"-p": {"-p", maybe}, "--persistent": {"-p", maybe},
	"-M": {"-M", valued}, "--netmask": {"-M", valued},
	"--pe": {"--pe", valued},
	"-o":   {"-o", bare}, "--ops": {"-o", bare},
	"-r": {"-r", valued}, "--real-server": {"-r", valued},
	"-g": {"-g", bare}, "--gatewaying": {"-g", bare},
	"-i": {"-i", bare}, "--ipip": {"-i", bare},
	"-m": {"-m", bare}, "--masquerading": {"-m", bare},
	"-w": {"-w", valued}, "--weight": {"-w", valued},
	"-x": {"-x", valued}, "--u-threshold": {"-x", valued},
	"-y": {"-y", valued}, "--l-threshold": {"-y", valued},
	"--tun-type": {"--tun-type", valued}, "--tun-port": {"--tun-port", valued},
	"--tun-nocsum": {"--tun-nocsum", bare}, "--tun-csum": {"--tun-csum", bare}, "--tun-remcsum": {"--tun-remcsum", bare},
}

// readOptions takes a line apart. A value is the next word, of -p only if that
// is no option.
func readOptions(words []word) (options, *SyntaxError) {
	out := make(options)
	for i := 0; i < len(words); i++ {
		w := words[i]
		o, ok := optionNames[w.text]
		if !ok {
			return nil, w.bad("%q is no option of a saved table", w.text)
		}
		if _, twice := out[o.name]; twice {
			return nil, w.bad("%s is there twice", w.text)
		}
		value := word{col: w.col}
		more := i+1 < len(words)
		switch {
		case o.kind == valued && !more:
			return nil, w.bad("%s needs a value", w.text)
		case o.kind == valued, o.kind == maybe && more && !strings.HasPrefix(words[i+1].text, "-"):
			i++
			value = words[i]
		}
		out[o.name] = value
	}
	return out, nil
}

func parseLine(line string, out *[]Service, at map[dataplane.ServiceKey]int) *SyntaxError {
	words := split(line)
	if len(words) == 0 || strings.HasPrefix(words[0].text, "#") {
		return nil
	}
	o, err := readOptions(words)
	if err != nil {
		return err
	}
	_, service := o["-A"]
	_, server := o["-a"]
	if service == server {
		return words[0].bad("a line is either -A, a service, or -a, a server of one")
	}
	key, name, err := o.key(words[0])
	if err != nil {
		return err
	}
	i, known := at[key]
	switch {
	case service && known:
		return name.bad("the service %s is there twice", key)
	case service:
		s, err := o.service(key)
		if err != nil {
			return err
		}
		at[key] = len(*out)
		*out = append(*out, s)
		return nil
	case !known:
		return name.bad("the service %s is not there: its -A line must come first", key)
	}
	return o.server(&(*out)[i])
}

// only refuses options that have no meaning on this kind of line.
func (o options) only(names string) *SyntaxError {
	var first *word
	var which string
	for name, w := range o {
		if !strings.Contains(" "+names+" ", " "+name+" ") && (first == nil || w.col < first.col) {
			first, which = &w, name
		}
	}
	if first == nil {
		return nil
	}
	return first.bad("%s has no place on this line", which)
}

// key is the service a line is about, and the word that names it.
func (o options) key(line word) (dataplane.ServiceKey, word, *SyntaxError) {
	var key dataplane.ServiceKey
	var name word
	n := 0
	for option, protocol := range map[string]dataplane.Protocol{"-t": dataplane.TCP, "-u": dataplane.UDP, "--sctp-service": dataplane.SCTP, "-f": 0} {
		if w, ok := o[option]; ok {
			key.Protocol, name = protocol, w
			n++
		}
	}
	if n != 1 {
		return key, name, line.bad("a line names one service, by -t, -u, --sctp-service or -f")
	}
	_, v6 := o["-6"]
	if key.Protocol == 0 {
		mark, err := name.number(1, 1<<32-1)
		key.Mark, key.VIP = uint32(mark), netip.IPv4Unspecified()
		if v6 {
			key.VIP = netip.IPv6Unspecified()
		}
		return key, name, err
	}
	addr, err := name.addrPort()
	if err != nil {
		return key, name, err
	}
	if v6 {
		return key, name, o["-6"].bad("-6 goes with -f only")
	}
	key.VIP, key.Port = addr.Addr(), addr.Port()
	return key, name, nil
}

func (w word) number(low, high uint64) (uint64, *SyntaxError) {
	n, err := strconv.ParseUint(w.text, 10, 64)
	if err != nil || n < low || n > high {
		return 0, w.bad("%q is not a number from %d to %d", w.text, low, high)
	}
	return n, nil
}

func (w word) addrPort() (netip.AddrPort, *SyntaxError) {
	a, err := netip.ParseAddrPort(w.text)
	if err != nil || a.Addr().Zone() != "" || a.Addr().Is4In6() {
		return a, w.bad("%q is not ADDRESS:PORT in numbers, such as 192.0.2.101:80 or [2001:db8::1]:80 (ipvsadm-save -n writes them)", w.text)
	}
	return a, nil
}

func (o options) service(key dataplane.ServiceKey) (Service, *SyntaxError) {
	s := Service{Key: key, Scheduler: defaultScheduler, Netmask: wholeMask(key.VIP)}
	if err := o.only("-A -t -u --sctp-service -f -6 -s -b -p -M --pe -o"); err != nil {
		return s, err
	}
	if w, ok := o["-s"]; ok {
		if len(w.text) > maxName {
			return s, w.bad("%q is no name of a scheduler", w.text)
		}
		s.Scheduler = w.text
	}
	if w, ok := o["-b"]; ok {
		for _, name := range strings.Split(w.text, ",") {
			f, err := flagNamed(s.Scheduler, name)
			if err != nil {
				return s, w.bad("%v", err)
			}
			s.Flags |= f
		}
	}
	if w, ok := o["-o"]; ok {
		if key.Mark == 0 && key.Protocol != dataplane.UDP {
			return s, w.bad("-o is for -u and -f")
		}
		s.Flags |= OnePacket
	}
	if err := o.persistence(&s); err != nil {
		return s, err
	}
	if key.Mark == 0 && key.Port == 0 && s.Flags&Persistent == 0 {
		return s, o["-A"].bad("IPVS serves port 0, all ports, with persistence (-p) only")
	}
	return s, nil
}

func (o options) persistence(s *Service) *SyntaxError {
	w, ok := o["-p"]
	if !ok {
		for _, name := range []string{"-M", "--pe"} {
			if w, ok := o[name]; ok {
				return w.bad("%s goes with -p only", name)
			}
		}
		return nil
	}
	s.Flags, s.Timeout = s.Flags|Persistent, defaultPersistence
	if w.text != "" {
		n, err := w.number(1, uint64(maxPersistence.Seconds()))
		if err != nil {
			return err
		}
		s.Timeout = uint32(n)
	}
	if w, ok := o["--pe"]; ok {
		if len(w.text) > maxName {
			return w.bad("%q is no name of a persistence engine", w.text)
		}
		s.Engine = w.text
	}
	if w, ok := o["-M"]; ok && s.v6() {
		n, err := w.number(1, 128)
		if err != nil {
			return err
		}
		s.Netmask = uint32(n)
	} else if ok {
		a, err := netip.ParseAddr(w.text)
		if err != nil || !a.Is4() || prefixOf(a) < 1 {
			return w.bad("%q is not a netmask such as 255.255.255.0", w.text)
		}
		b := a.As4()
		s.Netmask = binary.NativeEndian.Uint32(b[:])
	}
	return nil
}

// prefixOf is the length of a mask; -1 if its ones do not come first.
func prefixOf(mask netip.Addr) int {
	b := mask.As4()
	m := binary.BigEndian.Uint32(b[:])
	n := bits.LeadingZeros32(^m)
	if m<<n != 0 {
		return -1
	}
	return n
}

func (o options) server(s *Service) *SyntaxError {
	if err := o.only("-a -t -u --sctp-service -f -6 -r -g -i -m -w -x -y --tun-type --tun-port --tun-nocsum --tun-csum --tun-remcsum"); err != nil {
		return err
	}
	w, ok := o["-r"]
	if !ok {
		return o["-a"].bad("a server needs its address: -r")
	}
	addr, err := w.addrPort()
	if err != nil {
		return err
	}
	d := Server{Addr: addr, Forward: Route, Weight: 1}
	n := 0
	for option, f := range map[string]Forward{"-g": Route, "-i": Tunnel, "-m": Masq} {
		if _, ok := o[option]; ok {
			d.Forward = f
			n++
		}
	}
	if n > 1 {
		return w.bad("a server is reached in one way: -g, -i or -m")
	}
	for _, x := range []struct {
		option string
		to     *uint32
		high   uint64
	}{{"-w", &d.Weight, maxWeight}, {"-x", &d.Upper, 1<<32 - 1}, {"-y", &d.Lower, 1<<32 - 1}} {
		if w, ok := o[x.option]; ok {
			n, err := w.number(0, x.high)
			if err != nil {
				return err
			}
			*x.to = uint32(n)
		}
	}
	if d.Lower > d.Upper {
		return o["-y"].bad("the lower threshold is above the upper one")
	}
	if err := o.tunnel(&d); err != nil {
		return err
	}
	for i := range s.Servers {
		if s.Servers[i].Addr == addr {
			return w.bad("the server %s is there twice", addr)
		}
	}
	s.Servers = append(s.Servers, d)
	return nil
}

func (o options) tunnel(d *Server) *SyntaxError {
	var sums []word
	for option, flag := range map[string]uint16{"--tun-nocsum": 0, "--tun-csum": tunCsum, "--tun-remcsum": tunRemCsum} {
		if w, ok := o[option]; ok {
			d.Tunnel.Flags = flag
			sums = append(sums, w)
		}
	}
	if len(sums) > 1 {
		return sums[0].bad("one of --tun-nocsum, --tun-csum and --tun-remcsum")
	}
	kind, typed := o["--tun-type"]
	if typed {
		t := map[string]TunnelType{"ipip": IPIP, "gue": GUE, "gre": GRE}
		var ok bool
		if d.Tunnel.Type, ok = t[kind.text]; !ok {
			return kind.bad("%q is no tunnel: ipip, gue or gre", kind.text)
		}
	}
	port, ported := o["--tun-port"]
	switch {
	case d.Forward != Tunnel && (typed || ported || len(sums) > 0):
		return o["-r"].bad("only a server with -i has a tunnel")
	case ported != (d.Tunnel.Type == GUE):
		return o["-r"].bad("--tun-port goes with --tun-type gue, and that with it")
	case len(sums) > 0 && d.Tunnel.Type == IPIP:
		return sums[0].bad("ipip has no checksums")
	case ported:
		n, err := port.number(1, 65535)
		if err != nil {
			return err
		}
		d.Tunnel.Port = uint16(n)
	}
	return nil
}
