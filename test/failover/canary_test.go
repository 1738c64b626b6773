package failover

import (
	"fmt"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// canary is a thread of a higher real-time priority than the directors' that
// does nothing but wake each millisecond. If it is late, no program on this
// machine could have been in time: a kernel that is not preempted, or the
// machine below a virtual one.
type canary struct {
	limit   time.Duration
	ends    chan struct{}
	running sync.WaitGroup
	late    int // wakings later than limit
	worst   time.Duration
	err     error
}

func (l *lab) canary(limit time.Duration) *canary {
	c := &canary{limit: limit, ends: make(chan struct{})}
	c.running.Go(c.run)
	return c
}

func (c *canary) run() {
	runtime.LockOSThread() // for good: the thread ends with it
	priority := struct{ sched int32 }{50}
	if _, _, errno := unix.Syscall(unix.SYS_SCHED_SETSCHEDULER, 0, unix.SCHED_FIFO, uintptr(unsafe.Pointer(&priority))); errno != 0 {
		c.err = errno
		return
	}
	const period = time.Millisecond
	nap := unix.NsecToTimespec(period.Nanoseconds())
	for last := time.Now(); ; {
		select {
		case <-c.ends:
			return
		default:
		}
		// Not time.Sleep: its timers may run on threads of any priority.
		_ = unix.Nanosleep(&nap, nil)
		now := time.Now()
		if late := now.Sub(last) - period; late > c.limit {
			c.late++
			c.worst = max(c.worst, late)
		}
		last = now
	}
}

// stop ends the canary and says how it fared.
func (c *canary) stop() string {
	close(c.ends)
	c.running.Wait()
	if c.err != nil {
		return "not known: " + c.err.Error()
	}
	return fmt.Sprintf("stood still for more than %v %d times, for %v at worst", c.limit, c.late, c.worst.Round(time.Millisecond))
}
