// Package need says what a test needs of the machine. Where it is missing the
// test is skipped, but not with SYSTOLE_CI=1, which says that everything must
// run here: then it fails. Both name what is missing.
package need

import (
	"os"
	"os/exec"
	"testing"
)

// Root is for tests that need root; what says for which feature of the kernel,
// such as "BPF programs".
func Root(t testing.TB, what string) {
	t.Helper()
	root(t, what, os.Geteuid(), os.Getenv("SYSTOLE_CI"))
}

func root(t testing.TB, what string, euid int, ci string) {
	t.Helper()
	if euid != 0 {
		missing(t, "root: "+what, ci)
	}
}

// Program is for tests that drive a real program. It returns the path of the
// program, which is named as on a command line, or by its own path.
func Program(t testing.TB, name string) string {
	t.Helper()
	return program(t, name, os.Getenv("SYSTOLE_CI"))
}

func program(t testing.TB, name, ci string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing(t, name+", which `sh test/deps.sh` installs", ci)
	}
	return path
}

func missing(t testing.TB, what, ci string) {
	t.Helper()
	if ci == "1" {
		t.Fatalf("needs %s", what)
	} else {
		t.Skipf("needs %s", what)
	}
}
