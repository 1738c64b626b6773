package broker

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"systole/control/client"
	"systole/hb/wire"
)

// ErrMessage is wrapped by the errors that say what is wrong with a message.
var ErrMessage = errors.New("message")

// The limits of a message; package client tells programs why.
const (
	maxName   = 64       // bytes of a type or a field's name
	maxFields = 64       // fields of both kinds
	maxBytes  = 16 << 10 // of type, names and values together
)

// protocolTypes are the message types of heartbeat-wire.md section 5 that have
// no prefix of the protocol's: heartbeat's own, takeover's and ipfail's. Real
// nodes act on them.
var protocolTypes = map[string]bool{
	"status": true, "reqnodes": true, "repnodes": true, "starting": true, "resource": true, "ask_resources": true,
	"hb_takeover": true, "ip-request": true, "ip-request-resp": true, "shutdone": true, "stonith": true,
	"addnode": true, "delnode": true, "setweight": true, "setsite": true, "ifstat": true,
	"query-cstatus": true, "respond-cstatus": true,
	"num_ping_nodes": true, "you_are_dead": true, "abort_giveup": true,
}

// protocolPrefixes begin what is the protocol's, ours included, now and later.
var protocolPrefixes = []string{"ns_", "hbapi-", "systole"}

// Reserved reports whether a message type belongs to the protocol or to
// takeover, so that no program may send it.
func Reserved(messageType string) bool {
	t := strings.ToLower(messageType)
	return protocolTypes[t] || slices.ContainsFunc(protocolPrefixes, func(p string) bool { return strings.HasPrefix(t, p) })
}

// ownFields are added by the heartbeat (section 4), or have a place of their
// own in client.Message.
var ownFields = []string{"t", "src", "srcuuid", "dest", "destuuid", "seq", "hg", "ts", "ld", "ttl", "auth"}

// encode makes the message that goes on the wire: texts, then binary values,
// each in the order of their names. The error wraps ErrMessage.
func encode(m client.Message) (wire.Message, error) {
	if why := badName(m.Type); why != "" {
		return wire.Message{}, fmt.Errorf("%w: type %q: %s", ErrMessage, m.Type, why)
	}
	if Reserved(m.Type) {
		return wire.Message{}, fmt.Errorf("%w: type %q belongs to the heartbeat protocol: choose another, such as app.%s", ErrMessage, m.Type, m.Type)
	}
	if n := len(m.Fields) + len(m.Binary); n > maxFields {
		return wire.Message{}, fmt.Errorf("%w: %d fields, at most %d", ErrMessage, n, maxFields)
	}
	out := wire.New(m.Type)
	size := len(m.Type)
	for _, name := range slices.Sorted(maps.Keys(m.Fields)) {
		value := m.Fields[name]
		if why := badText(value); why != "" {
			return wire.Message{}, fieldError(name, why)
		}
		if err := checkField(m, name, len(value), &size); err != nil {
			return wire.Message{}, err
		}
		out.Set(name, value)
	}
	for _, name := range slices.Sorted(maps.Keys(m.Binary)) {
		if _, twice := m.Fields[name]; twice {
			return wire.Message{}, fieldError(name, "is there as text and as binary")
		}
		if err := checkField(m, name, len(m.Binary[name]), &size); err != nil {
			return wire.Message{}, err
		}
		out.SetBinary(name, bytes.Clone(m.Binary[name]))
	}
	if m.Dest != "" {
		if why := badName(m.Dest); why != "" {
			return wire.Message{}, fmt.Errorf("%w: dest %q: %s", ErrMessage, m.Dest, why)
		}
		out.Set("dest", m.Dest)
	}
	return out, nil
}

func fieldError(name, why string) error {
	return fmt.Errorf("%w: field %q: %s", ErrMessage, name, why)
}

// checkField checks what texts and binary values have in common.
func checkField(m client.Message, name string, length int, size *int) error {
	switch why := badName(name); {
	case why != "":
		return fieldError(name, why)
	case slices.Contains(ownFields, name):
		return fieldError(name, "is written by the heartbeat itself")
	case length == 0:
		return fieldError(name, "is empty: leave it out (an old node does not tell an empty value from none)")
	}
	if *size += len(name) + length; *size > maxBytes {
		return fieldError(name, fmt.Sprintf("makes the message longer than %d bytes", maxBytes))
	}
	return nil
}

// badName says what is wrong with a type, a field's name or a node's, or "".
func badName(name string) string {
	switch {
	case name == "":
		return "is missing"
	case len(name) > maxName:
		return fmt.Sprintf("is longer than %d bytes", maxName)
	case name[0] == '.' || name[0] == '-':
		return fmt.Sprintf("begins with %q", name[0])
	}
	for _, r := range name {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_-.", r) {
			return fmt.Sprintf("contains %q: letters, digits, '_', '-' and '.' only", r)
		}
	}
	return ""
}

// badText says what is wrong with a text, or "" (heartbeat-wire.md section 2.1).
func badText(v string) string {
	switch {
	case strings.IndexByte(v, 0) >= 0:
		return "contains a NUL: send it as binary"
	case strings.IndexByte(v, 0x13) >= 0:
		return "contains byte 0x13, which stands for a newline on the wire: send it as binary"
	case !utf8.ValidString(v):
		return "is not UTF-8: send it as binary"
	}
	return ""
}
