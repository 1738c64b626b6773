package xdp

import (
	"fmt"
	"log/slog"
	"math/bits"
	"net"
	"slices"
	"strings"

	"systole/dataplane"
)

// DefaultPinDir is where the plane keeps what must survive the daemon.
const DefaultPinDir = "/sys/fs/bpf/systole"

// Modes of attaching to an interface.
const (
	ModeAuto    = "auto"    // native if the driver can, else generic
	ModeNative  = "native"  // in the driver, before the kernel allocates anything
	ModeGeneric = "generic" // in the network stack: any driver, slower
	ModeMixed   = "mixed"   // of several interfaces: some so, some so (Info only)
)

// Bounds of Config.Flows.
const (
	DefaultFlows = 1 << 20
	MinFlows     = 64
	MaxFlows     = 1 << 26
)

// DefaultNewFlows leaves a SYN in the default table four seconds before a flood
// on one CPU pushes it out: an answer and one repetition.
const DefaultNewFlows = DefaultFlows / 4

// MaxNewFlows is more than a CPU can do.
const MaxNewFlows = 1 << 30

// ways is WAYS of consts.h.
const ways = 4

// Config says where a plane works.
type Config struct {
	// Interface is the NIC that VIP traffic comes in by and leaves by.
	Interface string
	// Interfaces are several instead: what comes in by one may leave by another,
	// as RealServer.Interface says. With one name they are the same as Interface.
	//
	// An interface that is not there is attached to when it comes; one at least
	// must be.
	Interfaces []string
	// Mode is ModeAuto, ModeNative or ModeGeneric; empty means ModeAuto.
	Mode string
	// PinDir is a directory in a bpf file system; it is created if need be.
	// Empty means DefaultPinDir.
	PinDir string
	// Flows is the number of entries of the flow table, 16 bytes each,
	// rounded up to a power of two; 0 means DefaultFlows. A table that is at
	// most half full almost never has to evict a live flow: twice the number
	// of connections expected within the longest timeout (15 min) is right.
	// A change of it empties the table.
	Flows int
	// Flows6 is the same for IPv6, 32 bytes each; 0 means half of Flows. Both
	// tables have their memory from the beginning, used or not.
	Flows6 int
	// NewFlows is how many new flows each CPU stores per second; 0 means
	// DefaultNewFlows, a negative number any. What is above it is forwarded
	// by a hash of the client and not remembered: no flood can push out the
	// flows there are, nor a SYN before its client has answered.
	NewFlows int
	// Evict takes another's XDP program off the interface, in whatever mode and
	// however it is attached; without it Open refuses, and names the program.
	Evict bool
	// Log is told about attachment and what is taken over from a predecessor;
	// nil discards it.
	Log *slog.Logger
}

func unavailable(format string, args ...any) error {
	return fmt.Errorf("%w: %w", dataplane.ErrUnavailable, fmt.Errorf(format, args...))
}

// complete fills in the defaults and refuses what makes no sense.
func (c Config) complete() (Config, error) {
	switch c.Mode {
	case "":
		c.Mode = ModeAuto
	case ModeAuto, ModeNative, ModeGeneric:
	default:
		return c, unavailable("xdp mode %q: choose one of %s, %s, %s", c.Mode, ModeAuto, ModeNative, ModeGeneric)
	}
	if len(c.Interfaces) == 0 {
		c.Interfaces = []string{c.Interface}
	}
	if len(c.Interfaces) > MaxInterfaces {
		return c, unavailable("%d interfaces, at most %d are possible", len(c.Interfaces), MaxInterfaces)
	}
	for i, name := range c.Interfaces {
		if slices.Contains(c.Interfaces[:i], name) {
			return c, unavailable("interface %s is named twice", name)
		}
	}
	c.Interface = strings.Join(c.Interfaces, ", ")
	if c.PinDir == "" {
		c.PinDir = DefaultPinDir
	}
	if c.Flows == 0 {
		c.Flows = DefaultFlows
	}
	if c.Flows6 == 0 {
		c.Flows6 = max(c.Flows/2, MinFlows)
	}
	for _, n := range []*int{&c.Flows, &c.Flows6} {
		if *n < MinFlows || *n > MaxFlows {
			return c, unavailable("a flow table of %d entries: choose a number from %d to %d", *n, MinFlows, MaxFlows)
		}
		*n = 1 << bits.Len(uint(*n-1))
	}
	if c.NewFlows == 0 {
		c.NewFlows = DefaultNewFlows
	}
	if c.NewFlows > MaxNewFlows {
		return c, unavailable("a limit of %d new flows per second and CPU: choose at most %d, or a negative number for none", c.NewFlows, MaxNewFlows)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// checkOwn refuses the address of an interface that has no Ethernet.
func checkOwn(name string, own net.HardwareAddr) error {
	if !usable(own) {
		return unavailable("interface %s has no Ethernet address (%q): gate forwarding needs one", name, own)
	}
	return nil
}
