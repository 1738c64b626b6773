package wire

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
)

// Encode appends m in form f, signed with the key k.Send, to dst and returns
// the result. With an error it returns dst as it was.
//
// The errors are ErrKey if there is no such key or it cannot sign, ErrField if
// a field cannot be written in this form (the text names it), ErrTooLong if
// the packet would exceed MaxPacket.
func Encode(dst []byte, m Message, f Format, k Keys) ([]byte, error) {
	key, ok := k.find(k.Send)
	if !ok {
		return dst, fmt.Errorf("%w: authkeys has no key %d to sign with", ErrKey, k.Send)
	}
	if err := key.usable(); err != nil {
		return dst, err
	}
	size, err := check(m, f)
	if err != nil {
		return dst, err
	}
	start := len(dst)
	out := slices.Grow(dst, size)
	switch f {
	case Classic:
		out = append(out, classicOpen...)
		out = appendClassic(out, m.Fields)
		text := out[start+len(classicOpen):]
		out = append(out, authField+"="...)
		out = key.appendAuth(out, text, nil)
		out = append(out, "\n"+classicClose+"\x00"...)
	case Netstring, Both:
		out = append(out, netstringOpen...)
		for i := range m.Fields {
			fld := &m.Fields[i]
			out = appendNetstring(out, fld.Type, fld.Name, fld.Value)
		}
		if f == Both {
			// The classic text is needed only for its authenticator: it is
			// written behind the packet and dropped again.
			mark := len(out)
			out = appendClassic(out, m.Fields)
			var room [maxAuth]byte
			auth := key.appendAuth(room[:0], out[mark:], nil)
			out = appendNetstring(out[:mark], String, authField, auth)
		}
		out = append(out, netstringClose...)
		var room [maxAuth]byte
		auth := key.appendAuth(room[:0], out[start:], nil)
		out = strconv.AppendUint(out, uint64(len(auth)), 10)
		out = append(out, ':')
		out = append(out, auth...)
		out = append(out, ',')
	}
	if n := len(out) - start; n > MaxPacket {
		return dst, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLong, n, MaxPacket)
	}
	return out, nil
}

// appendClassic appends the fields as lines of classic text (section 2.1).
func appendClassic(dst []byte, fields []Field) []byte {
	for i := range fields {
		f := &fields[i]
		if f.Type != String {
			dst = append(dst, '(', '0'+byte(f.Type), ')')
		}
		dst = append(dst, f.Name...)
		dst = append(dst, '=')
		switch f.Type {
		case Binary:
			dst = base64.StdEncoding.AppendEncode(dst, f.Value)
		case String:
			for _, c := range f.Value {
				if c == '\n' {
					c = softNewline
				}
				dst = append(dst, c)
			}
		default:
			dst = append(dst, f.Value...)
		}
		dst = append(dst, '\n')
	}
	return dst
}

// appendNetstring appends one field as a netstring (section 2.2).
func appendNetstring(dst []byte, t FieldType, name string, value []byte) []byte {
	dst = strconv.AppendUint(dst, uint64(len("(0)=")+len(name)+len(value)), 10)
	dst = append(dst, ':', '(', '0'+byte(t), ')')
	dst = append(dst, name...)
	dst = append(dst, '=')
	dst = append(dst, value...)
	return append(dst, ',')
}

// check finds a field that form f cannot carry. It returns how much room
// Encode needs, rounded up.
func check(m Message, f Format) (size int, err error) {
	if f > Both {
		return 0, fmt.Errorf("%w: unknown form %v", ErrField, f)
	}
	size = 2*len(netstringOpen) + 16 + 2*maxAuth
	for i := range m.Fields {
		fld := &m.Fields[i]
		if why := fld.unfit(f); why != "" {
			return 0, fmt.Errorf("%w: %s: %s", ErrField, fld.Name, why)
		}
		value := len(fld.Value)
		if f != Netstring && fld.Type == Binary {
			value = base64.StdEncoding.EncodedLen(value)
		}
		one := len("1234567:(0)=,") + len(fld.Name) + value
		if f == Both {
			one *= 2
		}
		size += one
	}
	if len(m.Fields) == 0 {
		return 0, fmt.Errorf("%w: the message is empty", ErrField)
	}
	if size > 4*MaxPacket { // not even a generous estimate is near
		return 0, fmt.Errorf("%w: about %d bytes, at most %d", ErrTooLong, size, MaxPacket)
	}
	return size, nil
}

// unfit says why the field cannot be written in form f, or "".
func (fld *Field) unfit(f Format) string {
	if why := badName([]byte(fld.Name)); why != "" {
		return why
	}
	if fld.Name == authField {
		return "the authenticator is made by Encode"
	}
	switch fld.Type {
	case String:
		if bytes.IndexByte(fld.Value, 0) >= 0 {
			return "text contains a NUL"
		}
		if f == Classic && bytes.IndexByte(fld.Value, softNewline) >= 0 {
			return "text contains byte 0x13, which the classic form reads as newline"
		}
	case Binary:
	case Nested, List, Compressed:
		if f == Both {
			return "a nested, list or compressed field can be sent only in the form it came in"
		}
		if f == Classic && bytes.ContainsAny(fld.Value, "\n\x00") {
			return "not a line of classic text"
		}
	default:
		return fmt.Sprintf("unknown type %d", fld.Type)
	}
	return ""
}
