package vm

import "testing"

// TestBonds has several interfaces, bonds and VLANs, for which many machines that
// run the tests lack the driver.
func TestBonds(t *testing.T) {
	t.Parallel()
	boot(t, Machine{Programs: []Program{
		compile(t, "systole/dataplane/xdp").with("-test.run", "^(TestBond|TestBondAndAnother|TestBondGeneric|TestRedirectOnTheWire)$", "-test.v"),
		compile(t, "systole/control/neighbour").with("-test.run", "^TestInterfacesBelow$", "-test.v"),
	}})
}
