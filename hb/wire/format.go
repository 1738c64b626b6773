package wire

import (
	"errors"
	"fmt"
)

// Format is a form in which a message is written. A receiver accepts each of
// them whatever it sends itself (section 2).
type Format uint8

const (
	// Classic is the text between >>> and <<<, one line a field, as older
	// heartbeats put on the wire. As a datagram it ends with a NUL; a serial
	// line carries it without.
	Classic Format = iota
	// Netstring is one netstring a field between ### and %%%, and then the
	// authenticator.
	Netstring
	// Both is the Netstring form with the authenticator of the classic text as
	// an additional last field: what 3.0.6 sends unless told otherwise
	// (section 2.3). A receiver looks at the outer authenticator only.
	Both
)

// String is the form's name.
func (f Format) String() string {
	switch f {
	case Classic:
		return "classic"
	case Netstring:
		return "netstring"
	case Both:
		return "both"
	}
	return fmt.Sprintf("Format(%d)", uint8(f))
}

// MaxPacket is the longest packet a medium carries, in bytes (section 2.4).
const MaxPacket = 256 << 10

// The reasons why a packet or a message is refused; test with errors.Is.
var (
	// ErrMalformed: the bytes are not a heartbeat message.
	ErrMalformed = errors.New("malformed heartbeat packet")
	// ErrAuth: the authenticator does not fit: another key, or the packet was
	// changed.
	ErrAuth = errors.New("authentication failed: the key differs from the sender's, compare authkeys on both nodes")
	// ErrKey: authkeys has no key with the index the packet names, or none
	// with the index to sign with, or the key cannot be used.
	ErrKey = errors.New("no usable key")
	// ErrUnsupported: the packet is right, but of a kind Systole leaves out.
	ErrUnsupported = errors.New("unsupported heartbeat message")
	// ErrField: the message has a field that its form cannot carry.
	ErrField = errors.New("field cannot be sent")
	// ErrTooLong: the encoded message would exceed MaxPacket.
	ErrTooLong = errors.New("message too long")
)

// The delimiters of sections 2.1 and 2.2.
const (
	classicOpen    = ">>>\n"
	classicClose   = "<<<\n"
	netstringOpen  = "###\n"
	netstringClose = "%%%\n"

	// authField is the name of the classic authenticator (section 3.1).
	authField = "auth"
	// softNewline stands for a newline in a string of the classic text.
	softNewline = 0x13
)

// malformed is ErrMalformed with its place: an offset in the packet.
func malformed(at int, format string, args ...any) error {
	return fmt.Errorf("%w: byte %d: %s", ErrMalformed, at, fmt.Sprintf(format, args...))
}

// badName says what is wrong with a field name, or "". Beyond the protocol's
// own rule (no '=') a name must be printable and must not look like a type
// prefix or a delimiter, so that every form can carry it.
func badName(name []byte) string {
	if len(name) == 0 {
		return "field without a name"
	}
	switch name[0] {
	case '(', '<', '>':
		return fmt.Sprintf("field name begins with %q", name[0])
	}
	for _, c := range name {
		if c <= ' ' || c > '~' || c == '=' {
			return fmt.Sprintf("field name contains %q", c)
		}
	}
	return ""
}
