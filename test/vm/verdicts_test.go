package vm

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"text/tabwriter"
)

// TestVerdicts writes the matrix of what XDP and IPVS do with each kind of
// packet.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	guest := compile(t, "systole/test/vm/guest").with("-test.run", "^TestVerdicts$", "-test.v")
	lines := boot(t, Machine{Programs: []Program{guest}})
	var b bytes.Buffer
	fmt.Fprintln(&b, "What XDP and the kernel's IPVS did with the same packets, on Linux 6.1 (test/vm).")
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	rows := 0
	for _, s := range lines {
		if row, ok := strings.CutPrefix(s, "VERDICT\t"); ok {
			fmt.Fprintln(w, row)
			rows++
		}
	}
	w.Flush()
	if rows < 2 {
		t.Fatal("there is no matrix")
	}
	if err := report("verdicts.txt", b.Bytes()); err != nil {
		t.Fatal(err)
	}
}
