package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// stopped ends with Ctrl-C: every run ends then, and the tests fail and clean
// up. A second one ends the program.
var stopped context.Context

func TestMain(m *testing.M) {
	var stop context.CancelFunc
	stopped, stop = signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(stopped, stop)
	dir, err := os.MkdirTemp("", "systole-vm-tests-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	compiled.dir = dir
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// compiled are the tests of packages that several machines run, each built once.
var compiled struct {
	sync.Mutex
	dir  string
	done map[string]bool
}

// boot runs the programs of m on their machine, once more if that is lost. What
// they print is the test's log; a program that fails, fails the test.
func boot(t *testing.T, m Machine) []string {
	t.Helper()
	begin := time.Now()
	var out []string
	try := func() (int, error) {
		out = nil
		return m.Run(stopped, func(s string) {
			out = append(out, s)
			t.Logf("%5.1f s: %s", time.Since(begin).Seconds(), s)
		})
	}
	exit, err := try()
	if errors.Is(err, ErrLost) && stopped.Err() == nil {
		t.Logf("once more, the run was lost: %v", err)
		exit, err = try()
	}
	switch {
	case errors.Is(err, ErrMissing) && os.Getenv("SYSTOLE_CI") != "1":
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	case exit != 0:
		t.Fatalf("exit code %d in the machine", exit)
	}
	t.Logf("boot, run and power off: %.1f s", time.Since(begin).Seconds())
	return out
}

// compile builds the tests of a package, or a command, for a machine.
func compile(t *testing.T, pkg string) Program {
	t.Helper()
	dir := strings.TrimPrefix(pkg, "systole/")
	p := Program{Path: filepath.Join(compiled.dir, dir, filepath.Base(pkg)+".test")}
	if d := filepath.Join("..", "..", dir, "testdata"); exists(d) {
		p.Testdata = d
	}
	compiled.Lock()
	defer compiled.Unlock()
	if !compiled.done[p.Path] {
		build(t, "test", "-c", "-ldflags", "-s -w", "-o", p.Path, pkg)
		if compiled.done == nil {
			compiled.done = make(map[string]bool)
		}
		compiled.done[p.Path] = true
	}
	return p
}

func build(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(stopped, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	begin := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	t.Logf("built in %.1f s", time.Since(begin).Seconds())
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// with is p called with arguments.
func (p Program) with(args ...string) Program {
	p.Args = args
	return p
}

// script is a program for a machine's shell.
func script(t *testing.T, name, text string) Program {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return Program{Path: path}
}

// The machine itself: programs run in turn, their exit codes come back.
func TestMachine(t *testing.T) {
	t.Parallel()
	var out []string
	exit, err := Machine{Programs: []Program{
		script(t, "first", "uname -r; echo \"$1\"").with("it's $HOME"),
		script(t, "second", "ipvsadm --version; ipvsadm -ln; exit 3"),
		script(t, "third", "exit 4"),
	}}.Run(stopped, func(s string) { out = append(out, s) })
	if errors.Is(err, ErrMissing) && os.Getenv("SYSTOLE_CI") != "1" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if exit != 3 {
		t.Errorf("exit code %d, want the first that is not 0", exit)
	}
	for _, want := range []string{"6.1.", "it's $HOME", "ipvsadm v1.31", "IP Virtual Server version 1.2.1"} {
		if !slices.ContainsFunc(out, func(s string) bool { return strings.HasPrefix(s, want) }) {
			t.Errorf("no line begins with %q:\n%s", want, strings.Join(out, "\n"))
		}
	}
}

// A machine that ends otherwise than by its mark is lost, whatever was printed
// before, and nothing of it stays.
func TestLost(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	for _, tt := range []struct {
		name    string
		m       Machine
		timeout bool
	}{
		{"power off", Machine{Programs: []Program{script(t, "off", "echo PASS; poweroff -f; sleep 60")}}, false},
		{"time is over", Machine{Programs: []Program{script(t, "off", "sleep 600")}, Timeout: time.Second}, true},
		{"nothing more is heard", Machine{Programs: []Program{script(t, "off", "sleep 600")}, Patience: time.Second}, true},
	} {
		_, err := tt.m.Run(stopped, func(string) {})
		if errors.Is(err, ErrMissing) && os.Getenv("SYSTOLE_CI") != "1" {
			t.Skip(err)
		}
		if !errors.Is(err, ErrLost) || errors.Is(err, context.DeadlineExceeded) != tt.timeout {
			t.Errorf("%s: %v, want ErrLost", tt.name, err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(os.TempDir(), "systole-vm-*")); err != nil || len(left) > 0 {
		t.Errorf("%v is left over, %v", left, err)
	}
}
