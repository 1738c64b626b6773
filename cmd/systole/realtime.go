package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	// highest is the best nice value there is.
	highest = -20
	// slice is the shortest that a thread may ask for, in nanoseconds. Who asks
	// for little gets it sooner (EEVDF, Linux 6.12; older ones ignore it).
	slice = 100_000
)

// goRealtime puts this process before all others of ordinary priority, and
// keeps its memory from being paged out, so that neither a busy machine nor a
// full one delays a beat.
//
// It is not SCHED_FIFO, which heartbeat uses. That was tried, and about one
// start in three hung: when the garbage collector's sweeper (runtime.bgsweep) has
// nothing left but another thread still sweeps, it spins without ever giving the
// CPU back to the system, and the other thread, of the same priority on the same
// CPU, never runs.
//
// Threads made later inherit it. Pages are locked as they are touched: what Go
// reserves and does not use costs nothing.
func goRealtime(log *slog.Logger) error {
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		return fmt.Errorf("cluster.realtime: lock memory (LimitMEMLOCK=infinity, or CAP_IPC_LOCK, is needed): %w", err)
	}
	if err := preferSession(log); err != nil {
		return fmt.Errorf("cluster.realtime: %w", err)
	}
	// A thread may be made by one that we have not come to yet: until a round
	// finds none.
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
			changed, err := prefer(tid)
			if err != nil {
				return fmt.Errorf("cluster.realtime: priority (LimitNICE=%d, or CAP_SYS_NICE, is needed): %w", highest, err)
			}
			again = again || changed
		}
	}
	return nil
}

// preferSession gives the session of this process the highest priority, where
// sessions are scheduled as groups and nice counts within one only
// (CONFIG_SCHED_AUTOGROUP, sched(7)). It leaves a session alone that is not this
// process's own: what else runs there, with the same priority then, would keep
// the kernel's own threads from running, and with them RCU, so all of us.
func preferSession(log *slog.Logger) error {
	const autogroup = "/proc/self/autogroup"
	if leader, err := unix.Getsid(0); err != nil {
		return os.NewSyscallError("getsid", err)
	} else if leader != os.Getpid() {
		if _, err := os.Stat(autogroup); err == nil {
			log.Warn("cluster.realtime: the priority counts only against programs of the same session; start the director with systemd or setsid")
		}
		return nil
	}
	err := os.WriteFile(autogroup, []byte(strconv.Itoa(highest)), 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EINVAL) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return err
}

// prefer gives a thread the highest priority, unless it has it or has ended.
func prefer(tid int) (changed bool, err error) {
	attr, err := unix.SchedGetAttr(tid, 0)
	if errors.Is(err, unix.ESRCH) {
		return false, nil
	}
	if err != nil {
		return false, os.NewSyscallError("sched_getattr", err)
	}
	if attr.Nice == highest {
		return false, nil
	}
	err = unix.SchedSetAttr(tid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL, Nice: highest, Runtime: slice}, 0)
	if errors.Is(err, unix.ESRCH) {
		return false, nil
	}
	return true, os.NewSyscallError("sched_setattr", err)
}
