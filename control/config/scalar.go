package config

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// scalar is a single value as it stands in the file.
type scalar struct {
	text   string
	quoted bool
	kind   ast.NodeType
}

func scalarOf(n ast.ScalarNode) scalar {
	t := n.GetToken()
	s := scalar{text: t.Value, kind: n.Type(),
		quoted: t.Type == token.DoubleQuoteType || t.Type == token.SingleQuoteType}
	if l, ok := n.(*ast.LiteralNode); ok { // | and >
		s.text, s.kind, s.quoted = l.Value.Value, ast.StringType, true
	}
	return s
}

// field is the value of one key and what there is to know about it.
type field[T any] struct {
	val T
	at  pos  // of the value; if not written, where a missing key is reported
	set bool // written, and right
	bad bool // written, and wrong, or missing: has been reported, check no further
}

// read asks m for an optional key.
func read[T any](m *mapping, key string, def T, parse func(scalar) (T, error)) field[T] {
	e := m.take(key)
	if e == nil {
		return field[T]{val: def, at: m.at, bad: m.bad}
	}
	f := readNode(m.d, e.value, key, e.at, parse)
	if f.bad {
		f.val = def
	}
	return f
}

// need asks m for a key that has to be there. example is how to write it.
func need[T any](m *mapping, key, example string, parse func(scalar) (T, error)) field[T] {
	var zero T
	f := read(m, key, zero, parse)
	if !f.set && !f.bad {
		f.bad = true
		m.missing(key, example)
	}
	return f
}

func readNode[T any](d *decoder, n ast.Node, key string, keyAt pos, parse func(scalar) (T, error)) field[T] {
	n = d.resolve(n)
	if n == nil {
		return field[T]{at: keyAt, bad: true}
	}
	f := field[T]{at: position(n)}
	if n.Type() == ast.NullType {
		d.errorf(keyAt, "%s has no value: give it one, or remove the key", key)
		f.bad = true
		return f
	}
	sn, ok := n.(ast.ScalarNode)
	if !ok {
		d.errorf(f.at, "%s: want a single value, found %s", key, kindOf(n))
		f.bad = true
		return f
	}
	v, err := parse(scalarOf(sn))
	if err != nil {
		d.errorf(f.at, "%s: %v", key, err)
		f.bad = true
		return f
	}
	f.val, f.set = v, true
	return f
}

// text is any string, but not what YAML takes for a number or a boolean.
func text(s scalar) (string, error) {
	switch {
	case s.kind != ast.StringType:
		return "", fmt.Errorf("%s is not text to YAML: write %q, in quotes", s.text, s.text)
	case s.text == "":
		return "", errors.New("is empty: give it a value, or remove the key")
	}
	return s.text, nil
}

func boolean(s scalar) (bool, error) {
	if s.kind == ast.BoolType {
		return strings.EqualFold(s.text, "true"), nil
	}
	switch strings.ToLower(s.text) {
	case "true", "yes", "on", "y":
		return false, fmt.Errorf("%q is not true or false: write true, without quotes", s.text)
	case "false", "no", "off", "n":
		return false, fmt.Errorf("%q is not true or false: write false, without quotes", s.text)
	}
	return false, fmt.Errorf("want true or false, found %q", s.text)
}

// number is a decimal number from min to max.
func number(min, max int) func(scalar) (int, error) {
	return func(s scalar) (int, error) {
		n, err := strconv.Atoi(s.text)
		switch {
		case s.quoted && err == nil:
			return 0, fmt.Errorf("want a number: write %d, without quotes", n)
		case err != nil && !errors.Is(err, strconv.ErrRange):
			return 0, fmt.Errorf("want a number from %d to %d, found %q", min, max, s.text)
		case err != nil || n < min || n > max:
			return 0, fmt.Errorf("%s is out of range: want %d to %d", s.text, min, max)
		}
		return n, nil
	}
}

func port(s scalar) (uint16, error) {
	n, err := number(1, 65535)(s)
	return uint16(n), err
}

// duration is a time from min to max in whole milliseconds.
func duration(min, max time.Duration) func(scalar) (time.Duration, error) {
	return func(s scalar) (time.Duration, error) {
		v, err := time.ParseDuration(s.text)
		if err != nil || v != 0 && s.kind != ast.StringType {
			if _, err := strconv.ParseFloat(s.text, 64); err == nil {
				return 0, fmt.Errorf("%s has no unit: write %ss for seconds, %sms for milliseconds", s.text, s.text, s.text)
			}
			return 0, fmt.Errorf("%q is not a duration: write one such as 500ms, 10s or 1m30s", s.text)
		}
		switch {
		case v < min:
			return 0, fmt.Errorf("%s is too short: want %s to %s", s.text, short(min), short(max))
		case v > max:
			return 0, fmt.Errorf("%s is too long: want %s to %s", s.text, short(min), short(max))
		case v%time.Millisecond != 0:
			return 0, fmt.Errorf("%s is not a whole number of milliseconds", s.text)
		}
		return v, nil
	}
}

// short is a duration as people write it: "1h", not "1h0m0s".
func short(v time.Duration) string {
	s := v.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// address is a unicast address of some machine.
func address(s scalar) (netip.Addr, error) {
	a, err := netip.ParseAddr(s.text)
	if err != nil {
		switch {
		case strings.Contains(s.text, "/"):
			return a, fmt.Errorf("%q has a prefix length: write the address alone", s.text)
		case isAddrPort(s.text):
			return a, fmt.Errorf("%q has a port: write the address alone", s.text)
		}
		return a, fmt.Errorf("%q is not an IP address: write one such as 192.0.2.10; host names are not looked up", s.text)
	}
	return a, usable(a)
}

func isAddrPort(s string) bool {
	_, err := netip.ParseAddrPort(s)
	return err == nil
}

func usable(a netip.Addr) error {
	switch {
	case a.Is4In6():
		return fmt.Errorf("%s is an IPv4 address: write %s", a, a.Unmap())
	case a.IsUnspecified(), a.IsMulticast(), a.Is4() && (a.As4()[0] == 0 || a.As4()[0] >= 240):
		return fmt.Errorf("%s is not the address of one machine", a)
	}
	return nil
}

// lanAddress is an address that ARP or neighbour discovery can find, as VIPs
// and real servers need.
func lanAddress(s scalar) (netip.Addr, error) {
	a, err := address(s)
	switch {
	case err != nil:
	case a.IsLoopback():
		err = fmt.Errorf("%s is a loopback address: want one that the LAN can reach", a)
	case a.Is6() && a.IsLinkLocalUnicast():
		err = fmt.Errorf("%s is link-local, and nobody behind a router can reach it: want a global or a unique local address (fd00::/8)", a)
	case a.Zone() != "":
		err = fmt.Errorf("%s has a zone, which only link-local addresses need: write %s", a, a.WithZone(""))
	}
	return a, err
}

// oneOf is one of some words. later are words that mean something elsewhere
// and what to say about them.
func oneOf(words []string, later map[string]string) func(scalar) (string, error) {
	return func(s scalar) (string, error) {
		if slices.Contains(words, s.text) {
			return s.text, nil
		}
		if why, ok := later[strings.ToLower(s.text)]; ok {
			return "", fmt.Errorf("%q %s", s.text, why)
		}
		if hint := suggest(s.text, words); hint != "" {
			return "", fmt.Errorf("want %s, found %q: did you mean %q?", anyOf(words), s.text, hint)
		}
		return "", fmt.Errorf("want %s, found %q", anyOf(words), s.text)
	}
}

// anyOf is "a", "a or b", "a, b or c".
func anyOf(words []string) string {
	if n := len(words) - 1; n > 0 {
		return strings.Join(words[:n], ", ") + " or " + words[n]
	}
	return words[0]
}

var (
	nodePattern  = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)
	namePattern  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	ifacePattern = regexp.MustCompile(`^[^\s/:\x00-\x1f]{1,15}$`)
)

// maxNode is the length a node name stays below on the wire: heartbeat-wire.md
// section 4.
const maxNode = 100

// nodeName is a node's name: lower case, as heartbeat makes of "uname -n".
func nodeName(s scalar) (string, error) {
	v, err := text(s)
	switch {
	case err != nil:
		return "", err
	case v != strings.ToLower(v):
		return "", fmt.Errorf("%q: node names are lower case, write %q", v, strings.ToLower(v))
	case !nodePattern.MatchString(v):
		return "", fmt.Errorf("%q is not a node name: want letters, digits and . _ -", v)
	case len(v) >= maxNode:
		return "", fmt.Errorf("a node name has fewer than %d characters, this has %d", maxNode, len(v))
	}
	return v, nil
}

// label is a name people give to something.
func label(s scalar) (string, error) {
	v, err := text(s)
	switch {
	case err != nil:
		return "", err
	case !namePattern.MatchString(v) || len(v) > 64:
		return "", fmt.Errorf("%q is not a name: want up to 64 letters, digits and . _ -", v)
	}
	return v, nil
}

// interfaceName follows what the kernel allows (dev_valid_name in
// net/core/dev.c).
func interfaceName(s scalar) (string, error) {
	v, err := text(s)
	switch {
	case err != nil:
		return "", err
	case !ifacePattern.MatchString(v) || v == "." || v == "..":
		return "", fmt.Errorf("%q cannot be an interface: want its name as \"ip link\" shows it, up to 15 characters", v)
	}
	return v, nil
}

// absolute is an absolute path.
func absolute(s scalar) (string, error) {
	v, err := text(s)
	if err == nil && !strings.HasPrefix(v, "/") {
		err = fmt.Errorf("%q is not an absolute path: begin it with /", v)
	}
	return v, err
}
