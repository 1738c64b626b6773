package interop

import (
	"cmp"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"systole/test/built"
)

// reportFile is the table of what ran, for people; nothing reads it.
const reportFile = "../../build/interop.txt"

func TestMain(m *testing.M) {
	// A story waits most of its time, for timers of the real one. The command
	// line may say otherwise, it is read later.
	flag.Set("test.parallel", "4")
	code := built.Run(m, &binary)
	if err := writeReport(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// record is a line of the report.
type record struct {
	name   string
	began  time.Time
	took   time.Duration
	setup  setup
	auth   string
	rows   []string
	their  map[string]int // lines of the real one's log by level
	our    map[string]int
	failed bool
}

var reported struct {
	sync.Mutex
	records []record
}

// report notes what the pair was and what its logs have.
func (p *pair) report() {
	r := p.record
	r.name, r.setup, r.auth, r.failed = p.t.Name(), p.setup, p.key.method, p.t.Failed()
	r.took = time.Since(r.began)
	r.their, r.our = levels(p.real.Log(0)), levels(p.systole.log.String())
	reported.Lock()
	defer reported.Unlock()
	reported.records = append(reported.records, r)
}

// level is a line's weight: in the real one's log, in those of its scripts,
// and in ours.
var level = regexp.MustCompile(`\b(?i:(DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|CRIT|EMERG|ALERT)):|\blevel=([A-Z]+)`)

// levels counts the lines of a log by their weight.
func levels(log string) map[string]int {
	n := map[string]int{}
	for line := range strings.Lines(log) {
		if m := level.FindStringSubmatch(line); m != nil {
			n[strings.TrimSuffix(strings.ToUpper(m[1]+m[2]), "ING")]++
		}
	}
	return n
}

func TestLevels(t *testing.T) {
	got := levels(`node2 heartbeat: [17]: 2026/11/22_14:00:00 info: a ERROR
Nov 22 14:00:01 node2 heartbeat: [17]: WARN: b
IPaddr2(x)[20]: 2026/11/22_14:00:00 INFO: c
node2 heartbeat: [17]: WARNING: d
node2 heartbeat: [17]: ERROR: e: info: f
level=WARN msg=g
h
`)
	if fmt.Sprint(got) != "map[ERROR:1 INFO:2 WARN:3]" {
		t.Error(got)
	}
}

func writeReport() error {
	reported.Lock()
	defer reported.Unlock()
	if len(reported.records) == 0 {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(reportFile), 0o755); err != nil {
		return err
	}
	f, err := os.Create(reportFile)
	if err != nil {
		return err
	}
	var w io.Writer = f
	if testing.Verbose() {
		w = io.MultiWriter(f, os.Stdout)
	}
	if err := printReport(w, reported.records); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func printReport(out io.Writer, records []record) error {
	slices.SortStableFunc(records, func(a, b record) int { return cmp.Compare(a.name, b.name) })
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "story\tmedia\tauth\tmsgfmt\tfailback\tresult\tseconds\ttheir INFO\tWARN\tERROR\tCRIT\tour WARN\tERROR\trows")
	their, our := map[string]int{}, map[string]int{}
	rows := 0
	for _, r := range records {
		format, result := "classic", "ok"
		if r.setup.netstring {
			format = "netstring"
		}
		if r.failed {
			result = "FAILED"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%.0f\t%d\t%d\t%d\t%d\t%d\t%d\t%s\n", strings.TrimPrefix(r.name, "Test"),
			strings.Join(r.setup.media, "+"), r.auth, format, r.setup.autoFailback, result, r.took.Seconds(),
			r.their["INFO"], r.their["WARN"], r.their["ERROR"], r.their["CRIT"], r.our["WARN"], r.our["ERROR"],
			strings.Join(r.rows, ", "))
		rows += len(r.rows)
		for k, n := range r.their {
			their[k] += n
		}
		for k, n := range r.our {
			our[k] += n
		}
	}
	fmt.Fprintf(w, "all %d stories\t\t\t\t\t\t\t%d\t%d\t%d\t%d\t%d\t%d\t%d rows\n", len(records),
		their["INFO"], their["WARN"], their["ERROR"], their["CRIT"], our["WARN"], our["ERROR"], rows)
	return w.Flush()
}
