package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"systole/test/need"
)

// TestRealtime lets a child become real-time, since that cannot be undone
// without leave, and looks at all of its threads.
func TestRealtime(t *testing.T) {
	need.Root(t, "real-time scheduling")
	if os.Getenv("SYSTOLE_TEST_REALTIME") != "" {
		if err := goRealtime(); err != nil {
			t.Fatal(err)
		}
		// Threads made later have it, too.
		for range 20 {
			go func() { select {} }()
		}
		for _, what := range []string{"task", "status"} {
			out, err := exec.Command("sh", "-c", `case $1 in
task) for t in /proc/$PPID/task/*; do cut -d" " -f41 $t/stat; done;;
status) grep VmLck /proc/$PPID/status;;
esac`, "sh", what).CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			os.Stdout.Write(out)
		}
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestRealtime$")
	cmd.Env = append(os.Environ(), "SYSTOLE_TEST_REALTIME=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	threads, locked := 0, false
	for line := range strings.Lines(string(out)) {
		switch line = strings.TrimSpace(line); {
		case line == "1": // SCHED_FIFO
			threads++
		case line == "0":
			t.Error("a thread is not real-time")
		case strings.HasPrefix(line, "VmLck:"):
			locked = !strings.HasSuffix(strings.Join(strings.Fields(line), " "), " 0 kB")
		}
	}
	if threads < 3 || !locked {
		t.Errorf("%d real-time threads, memory locked: %v\n%s", threads, locked, out)
	}
}
