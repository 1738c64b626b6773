package vm

import (
	"fmt"
	"testing"
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

// TestCarry takes XDP away from open connections, and gives it back.
func TestCarry(t *testing.T) {
	t.Parallel()
	boot(t, Machine{Programs: []Program{compile(t, "systole/test/vm/guest").with("-test.run", "^TestConnectionsOutliveTheirPlane$", "-test.v")}})
}
