package guest

import (
	"fmt"
	"testing"
	"time"

	"systole/dataplane/xdp"
)

// TestVerifier loads the director's program and tells what that took.
func TestVerifier(t *testing.T) {
	begin := time.Now()
	p, err := xdp.Load(xdp.Config{}, own)
	must(t, err)
	took := time.Since(begin)
	defer p.Close()
	info, err := p.Program().Info()
	must(t, err)
	n, ok := info.VerifiedInstructions()
	if !ok {
		t.Fatal("this kernel does not tell what it verified")
	}
	fmt.Printf("VERIFIED\t%d\n", n)
	t.Logf("loaded in %v", took)
}
