package guest

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"systole/dataplane/observe"
	"systole/dataplane/xdp"
)

// TestVerifier loads the director's program, and the one that takes its place
// while somebody looks, and tells what that took.
func TestVerifier(t *testing.T) {
	begin := time.Now()
	p, err := xdp.Load(xdp.Config{}, own)
	must(t, err)
	t.Logf("loaded in %v", time.Since(begin))
	defer p.Close()
	_, err = p.Apply(plan(1, 1, 1))
	must(t, err)
	o, err := p.Observe(observe.Config{Filter: observe.Filter{Client: netip.MustParsePrefix("10.0.0.0/8"), Server: serverAddr(1)}, In: true, Out: true})
	must(t, err)
	defer o.Close()
	for name, prog := range map[string]*ebpf.Program{"director": p.Program(), "observer": o.(*xdp.Observation).Program()} {
		info, err := prog.Info()
		must(t, err)
		n, ok := info.VerifiedInstructions()
		if !ok {
			t.Fatal("this kernel does not tell what it verified")
		}
		fmt.Printf("VERIFIED\t%s\t%d\n", name, n)
	}
}
