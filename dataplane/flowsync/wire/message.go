package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// Errors of Decode.
var (
	ErrMalformed = errors.New("malformed sync message")
	ErrVersion   = errors.New("not a sync message of version 1")
)

// Sizes in bytes.
const (
	HeaderSize = 8
	EntrySize4 = 36 // of an IPv4 connection without options
	EntrySize6 = 72
	// MaxSize is the size of the largest message: its field has 16 bits.
	MaxSize = 65535
	// MaxEntries is how many connections a message can have.
	MaxEntries = 255

	maxEntrySize = 0xfff
)

// Flags of a connection, as include/uapi/linux/ip_vs.h has them.
const (
	ForwardMask  uint32 = 0x0007
	ForwardMasq  uint32 = 0
	ForwardLocal uint32 = 1
	ForwardIPIP  uint32 = 2
	ForwardGate  uint32 = 3

	NoOutput uint32 = 0x0080 // no packet of the server was seen
	Inactive uint32 = 0x0100 // counts as InActConn
	Template uint32 = 0x1000 // binds a client, not a connection (persistence)
)

// Types of options.
const (
	OptionSeq    uint8 = 1    // sequence numbers of both directions, of NAT helpers
	OptionPEData uint8 = 2    // persistence engine: its data
	OptionPEName uint8 = 3    // and its name
	OptionSkip   uint8 = 0x40 // bit: who does not know the type may skip it
)

// Option is one optional parameter of a connection.
type Option struct {
	Type uint8
	Data []byte // 1 to 255 bytes
}

// Entry is one connection.
type Entry struct {
	Protocol            uint8
	Flags               uint32
	State               uint16
	Client, VIP, Server netip.AddrPort // of one family
	Mark                uint32
	Timeout             uint32 // s
	Options             []Option
}

// Message is a whole one.
type Message struct {
	SyncID  uint8
	Entries []Entry
	Trailer []byte
}

const typeV6 = 1

// Begin starts a message in dst's memory.
func Begin(dst []byte, syncID uint8) []byte {
	return append(dst[:0], 0, syncID, 0, HeaderSize, 0, 1, 0, 0)
}

// Count is the number of connections in a message that is being made.
func Count(msg []byte) int { return int(msg[4]) }

// AppendEntry adds a connection to a message that Begin started. It panics if
// there are MaxEntries already, or the addresses are not of one family: neither
// comes from outside. The caller watches the size, and ends with Finish.
func AppendEntry(msg []byte, e *Entry) []byte {
	if msg[4] == MaxEntries {
		panic("wire: a message of more than 255 connections")
	}
	msg[4]++
	start := len(msg)
	v6 := e.Client.Addr().Is6()
	if e.VIP.Addr().Is6() != v6 || e.Server.Addr().Is6() != v6 {
		panic("wire: a connection of two families")
	}
	kind := byte(0)
	if v6 {
		kind = typeV6
	}
	msg = append(msg, kind, e.Protocol, 0, 0)
	msg = binary.BigEndian.AppendUint32(msg, e.Flags)
	msg = binary.BigEndian.AppendUint16(msg, e.State)
	msg = binary.BigEndian.AppendUint16(msg, e.Client.Port())
	msg = binary.BigEndian.AppendUint16(msg, e.VIP.Port())
	msg = binary.BigEndian.AppendUint16(msg, e.Server.Port())
	msg = binary.BigEndian.AppendUint32(msg, e.Mark)
	msg = binary.BigEndian.AppendUint32(msg, e.Timeout)
	for _, a := range [...]netip.Addr{e.Client.Addr(), e.VIP.Addr(), e.Server.Addr()} {
		if v6 {
			b := a.As16()
			msg = append(msg, b[:]...)
		} else {
			b := a.As4()
			msg = append(msg, b[:]...)
		}
	}
	for _, o := range e.Options {
		msg = append(msg, o.Type, byte(len(o.Data)))
		msg = append(msg, o.Data...)
	}
	binary.BigEndian.PutUint16(msg[start+2:], uint16(len(msg)-start))
	for len(msg)%4 != 0 {
		msg = append(msg, 0)
	}
	return msg
}

// Finish adds the trailer and states the size.
func Finish(msg, trailer []byte) []byte {
	msg = append(msg, trailer...)
	binary.BigEndian.PutUint16(msg[2:], uint16(len(msg)))
	return msg
}

// Append adds the message to dst, which must be empty but may have room.
func (m *Message) Append(dst []byte) []byte {
	dst = Begin(dst, m.SyncID)
	for i := range m.Entries {
		dst = AppendEntry(dst, &m.Entries[i])
	}
	return Finish(dst, m.Trailer)
}

func malformed(at int, format string, args ...any) error {
	return fmt.Errorf("%w: byte %d: %s", ErrMalformed, at, fmt.Sprintf(format, args...))
}

// Decode reads a datagram into m, whose Entries' memory is used again. Options
// and Trailer are parts of data.
func Decode(data []byte, m *Message) error {
	m.Entries, m.Trailer = m.Entries[:0], nil
	if len(data) < HeaderSize {
		return malformed(len(data), "the message ends within its header of %d bytes", HeaderSize)
	}
	if data[0] != 0 || data[5] != 1 || data[6] != 0 || data[7] != 0 {
		return fmt.Errorf("%w: byte 0 is %d, byte 5 is %d: want 0 and 1", ErrVersion, data[0], data[5])
	}
	if size := int(binary.BigEndian.Uint16(data[2:])); size != len(data) {
		return malformed(2, "the size is %d, the datagram has %d bytes", size, len(data))
	}
	m.SyncID = data[1]
	at := HeaderSize
	for range data[4] {
		e, next, err := decodeEntry(data, at)
		if err != nil {
			m.Entries = m.Entries[:0]
			return err
		}
		m.Entries = append(m.Entries, e)
		at = next
	}
	m.Trailer = data[at:]
	return nil
}

// decodeEntry reads the connection that begins at data[at], and says where the
// next one does.
func decodeEntry(data []byte, at int) (e Entry, next int, err error) {
	b := data[at:]
	if len(b) < EntrySize4 {
		return e, 0, malformed(at, "a connection has at least %d bytes, %d are left", EntrySize4, len(b))
	}
	fixed, width := EntrySize4, 4
	switch b[0] {
	case 0:
	case typeV6:
		fixed, width = EntrySize6, 16
	default:
		return e, 0, malformed(at, "connection type %d: want 0 (IPv4) or 1 (IPv6)", b[0])
	}
	word := binary.BigEndian.Uint16(b[2:])
	size := int(word & maxEntrySize)
	switch {
	case word>>12 != 0:
		return e, 0, malformed(at+2, "connection of version %d: want 0", word>>12)
	case size < fixed:
		return e, 0, malformed(at+2, "the connection's size is %d: want at least %d", size, fixed)
	case size > len(b):
		return e, 0, malformed(at+2, "the connection's size is %d, %d bytes are left", size, len(b))
	}
	e = Entry{
		Protocol: b[1], Flags: binary.BigEndian.Uint32(b[4:]), State: binary.BigEndian.Uint16(b[8:]),
		Mark: binary.BigEndian.Uint32(b[16:]), Timeout: binary.BigEndian.Uint32(b[20:]),
	}
	end := func(port, n int) netip.AddrPort {
		raw := b[24+n*width:][:width]
		var a netip.Addr
		if width == 4 {
			a = netip.AddrFrom4([4]byte(raw))
		} else {
			a = netip.AddrFrom16([16]byte(raw))
		}
		return netip.AddrPortFrom(a, binary.BigEndian.Uint16(b[port:]))
	}
	e.Client, e.VIP, e.Server = end(10, 0), end(12, 1), end(14, 2)
	for o := fixed; o < size; {
		if size-o < 2 {
			return e, 0, malformed(at+o, "an option without a length")
		}
		n := int(b[o+1])
		if n == 0 || o+2+n > size {
			return e, 0, malformed(at+o+1, "option %d has length %d, %d bytes are left", b[o], n, size-o-2)
		}
		e.Options = append(e.Options, Option{Type: b[o], Data: b[o+2 : o+2+n]})
		o += 2 + n
	}
	// The last connection need not be padded.
	return e, min(at+(size+3)&^3, len(data)), nil
}

// Unknown returns the first option that must not be skipped and is not known
// here; false if there is none. The kernel drops the rest of a message at one.
func (e *Entry) Unknown() (Option, bool) {
	for _, o := range e.Options {
		if o.Type&OptionSkip == 0 && (o.Type < OptionSeq || o.Type > OptionPEName) {
			return o, true
		}
	}
	return Option{}, false
}
