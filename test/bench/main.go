// Bench measures what the data plane costs, in one run of two to three minutes:
//
//	make bench
//	go run ./test/bench [-quick] [-only REGEXP] [-json FILE] [-go FILE] [-svg DIRECTORY]
//
//	packet  ns per packet of the program alone (BPF_PROG_TEST_RUN)
//	wire    packets per second over a pair of veth devices, none lost
//	apply   how long a configuration takes, from 1 to 10,000 real servers, or as many services
//	sync    how fast the flow table gets to another director
//
// It prints a table; -json is for machines, -go has the lines of a Go benchmark,
// most of them ten times, for benchstat, and -svg draws the plots of the README. It needs
// root and leaves nothing behind, also when it is interrupted.
//
// # How a packet is measured
//
// A sample is the best of ten runs of 20,000 packets, about a millisecond each,
// so that some runs are not interrupted; ten samples are made of each kind of
// packet. With each run goes one of each of two floors: a program that only
// returns, and one that swaps the MAC addresses, the least that any gate
// forwarding does; so that whatever else the machine does hits all three. What
// is shown is net of the first floor. The generator in front of all three
// writes the client and the MAC addresses of each packet anew.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
)

//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -go-package main Generator generator.c -- -O2 -mcpu=v3 -Wall -Wextra -Werror -I/usr/include/x86_64-linux-gnu

// options are the command line.
type options struct {
	quick          bool // fewer samples, for a look
	only           *regexp.Regexp
	json, gob, svg string
	progress       io.Writer
}

// samples is how often each thing is measured.
func (o options) samples() int {
	if o.quick {
		return 3
	}
	return 10
}

func main() {
	var o options
	flag.BoolVar(&o.quick, "quick", false, "three samples of each in place of ten")
	only := flag.String("only", "", "only what matches, such as packet/established")
	flag.StringVar(&o.json, "json", "", "write the results to this `file`")
	flag.StringVar(&o.gob, "go", "", "write them as a Go benchmark does, for benchstat")
	flag.StringVar(&o.svg, "svg", "", "write plots to this `directory`")
	flag.Parse()
	o.progress = os.Stderr
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if o.only, err = regexp.Compile(*only); err == nil {
		err = bench(ctx, o, os.Stdout)
	}
	switch {
	case errors.Is(err, context.Canceled):
		os.Exit(130)
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(ctx context.Context, o options, out io.Writer) error {
	if os.Geteuid() != 0 {
		return errors.New("needs root: BPF programs")
	}
	r := newReport()
	for _, part := range []func(context.Context, options, *report) error{packets, overWire, applies, syncs} {
		if err := part(ctx, o, r); err != nil {
			return err
		}
	}
	if err := r.text(out); err != nil {
		return err
	}
	write := func(path string, f func(io.Writer) error) error {
		if path == "" {
			return nil
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		file, err := os.Create(path)
		if err != nil {
			return err
		}
		return errors.Join(f(file), file.Close())
	}
	err := errors.Join(write(o.json, r.json), write(o.gob, r.benchmark))
	if o.svg != "" && o.only.String() == "" {
		err = errors.Join(err,
			write(filepath.Join(o.svg, "bench-packet.svg"), r.plotPackets),
			write(filepath.Join(o.svg, "bench-apply.svg"), r.plotApplies))
	}
	return err
}
