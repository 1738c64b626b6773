package interop

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
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

// secret is what packets are signed with: the one line of authkeys.
type secret struct{ method, key string }

func (s secret) authkeys() string { return "auth 1\n1 " + strings.TrimSpace(s.method+" "+s.key) + "\n" }

// sign gives the authenticator of a text (heartbeat-wire.md section 3).
func (s secret) sign(text []byte) string {
	var h hash.Hash
	switch s.method {
	case "sha1":
		h = hmac.New(sha1.New, []byte(s.key))
	case "md5":
		h = hmac.New(md5.New, []byte(s.key))
	case "crc":
		return fmt.Sprintf("1 %x", crc(text))
	default:
		panic("no such method: " + s.method)
	}
	h.Write(text)
	return "1 " + hex.EncodeToString(h.Sum(nil))
}

// crc is POSIX cksum without the length, bit by bit.
func crc(text []byte) uint32 {
	c := uint32(0)
	for _, b := range text {
		c ^= uint32(b) << 24
		for range 8 {
			top := c >> 31
			c = c<<1 ^ top*0x04c11db7
		}
	}
	return ^c
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

// decode reads a packet in either form and verifies its authenticators.
func decode(packet []byte, key secret) (message, error) {
	if bytes.HasPrefix(packet, []byte(">>>\n")) {
		return decodeText(packet, key)
	}
	return decodeNetstrings(packet, key)
}

// decodeText reads the classic form as a serial line has it (section 2.1).
func decodeText(packet []byte, key secret) (message, error) {
	body, ok := strings.CutSuffix(string(packet[4:]), "\n<<<\n")
	if !ok {
		return nil, fmt.Errorf("no end: %.20q", packet)
	}
	var m message
	for line := range strings.SplitSeq(body, "\n") {
		name, value, ok := strings.Cut(line, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("not a field: %q", line)
		}
		f := field{name, '0', value}
		if binary, ok := strings.CutPrefix(name, "(1)"); ok {
			b, err := base64.StdEncoding.Strict().DecodeString(value)
			if err != nil {
				return nil, fmt.Errorf("field %s: %w", name, err)
			}
			f = field{binary, '1', string(b)}
		}
		m = append(m, f)
	}
	if got, want := m.get("auth"), key.sign(m.classic()); got != want {
		return m, fmt.Errorf("field auth %q, want %q", got, want)
	}
	return m, nil
}

// decodeNetstrings reads the netstring form (sections 2.2 and 2.3): it has a
// trailer, and may have an inner authenticator.
func decodeNetstrings(packet []byte, key secret) (message, error) {
	rest, ok := bytes.CutPrefix(packet, []byte("###\n"))
	if !ok {
		return nil, fmt.Errorf("in neither form: %.20q", packet)
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
	if want := key.sign(signed); trailer != want {
		return m, fmt.Errorf("trailer %q, want %q", trailer, want)
	}
	if inner := m.get("auth"); inner != "" {
		if want := key.sign(m.classic()); inner != want {
			return m, fmt.Errorf("field auth %q, want %q", inner, want)
		}
	}
	return m, nil
}

// encode writes a packet as the real one does with its default msgfmt.
func encode(m message, key secret) []byte {
	m = append(slices.Clone(m), field{"auth", '0', key.sign(m.classic())})
	b := []byte("###\n")
	for _, f := range m {
		s := fmt.Sprintf("(%c)%s=%s", f.kind, f.name, f.value)
		b = fmt.Appendf(b, "%d:%s,", len(s), s)
	}
	b = append(b, "%%%\n"...)
	trailer := key.sign(b)
	return fmt.Appendf(b, "%d:%s,", len(trailer), trailer)
}

// complete says what a message lacks that every receiver requires (section 4)
// or that a real sender always gives; auth, unless it has msgfmt netstring.
func (m message) complete(auth bool) error {
	var errs []error
	need := map[string]int{"t": 1, "src": 1, "srcuuid": 16, "hg": 1, "ts": 1, "ttl": 1}
	if auth {
		need["auth"] = len("1 0")
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
	for _, key := range []secret{{"sha1", "secret"}, {"md5", "secret"}, {"crc", ""}} {
		text := fmt.Sprintf(">>>\n%sauth=%s\n<<<\n", m.classic(), key.sign(m.classic()))
		for _, packet := range [][]byte{encode(m, key), []byte(text)} {
			got, err := decode(packet, key)
			if err != nil || !got.is("status", "src=node1") || got.number("seq") != 0x1f || got.get("srcuuid") != m[2].value {
				t.Fatalf("%s: %q, %v", key.method, got, err)
			}
			if _, err := decode(packet, secret{"sha1", "other"}); err == nil {
				t.Errorf("%s: another key verifies", key.method)
			}
			for i := range packet {
				bad := bytes.Clone(packet)
				bad[i] ^= 1
				if _, err := decode(bad, key); err == nil {
					t.Errorf("%s: verifies with byte %d changed: %q", key.method, i, bad)
				}
				if _, err := decode(packet[:i], key); err == nil {
					t.Errorf("%s: verifies when cut after %d bytes", key.method, i)
				}
			}
		}
		// Right trailer, wrong inner authenticator.
		forged := encode(append(slices.Clone(m), field{"auth", '0', secret{"sha1", "other"}.sign(m.classic())}), key)
		if _, err := decode(forged, key); err == nil {
			t.Errorf("%s: a wrong inner authenticator verifies", key.method)
		}
	}
	// cksum of coreutils says 930766865 of "123456789", with the length 9
	// appended as one byte.
	if got := crc([]byte("123456789\x09")); got != 930766865 {
		t.Errorf("crc is %d", got)
	}
}
