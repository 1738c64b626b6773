package e2e

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"systole/test/netlab"
)

// TestDemo runs the tutorial as a stranger does: every step must hold, in under
// a minute, and nothing may be left behind; nor if it is interrupted.
func TestDemo(t *testing.T) {
	needRoot(t)
	gone := func() {
		t.Helper()
		for _, pattern := range []string{"/run/netns/demo-*", netlab.RunDir + "/demo*"} {
			if left, err := filepath.Glob(pattern); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v %v", left, err)
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "demo", "--json")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if !json.Valid(out) {
		t.Errorf("not one JSON document:\n%s", out)
	}
	gone()

	cmd = exec.Command(binary, "demo")
	cmd.Stdout = nil
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(4 * time.Second) // into the steps, wherever that is
	_ = cmd.Process.Signal(os.Interrupt)
	if err := cmd.Wait(); err == nil {
		t.Error("an interrupted demo says that every step held")
	}
	gone()
}
