package xdp

import (
	"fmt"
	"os"
	"syscall"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"systole/bpf"
)

// setDaemon tells the program whose death ends the lease: this process, by its
// number in its own pid namespace, which need not be the machine's.
func setDaemon(spec *ebpf.CollectionSpec) error {
	var ns syscall.Stat_t
	if err := syscall.Stat("/proc/self/ns/pid", &ns); err != nil {
		return fmt.Errorf("pid namespace: %w", os.NewSyscallError("stat /proc/self/ns/pid", err))
	}
	for name, value := range map[string]any{
		bpf.DirectorVarDaemonPid:      uint32(os.Getpid()),
		bpf.DirectorVarDaemonPidnsDev: ns.Dev, // of nsfs: major 0, so it is written as in the kernel
		bpf.DirectorVarDaemonPidnsIno: ns.Ino,
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("constant %s: %w", name, err)
		}
	}
	return nil
}

// watchDeath makes the lease end with this process. The link is not pinned: it
// is needed as long as the process lives, and the kernel runs the program
// before it closes the link.
func (p *Plane) watchDeath() {
	l, err := link.AttachRawTracepoint(link.RawTracepointOptions{
		Name: "sched_process_exit", Program: p.kernel.objects.SystoleExit,
	})
	if err != nil {
		p.cfg.Log.Warn("the lease will not end with the daemon but by itself: after a crash the peer waits for the dead time (CAP_PERFMON is needed)", "error", err)
		return
	}
	p.death = l
}
