package vm

import (
	"fmt"
	"testing"
	"time"
)

// verified is the goal for what the verifier of Linux 6.1 goes through for the
// director's program.
const verified = 100_000

// TestKernel61 runs on Linux 6.1 what a kernel may judge otherwise than the
// host's: the verifier, and every packet that package bpf knows of.
func TestKernel61(t *testing.T) {
	t.Parallel()
	lines := boot(t, Machine{Timeout: 3 * time.Minute, Programs: []Program{
		compile(t, "systole/test/vm/guest").with("-test.run", "^TestVerifier$", "-test.v"),
		compile(t, "systole/bpf"),
		// Each loads the program anew, which takes seconds in this machine.
		compile(t, "systole/dataplane/xdp").with("-test.run", "^(TestWire|TestKilledDaemonsProgramStaysAndDrops)$", "-test.v"),
	}})
	n := -1
	for _, s := range lines {
		fmt.Sscanf(s, "VERIFIED\t%d", &n)
	}
	if n < 0 {
		t.Fatal("the verifier was not heard")
	}
	t.Logf("the verifier goes through %d instructions, the goal is %d", n, verified)
}

// TestIPVS runs the tests of the IPVS plane on a kernel that has IPVS.
func TestIPVS(t *testing.T) {
	t.Parallel()
	boot(t, Machine{Programs: []Program{compile(t, "systole/dataplane/ipvs")}})
}

// TestFlowSyncWithTheKernel carries flows to a kernel's backup daemon, and those
// of its master daemon here.
func TestFlowSyncWithTheKernel(t *testing.T) {
	t.Parallel()
	boot(t, Machine{Programs: []Program{compile(t, "systole/dataplane/flowsync").with("-test.run", "AKernels", "-test.v")}})
}
