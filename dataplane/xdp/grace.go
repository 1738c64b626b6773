package xdp

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An RCU grace period takes 10 to 50 ms, and Apply waits for the one that the
// Apply before it began: without more, a director could change its mind twenty
// times a second. But packets are handled in softirqs, which no other thread
// interrupts; so a thread that has run on every CPU has waited for all of them.
// That takes tens of microseconds a CPU (Documentation/RCU/whatisRCU.rst in the
// kernel, section 5B, has it as the second "toy" implementation of RCU).
//
// It does not hold where softirqs are preemptible (PREEMPT_RT), where we may
// not run on all CPUs (a cpuset), nor in time where another thread keeps a CPU
// to itself. Then the kernel's own grace period decides.

// visitPatience is how long the visit of all CPUs may take before the kernel is
// asked as well.
const visitPatience = 5 * time.Millisecond

// graceWithoutMembarrier is how long a packet may take at most where the
// kernel cannot tell.
const graceWithoutMembarrier = 100 * time.Millisecond

// readers waits for the packets that are being handled, in two ways. What ends
// first counts: on a busy machine each of them can take seconds, the visit where
// others keep a CPU, the kernel's where they keep its own threads from running.
type readers struct {
	visit, kernel joint
}

var packets = readers{
	visit:  joint{period: func() bool { return visitCPUs() == nil }},
	kernel: joint{period: membarrier},
}

// waitForReaders returns when every packet that was being handled on the call
// has been handled. Test runs of the program are no packets where the kernel is
// preemptible.
func waitForReaders() { packets.wait() }

func (r *readers) wait() {
	visited := r.visit.join()
	select {
	case <-visited.over:
		if visited.ok {
			return
		}
	case <-time.After(visitPatience):
	}
	waited := r.kernel.join()
	select {
	case <-visited.over:
		if visited.ok {
			return
		}
		<-waited.over
	case <-waited.over:
	}
}

// joint runs a period for all who ask for one before it begins: however many
// wait and however long it takes, one thread does.
type joint struct {
	period func() (ok bool)

	mu      sync.Mutex
	running bool
	next    *period // that has not begun
}

// period is one that has been asked for. ok may be read when it is over.
type period struct {
	over chan struct{}
	ok   bool
}

// join returns a period that begins after the call.
func (j *joint) join() *period {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.next == nil {
		j.next = &period{over: make(chan struct{})}
	}
	if !j.running {
		j.running = true
		go j.run()
	}
	return j.next
}

func (j *joint) run() {
	for {
		j.mu.Lock()
		now := j.next
		j.next = nil
		j.running = now != nil
		j.mu.Unlock()
		if now == nil {
			return
		}
		now.ok = j.period()
		close(now.over)
	}
}

// membarrier waits for an RCU grace period.
func membarrier() bool {
	const cmdGlobal = 1 // MEMBARRIER_CMD_GLOBAL is synchronize_rcu()
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, cmdGlobal, 0, 0); errno != 0 {
		// Not with nohz_full=.
		time.Sleep(graceWithoutMembarrier)
	}
	return true
}

// visitCPUs runs on each CPU that is online for a moment. A CPU that comes
// online meanwhile has handled no packet before.
func visitCPUs() error {
	if _, err := os.Stat("/sys/kernel/realtime"); err == nil {
		return unix.ENOTSUP
	}
	list, err := os.ReadFile("/sys/devices/system/cpu/online")
	if err != nil {
		return err
	}
	cpus, err := parseCPUs(list)
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	var home unix.CPUSet
	if err := unix.SchedGetaffinity(0, &home); err != nil {
		runtime.UnlockOSThread()
		return err
	}
	for _, cpu := range cpus {
		var there unix.CPUSet
		there.Set(cpu)
		if err = unix.SchedSetaffinity(0, &there); err != nil {
			break
		}
		if at := currentCPU(); at != cpu {
			err = fmt.Errorf("on CPU %d, not on %d", at, cpu) // taken offline, or a new cpuset
			break
		}
	}
	if unix.SchedSetaffinity(0, &home) == nil {
		runtime.UnlockOSThread()
	} // else the thread ends with its goroutine
	return err
}

func currentCPU() int {
	var cpu uint32
	if _, _, errno := unix.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&cpu)), 0, 0); errno != 0 {
		return -1
	}
	return int(cpu)
}

// parseCPUs reads a list as the kernel writes it: "0-3,8".
func parseCPUs(list []byte) ([]int, error) {
	var cpus []int
	for part := range bytes.SplitSeq(bytes.TrimSpace(list), []byte(",")) {
		from, to, isRange := bytes.Cut(part, []byte("-"))
		if !isRange {
			to = from
		}
		a, err1 := strconv.ParseUint(string(from), 10, 16)
		b, err2 := strconv.ParseUint(string(to), 10, 16)
		if err1 != nil || err2 != nil || b < a {
			return nil, fmt.Errorf("list of CPUs %q", list)
		}
		for cpu := a; cpu <= b; cpu++ {
			cpus = append(cpus, int(cpu))
		}
	}
	return cpus, nil
}
