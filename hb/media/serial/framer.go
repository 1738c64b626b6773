package serial

import "bytes"

// maxPacket is the longest packet that is put together, in bytes: more than any
// node without CRM sends (heartbeat-wire.md section 2.4), and a bound for what
// noise can cost.
const maxPacket = 64 << 10

var begin, end = []byte(">>>\n"), []byte("<<<\n")

// framer finds packets in a stream of bytes (sections 1 and 2.1): the lines
// from >>> to <<<. Noise costs the packet it hits and no other: a line >>>
// begins anew wherever it stands, as no field's line begins with it.
type framer struct {
	packet []byte // its lines so far; empty between packets
	line   []byte // the line so far
}

// push takes the next byte. It returns a packet that is complete with it, which
// is valid until the next call, or nil.
func (f *framer) push(c byte) []byte {
	if len(f.packet) == 0 && len(f.line) == len(begin) {
		// Between packets only the end of a line counts: noise may stand right
		// before >>>, where the line was not used for a while.
		f.line = append(f.line[:0], f.line[1:]...)
	}
	f.line = append(f.line, c)
	if len(f.packet)+len(f.line) > maxPacket {
		f.reset()
		return nil
	}
	if c != '\n' {
		return nil
	}
	line := f.line
	f.line = f.line[:0]
	if len(f.packet) == 0 {
		if bytes.HasSuffix(line, begin) {
			f.packet = append(f.packet, begin...)
		}
		return nil
	}
	if bytes.Equal(line, begin) {
		f.packet = f.packet[:0]
	}
	f.packet = append(f.packet, line...)
	if !bytes.Equal(line, end) {
		return nil
	}
	p := f.packet
	f.packet = f.packet[:0]
	return p
}

// reset forgets what has come, as after a break in the line. It frees what a
// long packet took.
func (f *framer) reset() { *f = framer{} }
