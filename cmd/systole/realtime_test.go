package main

import (
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"systole/test/need"
)

// TestRealtime lets a child have priority, since the others of this process
// should not, and looks at all of its threads.
func TestRealtime(t *testing.T) {
	need.Root(t, "a higher priority")
	if os.Getenv("SYSTOLE_TEST_REALTIME") != "" {
		if err := goRealtime(slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		// Threads made later have it, too.
		for range 20 {
			go func() { select {} }()
		}
		for _, what := range []string{"task", "status"} {
			out, err := exec.Command("sh", "-c", `case $1 in
task) for t in /proc/$PPID/task/*; do cut -d" " -f19 $t/stat; done;;
status) grep VmLck /proc/$PPID/status; cat /proc/$PPID/autogroup 2>/dev/null; true;;
esac`, "sh", what).CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			os.Stdout.Write(out)
		}
		return
	}
	before, _ := os.ReadFile("/proc/self/autogroup")
	out := realtimeChild(t, false)
	if now, _ := os.ReadFile("/proc/self/autogroup"); string(now) != string(before) {
		t.Errorf("our session was %q, now it is %q", before, now)
	}
	threads, locked := 0, false
	for line := range strings.Lines(out) {
		switch line = strings.TrimSpace(line); {
		case line == "-20":
			threads++
		case line == "0":
			t.Error("a thread has no priority")
		case strings.HasPrefix(line, "VmLck:"):
			locked = !strings.HasSuffix(strings.Join(strings.Fields(line), " "), " 0 kB")
		}
	}
	if threads < 3 || !locked {
		t.Errorf("%d threads with priority, memory locked: %v\n%s", threads, locked, out)
	}
}

// Who leads a session gives it priority where the kernel has such groups, since its
// nice value would not count against others.
func TestRealtimeOfASession(t *testing.T) {
	need.Root(t, "a higher priority")
	out := realtimeChild(t, true)
	if _, err := os.Stat("/proc/self/autogroup"); err == nil && !strings.Contains(out, " nice -20\n") {
		t.Errorf("the session has no priority:\n%s", out)
	}
}

func realtimeChild(t *testing.T, leader bool) string {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestRealtime$")
	cmd.Env = append(os.Environ(), "SYSTOLE_TEST_REALTIME=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: leader}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}
