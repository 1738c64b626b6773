package probe

import (
	"time"

	"golang.org/x/sys/unix"
)

// pace calls tick every interval, on an absolute schedule, until stop is
// closed. A beat that was overslept is left out, not made up for in a burst.
//
// It sleeps in the kernel: the timers of the Go runtime go through the network
// poller, whose grain of a millisecond is the very interval of the UDP probe.
func pace(stop <-chan struct{}, interval time.Duration, tick func()) {
	next := monotonic()
	for {
		select {
		case <-stop:
			return
		default:
		}
		tick()
		next += interval
		if now := monotonic(); next < now {
			next += (now - next).Truncate(interval) + interval
		}
		ts := unix.NsecToTimespec(int64(next))
		for unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &ts, nil) == unix.EINTR {
		}
	}
}

func monotonic() time.Duration {
	var ts unix.Timespec
	// It cannot fail: the clock exists on every Linux and &ts is valid.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return time.Duration(ts.Nano())
}
