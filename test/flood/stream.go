package flood

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

	"systole/dataplane/planetest"
)

// Traffic says what a stream consists of.
type Traffic struct {
	// Frame is the frame of the first client. It is cut to, or padded with
	// zeros to, 64 bytes. Its MAC addresses are set.
	Frame planetest.Frame
	// Clients take turns; each has the address after the one before it.
	Clients int
	// Fresh gives all clients another port in each round, so that every frame
	// is a new connection until 2^16 rounds are over.
	Fresh bool
}

// Stream sends frames. It is used by one goroutine at a time.
type Stream struct {
	wire    *Wire
	id      int
	clients int
	objects struct {
		Generate *ebpf.Program  `ebpf:"generate"`
		Sent     *ebpf.Variable `ebpf:"sent"`
	}
}

const frameBytes = 64

// Stream prepares a stream of frames; at most 16 of one wire are told apart.
func (w *Wire) Stream(t Traffic) (*Stream, error) {
	s := &Stream{wire: w, id: len(w.streams), clients: t.Clients}
	if s.id >= len(Tally{}.Received) {
		return nil, errors.New("too many streams")
	}
	t.Frame.Dst, t.Frame.Src = Own, Router
	var bytes [frameBytes]byte
	copy(bytes[:], t.Frame.Bytes())
	const identification = 14 + 4 // of the IP header, RFC 791
	binary.BigEndian.PutUint16(bytes[identification:], uint16(s.id))
	var words [frameBytes / 8]uint64
	for i := range words {
		words[i] = binary.LittleEndian.Uint64(bytes[8*i:])
	}
	spec, err := LoadFlood()
	if err != nil {
		return nil, err
	}
	fresh := uint32(0)
	if t.Fresh {
		fresh = 1
	}
	for name, value := range map[string]any{
		FloodVarFrame: words, FloodVarFirst: word(t.Frame.From.Addr().As4()), FloodVarClients: uint32(t.Clients), FloodVarFresh: fresh,
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("variable %s: %w", name, err)
		}
	}
	opts := &ebpf.CollectionOptions{MapReplacements: map[string]*ebpf.Map{FloodMapWindow: w.objects.Window}}
	if err := spec.LoadAndAssign(&s.objects, opts); err != nil {
		return nil, fmt.Errorf("generator: %w", err)
	}
	w.streams = append(w.streams, s)
	return s, nil
}

// xdpMD is struct xdp_md of linux/bpf.h.
type xdpMD struct {
	Data, DataEnd, DataMeta, Ingress, RxQueue, Egress uint32
}

// Send sends n frames from the calling thread's CPU, which must be in the wire's
// namespace (Do, OnCPU), and returns when the last was counted or lost. If a
// signal interrupts the call it sends more. Each call takes some 20 ms besides,
// in which the kernel gives its frames back, so send many.
func (s *Stream) Send(n int) error {
	_, err := s.objects.Generate.Run(&ebpf.RunOptions{
		Data:    make([]byte, frameBytes),
		Context: xdpMD{DataEnd: frameBytes, Ingress: uint32(s.wire.index)},
		Repeat:  uint32(n),
		Flags:   liveFrames,
	})
	if err != nil {
		return fmt.Errorf("send %d frames: %w", n, err)
	}
	return nil
}

// liveFrames is BPF_F_TEST_XDP_LIVE_FRAMES: what the program decides happens.
const liveFrames = 1 << 1

// Round sends one frame of each client.
func (s *Stream) Round() error { return s.Send(s.clients) }

// Sent is how many frames were sent so far.
func (s *Stream) Sent() (n uint64, err error) {
	err = s.objects.Sent.Get(&n)
	return n, err
}

// ID is the stream's index in Tally.Received.
func (s *Stream) ID() int { return s.id }

// Client is the address of the n-th client after first.
func Client(first netip.Addr, n int) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], word(first.As4())+uint32(n))
	return netip.AddrFrom4(b)
}
