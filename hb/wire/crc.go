package wire

import "encoding/binary"

// CRC-32 as heartbeat computes it: most significant bit first, polynomial
// 0x04c11db7, start 0, complemented at the end; POSIX cksum without the length
// (heartbeat-wire.md section 3). hash/crc32 knows only reflected polynomials.

// crcTables[k] is for a byte that k others follow, so that eight are taken in
// at once.
var crcTables = func() (t [8][256]uint32) {
	for i := range t[0] {
		c := uint32(i) << 24
		for range 8 {
			if c&(1<<31) != 0 {
				c = c<<1 ^ 0x04c11db7
			} else {
				c <<= 1
			}
		}
		t[0][i] = c
	}
	for k := 1; k < len(t); k++ {
		for i, c := range t[k-1] {
			t[k][i] = c<<8 ^ t[0][c>>24]
		}
	}
	return t
}()

func crcUpdate(c uint32, p []byte) uint32 {
	t := &crcTables
	for ; len(p) >= 8; p = p[8:] {
		x := uint64(c)<<32 ^ binary.BigEndian.Uint64(p)
		c = t[7][x>>56] ^ t[6][byte(x>>48)] ^ t[5][byte(x>>40)] ^ t[4][byte(x>>32)] ^
			t[3][byte(x>>24)] ^ t[2][byte(x>>16)] ^ t[1][byte(x>>8)] ^ t[0][byte(x)]
	}
	for _, b := range p {
		c = c<<8 ^ t[0][byte(c>>24)^b]
	}
	return c
}

func crcFinish(c uint32) uint32 { return ^c }
