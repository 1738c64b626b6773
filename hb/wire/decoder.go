package wire

import "bytes"

// Decoder decodes packets one after the other in memory of its own, which it
// uses again: in steady state it allocates nothing. The zero value is ready.
type Decoder struct {
	key    Key
	buf    []byte
	raw    []byte // what was base64
	fields []Field
	names  map[string]string // names of fields that are not in the list of section 4
	last   [shapes][]string  // names of the fields of a packet before, by place
	shape  int               // which of these: packets with as many fields are alike
	at     int               // the place of the next
}

// Decode is the function Decode, but the message is valid only until the next
// call; Clone makes one that stays.
func (d *Decoder) Decode(packet []byte, k Keys) (Message, Format, error) {
	d.key, d.at = Key{}, 0
	return d.decode(packet, verifier{d, k, true})
}

// Key is the key that the last packet was signed with, if it was right.
func (d *Decoder) Key() Key { return d.key }

func (d *Decoder) decode(packet []byte, verify verifier) (Message, Format, error) {
	if len(packet) > MaxPacket {
		return Message{}, 0, malformed(MaxPacket, "longer than %d bytes", MaxPacket)
	}
	switch {
	case bytes.HasPrefix(packet, []byte(netstringOpen)):
		return d.netstring(packet, verify)
	case bytes.HasPrefix(packet, []byte(classicOpen)):
		return d.classic(packet, verify)
	}
	return Message{}, 0, malformed(0, "begins with neither ### nor >>>")
}

// verifier checks the authenticator of a packet, unless it is our own.
type verifier struct {
	d      *Decoder
	keys   Keys
	verify bool
}

func (v verifier) check(text []byte, at int, a, b []byte) (err error) {
	if v.verify {
		v.d.key, err = v.keys.verify(text, at, a, b)
	}
	return err
}

const (
	// keepDecoder is how much memory a decoder keeps after a long packet; those
	// of a cluster without CRM are of 400 bytes.
	keepDecoder = 16 << 10
	// shapes is of how many packets it remembers the names in their order. A
	// status is followed by a probe, an answer, an acknowledgement.
	shapes = 8
	// keepNames is how many names of fields it remembers. Only who has the key
	// can bring in new ones.
	keepNames = 64
)

// own copies p and makes room for that many fields.
func (d *Decoder) own(p []byte, fields int) []byte {
	if cap(d.buf) > keepDecoder || cap(d.raw) > keepDecoder || cap(d.fields) > keepDecoder/32 {
		d.buf, d.raw, d.fields = nil, nil, nil
	}
	d.buf, d.raw = append(d.buf[:0], p...), d.raw[:0]
	if cap(d.fields) < fields {
		d.fields = make([]Field, 0, fields)
	}
	d.fields = d.fields[:0]
	d.shape = fields % shapes
	return d.buf
}

// room is memory for n bytes. What was given out before stays valid.
func (d *Decoder) room(n int) []byte {
	at := len(d.raw)
	if cap(d.raw)-at < n {
		d.raw, at = make([]byte, 0, max(n, 2*cap(d.raw))), 0
	}
	d.raw = d.raw[:at+n]
	return d.raw[at : at+n : at+n]
}

// intern returns name as a string, without allocating if it was there before.
// A packet mostly has the names of the last one with as many fields, in the same
// order.
func (d *Decoder) intern(name []byte) string {
	last, at := &d.last[d.shape], d.at
	d.at++
	if at < len(*last) && (*last)[at] == string(name) {
		return (*last)[at]
	}
	s := d.known(name)
	if at < keepNames {
		*last = append(*last, make([]string, max(0, at+1-len(*last)))...)
		(*last)[at] = s
	}
	return s
}

func (d *Decoder) known(name []byte) string {
	if s, ok := names[string(name)]; ok {
		return s
	}
	if s, ok := d.names[string(name)]; ok {
		return s
	}
	s := string(name)
	if len(d.names) < keepNames && len(s) <= 64 {
		if d.names == nil {
			d.names = make(map[string]string)
		}
		d.names[s] = s
	}
	return s
}
