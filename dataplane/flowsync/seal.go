package flowsync

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
)

// Errors of a message that does not count.
var (
	// ErrUnsigned: it has no trailer, as a kernel's.
	ErrUnsigned = errors.New("sync message without a signature: a kernel's master daemon, or not ours; only sync.kernel: true takes it")
	// ErrAuth: the signature is not right.
	ErrAuth = errors.New("sync message with a wrong signature: do all directors have the same authkeys?")
	// ErrMalformed: a trailer that contradicts itself.
	ErrMalformed = errors.New("malformed trailer of a sync message")
)

// Key signs and checks messages.
type Key struct {
	Index uint8
	Hash  [sha256.Size]byte
}

// String tells no secret.
func (k Key) String() string { return fmt.Sprintf("key %d", k.Index) }

// GoString is String.
func (k Key) GoString() string { return k.String() }

// Derive makes a key of flow synchronisation from a secret that is used for
// something else, too.
func Derive(index uint8, secret []byte) Key {
	h := hmac.New(sha256.New, secret)
	fmt.Fprintf(h, "systole flow synchronisation 1, key %d", index)
	return Key{Index: index, Hash: [sha256.Size]byte(h.Sum(nil))}
}

// Keys are those that are accepted; Send is the index of the one that signs.
type Keys struct {
	Send uint8
	Keys []Key
}

// sealer signs and checks; not for several goroutines.
type sealer struct {
	send   uint8
	hashes map[uint8]hash.Hash
}

func newSealer(k Keys) (*sealer, error) {
	s := &sealer{send: k.Send, hashes: make(map[uint8]hash.Hash)}
	for _, key := range k.Keys {
		s.hashes[key.Index] = hmac.New(sha256.New, key.Hash[:])
	}
	if s.hashes[k.Send] == nil {
		return nil, fmt.Errorf("flow synchronisation: there is no key %d to sign with", k.Send)
	}
	return s, nil
}

const (
	trailerFixed  = 48
	footerSize    = 8 + sha256.Size
	trailerSize   = trailerFixed + footerSize // without runs
	runSize       = 4
	maxRuns       = 64
	footerMagic   = "SyFs"
	footerVersion = 1
)

// run is a number of messages that were missed: from first on.
type run struct {
	first uint64
	n     int
}

// trailer is what one node tells another in each message; see doc.go.
type trailer struct {
	session, echo uint64
	number        uint64
	floor, upto   uint64
	wants, gives  uint32
	missed        []run
}

// append writes the trailer but for the last field, the signature.
func (t *trailer) append(dst []byte, key uint8) []byte {
	start := len(dst)
	for _, v := range [...]uint64{t.session, t.echo, t.number, t.floor, t.upto} {
		dst = binary.BigEndian.AppendUint64(dst, v)
	}
	dst = binary.BigEndian.AppendUint32(dst, t.wants)
	dst = binary.BigEndian.AppendUint32(dst, t.gives)
	for _, r := range t.missed {
		dst = binary.BigEndian.AppendUint16(dst, uint16(t.upto-r.first))
		dst = binary.BigEndian.AppendUint16(dst, uint16(r.n))
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(dst)-start+footerSize))
	dst = append(dst, footerVersion, key)
	return append(dst, footerMagic...)
}

// sign appends the signature of msg to it; msg's size field must count it
// already.
func (s *sealer) sign(msg []byte) []byte {
	h := s.hashes[s.send]
	h.Reset()
	h.Write(msg)
	return h.Sum(msg)
}

// open checks the signature of a message and reads its trailer. It looks at
// nothing else of the message.
func (s *sealer) open(msg []byte, t *trailer) error {
	at := len(msg) - footerSize
	if at < 0 || string(msg[at+4:at+8]) != footerMagic {
		return ErrUnsigned
	}
	if v := msg[at+2]; v != footerVersion {
		return fmt.Errorf("%w: byte %d: version %d, want %d", ErrMalformed, at+2, v, footerVersion)
	}
	h := s.hashes[msg[at+3]]
	if h == nil {
		return fmt.Errorf("%w (key %d is not there)", ErrAuth, msg[at+3])
	}
	h.Reset()
	h.Write(msg[:at+8])
	var sum [sha256.Size]byte
	if subtle.ConstantTimeCompare(h.Sum(sum[:0]), msg[at+8:]) != 1 {
		return ErrAuth
	}
	size := int(binary.BigEndian.Uint16(msg[at:]))
	if size < trailerSize || size > len(msg) || (size-trailerSize)%runSize != 0 {
		return fmt.Errorf("%w: byte %d: its size is %d", ErrMalformed, at, size)
	}
	b := msg[len(msg)-size:]
	word := func(i int) uint64 { return binary.BigEndian.Uint64(b[8*i:]) }
	t.session, t.echo, t.number, t.floor, t.upto = word(0), word(1), word(2), word(3), word(4)
	t.wants, t.gives = binary.BigEndian.Uint32(b[40:]), binary.BigEndian.Uint32(b[44:])
	t.missed = t.missed[:0]
	for o := trailerFixed; o < size-footerSize; o += runSize {
		back, n := uint64(binary.BigEndian.Uint16(b[o:])), int(binary.BigEndian.Uint16(b[o+2:]))
		if n == 0 || back > t.upto || uint64(n) > back+1 {
			return fmt.Errorf("%w: byte %d: %d messages missed from %d before %d on", ErrMalformed, len(msg)-size+o, n, back, t.upto)
		}
		t.missed = append(t.missed, run{t.upto - back, n})
	}
	if t.session == 0 || t.number == 0 {
		return fmt.Errorf("%w: byte %d: no session, or no number", ErrMalformed, len(msg)-size)
	}
	return nil
}
