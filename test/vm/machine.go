package vm

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Errors of Run, to be tested with errors.Is.
var (
	// ErrLost is a run without its mark: the machine crashed or hung. It says
	// nothing about the programs.
	ErrLost = errors.New("the virtual machine was lost")
	// ErrMissing is a machine that cannot be built here.
	ErrMissing = errors.New("no virtual machine")
)

// mark begins the last line of a run; the exit code of the first program that
// failed follows, or 0.
const mark = "SYSTOLE-VM-EXIT "

// Machine is one boot of a virtual machine and what it runs.
type Machine struct {
	Kernel   string    // series: "6.1" (as ""), "6.12"
	Programs []Program // in this order; after a failure the others still run
	CPUs     int       // 0: 2
	// Counted makes the machine's clock count instructions, one a nanosecond,
	// on one CPU: measured times are exact, and independent of the host.
	Counted bool
	Timeout time.Duration // of the whole run; 0: eight minutes
	// Patience is how long no program may print anything. On a busy host a
	// machine is slow, but it goes on. 0: three minutes.
	Patience time.Duration
}

// Program is a static program to be run.
type Program struct {
	Path string
	Args []string
	// Testdata is the directory in which a test finds its testdata on the
	// host: the program runs beside a copy. Empty: there is none.
	Testdata string
	Beside   []string // other files of the host that it finds in its directory
	Env      []string // more of its environment: "NAME=value"
}

// name is the program's own directory in the machine.
func (p Program) name() string { return strings.TrimSuffix(filepath.Base(p.Path), ".test") }

// Run boots the machine, runs its programs and returns the exit code of the
// first that failed (0: none). Each line that they print is given to line.
//
// The error wraps ErrLost if the machine did not come to its end, ErrMissing if
// it could not be built; its text ends with what the kernel said last.
func (m Machine) Run(ctx context.Context, line func(string)) (exit int, err error) {
	host, err := newHost(m.Kernel)
	if err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "systole-vm-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	initrd := filepath.Join(dir, "initrd")
	if err := host.image(ctx, initrd, m.Programs); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrMissing, err)
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(m.Timeout, 8*time.Minute))
	defer cancel()
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	patience := cmp.Or(m.Patience, 3*time.Minute)
	silence := time.AfterFunc(patience, func() {
		giveUp(fmt.Errorf("nothing was printed for %v: %w", patience, context.DeadlineExceeded))
	})
	defer silence.Stop()
	console := filepath.Join(dir, "console")
	cmd := exec.CommandContext(ctx, host.qemu, m.arguments(host.kernel, initrd, console)...)
	exit = -1
	err = run(cmd, func(s string) {
		silence.Reset(patience)
		code, ok := strings.CutPrefix(s, mark)
		if n, bad := strconv.Atoi(code); ok && bad == nil {
			exit = n
			return
		}
		line(s)
	})
	if exit >= 0 {
		return exit, nil // what qemu thinks of it matters no more
	}
	said, _ := os.ReadFile(console)
	if err == nil {
		err = errors.New("it ended without its mark")
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return 0, fmt.Errorf("%w: %w; its console:\n%s", ErrLost, err, tail(said, 30))
}

// arguments are qemu's. The first serial port is the kernel's console, the
// second belongs to the programs.
func (m Machine) arguments(kernel, initrd, console string) []string {
	cpus, accel := max(m.CPUs, 1), "tcg"
	if m.CPUs == 0 {
		cpus = 2
	}
	var clock []string
	if m.Counted {
		cpus, accel = 1, "tcg,thread=single"
		clock = []string{"-icount", "shift=0,sleep=off"}
	}
	return append([]string{
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-monitor", "none",
		"-accel", accel, "-cpu", "max,cx16=off,la57=off", "-smp", strconv.Itoa(cpus), "-m", "1024",
		"-kernel", kernel, "-initrd", initrd,
		"-append", "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on",
		"-chardev", "file,id=console,path=" + console, "-serial", "chardev:console",
		"-chardev", "stdio,id=programs,signal=off", "-serial", "chardev:programs",
	}, clock...)
}

// run runs cmd to its end and gives its lines to line. The kernel kills it
// should this program die.
func run(cmd *exec.Cmd, line func(string)) error {
	// The signal comes when the *thread* that forked ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	in := bufio.NewReader(out)
	for {
		s, err := in.ReadString('\n')
		if s != "" {
			line(strings.TrimRight(s, "\r\n"))
		}
		if err != nil {
			break
		}
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%w %s", err, bytes.TrimSpace(complaints.Bytes()))
	}
	return nil
}

// tail is the last n lines of b.
func tail(b []byte, n int) string {
	lines := strings.Split(strings.TrimSpace(strings.ReplaceAll(string(b), "\r", "")), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
