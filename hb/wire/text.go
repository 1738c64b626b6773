package wire

import (
	"bytes"
	"fmt"
)

// AppendText appends a packet to dst as a serial line carries it, in form
// Classic without the NUL (section 2.1), and returns the result. With an error
// it returns dst as it was.
//
// The packet is one that Encode made in form Classic or Both; the latter
// carries the authenticator of its own text, so that no key is needed, and the
// message is the same on every medium. One of form Netstring has none and is
// ErrUnsupported; so is what only netstrings can carry, as ErrField. The
// authenticator is not verified.
func AppendText(dst, packet []byte) ([]byte, error) {
	if bytes.HasPrefix(packet, []byte(classicOpen)) {
		return append(dst, bytes.TrimSuffix(packet, []byte{0})...), nil
	}
	if !bytes.HasPrefix(packet, []byte(netstringOpen)) {
		return dst, malformed(0, "begins with neither ### nor >>>")
	}
	var d Decoder
	out, signed := append(dst, classicOpen...), false
	at := len(netstringOpen)
	for !bytes.HasPrefix(packet[at:], []byte(netstringClose)) {
		from, to, next, err := netstring(packet, at)
		if err != nil {
			return dst, err
		}
		fld, err := d.field(packet[from:to:to], from, true)
		if err != nil {
			return dst, err
		}
		if fld.Name == authField {
			if signed {
				return dst, malformed(from, "second field auth")
			}
			signed = true
		} else if why := fld.unfit(Classic); why != "" {
			return dst, fmt.Errorf("%w: %s: %s", ErrField, fld.Name, why)
		}
		out = appendClassic(out, []Field{fld})
		at = next
	}
	if !signed {
		return dst, fmt.Errorf("%w: form netstring has no authenticator for text: send form both or classic", ErrUnsupported)
	}
	return append(out, classicClose...), nil
}
