package failover

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// canary is a thread on each CPU, of a higher real-time priority than the
// directors', that does nothing but wake each millisecond. If it is late, no
// program on that CPU could have been in time: a kernel that is not preempted, or
// the machine below a virtual one. That one says itself how much it took ("steal"
// in /proc/stat), and only that excuses anybody.
type canary struct {
	limit   time.Duration
	ends    chan struct{}
	running sync.WaitGroup

	mu     sync.Mutex
	stalls []stall
	err    error
}

// stall is a waking later than limit.
type stall struct {
	at     time.Time // its end
	late   time.Duration
	stolen time.Duration // of that, from this CPU, as far as its clock ticks (10 ms)
}

// afterwards is how long a stall of a machine is felt: what a director heard too
// late makes it look and ask.
const afterwards = 200 * time.Millisecond

func (l *lab) canary(limit time.Duration) *canary {
	c := &canary{limit: limit, ends: make(chan struct{})}
	for cpu := range runtime.NumCPU() {
		c.running.Go(func() {
			if err := c.run(cpu); err != nil {
				c.mu.Lock()
				c.err = err
				c.mu.Unlock()
			}
		})
	}
	return c
}

func (c *canary) run(cpu int) error {
	runtime.LockOSThread() // for good: the thread ends with it
	var only unix.CPUSet
	only.Set(cpu)
	if err := unix.SchedSetaffinity(0, &only); err != nil {
		return err
	}
	priority := struct{ sched int32 }{50}
	if _, _, errno := unix.Syscall(unix.SYS_SCHED_SETSCHEDULER, 0, unix.SCHED_FIFO, uintptr(unsafe.Pointer(&priority))); errno != 0 {
		return errno
	}
	const period = time.Millisecond
	nap := unix.NsecToTimespec(period.Nanoseconds())
	had, err := steal(cpu)
	if err != nil {
		return err
	}
	looked := time.Now()
	for last := looked; ; {
		select {
		case <-c.ends:
			return nil
		default:
		}
		// Not time.Sleep: its timers may run on threads of any priority.
		_ = unix.Nanosleep(&nap, nil)
		now := time.Now()
		late := now.Sub(last) - period
		if late > c.limit || now.Sub(looked) > 100*time.Millisecond {
			has, err := steal(cpu)
			if err != nil {
				return err
			}
			if late > c.limit {
				c.mu.Lock()
				c.stalls = append(c.stalls, stall{now, late, has - had})
				c.mu.Unlock()
			}
			had, looked = has, now
			now = time.Now()
		}
		last = now
	}
}

// steal is how long the machine below has kept a CPU for itself since the start
// (proc_stat(5)).
func steal(cpu int) (time.Duration, error) {
	f, err := os.Open("/proc/stat")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return stealOf(bufio.NewScanner(f), cpu)
}

func stealOf(lines *bufio.Scanner, cpu int) (time.Duration, error) {
	name := "cpu" + strconv.Itoa(cpu)
	for lines.Scan() {
		if w := strings.Fields(lines.Text()); len(w) > 8 && w[0] == name {
			ticks, err := strconv.ParseInt(w[8], 10, 64)
			return time.Duration(ticks) * tick, err
		}
	}
	return 0, fmt.Errorf("/proc/stat: nothing of %s: %w", name, lines.Err())
}

// stop ends the canary and says how it fared.
func (c *canary) stop() string {
	close(c.ends)
	c.running.Wait()
	if c.err != nil {
		return "not known: " + c.err.Error()
	}
	var worst, stolen stall
	for _, s := range c.stalls {
		if s.late > worst.late {
			worst = s
		}
		if s.stolen > stolen.stolen {
			stolen = s
		}
	}
	return fmt.Sprintf("stood still for more than %v %d times, for %v at worst; %d times at least as the machine below took the CPU, %v at worst",
		c.limit, len(c.stalls), worst.late.Round(time.Millisecond), len(c.taken(0)), stolen.stolen)
}

// taken are the stalls of at least d in which the machine below took the CPU.
func (c *canary) taken(d time.Duration) []stall {
	return slices.DeleteFunc(slices.Clone(c.stalls), func(s stall) bool { return s.late < d || s.stolen == 0 })
}

// excuses: at that time, or just before, the machine below took a CPU for at
// least d. After stop.
func (c *canary) excuses(at time.Time, d time.Duration) bool {
	return slices.ContainsFunc(c.taken(d), func(s stall) bool {
		return !at.Before(s.at.Add(-s.late)) && !at.After(s.at.Add(afterwards))
	})
}

// TestCanaryExcuses: only what the machine below took, only if it was long, and
// only what followed at once.
func TestCanaryExcuses(t *testing.T) {
	end := time.Unix(100, 0)
	c := &canary{stalls: []stall{
		{end, 50 * time.Millisecond, 10 * time.Millisecond},
		{end.Add(time.Minute), 50 * time.Millisecond, 0},
	}}
	for _, test := range []struct {
		at   time.Duration
		d    time.Duration
		want bool
	}{
		{-60 * time.Millisecond, 20 * time.Millisecond, false},
		{-40 * time.Millisecond, 20 * time.Millisecond, true},
		{afterwards, 20 * time.Millisecond, true},
		{afterwards, 60 * time.Millisecond, false},
		{afterwards + 1, 20 * time.Millisecond, false},
		{time.Minute, 20 * time.Millisecond, false},
	} {
		if got := c.excuses(end.Add(test.at), test.d); got != test.want {
			t.Errorf("%v after a stall, of at least %v: %v", test.at, test.d, got)
		}
	}
	stat := "cpu  3 2 9 3 1 0 6 263888 0 0\ncpu0 1886215 1080182 432505 1700618 2938 0 42888 131782 0 0\n"
	if d, err := stealOf(bufio.NewScanner(strings.NewReader(stat)), 0); d != 131782*tick || err != nil {
		t.Errorf("%v, %v", d, err)
	}
	if _, err := stealOf(bufio.NewScanner(strings.NewReader(stat)), 1); err == nil {
		t.Error("no error without the CPU")
	}
}
