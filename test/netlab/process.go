package netlab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// process is a program running in a host.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
	err   error
}

// kill ends the process and what it started.
func (p *process) kill() {
	// The group's number is the leader's pid, which nobody else can have
	// before the leader is waited for; once it was, there is nothing to kill.
	select {
	case <-p.ended:
	default:
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	}
}

// Process is a program running in a host.
type Process struct{ *process }

// Pid is the process's number, in the program's own pid namespace.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.ended }

// Wait waits for the end and returns what exec.Cmd.Wait returned.
func (p *Process) Wait() error {
	<-p.ended
	return p.err
}

// Signal sends a signal to the process alone, os.ErrProcessDone if it ended.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Kill is kill -9 of the process and its group. It does not wait.
func (p *Process) Kill() { p.kill() }

// Command prepares a program to be started in the host by Start; calling its
// own Start or Run would run it outside. When ctx ends the whole process
// group is killed.
func (h *Host) Command(ctx context.Context, argv ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	// A grandchild that keeps a pipe open must not hold up Wait.
	cmd.WaitDelay = time.Second
	return cmd
}

// Start runs cmd in the host's namespace as the leader of its own process
// group. It dies with the lab, and with the program itself.
func (h *Host) Start(cmd *exec.Cmd) (*Process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL

	l := h.lab
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	if len(l.processes) >= maxProcesses {
		return nil, fmt.Errorf("%w: %d processes", ErrLimit, maxProcesses)
	}
	if err := h.ns.onThread(cmd.Start); err != nil {
		return nil, fmt.Errorf("start in %s: %w", h.Name, err)
	}
	p := &process{cmd: cmd, ended: make(chan struct{})}
	l.processes[p] = struct{}{}
	go func() {
		p.err = cmd.Wait()
		close(p.ended)
		l.mu.Lock()
		if !l.closed { // Close is going through the map
			delete(l.processes, p)
		}
		l.mu.Unlock()
	}()
	return &Process{p}, nil
}
