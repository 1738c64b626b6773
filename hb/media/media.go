package media

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// Medium is one path to the other nodes. A packet sent on it reaches all of
// them, or is lost: a medium promises nothing about arrival, order or
// duplicates.
//
// A medium mends itself. While its interface is absent or down Send and
// Receive return errors, and after it is back they work again. It logs
// nothing; the caller reports the first error and the first success after it.
//
// One goroutine may call Receive while another calls Send and any calls Stats
// or Close.
type Medium interface {
	// Name is unique among the media of a node and stays the same: "ucast eth0".
	Name() string

	// Send sends one packet to every peer and never waits. What the system has
	// no room for is dropped and counted, without an error. An error means
	// that a peer cannot be reached at present; the others were served.
	// The medium does not keep p.
	Send(p []byte) error

	// Receive waits for a packet, puts it into buf and returns its length. A
	// packet longer than buf is cut off. While the medium is broken, Receive
	// tries again to open it, at growing intervals of at most MaxBackoff, and
	// returns an error for every attempt that failed: call it again. After
	// Close it returns ErrClosed.
	Receive(buf []byte) (n int, err error)

	// Stats counts since Open.
	Stats() Stats

	// Close ends a waiting Receive. Later calls return ErrClosed.
	Close() error
}

// Stats counts the packets of a medium. One packet to three peers counts
// three times.
type Stats struct {
	Sent     uint64
	Received uint64
	Dropped  uint64 // not sent, as the system had no room
	Failed   uint64 // not sent, as there was no way to the peer
}

// Spec says what a medium needs to know. A kind of medium refuses what it
// cannot use.
type Spec struct {
	Name      string           // of a ping group; "" for a single host, which its address names
	Interface string           // name of the network interface
	Port      uint16           // port to receive on; 0 is DefaultPort
	Peers     []netip.AddrPort // where ucast sends to, port 0 is DefaultPort; whom ping asks, all with port 0
	Group     netip.Addr       // where mcast sends to; zero is its default
	TTL       int              // routers that mcast may cross, plus 1; 0 is 1
	Device    string           // path of the serial line
	Baud      int              // its rate in bit/s; 0 is the default of serial
}

// Unused names a field, as the configuration does, that is set and not among
// those used; "" if there is none.
func (s Spec) Unused(used ...string) string {
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"name", s.Name != ""}, {"interface", s.Interface != ""}, {"port", s.Port != 0}, {"peers", len(s.Peers) > 0}, {"group", s.Group != netip.Addr{}},
		{"ttl", s.TTL != 0}, {"device", s.Device != ""}, {"baud", s.Baud != 0},
	} {
		if f.set && !slices.Contains(used, f.name) {
			return f.name
		}
	}
	return ""
}

// DefaultPort is the UDP port of heartbeat, ha-cluster (heartbeat-wire.md
// section 1).
const DefaultPort = 694

var (
	// ErrClosed: Close was called.
	ErrClosed = errors.New("medium is closed")
	// ErrSpec: the medium cannot be opened as specified, now or later.
	ErrSpec = errors.New("bad medium")
)

var registry struct {
	sync.Mutex
	open map[string]func(Spec) (Medium, error)
}

// Register makes a kind of medium known to Open; its package calls it from
// init. It panics if the kind is known already.
func Register(kind string, open func(Spec) (Medium, error)) {
	registry.Lock()
	defer registry.Unlock()
	if _, ok := registry.open[kind]; ok {
		panic("media: " + kind + " is registered twice")
	}
	if registry.open == nil {
		registry.open = make(map[string]func(Spec) (Medium, error))
	}
	registry.open[kind] = open
}

// Open opens a medium of a kind, such as "ucast". The error is ErrSpec and
// says what is wrong with s; that an interface is absent or down is not an
// error here, since it may come: the first Receive tells.
func Open(kind string, s Spec) (Medium, error) {
	registry.Lock()
	open, ok := registry.open[kind]
	known := slices.Sorted(maps.Keys(registry.open))
	registry.Unlock()
	if !ok {
		return nil, fmt.Errorf("%w: unknown kind %q, known: %s", ErrSpec, kind, strings.Join(known, ", "))
	}
	return open(s)
}
