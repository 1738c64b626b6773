package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"systole/test/netlab"
)

// options are those of a demo whose daemon is a shell script.
func options(t *testing.T, name, script string) Options {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("SYSTOLE_CI") == "1" {
			t.Fatal("network namespaces need root")
		}
		t.Skip("network namespaces need root")
	}
	bin := filepath.Join(t.TempDir(), "daemon")
	if err := os.WriteFile(bin, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	o := Options{Binary: bin, Prefix: fmt.Sprintf("dt-%s-%d", name, os.Getpid()), Out: new(bytes.Buffer), Err: new(bytes.Buffer)}
	t.Cleanup(func() {
		for _, pattern := range []string{"/run/netns/" + o.Prefix + "-*", netlab.RunDir + "/" + o.Prefix + "*"} {
			if left, _ := filepath.Glob(pattern); len(left) != 0 {
				t.Errorf("the demo left %v", left)
			}
		}
		mounts, _ := os.ReadFile("/proc/self/mountinfo")
		if strings.Contains(string(mounts), o.Prefix) {
			t.Error("the demo left a mount")
		}
	})
	return o
}

func TestDaemonThatDies(t *testing.T) {
	o := options(t, "dies", "echo last words; exit 3")
	o.JSON = true
	err := Run(t.Context(), o)
	if !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("error: %v", err)
	}
	var r Report
	if err := json.Unmarshal(o.Out.(*bytes.Buffer).Bytes(), &r); err != nil {
		t.Fatalf("%v in %s", err, o.Out)
	}
	if r.OK || len(r.Steps) != 1 || r.Steps[0].OK || len(r.Steps[0].Failures) == 0 || r.Error == "" {
		t.Errorf("report: %+v", r)
	}
	if !strings.Contains(o.Err.(*bytes.Buffer).String(), "last words") {
		t.Errorf("the log's end is not shown: %q", o.Err)
	}
}

// notifier closes a channel when something is written for the first time
// after the opening.
type notifier struct {
	mu   sync.Mutex
	once sync.Once
	buf  bytes.Buffer
	want string
	seen chan struct{}
}

func (n *notifier) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.buf.Write(p)
	if strings.Contains(n.buf.String(), n.want) {
		n.once.Do(func() { close(n.seen) })
	}
	return len(p), nil
}

func TestInterrupted(t *testing.T) {
	o := options(t, "intr", `touch "$0.$5"; exec sleep 1000`) // run -f FILE --node NAME
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- Run(ctx, o) }()
	deadline := time.Now().Add(15 * time.Second)
	for _, n := range []string{"node1", "node2"} {
		for {
			if _, err := os.Stat(o.Binary + "." + n); err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("the daemon of %s was not started", n)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("error: %v", err)
	}
	if out := o.Out.(*bytes.Buffer).String(); !strings.Contains(out, "interrupted") {
		t.Errorf("output: %s", out)
	}
}

func TestKeepWaitsAndTellsTheWayIn(t *testing.T) {
	o := options(t, "keep", "exit 1")
	n := &notifier{want: "ip netns exec " + o.Prefix + "-node2", seen: make(chan struct{})}
	o.Keep, o.Err = true, n
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- Run(ctx, o) }()
	select {
	case <-n.seen:
	case err := <-done:
		t.Fatalf("it did not keep the lab: %v", err)
	case <-time.After(15 * time.Second):
		t.Fatal("nothing is kept")
	}
	if _, err := os.Stat("/run/netns/" + o.Prefix + "-node1"); err != nil {
		t.Errorf("the lab is gone: %v", err)
	}
	cancel()
	if err := <-done; !errors.Is(err, ErrFailed) {
		t.Errorf("error: %v", err)
	}
}

func TestLinesEndWithTheInput(t *testing.T) {
	ch := lines(strings.NewReader("\n\n"))
	for i, want := range []bool{true, true, false, false} {
		if _, ok := <-ch; ok != want {
			t.Errorf("line %d: %t, want %t", i, ok, want)
		}
	}
	if _, ok := <-lines(nil); ok {
		t.Error("a line out of nothing")
	}
}

func TestAWalkHasTwelveSteps(t *testing.T) {
	if len(walk) != 12 {
		t.Errorf("%d steps", len(walk))
	}
	for i, w := range walk {
		if w.name == "" || w.run == nil || len(w.name) > 60 {
			t.Errorf("step %d: %q", i+1, w.name)
		}
	}
}
