package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/cilium/ebpf"

	"systole/dataplane"
	"systole/dataplane/planetest"
	"systole/dataplane/xdp"
	"systole/test/flood"
)

// onWire is how many packets a CPU sends for a sample, of how many clients.
const (
	onWire      = 500_000
	wireClients = 10_000
)

// overWire measures packets per second: established flows from one CPU and from
// all, and beside them a program that only swaps MAC addresses.
func overWire(ctx context.Context, o options, r *report) error {
	cpus, err := flood.CPUs()
	if err != nil {
		return err
	}
	counts := []int{1}
	if len(cpus) > 1 {
		counts = append(counts, len(cpus))
	}
	for _, name := range []string{"swap MAC addresses", "established"} {
		for _, n := range counts {
			if !o.only.MatchString("wire/" + name) {
				continue
			}
			fmt.Fprintf(o.progress, "wire: %s, %d CPUs\n", name, n)
			res, err := measureWire(ctx, name, cpus[:n], o.samples())
			if err != nil {
				return fmt.Errorf("wire: %s: %w", name, err)
			}
			r.Wire = append(r.Wire, res)
		}
	}
	return nil
}

func measureWire(ctx context.Context, name string, cpus []int, samples int) (res wireResult, err error) {
	res = wireResult{Name: name, CPUs: len(cpus)}
	w, err := flood.New(len(cpus))
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	prog, closeProg, err := wireProgram(name)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, closeProg()) }()
	detach, err := w.Attach(prog)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, detach()) }()

	var opening, going []*flood.Stream
	for i := range cpus {
		for _, flags := range []string{"S", "A"} {
			s, err := w.Stream(flood.Traffic{Clients: wireClients, Frame: planetest.Frame{
				From: netip.AddrPortFrom(flood.Client(flood.Tracked, i*wireClients), 40000), To: netip.AddrPortFrom(vip, 80),
				Protocol: dataplane.TCP, Flags: flags,
			}})
			if err != nil {
				return res, err
			}
			if flags == "S" {
				opening = append(opening, s)
			} else {
				going = append(going, s)
			}
		}
	}
	send := func(streams []*flood.Stream, n int) error {
		var wg sync.WaitGroup
		errs := make([]error, len(streams))
		for i, s := range streams {
			wg.Go(func() { errs[i] = w.OnCPU(cpus[i], func() error { return s.Send(n) }) })
		}
		wg.Wait()
		return errors.Join(errs...)
	}
	// All flows are there, and all pages.
	if err := errors.Join(send(opening, wireClients), send(going, onWire/10)); err != nil {
		return res, err
	}
	before, err := w.Balance()
	if err != nil {
		return res, err
	}
	start := before
	for range samples {
		if err := ctx.Err(); err != nil {
			return res, err
		}
		begin := time.Now()
		if err := send(going, onWire); err != nil {
			return res, err
		}
		took := time.Since(begin)
		now, err := w.Balance()
		if err != nil {
			return res, err
		}
		res.Rate = append(res.Rate, float64(now.Received-before.Received)/took.Seconds())
		before = now
	}
	res.Sent = before.Sent - start.Sent
	res.Lost = before.Lost() - start.Lost()
	res.Overrun = before.Overrun - start.Overrun
	return res, nil
}

// wireProgram is a program for the director's end.
func wireProgram(name string) (*ebpf.Program, func() error, error) {
	if name == "established" {
		p, err := xdp.Load(xdp.Config{Flows: 1 << 17, NewFlows: -1}, flood.Own)
		if err != nil {
			return nil, nil, err
		}
		s := snapshot(false)
		for i := range s.Services[0].Servers {
			s.Services[0].Servers[i].MAC = flood.Steady(byte(i))
		}
		_, err = p.Apply(s)
		if err = errors.Join(err, p.Renew(dataplane.Unlimited)); err != nil {
			return nil, nil, errors.Join(err, p.Close())
		}
		return p.Program(), p.Close, nil
	}
	spec, err := LoadGenerator()
	if err != nil {
		return nil, nil, err
	}
	var o struct {
		Reflect *ebpf.Program `ebpf:"reflect"`
	}
	if err := spec.LoadAndAssign(&o, nil); err != nil {
		return nil, nil, err
	}
	return o.Reflect, o.Reflect.Close, nil
}
