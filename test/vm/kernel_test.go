package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// mostVerified is what the verifier of Linux 6.1 may go through for the
// director's program. (Its own limit is a million; on newer kernels package bpf
// keeps the same goal.)
const mostVerified = 100_000

// TestKernel61 runs on Linux 6.1 what a kernel may judge otherwise than the
// host's: the verifier, and every packet that package bpf knows of.
func TestKernel61(t *testing.T) {
	t.Parallel()
	lines := boot(t, Machine{Programs: []Program{
		compile(t, "systole/test/vm/guest").with("-test.run", "^TestVerifier$", "-test.v"),
		// But the test that measures how long the verifier takes: there is no processor.
		compile(t, "systole/bpf").with("-test.skip", "^TestVerifier$"),
		// Each loads the program anew, which takes a second in this machine.
		compile(t, "systole/dataplane/xdp").with("-test.run", "^(TestWire|TestKilledDaemonsProgramStaysAndDrops)$", "-test.v"),
	}})
	heard := 0
	for _, s := range lines {
		var program string
		var n int
		if _, err := fmt.Sscanf(s, "VERIFIED\t%s\t%d", &program, &n); err != nil {
			continue
		}
		heard++
		t.Logf("%s: the verifier goes through %d instructions", program, n)
		if program == "director" && n > mostVerified {
			t.Errorf("the verifier of Linux 6.1 goes through %d instructions, at most %d are wanted", n, mostVerified)
		}
	}
	if heard != 2 {
		t.Fatalf("the verifier was heard %d times", heard)
	}
}

// TestIPVS runs the tests of the IPVS plane on a kernel that has IPVS, and the
// contract of all planes against it.
func TestIPVS(t *testing.T) {
	t.Parallel()
	boot(t, Machine{Programs: []Program{
		compile(t, "systole/dataplane/ipvs"),
		compile(t, "systole/test/vm/guest").with("-test.run", "^TestConformance$", "-test.v"),
	}})
}

// TestFlowSyncWithTheKernel carries flows to a kernel's backup daemon, and those
// of its master daemon here.
func TestFlowSyncWithTheKernel(t *testing.T) {
	t.Parallel()
	boot(t, Machine{Programs: []Program{compile(t, "systole/dataplane/flowsync").with("-test.run", "AKernels", "-test.v")}})
}

// TestCarry takes XDP away from open connections, and gives it back.
func TestCarry(t *testing.T) {
	t.Parallel()
	boot(t, Machine{Programs: []Program{compile(t, "systole/test/vm/guest").with("-test.run", "^TestConnectionsOutliveTheirPlane$", "-test.v")}})
}

// TestDirector is the daemon itself on the kernel's IPVS, alone and in turn with
// XDP: the tests of package e2e that need such a kernel.
func TestDirector(t *testing.T) {
	t.Parallel()
	daemon := filepath.Join(t.TempDir(), "systole")
	build(t, "build", "-ldflags", "-s -w", "-o", daemon, "systole/cmd/systole")
	e2e := compile(t, "systole/test/e2e").with("-test.run", "^(TestIPVSAlone|TestPlanesTakeTurns)$", "-test.v")
	e2e.Beside, e2e.Env = []string{daemon}, []string{"SYSTOLE_BINARY=/run/e2e/systole"}
	for _, name := range []string{"SYSTOLE_SWITCHES", "SYSTOLE_CONNECTIONS"} {
		if value := os.Getenv(name); value != "" {
			e2e.Env = append(e2e.Env, name+"="+value)
		}
	}
	boot(t, Machine{Programs: []Program{e2e}, Timeout: timeout(t), Patience: timeout(t)})
}

// timeout is what is left of the test's own, where there is more to do than in
// make test; else 0.
func timeout(t *testing.T) time.Duration {
	end, ok := t.Deadline()
	if !ok || os.Getenv("SYSTOLE_CONNECTIONS") == "" {
		return 0
	}
	return time.Until(end) - time.Minute
}
