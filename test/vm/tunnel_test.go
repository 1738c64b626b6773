package vm

import "testing"

// TestTunnels: the outer headers of XDP are those of IPVS, and the kernel of a
// real server takes them off.
func TestTunnels(t *testing.T) {
	t.Parallel()
	boot(t, Machine{Programs: []Program{compile(t, "systole/test/vm/guest").with("-test.run", "^TestTunnels", "-test.v")}})
}
