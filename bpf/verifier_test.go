package bpf_test

import (
	"errors"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"systole/dataplane/xdp"
	"systole/test/need"
)

// What the verifier may cost. The kernel refuses a program above a million
// instructions, and a restart of the daemon waits for it.
const (
	mostVerified = 100_000
	longestLoad  = 300 * time.Millisecond
)

// busy is the CPU time of this process: what else the machine does must not
// count.
func busy(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestVerifier(t *testing.T) {
	need.Root(t, "BPF programs")
	best := time.Hour
	for range 5 {
		start := busy(t)
		p, err := xdp.Load(xdp.Config{}, own)
		if err != nil {
			var refused *ebpf.VerifierError
			if errors.As(err, &refused) {
				t.Fatalf("%+v", refused) // all of its log
			}
			t.Fatal(err)
		}
		best = min(best, busy(t)-start)
		info, err := p.Program().Info()
		if err != nil {
			t.Fatal(err)
		}
		if n, ok := info.VerifiedInstructions(); !ok || n > mostVerified {
			t.Errorf("the verifier follows %d instructions (known: %v), at most %d are wanted", n, ok, mostVerified)
		} else {
			t.Logf("the verifier follows %d instructions", n)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("loaded in %v of CPU time", best)
	if best > longestLoad {
		t.Errorf("loading takes %v, at most %v is wanted", best, longestLoad)
	}
}
