package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"

	"systole/dataplane"
	"systole/dataplane/xdp"
)

// applies measures configurations from 1 to 10,000 real servers, and one of as
// many services. Each changes the MAC address of the server that has a certain
// flow; a thread that does nothing but show packets of this flow to the program
// sees when.
func applies(ctx context.Context, o options, r *report) error {
	for _, c := range []struct{ servers, per int }{
		{1, perService}, {10, perService}, {100, perService}, {1000, perService}, {10_000, perService}, {10_000, 1},
	} {
		name := applyResult{Servers: c.servers, Services: c.servers / c.per}.name()
		if !o.only.MatchString("apply/" + name) {
			continue
		}
		fmt.Fprintf(o.progress, "apply: %s\n", name)
		res, err := measureApply(ctx, c.servers, c.per, 10*o.samples())
		if err != nil {
			return fmt.Errorf("apply: %s: %w", name, err)
		}
		r.Applies = append(r.Applies, res)
	}
	return nil
}

// perService is how many servers a service has at most in all measurements but
// one.
const perService = 100

// name is what the configuration is called.
func (a applyResult) name() string {
	if a.Services > 1 && a.Services == a.Servers {
		return fmt.Sprintf("%d services of one", a.Services)
	}
	return fmt.Sprintf("%d real servers", a.Servers)
}

// configurations are two that differ in the MAC address of the first server.
func configurations(servers, per int) (two [2]dataplane.Snapshot) {
	for i := range two {
		s := dataplane.Snapshot{VIPs: []dataplane.VIP{{Addr: vip, Role: dataplane.Active}}}
		for left, port := servers, uint16(80); left > 0; left, port = left-per, port+1 {
			s.Services = append(s.Services, service(vip, port, dataplane.TCP, min(left, per)))
		}
		s.Services[0].Servers[0].MAC = []byte{2, 0, 0, 2, 0, byte(i)}
		two[i] = s
	}
	return two
}

func measureApply(ctx context.Context, servers, per, times int) (res applyResult, err error) {
	p, err := xdp.Load(xdp.Config{Flows: 1 << 10}, own)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	two := configurations(servers, per)
	res = applyResult{Servers: servers, Services: len(two[0].Services)}
	if _, err = p.Apply(two[0]); err == nil {
		err = p.Renew(dataplane.Unlimited)
	}
	if err != nil {
		return res, err
	}
	to := func(flags string) ([]byte, error) {
		in := frame(vip, 80, dataplane.TCP, flags)
		opts := &ebpf.RunOptions{Data: in, DataOut: make([]byte, len(in)+64)}
		verdict, err := p.Program().Run(opts)
		if err == nil && verdict != xdpTX {
			err = fmt.Errorf("verdict %d", verdict)
		}
		return opts.DataOut[:6], err
	}
	if _, err := to("S"); err != nil {
		return res, err
	}
	for i := range times {
		if err := ctx.Err(); err != nil {
			return res, err
		}
		next := two[(i+1)%2]
		want := next.Services[0].Servers[0].MAC
		var watching atomic.Bool
		seen := make(chan time.Time, 1)
		failed := make(chan error, 1)
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			for {
				mac, err := to("A")
				if err != nil {
					failed <- err
					return
				}
				if bytes.Equal(mac, want) {
					seen <- time.Now()
					return
				}
				watching.Store(true)
			}
		}()
		for !watching.Load() && len(failed) == 0 {
			time.Sleep(100 * time.Microsecond)
		}
		begin := time.Now()
		if _, err := p.Apply(next); err != nil {
			return res, err
		}
		call := time.Since(begin)
		select {
		case at := <-seen:
			res.Visible = append(res.Visible, micro(at.Sub(begin)))
		case err := <-failed:
			return res, err
		case <-time.After(5 * time.Second):
			return res, errors.New("never seen")
		}
		res.Call = append(res.Call, micro(call))
		time.Sleep(20 * time.Millisecond) // what is measured is a change now and then
	}
	return res, nil
}

func micro(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
