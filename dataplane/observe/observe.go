package observe

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"
)

// Bounds of Config.
const (
	MinSnap       = 14   // an Ethernet header
	MaxSnap       = 4096 // bytes of a frame
	DefaultRate   = 10_000
	MaxRate       = 10_000_000
	DefaultBuffer = 8 << 20
	maxBuffer     = 1 << 28
)

// Errors of Observe and of a Source, to be tested with errors.Is.
var (
	// ErrBusy: a plane can be observed by one at a time.
	ErrBusy = errors.New("the data plane is being observed already: one capture or trace at a time")
	// ErrEnded: the plane was closed, or attached anew.
	ErrEnded = errors.New("the observation has ended: the data plane was closed or attached anew; begin again")
	// ErrUnobservable: no plane here can tell of its packets.
	ErrUnobservable = errors.New("no data plane here can be observed: kernel IPVS forwards, and tcpdump sees its packets")
)

// Config says what to observe.
type Config struct {
	Filter Filter
	// Snap is how many bytes of a frame are kept; 0 means MaxSnap.
	Snap int
	// Frames as they came in and as they left.
	In, Out bool
	// Rate is how many packets per CPU and second are told at most; 0 means
	// DefaultRate.
	Rate int
	// Buffer is how many bytes wait for the reader at most, a power of two;
	// 0 means DefaultBuffer.
	Buffer int
}

// Complete fills in the defaults and refuses what makes no sense.
func (c Config) Complete() (Config, error) {
	if c.Snap == 0 {
		c.Snap = MaxSnap
	}
	if c.Snap < MinSnap || c.Snap > MaxSnap {
		return c, fmt.Errorf("%d bytes of each frame: choose a number from %d to %d", c.Snap, MinSnap, MaxSnap)
	}
	if c.Rate == 0 {
		c.Rate = DefaultRate
	}
	if c.Rate < 1 || c.Rate > MaxRate {
		return c, fmt.Errorf("%d packets per second: choose a number from 1 to %d", c.Rate, MaxRate)
	}
	if c.Buffer == 0 {
		c.Buffer = DefaultBuffer
	}
	if c.Buffer < os.Getpagesize() || c.Buffer > maxBuffer || c.Buffer&(c.Buffer-1) != 0 {
		return c, fmt.Errorf("a buffer of %d bytes: choose a power of two, from one page to %d", c.Buffer, maxBuffer)
	}
	return c, c.Filter.check()
}

// Packet is one packet and what became of it. The JSON form is that of the
// control socket; frames are base64 there.
type Packet struct {
	At        time.Time `json:"at"` // when it left
	Interface string    `json:"interface"`
	Queue     int       `json:"queue"` // of the NIC, where it came in
	CPU       int       `json:"cpu"`
	Verdict   Verdict   `json:"verdict"`
	// Reasons are those that were counted for it, as in dataplane.Stats.Reasons.
	Reasons []string `json:"reasons,omitempty"`

	// Service and Server are set if a real server was chosen; Scheduled if that
	// was this packet's doing and not its flow's.
	Service   string     `json:"service,omitempty"`
	Server    netip.Addr `json:"server,omitzero"`
	Scheduled bool       `json:"scheduled,omitempty"`
	// Before and After are the states of its flow, as dataplane.FlowState's
	// String says them: "NONE" before it was made; both empty if the packet
	// used and made none.
	Before string `json:"flow_before,omitempty"`
	After  string `json:"flow_after,omitempty"`

	// In and Out are the beginnings of the frame as it came in and as it left,
	// as many bytes as were asked for; the lengths are the whole frames'. A
	// Source may use the memory again for the next packet.
	In        []byte `json:"in,omitempty"`
	InLength  int    `json:"in_length"`
	Out       []byte `json:"out,omitempty"`
	OutLength int    `json:"out_length"`
}

// Lost is how many packets were not told of, though they were wanted.
type Lost struct {
	Full uint64 `json:"buffer_full"` // the reader was too slow
	Rate uint64 `json:"over_rate"`   // there were more than Config.Rate
}

// Source is an observation that is going on. Read is for one goroutine.
type Source interface {
	// Read waits for the next packet. It returns os.ErrDeadlineExceeded when
	// the time of SetDeadline is over, and os.ErrClosed after Close.
	Read(*Packet) error
	SetDeadline(time.Time)
	// Lost counts since the beginning. ErrEnded if nothing more can come.
	Lost() (Lost, error)
	Close() error
}
