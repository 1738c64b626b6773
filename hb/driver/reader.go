package driver

import (
	"errors"
	"time"

	"systole/hb/media"
)

const (
	// datagramsPerMedium is how many packets of a medium wait for the loop.
	// When they are used up its reader waits, the kernel keeps what comes and
	// then drops it; the other media are not affected.
	datagramsPerMedium = 64
	// maxDatagram is the longest UDP payload, rounded up.
	maxDatagram = 64 << 10
	// keepDatagram is the capacity up to which a buffer is kept. Packets of a
	// cluster without CRM are of 400 bytes.
	keepDatagram = 4 << 10
)

// datagram is one packet on its way from a reader to the loop.
type datagram struct {
	medium string
	at     time.Time // when it was read
	data   []byte
	free   chan<- *datagram
}

// release gives the datagram back to its reader.
func (g *datagram) release() {
	if cap(g.data) > keepDatagram {
		g.data = nil
	}
	g.free <- g // has room for all of them
}

// read is the reader of one medium; it ends with the medium, or with d.stop.
func (d *Driver) read(m media.Medium) {
	free := make(chan *datagram, datagramsPerMedium)
	for range datagramsPerMedium {
		free <- &datagram{medium: m.Name(), free: free}
	}
	receiving := trouble{what: m.Name() + ": receiving"}
	buf := make([]byte, maxDatagram)
	for {
		n, err := m.Receive(buf)
		at := time.Now()
		if errors.Is(err, media.ErrClosed) {
			return
		}
		if r, changed := receiving.note(err); changed {
			select {
			case d.troubles <- r:
			case <-d.stop:
				return
			}
		}
		if err != nil {
			continue
		}
		select {
		case g := <-free:
			g.at, g.data = at, append(g.data[:0], buf[:n]...)
			d.in <- g // has room for all of them
		case <-d.stop:
			return
		}
	}
}
