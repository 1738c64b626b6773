package driver

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// shortWait is below which a wait is left to the alarm, if there is one.
const shortWait = 20 * time.Millisecond

// alarm wakes the loop from short waits. The runtime's timers sleep in epoll,
// whose time-out is in milliseconds, rounded up: probes half a millisecond apart
// would take twice as long. A timerfd is exact.
//
// The zero alarm is set for nothing.
type alarm struct {
	file *os.File
	fd   int // of file; file.Fd() would make it block
	c    chan struct{}
}

func (a *alarm) open() error {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("a timer for short waits: %w", err)
	}
	a.file, a.fd, a.c = os.NewFile(uintptr(fd), "timerfd"), fd, make(chan struct{}, 1)
	go a.read(a.file)
	return nil
}

// read passes each expiry on, until close.
func (a *alarm) read(f *os.File) {
	var count [8]byte
	for {
		if _, err := f.Read(count[:]); err != nil {
			return
		}
		select {
		case a.c <- struct{}{}:
		default:
		}
	}
}

// set wakes the loop after d, if that is short. It may also do so for what it
// was set to before.
func (a *alarm) set(d time.Duration) bool {
	if a.file == nil || d > shortWait {
		return false
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(max(1, d.Nanoseconds()))}
	return unix.TimerfdSettime(a.fd, 0, &spec, nil) == nil
}

func (a *alarm) close() { _ = a.file.Close() }
