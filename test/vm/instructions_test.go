package vm

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/tabwriter"
)

var (
	update = flag.Bool("update", false, "write testdata/instructions.txt anew (make instructions)")
	series = flag.String("kernel", "6.1", "`series` of the kernel for TestInstructions; sh test/vm/fetch.sh SERIES fetches it")
)

const (
	baselineFile = "testdata/instructions.txt"
	reportDir    = "../../build"
	// growth of the director's program that is no accident any more.
	growth = 0.03
	// goal for what IPVS needs, in terms of what we need, for a packet of an
	// established flow on Linux 6.1. (Newer kernels pass a frame up for less:
	// 6:1 on 6.12.)
	goal, goal612 = 11, 6
)

// instructions are those of one packet.
type instructions struct {
	Kind    string
	Program int // what the director's program needs beyond swapping two addresses
	Ours    int // with what the kernel needs to send the frame
	IPVS    int
}

func (i instructions) ratio() float64 { return float64(i.IPVS) / float64(i.Ours) }

// parseInstructions reads what the guest printed: absolute figures, of which
// the floor is taken.
func parseInstructions(lines []string) (all []instructions, err error) {
	for _, s := range lines {
		f := strings.Split(s, "\t")
		if f[0] != "INSTRUCTIONS" {
			continue
		}
		var drop, swap, ours, ipvs int
		if _, err := fmt.Sscan(strings.Join(f[2:], " "), &drop, &swap, &ours, &ipvs); err != nil {
			return nil, fmt.Errorf("%q: %w", s, err)
		}
		all = append(all, instructions{f[1], ours - swap, ours - drop, ipvs - drop})
	}
	return all, nil
}

// table is the baseline's form: comments, then a line a kind. readTable reads
// it.
func table(kernel string, all []instructions) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Instructions per packet, less the generator's: DR by XDP and by IPVS.\n")
	fmt.Fprintf(&b, "# %s, qemu -icount. Program: ours less what two swapped addresses cost.\n", kernel)
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "#\tprogram\tours\tipvs\tipvs:ours\t  kind\n")
	for _, i := range all {
		fmt.Fprintf(w, "\t%d\t%d\t%d\t%.1f\t  %s\n", i.Program, i.Ours, i.IPVS, i.ratio(), i.Kind)
	}
	w.Flush()
	return b.Bytes()
}

func readTable(b []byte) (map[string]instructions, error) {
	all := map[string]instructions{}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] == "#" {
			continue
		}
		var i instructions
		var ratio float64
		if _, err := fmt.Sscan(line, &i.Program, &i.Ours, &i.IPVS, &ratio); err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		i.Kind = strings.Join(f[4:], " ")
		all[i.Kind] = i
	}
	return all, nil
}

func TestInstructions(t *testing.T) {
	t.Parallel()
	guest := compile(t, "systole/test/vm/guest").with("-test.run", "^TestInstructions$", "-test.v")
	lines := boot(t, Machine{Kernel: *series, Programs: []Program{guest}, Counted: true})
	all, err := parseInstructions(lines)
	if err != nil || len(all) == 0 {
		t.Fatalf("%d kinds of traffic, %v", len(all), err)
	}
	kernel, err := release(*series)
	if err != nil {
		t.Fatal(err)
	}
	got := table(kernel, all)
	t.Logf("\n%s", got)
	want := float64(goal)
	if *series != "6.1" {
		want = goal612
	}
	for _, i := range all {
		if i.ratio() < want && !strings.HasSuffix(i.Kind, "new") {
			t.Errorf("%s: IPVS needs %.1f times as much as we do, the goal is %.0f", i.Kind, i.ratio(), want)
		}
	}
	if *series != "6.1" {
		return // no baseline
	}
	if err := report("instructions.txt", got); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(baselineFile, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(baselineFile)
	if err != nil {
		t.Fatal(err)
	}
	before, err := readTable(b)
	if err != nil {
		t.Fatalf("%s: %v", baselineFile, err)
	}
	for _, i := range all {
		if err := grown(before[i.Kind].Program, i.Program); err != nil {
			t.Errorf("%s: %v", i.Kind, err)
		}
	}
}

// grown is the check of the program's instructions: n may be 3 % more than
// before.
func grown(before, n int) error {
	if float64(n) <= float64(before)*(1+growth) {
		return nil
	}
	return fmt.Errorf("%d instructions a packet, %d before: if it is worth it, run make instructions and commit %s", n, before, baselineFile)
}

func TestGrown(t *testing.T) {
	for _, tt := range []struct {
		before, n int
		ok        bool
	}{{300, 300, true}, {300, 200, true}, {300, 309, true}, {300, 310, false}, {0, 300, false}} {
		if err := grown(tt.before, tt.n); (err == nil) != tt.ok {
			t.Errorf("%d after %d: %v", tt.n, tt.before, err)
		}
	}
}

func TestTable(t *testing.T) {
	all, err := parseInstructions([]string{"=== RUN", "INSTRUCTIONS\ttcp new\t300\t700\t1000\t9000"})
	if err != nil || len(all) != 1 || all[0] != (instructions{"tcp new", 300, 700, 8700}) {
		t.Fatalf("%+v, %v", all, err)
	}
	read, err := readTable(table("6.1", all))
	if err != nil || len(read) != 1 || read["tcp new"] != all[0] {
		t.Errorf("%+v, %v", read, err)
	}
	for _, bad := range []string{"1 2 three 4 udp", "1"} {
		if all, err := readTable([]byte(bad)); err == nil {
			t.Errorf("%q: %+v", bad, all)
		}
	}
	if all, err := parseInstructions([]string{"INSTRUCTIONS\tudp\t1"}); err == nil {
		t.Errorf("%+v", all)
	}
}

// release is the package that a machine's kernel is from.
func release(series string) (string, error) {
	h, err := newHost(series)
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(filepath.Join(h.modules, "../../../package"))
	return strings.TrimSpace(string(b)), err
}

// report writes a file for people below build.
func report(name string, text []byte) error {
	if err := os.MkdirAll(reportDir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(reportDir, name), text, 0o644)
}
