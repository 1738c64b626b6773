package wire

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"strconv"
)

// Method is a way to authenticate a packet, by its name in authkeys
// (section 3).
type Method string

const (
	CRC    Method = "crc"    // CRC-32: finds accidents, not attackers; has no key
	MD5    Method = "md5"    // HMAC-MD5 (RFC 2104)
	SHA1   Method = "sha1"   // HMAC-SHA1 (RFC 2104)
	SHA256 Method = "sha256" // HMAC-SHA256; Systole only, heartbeat does not speak it
)

// MaxKeyIndex is the largest index of a key; the smallest is 0 (section 3).
const MaxKeyIndex = 15

// Key is one entry of authkeys.
type Key struct {
	Index  int // 0 to MaxKeyIndex
	Method Method
	Secret []byte `json:"-"` // the key word as bytes; empty for CRC
}

// String is the key without its secret, so that no log can tell it.
func (k Key) String() string { return fmt.Sprintf("%d %s", k.Index, k.Method) }

// GoString is String: %#v must not tell the secret either.
func (k Key) GoString() string { return k.String() }

// Keys are the entries of authkeys. Packets are signed with the key Send; a
// packet is accepted with any of Keys, chosen by the index it names, so keys
// can be replaced one node after the other.
//
// The original ignores the index in netstring form and accepts there only the
// key it sends with (section 3.2); towards such nodes all must change at once.
type Keys struct {
	Send int
	Keys []Key
}

// find returns the key with that index.
func (k Keys) find(index int) (Key, bool) {
	for _, key := range k.Keys {
		if key.Index == index {
			return key, true
		}
	}
	return Key{}, false
}

// hmacBlock is the block size in bytes of all three hash functions.
const hmacBlock = 64

// macSize is the length of the longest authenticator in bytes.
const macSize = sha256.Size

// sum appends the authenticator of a followed by b, as bytes. The caller has
// checked the method. The hashes are not kept between calls: made here, they
// live on the stack.
func (k Key) sum(dst, a, b []byte) []byte {
	switch k.Method {
	case CRC:
		c := crcFinish(crcUpdate(crcUpdate(0, a), b))
		return append(dst, byte(c>>24), byte(c>>16), byte(c>>8), byte(c))
	case MD5:
		inner, outer := k.pads()
		h := md5.New()
		h.Write(inner[:])
		h.Write(a)
		h.Write(b)
		var s [md5.Size]byte
		h.Sum(s[:0])
		h.Reset()
		h.Write(outer[:])
		h.Write(s[:])
		return h.Sum(dst)
	case SHA1:
		inner, outer := k.pads()
		h := sha1.New()
		h.Write(inner[:])
		h.Write(a)
		h.Write(b)
		var s [sha1.Size]byte
		h.Sum(s[:0])
		h.Reset()
		h.Write(outer[:])
		h.Write(s[:])
		return h.Sum(dst)
	case SHA256:
		inner, outer := k.pads()
		h := sha256.New()
		h.Write(inner[:])
		h.Write(a)
		h.Write(b)
		var s [sha256.Size]byte
		h.Sum(s[:0])
		h.Reset()
		h.Write(outer[:])
		h.Write(s[:])
		return h.Sum(dst)
	}
	panic("wire: unchecked method " + k.Method)
}

// pads returns the key combined with ipad and opad of RFC 2104.
func (k Key) pads() (inner, outer [hmacBlock]byte) {
	secret := k.Secret
	if len(secret) > hmacBlock {
		switch k.Method {
		case MD5:
			s := md5.Sum(secret)
			copy(inner[:], s[:])
		case SHA1:
			s := sha1.Sum(secret)
			copy(inner[:], s[:])
		case SHA256:
			s := sha256.Sum256(secret)
			copy(inner[:], s[:])
		}
	} else {
		copy(inner[:], secret)
	}
	for i, c := range inner {
		inner[i], outer[i] = c^0x36, c^0x5c
	}
	return inner, outer
}

// usable says whether packets can be authenticated with k.
func (k Key) usable() error {
	switch k.Method {
	case CRC:
		if len(k.Secret) != 0 {
			return fmt.Errorf("%w: method crc takes no key word", ErrKey)
		}
	case MD5, SHA1, SHA256:
		if len(k.Secret) == 0 {
			return fmt.Errorf("%w: method %s needs a key word", ErrKey, k.Method)
		}
	default:
		return fmt.Errorf("%w: unknown method %q, want crc, md5, sha1 or sha256", ErrKey, k.Method)
	}
	if k.Index < 0 || k.Index > MaxKeyIndex {
		return fmt.Errorf("%w: index %d is not within 0 to %d", ErrKey, k.Index, MaxKeyIndex)
	}
	return nil
}

// appendAuth appends what authenticates a followed by b: "<index> <hex>".
func (k Key) appendAuth(dst, a, b []byte) []byte {
	var room [macSize]byte
	sum := k.sum(room[:0], a, b)
	dst = strconv.AppendUint(dst, uint64(k.Index), 10)
	dst = append(dst, ' ')
	if k.Method == CRC {
		// %x: the original drops leading zeros.
		c := uint64(sum[0])<<24 | uint64(sum[1])<<16 | uint64(sum[2])<<8 | uint64(sum[3])
		return strconv.AppendUint(dst, c, 16)
	}
	return hex.AppendEncode(dst, sum)
}

// maxAuth is the longest text appendAuth makes.
const maxAuth = 3 + 2*macSize

// verify checks that text authenticates a followed by b, and returns the key it
// does so with. at is where text stands in the packet, for the error.
func (k Keys) verify(text []byte, at int, a, b []byte) (Key, error) {
	index, n := 0, 0
	for n < len(text) && n < 2 && '0' <= text[n] && text[n] <= '9' {
		index = 10*index + int(text[n]-'0')
		n++
	}
	if n == 0 || n == len(text) || text[n] != ' ' || (n == 2 && text[0] == '0') {
		return Key{}, malformed(at, "authenticator is not \"<index> <hex>\"")
	}
	key, ok := k.find(index)
	if !ok {
		return Key{}, fmt.Errorf("%w: the packet is signed with key %d, which authkeys does not have", ErrKey, index)
	}
	if err := key.usable(); err != nil {
		return Key{}, err
	}
	var room [maxAuth]byte
	want := key.appendAuth(room[:0], a, b)
	if subtle.ConstantTimeCompare(want, text) != 1 {
		return Key{}, ErrAuth
	}
	return key, nil
}
