// Soak runs what takes too long for every change: each fuzz target of the tree
// for a time, one after the other, the tests that have a full size
// (SYSTOLE_SOAK=1), and the soaks in the lab (root). It shows how far it is and
// ends with one table.
//
//	go run ./test/soak [-fuzz 10m] [-lab 10m] [-only REGEXP] [-list]
//
// It stops on Ctrl-C, with the table of what was done. The exit code is 1 if
// anything was found, 130 if it was stopped.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"text/tabwriter"
	"time"
)

// inLab are the tests that take as long as -soak says.
var inLab = []target{
	{pkg: "./test/failover", name: "TestLossIsNoDeath"},
	{pkg: "./test/failover", name: "TestBusyMachineIsNoDeath"},
}

// fullSize are the tests that do more with SYSTOLE_SOAK=1.
var fullSize = []target{
	{pkg: "./hb", name: "TestMessagesUnderLoss"},
	{pkg: "./test/chaos", name: "TestProgramReplacements"},
	{pkg: "./test/chaos", name: "TestAppliesUnderTraffic"},
	{pkg: "./test/chaos", name: "TestWideAppliesUnderTraffic"},
	{pkg: "./test/chaos", name: "TestLargeFlowTable"},
	{pkg: "./test/chaos", name: "TestFloodBesideEstablished"},
	{pkg: "./test/chaos", name: "TestStrictRoundRobinOfAFlood"},
	{pkg: "./test/chaos", name: "TestKilledDaemonKeepsConnections"},
	{pkg: "./test/chaos", name: "TestHandOversKeepConnections"},
	{pkg: "./test/chaos", name: "TestFailoversKeepConnections"},
}

func main() {
	fuzz := flag.Duration("fuzz", 10*time.Minute, "how long each fuzz target runs; 0 for none")
	lab := flag.Duration("lab", 10*time.Minute, "how long each soak in the lab takes; 0 for none")
	only := flag.String("only", "", "only the targets whose package and name match")
	list := flag.Bool("list", false, "name the targets and end")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	code, err := soak(ctx, os.Stdout, *fuzz, *lab, *only, *list)
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		code = 2
	}
	os.Exit(code)
}

func soak(ctx context.Context, out io.Writer, fuzz, lab time.Duration, only string, list bool) (code int, err error) {
	match, err := regexp.Compile(only)
	if err != nil {
		return 0, fmt.Errorf("-only: %w", err)
	}
	targets, err := findFuzz(".")
	if err != nil {
		return 0, err
	}
	if fuzz <= 0 {
		targets = nil
	}
	targets = append(targets, fullSize...)
	for _, t := range inLab {
		t.args = []string{"-soak", lab.String()}
		if lab > 0 {
			targets = append(targets, t)
		}
	}
	kept := targets[:0]
	for _, t := range targets {
		if match.MatchString(t.pkg + " " + t.name) {
			kept = append(kept, t)
		}
	}
	targets = kept
	if list {
		for _, t := range targets {
			fmt.Fprintln(out, t.pkg, t.name)
		}
		return 0, nil
	}
	var done []result
	for i, t := range targets {
		if ctx.Err() != nil {
			break
		}
		fmt.Fprintf(out, "[%d/%d] %s %s\n", i+1, len(targets), t.pkg, t.name)
		r := t.run(ctx, out, fuzz)
		done = append(done, r)
	}
	table(out, done, len(targets))
	for _, r := range done {
		if r.finding != "" {
			code = 1
		}
	}
	if code == 0 && ctx.Err() != nil {
		code = 130
	}
	return code, nil
}

// table is the outcome on one page.
func table(out io.Writer, done []result, of int) {
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PACKAGE\tTARGET\tTIME\tEXECUTIONS\tPER SECOND\tNEW INPUTS\tFOUND")
	var execs, findings uint64
	for _, r := range done {
		found := "nothing"
		switch {
		case r.finding != "":
			found, findings = r.finding, findings+1
		case r.stopped:
			found = "nothing, stopped"
		}
		counts := "\t\t"
		if r.fuzz {
			counts = fmt.Sprintf("%d\t%.0f\t%d", r.execs, float64(r.execs)/max(r.took.Seconds(), 1), r.interesting)
		}
		fmt.Fprintf(w, "%s\t%s\t%v\t%s\t%s\n", r.pkg, r.name, r.took.Round(time.Second), counts, found)
		execs += r.execs
	}
	w.Flush()
	fmt.Fprintf(out, "\n%d of %d targets, %d executions, %d findings\n", len(done), of, execs, findings)
	for _, r := range done {
		if r.output != "" {
			fmt.Fprintf(out, "\n%s %s:\n%s", r.pkg, r.name, r.output)
		}
	}
}
