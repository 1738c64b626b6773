package demo

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// Errors of this package, to be tested with errors.Is.
var (
	// ErrFailed means that the demo ran and a step did not hold.
	ErrFailed = errors.New("the demo did not go as it should")
	// errAborted ends a step whose failure makes the later ones pointless.
	errAborted = errors.New("not reached")
)

// Options say how the demo runs.
type Options struct {
	JSON  bool // one document at the end in place of the text
	Keep  bool // leave the lab up at the end, until ctx ends
	Pause bool // wait for a line on In between steps

	In       io.Reader
	Out, Err io.Writer

	// Binary is the program that is run as the daemon, this one if empty.
	Binary string
	// Prefix begins the names of the namespaces; "demo" if empty. Two demos
	// with different prefixes can run at once.
	Prefix string
	// Mode is dataplane.mode of the config; "auto" if empty.
	Mode string
}

// walk is the demo: twelve steps in an order that is part of it, as each
// begins where the one before has left the lab.
var walk = []struct {
	name string
	run  func(*demo, context.Context, *Step) error
}{
	{"both directors up, node1 active", (*demo).stepUp},
	{"100 HTTP requests, strictly in turn", (*demo).stepWeb},
	{"DNS by name, over UDP and TCP", (*demo).stepDNS},
	{"tables and roles", (*demo).stepTables},
	{"standby on node1: planned hand-over", (*demo).stepStandby},
	{"takeover on node1: and back", (*demo).stepTakeover},
	{"kill -9 of the active daemon", (*demo).stepKill},
	{"restart: auto failback on, then off", (*demo).stepRestart},
	{"the active node's cable is cut", (*demo).stepCut},
	{"web server stopped on server1", (*demo).stepWebStopped},
	{"both web servers stopped", (*demo).stepAllStopped},
	{"both web servers back", (*demo).stepAllBack},
}

// Run builds the lab, walks the steps and takes the lab down. The error wraps
// ErrFailed if a step did not hold, and ctx's error if it was interrupted.
func Run(ctx context.Context, o Options) (err error) {
	if o.Binary == "" {
		if o.Binary, err = os.Executable(); err != nil {
			return fmt.Errorf("demo: which program to run as the daemon: %w", err)
		}
	}
	o.Prefix = cmp.Or(o.Prefix, "demo")
	o.Mode = cmp.Or(o.Mode, "auto")

	begin := time.Now()
	p := newPrinter(o)
	p.opening()
	d, err := build(o)
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("demo: build the lab: %w (it is made of network namespaces: run the demo as root)", err)
	}
	if err != nil {
		return fmt.Errorf("demo: build the lab: %w", err)
	}
	defer func() { err = errors.Join(err, d.close()) }()

	r := Report{Lab: d.description()}
	ran := d.walk(ctx, p, &r)
	r.Took = millis(time.Since(begin))
	r.OK = ran == nil
	switch {
	case ctx.Err() != nil:
		r.Error = "interrupted"
	case ran != nil:
		r.Error = ran.Error()
	}
	if o.JSON {
		if err := r.write(o.Out); err != nil {
			return errors.Join(ran, err)
		}
	}
	p.closing(r)
	if ran != nil && ctx.Err() == nil {
		d.tails(o.Err)
	}
	if o.Keep && ctx.Err() == nil {
		d.howToEnter(o.Err)
		<-ctx.Done()
	}
	return ran
}

// walk runs the steps. One that does not hold does not end the walk, one that
// cannot be finished does.
func (d *demo) walk(ctx context.Context, p *printer, r *Report) error {
	var keys <-chan struct{}
	if d.o.Pause {
		keys = lines(d.o.In)
	}
	failed := 0
	for i, w := range walk {
		if d.o.Pause && i > 0 {
			p.ask()
			select {
			case <-keys:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		s := &Step{Number: i + 1, Name: w.name, Figures: map[string]float64{}}
		p.begin(s)
		begin := time.Now()
		err := w.run(d, ctx, s)
		if err == nil {
			err = d.alive()
		}
		s.Took = millis(time.Since(begin))
		if err != nil {
			s.Failures = append(s.Failures, err.Error())
		}
		s.OK = len(s.Failures) == 0
		r.Steps = append(r.Steps, *s)
		p.end(s)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("%w: step %d (%s): %w", ErrFailed, s.Number, s.Name, err)
		}
		if !s.OK {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("%w: %d of %d steps did not hold", ErrFailed, failed, len(walk))
	}
	return nil
}

// lines reads lines in the background, so that waiting for one does not hold
// up the end of the demo. Each is a value on the channel; at the end of the
// input that is closed, and the demo goes on by itself.
func lines(in io.Reader) <-chan struct{} {
	ch := make(chan struct{})
	if in == nil {
		close(ch)
		return ch
	}
	go func() {
		defer close(ch)
		for sc := bufio.NewScanner(in); sc.Scan(); {
			ch <- struct{}{}
		}
	}()
	return ch
}
