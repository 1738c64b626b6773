package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rtPriority is above all ordinary processes and below what the kernel and
// watchdogs use.
const rtPriority = 10

// goRealtime gives this process SCHED_FIFO and keeps its memory from being
// paged out, so that neither a busy machine nor a full one delays a beat.
//
// All threads get it, not the heartbeat's alone: in Go the timer that wakes the
// loop, and the network poller, may run on any of them. Threads made later
// inherit it. Pages are locked as they are touched: what Go reserves and does
// not use costs nothing.
func goRealtime() error {
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		return fmt.Errorf("cluster.realtime: lock memory (LimitMEMLOCK=infinity, or CAP_IPC_LOCK, is needed): %w", err)
	}
	// A thread may be made by one that we have not come to yet: until a
	// round finds none.
	for again := true; again; {
		again = false
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("cluster.realtime: %w", err)
		}
		for _, task := range tasks {
			tid, err := strconv.Atoi(task.Name())
			if err != nil {
				return fmt.Errorf("cluster.realtime: thread %q: %w", task.Name(), err)
			}
			changed, err := fifo(tid)
			if err != nil {
				return fmt.Errorf("cluster.realtime: real-time scheduling (LimitRTPRIO=%d, or CAP_SYS_NICE, is needed): %w", rtPriority, err)
			}
			again = again || changed
		}
	}
	return nil
}

// fifo gives a thread SCHED_FIFO, unless it has it or has ended.
func fifo(tid int) (changed bool, err error) {
	policy, _, errno := unix.Syscall(unix.SYS_SCHED_GETSCHEDULER, uintptr(tid), 0, 0)
	if errno == 0 && policy == unix.SCHED_FIFO {
		return false, nil
	}
	param := struct{ priority int32 }{rtPriority}
	_, _, errno = unix.Syscall(unix.SYS_SCHED_SETSCHEDULER, uintptr(tid), unix.SCHED_FIFO, uintptr(unsafe.Pointer(&param)))
	if errors.Is(errno, unix.ESRCH) {
		return false, nil
	}
	if errno != 0 {
		return false, os.NewSyscallError("sched_setscheduler", errno)
	}
	return true, nil
}
