package xdp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf/perf"
	"golang.org/x/sys/unix"

	"systole/bpf"
)

// What is kept of fragments that overtook their first one, and how long: the two
// come within a millisecond or so, or the first is lost.
const (
	earlyWait   = 250 * time.Millisecond
	earlyKept   = 256              // fragments
	earlyRate   = 2000             // a second that are looked at
	earlyBuffer = 64 << 10         // bytes per CPU, in which the program leaves them
	earlyLook   = time.Millisecond // how often those that wait are looked for
)

// early sends fragments on that came before their first one (bpf/early.h): the
// program passes them, with a copy for us, since it cannot know where they
// belong. When the first one has come, the table of datagrams says it.
//
// Such a fragment goes up as well, where nobody misses the rest of it; and it is
// sent by us and not by the program, so the counters of a real server do not have
// it, unless that is behind a tunnel.
type early struct {
	p      *Plane
	reader *perf.Reader
	socket int
	waits  []earlyFragment
	sent   atomic.Uint64
}

// earlyFragment is a fragment that waits.
type earlyFragment struct {
	at    time.Time
	key   bpf.DirectorEarlyRecord
	frame []byte
}

// startEarly begins to look after them. It is called in the network namespace of
// the interface.
func startEarly(p *Plane) (*early, error) {
	socket, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	reader, err := perf.NewReader(p.kernel.objects.Early, earlyBuffer)
	if err != nil {
		return nil, errors.Join(err, unix.Close(socket))
	}
	e := &early{p: p, reader: reader, socket: socket}
	go e.run()
	return e, nil
}

// stop ends it. The plane must be marked as closed, and nobody be reading.
func (e *early) stop() error {
	if e == nil {
		return nil
	}
	return errors.Join(e.reader.Close(), unix.Close(e.socket))
}

func (e *early) run() {
	var rec perf.Record
	budget, second := earlyRate, time.Now()
	for {
		var until time.Time
		if len(e.waits) > 0 {
			until = time.Now().Add(earlyLook)
		}
		e.reader.SetDeadline(until)
		err := e.reader.ReadInto(&rec)
		switch {
		case errors.Is(err, perf.ErrClosed):
			return
		case err == nil && rec.LostSamples == 0:
			e.wait(rec.RawSample, time.Now())
			budget--
		}
		if !e.look(time.Now()) {
			return
		}
		if since := time.Since(second); since >= time.Second {
			budget, second = earlyRate, time.Now()
		} else if budget <= 0 {
			time.Sleep(earlyLook) // the kernel loses what does not fit meanwhile
		}
	}
}

// earlyHead is what stands before the frame.
var earlyHead = binary.Size(bpf.DirectorEarlyRecord{})

// decodeEarly reads a record of the program, whose frame is not copied.
func decodeEarly(raw []byte) (f earlyFragment, ok bool) {
	if len(raw) < earlyHead {
		return f, false
	}
	if _, err := binary.Decode(raw, binary.NativeEndian, &f.key); err != nil {
		return f, false
	}
	if f.key.Length < 14 || f.key.Length > uint64(len(raw)-earlyHead) {
		return f, false
	}
	f.frame = raw[earlyHead : earlyHead+int(f.key.Length)]
	return f, true
}

// wait keeps a fragment, unless there are too many.
func (e *early) wait(raw []byte, now time.Time) {
	f, ok := decodeEarly(raw)
	if !ok || len(e.waits) >= earlyKept {
		return
	}
	f.at, f.frame = now, bytes.Clone(f.frame)
	e.waits = append(e.waits, f)
}

// look sends those on whose first one has come, and forgets those that waited
// too long. It is false when the plane is closed.
func (e *early) look(now time.Time) bool {
	if len(e.waits) == 0 {
		return true
	}
	p := e.p
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return false
	}
	way, serving := p.firstPort()
	p.reading.RLock()
	defer p.reading.RUnlock()
	p.mu.Unlock()

	jiffies, err := p.jiffies()
	if err != nil {
		return false
	}
	state := &p.kernel.state.elements[0]
	serving = serving && jiffies < atomic.LoadUint64(&state.LeaseUntil)
	e.waits = slices.DeleteFunc(e.waits, func(f earlyFragment) bool {
		if !serving || now.Sub(f.at) > earlyWait {
			return true
		}
		id := p.datagramServer(&f.key, uint32(jiffies>>p.kernel.aging.shift))
		if id == 0 {
			return false
		}
		// Not ok: as the program has it, gone, or nobody knows where.
		if frame, by, ok := p.onward(id, f.frame, way); ok {
			to := &unix.SockaddrLinklayer{Ifindex: int(by.Ifindex), Halen: 6}
			if unix.Sendto(e.socket, frame, unix.MSG_DONTWAIT, to) == nil {
				e.sent.Add(1)
			}
		}
		return true
	})
	return true
}

// onward is a fragment as it goes on to a server, and by which interface: one, if
// there are not several. p.reading is held.
func (p *Plane) onward(id uint16, frame []byte, one bpf.DirectorPort) (out []byte, by bpf.DirectorPort, ok bool) {
	img := p.active()
	if img.TunnelOf[id] != 0 {
		return p.intoTunnel(img, frame, one)
	}
	mac, by, ok := wayTo(img, id, one)
	if ok {
		copy(frame, mac[:])
		copy(frame[6:], by.Mac[:])
	}
	return frame, by, ok
}

// intoTunnel has the program itself put a fragment into its tunnel, now that it
// can know where to. By which interface that leaves is told by the frame's source.
// Apply does not wait for such a run where the kernel may preempt it
// (waitForReaders): at worst a fragment goes by a configuration that is over. A
// frame that does not fit into a page cannot be run, and is lost.
func (p *Plane) intoTunnel(img *image, frame []byte, one bpf.DirectorPort) (out []byte, by bpf.DirectorPort, ok bool) {
	const tx, redirect = 3, 4 // XDP_TX, XDP_REDIRECT of linux/bpf.h
	verdict, out, err := p.Program().Test(frame)
	if err != nil || verdict != tx && verdict != redirect {
		return nil, one, false
	}
	for _, port := range img.Ports {
		if port.Ifindex != 0 && bytes.Equal(port.Mac[:], out[6:12]) {
			return out, port, true
		}
	}
	return out, one, true
}

// datagramServer is the server id of a datagram whose first fragment was here;
// 0: it was not. now is in age units. It reads an entry as fragment.h does, the
// key between two reads of one value.
func (p *Plane) datagramServer(r *bpf.DirectorEarlyRecord, now uint32) uint16 {
	timeouts := p.kernel.aging.fragments()
	for _, b := range r.Bucket {
		if int(b) >= len(p.kernel.fragments.elements) {
			continue
		}
		for i := range p.kernel.fragments.elements[b].Way {
			w := &p.kernel.fragments.elements[b].Way[i]
			val := atomic.LoadUint64(&w.Val)
			same := atomic.LoadUint64(&w.Client[0]) == r.Key.Client[0] && atomic.LoadUint64(&w.Client[1]) == r.Key.Client[1] &&
				atomic.LoadUint64(&w.Port) == r.Key.Port
			if same && flowServer(val) != 0 && flowState(val) == uint8(bpf.DirectorFlowStateFLOW_UDP) &&
				flowAge(val, now) <= timeouts[flowState(val)] && atomic.LoadUint64(&w.Val) == val {
				return flowServer(val)
			}
		}
	}
	return 0
}
