package wire

import (
	"bytes"
	"encoding/base64"
	"fmt"
)

// Decode reads one packet of any form, verifies it with the key the packet
// names, and returns its fields without the authenticators. A classic packet
// may end with its NUL (a datagram) or without (a serial line).
//
// The message does not alias packet. The errors are ErrMalformed with the
// offset of the fault, ErrKey, ErrAuth, or ErrUnsupported.
//
// Whether the fields a receiver needs are there (section 4) is not looked at.
func Decode(packet []byte, k Keys) (Message, Format, error) {
	return new(Decoder).Decode(packet, k)
}

// netstring reads the netstring at p[at:]: where its content begins and ends,
// and where the next one begins.
func netstring(p []byte, at int) (from, to, next int, err error) {
	n, i := 0, at
	for i < len(p) && '0' <= p[i] && p[i] <= '9' {
		n = 10*n + int(p[i]-'0')
		if n > len(p) {
			return 0, 0, 0, malformed(at, "length of netstring exceeds the packet")
		}
		i++
	}
	if i == at || i == len(p) || p[i] != ':' || (p[at] == '0' && i > at+1) {
		return 0, 0, 0, malformed(at, "expected the length of a netstring and a colon")
	}
	i++
	if n >= len(p)-i { // the comma too must fit
		return 0, 0, 0, malformed(at, "netstring of %d bytes is cut off", n)
	}
	if p[i+n] != ',' {
		return 0, 0, 0, malformed(i+n, "no comma at the end of a netstring")
	}
	return i, i + n, i + n + 1, nil
}

// decodeNetstring reads the forms Netstring and Both (sections 2.2, 2.3). The
// first pass looks only at lengths; fields are built from verified bytes.
func (d *Decoder) netstring(packet []byte, verify verifier) (Message, Format, error) {
	at, fields := len(netstringOpen), 0
	for !bytes.HasPrefix(packet[at:], []byte(netstringClose)) {
		_, _, next, err := netstring(packet, at)
		if err != nil {
			return Message{}, 0, err
		}
		at, fields = next, fields+1
	}
	end := at + len(netstringClose)
	from, to, next, err := netstring(packet, end)
	if err != nil {
		return Message{}, 0, err
	}
	if next != len(packet) {
		return Message{}, 0, malformed(next, "bytes after the authenticator")
	}
	if err := verify.check(packet[from:to], from, packet[:end], nil); err != nil {
		return Message{}, 0, err
	}

	own := d.own(packet[:at], fields)
	m, f := Message{Fields: d.fields}, Netstring
	for at := len(netstringOpen); at < len(own); {
		from, to, next, err := netstring(own, at)
		if err != nil {
			return Message{}, 0, err
		}
		fld, err := d.field(own[from:to:to], from, true)
		if err != nil {
			return Message{}, 0, err
		}
		at = next
		if fld.Name != authField {
			m.Fields = append(m.Fields, fld)
			continue
		}
		if f == Both {
			return Message{}, 0, malformed(from, "second field auth")
		}
		f = Both
	}
	d.fields = m.Fields[:0]
	if err := supported(m); err != nil {
		return Message{}, 0, err
	}
	return m, f, nil
}

// decodeClassic reads the form Classic (section 2.1).
func (d *Decoder) classic(packet []byte, verify verifier) (Message, Format, error) {
	// The first pass finds the end, and the line auth that the authenticator
	// leaves out.
	var authFrom, authTo, fields int
	at := len(classicOpen)
	for !bytes.HasPrefix(packet[at:], []byte(classicClose)) {
		n := bytes.IndexByte(packet[at:], '\n')
		if n < 0 {
			return Message{}, 0, malformed(at, "line is cut off")
		}
		if bytes.HasPrefix(packet[at:], []byte(authField+"=")) {
			if authTo != 0 {
				return Message{}, 0, malformed(at, "second field auth")
			}
			authFrom, authTo = at, at+n+1
		}
		at, fields = at+n+1, fields+1
	}
	if rest := packet[at+len(classicClose):]; len(rest) > 1 || (len(rest) == 1 && rest[0] != 0) {
		return Message{}, 0, malformed(at+len(classicClose), "bytes after <<<")
	}
	if authTo == 0 {
		return Message{}, 0, malformed(at, "no field auth")
	}
	value := authFrom + len(authField+"=")
	err := verify.check(packet[value:authTo-1], value, packet[len(classicOpen):authFrom], packet[authTo:at])
	if err != nil {
		return Message{}, 0, err
	}

	own := d.own(packet[:at], fields-1)
	m := Message{Fields: d.fields}
	for at := len(classicOpen); at < len(own); {
		to := at + bytes.IndexByte(own[at:], '\n')
		if at != authFrom {
			fld, err := d.field(own[at:to:to], at, false)
			if err != nil {
				return Message{}, 0, err
			}
			m.Fields = append(m.Fields, fld)
		}
		at = to + 1
	}
	d.fields = m.Fields[:0]
	if err := supported(m); err != nil {
		return Message{}, 0, err
	}
	return m, Classic, nil
}

// field reads "(T)name=value", or "name=value" in classic text, where it
// means a string. The field's value is a part of p, and in classic text p may
// be changed. at is where p stands in the packet.
func (d *Decoder) field(p []byte, at int, netstring bool) (Field, error) {
	f := Field{Type: String}
	body := 0
	if len(p) >= 3 && p[0] == '(' && p[2] == ')' {
		f.Type = FieldType(p[1] - '0')
		if f.Type > Compressed || (f.Type == String && !netstring) {
			return Field{}, malformed(at, "field type %q", p[1])
		}
		body = 3
	} else if netstring {
		return Field{}, malformed(at, "field without type")
	}
	eq := bytes.IndexByte(p[body:], '=')
	if eq < 0 {
		return Field{}, malformed(at, "field without =")
	}
	name := p[body : body+eq]
	if why := badName(name); why != "" {
		return Field{}, malformed(at+body, "%s", why)
	}
	f.Name = d.intern(name)
	if f.Name == authField && f.Type != String {
		return Field{}, malformed(at, "authenticator is not text")
	}
	at += body + eq + 1
	f.Value = p[body+eq+1:]

	if (f.Type == String || !netstring) && bytes.IndexByte(f.Value, 0) >= 0 {
		return Field{}, malformed(at, "text contains a NUL")
	}
	if netstring {
		return f, nil
	}
	switch f.Type {
	case String:
		for i, c := range f.Value {
			if c == softNewline {
				f.Value[i] = '\n'
			}
		}
	case Binary:
		raw := d.room(base64.StdEncoding.DecodedLen(len(f.Value)))
		n, err := base64.StdEncoding.Strict().Decode(raw, f.Value)
		// The library skips carriage returns; the length shows it.
		if err != nil || base64.StdEncoding.EncodedLen(n) != len(f.Value) {
			return Field{}, malformed(at, "value of %s is not base64", f.Name)
		}
		f.Value = raw[:n:n]
	}
	return f, nil
}

// supported refuses what heartbeat-wire.md section 2.4 calls a compressed
// message, and a message without any field.
func supported(m Message) error {
	if len(m.Fields) == 0 {
		return malformed(len(netstringOpen), "message without fields")
	}
	if m.find("_compressed_payload") >= 0 {
		return fmt.Errorf("%w: compressed; set traditional_compression no on the sender", ErrUnsupported)
	}
	return nil
}

// names are the fields of section 4, so that the common ones cost nothing.
var names = func() map[string]string {
	m := make(map[string]string)
	for _, n := range []string{
		"t", "src", "srcuuid", "dest", "destuuid", "seq", "hg", "ts", "ld", "ttl", authField, "st", "dt", "protocol",
		"systole", "ka", "ends", "n", "late", // of Systole nodes
		"rsc_hold", "rtype", "isstable", "info", "firstseq", "lastseq", "ackseq", "node", "result", "nodelist",
		"delnodelist", "nonce", "seen", "nscount", "ipaddr", "weown", "ok", "from_id", "to_id", "client_gen", "num_ping", "weight", "site",
	} {
		m[n] = n
	}
	return m
}()
