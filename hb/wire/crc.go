package wire

// CRC-32 as heartbeat computes it: most significant bit first, polynomial
// 0x04c11db7, start 0, complemented at the end; POSIX cksum without the length
// (heartbeat-wire.md section 3). hash/crc32 knows only reflected polynomials.

var crcTable = func() (t [256]uint32) {
	for i := range t {
		c := uint32(i) << 24
		for range 8 {
			if c&(1<<31) != 0 {
				c = c<<1 ^ 0x04c11db7
			} else {
				c <<= 1
			}
		}
		t[i] = c
	}
	return t
}()

func crcUpdate(c uint32, p []byte) uint32 {
	for _, b := range p {
		c = c<<8 ^ crcTable[byte(c>>24)^b]
	}
	return c
}

func crcFinish(c uint32) uint32 { return ^c }
