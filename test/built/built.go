// Package built builds the daemon for the tests that run it, as `make build`
// does.
package built

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Run is for a TestMain: it builds the daemon in a directory that it removes
// again, puts its path into binary, runs the tests and returns their exit code.
// Without root, which every such test needs, it builds nothing. Nor does it
// where SYSTOLE_BINARY is the path of a daemon, as in a virtual machine.
func Run(m *testing.M, binary *string) int {
	if os.Geteuid() != 0 {
		return m.Run() // which skips, or fails where it must not
	}
	if path := os.Getenv("SYSTOLE_BINARY"); path != "" {
		*binary = path
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "systole-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	*binary = filepath.Join(dir, "systole")
	build := exec.Command("go", "build", "-o", *binary, "systole/cmd/systole")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the daemon: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}
