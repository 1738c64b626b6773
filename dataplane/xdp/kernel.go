package xdp

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"systole/bpf"
)

// mapping is an mmapable array in our address space.
type mapping[T any] struct {
	elements []T
	raw      []byte
}

// mapArray maps all elements of m. T must have exactly the size of an element.
func mapArray[T any](m *ebpf.Map) (mapping[T], error) {
	var element T
	if unsafe.Sizeof(element) != uintptr(m.ValueSize()) {
		return mapping[T]{}, fmt.Errorf("elements of %s have %d bytes, expected %d", m, m.ValueSize(), unsafe.Sizeof(element))
	}
	raw, err := mapBytes(m)
	if err != nil {
		return mapping[T]{}, err
	}
	return mapping[T]{unsafe.Slice((*T)(unsafe.Pointer(&raw[0])), m.MaxEntries()), raw}, nil
}

// mapBytes is the same without a type.
func mapBytes(m *ebpf.Map) ([]byte, error) {
	size := int(m.ValueSize()) * int(m.MaxEntries())
	raw, err := unix.Mmap(m.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s into memory: %w", m, err)
	}
	return raw, nil
}

func (m *mapping[T]) unmap() error {
	if m.raw == nil {
		return nil
	}
	err := unix.Munmap(m.raw)
	m.elements, m.raw = nil, nil
	return err
}

// jiffyLength asks the kernel for its tick.
func jiffyLength() (time.Duration, error) {
	var res unix.Timespec
	if err := unix.ClockGetres(unix.CLOCK_MONOTONIC_COARSE, &res); err != nil {
		return 0, fmt.Errorf("length of a kernel tick: %w", err)
	}
	return time.Duration(res.Nano()), nil
}

// leaseCall runs the lease program. It is one system call without allocation:
// a director renews its lease with every beat, also when memory is short.
type leaseCall struct {
	attr testRunAttr
	args bpf.DirectorLeaseArgs
	pin  runtime.Pinner // the kernel gets args by address
}

// testRunAttr is the part of union bpf_attr for BPF_PROG_TEST_RUN.
type testRunAttr struct {
	progFD, retval          uint32
	dataSizeIn, dataSizeOut uint32
	dataIn, dataOut         uint64
	repeat, duration        uint32
	ctxSizeIn, ctxSizeOut   uint32
	ctxIn, ctxOut           uint64
	flags, cpu, batch, _    uint32
}

func newLeaseCall(prog *ebpf.Program) *leaseCall {
	c := &leaseCall{}
	c.pin.Pin(c)
	c.attr.progFD = uint32(prog.FD())
	c.attr.ctxSizeIn = uint32(unsafe.Sizeof(c.args))
	c.attr.ctxIn = uint64(uintptr(unsafe.Pointer(&c.args)))
	return c
}

func (c *leaseCall) release() { c.pin.Unpin() }

var errLeaseProgram = errors.New("lease program failed")

// run calls the program with what stands in args and leaves the answer there.
func (c *leaseCall) run() error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_TEST_RUN, uintptr(unsafe.Pointer(&c.attr)), unsafe.Sizeof(c.attr))
		switch {
		case errno == unix.EINTR:
			continue
		case errno != 0:
			return os.NewSyscallError("bpf(BPF_PROG_TEST_RUN)", errno)
		case c.attr.retval != 0:
			return errLeaseProgram
		}
		return nil
	}
}

// set ends the lease ticks jiffies from now; unlimitedTicks: never.
func (c *leaseCall) set(ticks uint64) error {
	c.args.Ticks, c.args.Set = ticks, 1
	return c.run()
}

// now is the kernel's time in jiffies.
func (c *leaseCall) now() (uint64, error) {
	c.args.Set = 0
	err := c.run()
	return c.args.Now, err
}

const unlimitedTicks = ^uint64(0)
