package interop

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// field is one field of a message, value is what is on the wire.
type field struct {
	name  string
	kind  byte // '0' string, '1' binary
	value string
}

// message is a decoded packet.
type message []field

func (m message) get(name string) string {
	for _, f := range m {
		if f.name == name {
			return f.value
		}
	}
	return ""
}

// is says whether the message has a type and fields, as "name=value".
func (m message) is(kind string, fields ...string) bool {
	return m.get("t") == kind && !slices.ContainsFunc(fields, func(f string) bool {
		name, value, _ := strings.Cut(f, "=")
		return m.get(name) != value
	})
}

// number reads a hexadecimal field; 0 if it is none.
func (m message) number(name string) uint64 {
	n, _ := strconv.ParseUint(m.get(name), 16, 64)
	return n
}

func (m message) String() string {
	var b strings.Builder
	for _, f := range m {
		if f.kind == '0' && f.name != "auth" && f.name != "ld" {
			fmt.Fprintf(&b, "%s=%s ", f.name, f.value)
		}
	}
	return b.String()
}

func sign(key string, text []byte) string {
	h := hmac.New(sha1.New, []byte(key))
	h.Write(text)
	return "1 " + hex.EncodeToString(h.Sum(nil))
}

// classic is the text that the inner authenticator is computed over
// (heartbeat-wire.md section 3.1).
func (m message) classic() []byte {
	var b bytes.Buffer
	for _, f := range m {
		switch {
		case f.name == "auth":
		case f.kind == '0':
			fmt.Fprintf(&b, "%s=%s\n", f.name, f.value)
		default:
			fmt.Fprintf(&b, "(%c)%s=%s\n", f.kind, f.name, base64.StdEncoding.EncodeToString([]byte(f.value)))
		}
	}
	return b.Bytes()
}

// netstring takes one off the front of b.
func netstring(b []byte) (s string, rest []byte, err error) {
	head, tail, ok := bytes.Cut(b, []byte(":"))
	n, err := strconv.Atoi(string(head))
	if !ok || err != nil || n < 0 || n >= len(tail) || tail[n] != ',' {
		return "", nil, fmt.Errorf("no netstring at %.20q", b)
	}
	return string(tail[:n]), tail[n+1:], nil
}

// decode reads a packet in netstring form (sections 2.2 and 2.3) and verifies
// its authenticators: the trailer, and the inner one if it is there.
func decode(packet []byte, key string) (message, error) {
	rest, ok := bytes.CutPrefix(packet, []byte("###\n"))
	if !ok {
		return nil, fmt.Errorf("not in netstring form: %.20q", packet)
	}
	var m message
	for !bytes.HasPrefix(rest, []byte("%%%\n")) {
		var s string
		var err error
		if s, rest, err = netstring(rest); err != nil {
			return nil, err
		}
		name, value, ok := strings.Cut(s, "=")
		if !ok || len(name) < 4 || name[0] != '(' || name[2] != ')' {
			return nil, fmt.Errorf("not a field: %q", s)
		}
		m = append(m, field{name[3:], name[1], value})
	}
	signed := packet[:len(packet)-len(rest)+4]
	trailer, rest, err := netstring(rest[4:])
	if err != nil {
		return nil, fmt.Errorf("trailer: %w", err)
	}
	if len(rest) != 0 {
		return m, fmt.Errorf("%d bytes after the trailer", len(rest))
	}
	if want := sign(key, signed); trailer != want {
		return m, fmt.Errorf("trailer %q, want %q", trailer, want)
	}
	if inner := m.get("auth"); inner != "" {
		if want := sign(key, m.classic()); inner != want {
			return m, fmt.Errorf("field auth %q, want %q", inner, want)
		}
	}
	return m, nil
}

// encode writes a packet as the real one does with its default msgfmt.
func encode(m message, key string) []byte {
	m = append(slices.Clone(m), field{"auth", '0', sign(key, m.classic())})
	b := []byte("###\n")
	for _, f := range m {
		s := fmt.Sprintf("(%c)%s=%s", f.kind, f.name, f.value)
		b = fmt.Appendf(b, "%d:%s,", len(s), s)
	}
	b = append(b, "%%%\n"...)
	trailer := sign(key, b)
	return fmt.Appendf(b, "%d:%s,", len(trailer), trailer)
}

// complete says what a message lacks that every receiver requires (section 4)
// or that a real sender always gives; auth, unless it has msgfmt netstring.
func (m message) complete(auth bool) error {
	var errs []error
	need := map[string]int{"t": 1, "src": 1, "srcuuid": 16, "hg": 1, "ts": 1, "ttl": 1}
	if auth {
		need["auth"] = len(sign("", nil))
	} else if m.get("auth") != "" {
		errs = append(errs, errors.New("field auth is there"))
	}
	if !strings.HasPrefix(m.get("t"), "NS_") {
		need["seq"] = 1
	}
	for _, name := range slices.Sorted(maps.Keys(need)) {
		if len(m.get(name)) < need[name] {
			errs = append(errs, fmt.Errorf("field %s=%q", name, m.get(name)))
		}
	}
	return errors.Join(errs...)
}

// The decoder must tell good from bad, or the rows that rely on it say nothing.
func TestDecoder(t *testing.T) {
	m := message{{"t", '0', "status"}, {"src", '0', "node1"}, {"srcuuid", '1', "0123456789,=\n%%%"}, {"seq", '0', "1f"}}
	packet := encode(m, "secret")
	got, err := decode(packet, "secret")
	if err != nil || !got.is("status", "src=node1") || got.number("seq") != 0x1f || got.get("srcuuid") != m[2].value {
		t.Fatalf("%q, %v", got, err)
	}
	if _, err := decode(packet, "other"); err == nil {
		t.Error("another key verifies")
	}
	for i := range packet {
		bad := bytes.Clone(packet)
		bad[i] ^= 1
		if _, err := decode(bad, "secret"); err == nil {
			t.Errorf("verifies with byte %d changed: %q", i, bad)
		}
		if _, err := decode(packet[:i], "secret"); err == nil {
			t.Errorf("verifies when cut after %d bytes", i)
		}
	}
	// Right trailer, wrong inner authenticator.
	forged := encode(append(slices.Clone(m), field{"auth", '0', sign("other", m.classic())}), "secret")
	if _, err := decode(forged, "secret"); err == nil {
		t.Error("a wrong inner authenticator verifies")
	}
}
