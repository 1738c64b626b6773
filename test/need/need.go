// Package need says what a test needs of the machine. Where it is missing the
// test is skipped, but not with SYSTOLE_CI=1, which says that everything must
// run here: then it fails. Both name what is missing.
package need

import (
	"os"
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
	switch {
	case euid == 0:
	case ci == "1":
		t.Fatalf("needs root: %s", what)
	default:
		t.Skipf("needs root: %s", what)
	}
}
