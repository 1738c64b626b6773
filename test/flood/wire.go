package flood

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"runtime"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// The ends of the wire.
const (
	Director = "director0" // where the director's program goes
	sending  = "flood0"
)

// The MAC addresses of the ends.
var (
	Own    = net.HardwareAddr{2, 0, 0, 0, 0, 1} // the director's
	Router = net.HardwareAddr{2, 0, 0, 0, 9, 9} // where its clients are
)

// Tracked is the first of the clients whose server is remembered, and how many
// of them there are.
var Tracked = netip.MustParseAddr("10.0.0.0")

// MaxTracked is the number of clients from Tracked on that are remembered.
const MaxTracked = 1 << 16

// Steady is the MAC address of the n-th of the servers that stay.
func Steady(n byte) net.HardwareAddr { return net.HardwareAddr{2, 1, 0, 0, 0, n} }

// Passing is the MAC address of the n-th server of one generation, 1 to 2^24-1.
func Passing(generation uint32, n byte) net.HardwareAddr {
	return net.HardwareAddr{2, 2, byte(generation >> 16), byte(generation >> 8), byte(generation), n}
}

// Wire is a pair of devices with a collector at the one end.
type Wire struct {
	ns      netns.NsHandle
	index   int // of the sending end
	objects FloodObjects
	at      link.Link
	streams []*Stream
}

// New makes a wire with so many queues: as many CPUs may send at the same time
// without losing frames to each other.
func New(queues int) (_ *Wire, err error) {
	w := &Wire{ns: netns.None()}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Close())
		}
	}()
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with us
		home, err := netns.Get()
		if err == nil {
			defer home.Close()
			w.ns, err = netns.New()
		}
		made <- err
	}()
	if err := <-made; err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	if err := w.Do(func() error { return w.connect(queues) }); err != nil {
		return nil, fmt.Errorf("wire: %w", err)
	}
	return w, nil
}

func (w *Wire) connect(queues int) error {
	// No frames but ours: doc.go has the reason.
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	n := uint32(queues)
	pair := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: Director, HardwareAddr: Own, NumTxQueues: queues, NumRxQueues: queues},
		PeerName:  sending, PeerHardwareAddr: Router, PeerNumTxQueues: n, PeerNumRxQueues: n,
	}
	if err := netlink.LinkAdd(pair); err != nil {
		return err
	}
	for _, name := range []string{Director, sending} {
		dev, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(dev); err != nil {
			return err
		}
		w.index = dev.Attrs().Index
	}
	spec, err := LoadFlood()
	if err != nil {
		return err
	}
	first := Tracked.As4()
	if err := spec.Variables[FloodVarTracked].Set(word(first)); err != nil {
		return err
	}
	if err := spec.LoadAndAssign(&w.objects, nil); err != nil {
		return err
	}
	w.at, err = link.AttachXDP(link.XDPOptions{Program: w.objects.Collect, Interface: w.index, Flags: link.XDPDriverMode})
	return err
}

// word is an address as a number, as the programs count them.
func word(a [4]byte) uint32 {
	return uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])
}

// Attach puts a director's program on its end until the wire is closed, in
// place of an earlier one; for a program that does not attach itself.
func (w *Wire) Attach(prog *ebpf.Program) (detach func() error, err error) {
	var l link.Link
	err = w.Do(func() error {
		dev, err := netlink.LinkByName(Director)
		if err != nil {
			return err
		}
		l, err = link.AttachXDP(link.XDPOptions{Program: prog, Interface: dev.Attrs().Index, Flags: link.XDPDriverMode})
		return err
	})
	if err != nil {
		return nil, err
	}
	return l.Close, nil
}

// Do runs f on a thread in the wire's namespace.
func (w *Wire) Do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		err := errors.New("the function left its goroutine")
		defer func() { done <- err }()
		runtime.LockOSThread() // and never unlocked: the thread ends with us
		if e := netns.Set(w.ns); e != nil {
			err = fmt.Errorf("enter the wire's namespace: %w", e)
			return
		}
		err = f()
	}()
	return <-done
}

// OnCPU runs f like Do, on one CPU.
func (w *Wire) OnCPU(cpu int, f func() error) error {
	return w.Do(func() error {
		var set unix.CPUSet
		set.Set(cpu)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return fmt.Errorf("pin to CPU %d: %w", cpu, err)
		}
		return f()
	})
}

// CPUs are those that we may run on.
func CPUs() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, err
	}
	var list []int
	for cpu := range 8 * len(set) * 8 {
		if set.IsSet(cpu) {
			list = append(list, cpu)
		}
	}
	return list, nil
}

// Close takes the wire away.
func (w *Wire) Close() error {
	var errs []error
	for _, s := range w.streams {
		errs = append(errs, s.objects.Generate.Close())
	}
	w.streams = nil
	if w.at != nil {
		errs = append(errs, w.at.Close())
		w.at = nil
	}
	errs = append(errs, w.objects.Close())
	w.objects = FloodObjects{}
	if w.ns.IsOpen() {
		errs = append(errs, w.ns.Close())
	}
	return errors.Join(errs...)
}

// Tally is what came back since the wire was made.
type Tally struct {
	Received  [16]uint64 // by stream
	Moved     uint64     // packets of tracked clients that went to another server than the one before
	Elsewhere uint64     // frames that went to no server
	Opened    [256]uint64
	Outside   uint64 // TCP segments to a server made by Passing of a generation not in force
}

// Tally reads the counters of all CPUs.
func (w *Wire) Tally() (Tally, error) {
	var per []FloodTally
	if err := w.objects.Tallies.Lookup(uint32(0), &per); err != nil {
		return Tally{}, fmt.Errorf("read what came back: %w", err)
	}
	var sum Tally
	for _, t := range per {
		for i, n := range t.Received {
			sum.Received[i] += n
		}
		for i, n := range t.Opened {
			sum.Opened[i] += n
		}
		sum.Moved += t.Moved
		sum.Elsewhere += t.Elsewhere
		sum.Outside += t.Outside
	}
	return sum, nil
}

// InForce says which generations of servers made by Passing may have packets
// from now on: before a change the old one and the new, after it the new.
func (w *Wire) InForce(from, to uint32) error {
	return w.objects.Window.Put(uint32(0), uint64(from)<<32|uint64(to))
}

// Forget resets all counters, and the servers of tracked clients if clients is
// set. Nothing may be sent meanwhile.
func (w *Wire) Forget(clients bool) error {
	zero := make([]FloodTally, ebpf.MustPossibleCPU())
	if err := w.objects.Tallies.Put(uint32(0), zero); err != nil {
		return err
	}
	if !clients {
		return nil
	}
	keys, values := make([]uint32, MaxTracked), make([]uint32, MaxTracked)
	for i := range keys {
		keys[i] = uint32(i)
	}
	_, err := w.objects.ServerOf.BatchUpdate(keys, values, nil)
	return err
}

// Server is the server that a tracked client had last: its number; ok is false
// if nothing of it came back yet.
func (w *Wire) Server(client int) (number byte, ok bool, err error) {
	var v uint32
	if err := w.objects.ServerOf.Lookup(uint32(client), &v); err != nil {
		return 0, false, err
	}
	return byte(v - 1), v != 0, nil
}
