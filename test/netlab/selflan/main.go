package selflan

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"systole/test/need"
)

// inside is set in the process that runs the tests, to the namespace of the one
// that started it.
const inside = "SYSTOLE_TEST_NETNS"

// Main is the TestMain of a package that uses New: it starts the test binary
// again in a new network namespace, waits for it and exits with its status.
// Without root it runs the tests where they are.
func Main(m *testing.M) {
	if os.Getenv(inside) != "" || os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	runtime.LockOSThread() // Pdeathsig follows the thread
	outside, err := current()
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot make a network namespace:", err)
		os.Exit(1)
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"="+outside)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err = cmd.Run(); err == nil {
		os.Exit(0)
	}
	if !errors.As(err, new(*exec.ExitError)) {
		fmt.Fprintln(os.Stderr, "cannot make a network namespace:", err)
	}
	os.Exit(max(1, cmd.ProcessState.ExitCode())) // -1 if killed or never started
}

// current names the network namespace of the calling thread.
func current() (string, error) { return os.Readlink("/proc/thread-self/ns/net") }

// Need is for a test that wants the namespace but no LAN; New calls it. It ends
// the test if the process is not in a namespace of its own, whatever the
// environment says: the network of the machine is nobody's to change.
func Need(t testing.TB) {
	t.Helper()
	need.Root(t, "network namespaces")
	ns, err := current()
	Must(t, err)
	// Not the form of a namespace: Main did not set it.
	if outside := os.Getenv(inside); !strings.HasPrefix(outside, "net:[") || outside == ns {
		t.Fatal("not in a network namespace of its own: TestMain must call selflan.Main")
	}
}

// Must ends the test if there is an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
