package wire

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// FieldType says how the value of a field is written (section 2).
type FieldType uint8

// The field types of heartbeat-wire.md section 2. A cluster without CRM uses
// only String and Binary. Type 5, "in memory only", never is on the wire.
const (
	String     FieldType = 0 // text without NUL
	Binary     FieldType = 1 // any bytes; base64 in classic text
	Nested     FieldType = 2 // a message; opaque here
	List       FieldType = 3 // a list of strings; opaque here
	Compressed FieldType = 4 // a compressed message; opaque here
)

// Field is one name with its value.
//
// The value of an opaque type (Nested, List, Compressed) is the bytes of the
// form it was decoded from; these forms differ, so it can be encoded only in
// that form again.
type Field struct {
	Name  string
	Type  FieldType
	Value []byte
}

// Message is an ordered list of fields. The order is kept: the authenticator
// depends on it. If a name occurs twice the first one counts.
//
// The authenticators are not part of a Message: Decode takes them off and
// Encode puts them on.
type Message struct {
	Fields []Field
}

// New returns a message of type t with string fields from pairs of name and
// value: New("resource", "rsc_hold", "all", "rtype", "full"). It panics if a
// name lacks its value.
func New(t string, kv ...string) Message {
	if len(kv)%2 != 0 {
		panic("wire.New: a name without a value")
	}
	// A sender adds up to nine fields more (section 4).
	m := Message{Fields: make([]Field, 0, 1+len(kv)/2+9)}
	m.Set("t", t)
	for i := 0; i < len(kv); i += 2 {
		m.Set(kv[i], kv[i+1])
	}
	return m
}

// find returns the index of the first field with that name, or -1.
func (m Message) find(name string) int {
	for i := range m.Fields {
		if m.Fields[i].Name == name {
			return i
		}
	}
	return -1
}

// Get returns the value of a string field. It is false if there is none or if
// it is of another type.
func (m Message) Get(name string) (string, bool) {
	i := m.find(name)
	if i < 0 || m.Fields[i].Type != String {
		return "", false
	}
	return string(m.Fields[i].Value), true
}

// GetBinary returns the value of a binary field, not a copy. It is false if
// there is none or if it is of another type.
func (m Message) GetBinary(name string) ([]byte, bool) {
	i := m.find(name)
	if i < 0 || m.Fields[i].Type != Binary {
		return nil, false
	}
	return m.Fields[i].Value, true
}

// GetUint returns the value of a string field that is a number without sign
// in the given base, 10 or 16 (section 4 says which). It is false if the field
// is absent or is anything else.
func (m Message) GetUint(name string, base int) (uint64, bool) {
	i := m.find(name)
	if i < 0 || m.Fields[i].Type != String {
		return 0, false
	}
	n, err := strconv.ParseUint(string(m.Fields[i].Value), base, 64)
	return n, err == nil
}

// Type returns the message type, field t, or "" if there is none.
func (m Message) Type() string {
	t, _ := m.Get("t")
	return t
}

// Set makes name a string field with that value, in its place if it exists,
// else at the end.
func (m *Message) Set(name, value string) { m.set(Field{name, String, []byte(value)}) }

// SetBinary makes name a binary field with that value, which is not copied, in
// its place if it exists, else at the end.
func (m *Message) SetBinary(name string, value []byte) { m.set(Field{name, Binary, value}) }

func (m *Message) set(f Field) {
	if i := m.find(f.Name); i >= 0 {
		m.Fields[i] = f
		return
	}
	m.Fields = append(m.Fields, f)
}

// Del removes every field with that name.
func (m *Message) Del(name string) {
	kept := m.Fields[:0]
	for _, f := range m.Fields {
		if f.Name != name {
			kept = append(kept, f)
		}
	}
	clear(m.Fields[len(kept):])
	m.Fields = kept
}

// Clone returns a message that shares no memory with m.
func (m Message) Clone() Message {
	c := Message{Fields: make([]Field, len(m.Fields))}
	for i, f := range m.Fields {
		f.Value = bytes.Clone(f.Value)
		c.Fields[i] = f
	}
	return c
}

// String is the message on one line, for people: t=status st=up
// srcuuid=6b02... Text with blanks or control characters is quoted; other
// values than text are in hex.
func (m Message) String() string {
	var b strings.Builder
	for i, f := range m.Fields {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(f.Name)
		b.WriteByte('=')
		v := string(f.Value)
		switch {
		case f.Type != String:
			fmt.Fprintf(&b, "%x", v)
		case v == "" || strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' }):
			b.WriteString(strconv.Quote(v))
		default:
			b.WriteString(v)
		}
	}
	return b.String()
}
