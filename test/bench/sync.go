package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/cilium/ebpf"

	"systole/dataplane"
	"systole/dataplane/flowsync"
	"systole/dataplane/xdp"
)

// syncKind is a way in which flows come to another director.
type syncKind struct {
	name      string
	flows     int
	table     int  // entries: eight times the flows, since in a quarter full table one of ten million finds no room
	joins     bool // the other director comes when the flows are there
	bandwidth int  // bytes a second
	samples   int
}

// within is what the other director is promised to need for new connections.
const within = 100 * time.Millisecond

const mbit = 1e6 / 8

// syncs measures how flows get to another director: a million to one that
// joins, and a burst of new connections to one that is there. Both planes are of
// this machine, and synchronise over its loopback interface.
func syncs(ctx context.Context, o options, r *report) error {
	for _, k := range []syncKind{
		{name: "a director joins, 100 Mbit/s", flows: 1_000_000, table: 1 << 23, joins: true, bandwidth: 100 * mbit, samples: 3},
		{name: "a director joins, 1 Gbit/s", flows: 1_000_000, table: 1 << 23, joins: true, bandwidth: 1000 * mbit, samples: 3},
		{name: "new connections at once, 100 Mbit/s", flows: 10_000, table: 1 << 17, bandwidth: 100 * mbit, samples: o.samples()},
	} {
		if !o.only.MatchString("sync/" + k.name) {
			continue
		}
		fmt.Fprintf(o.progress, "sync: %s\n", k.name)
		if o.quick {
			k.samples = 1
		}
		res := syncResult{Name: k.name, Flows: k.flows}
		for range k.samples {
			if err := k.measure(ctx, &res); err != nil {
				return fmt.Errorf("sync: %s: %w", k.name, err)
			}
		}
		r.Syncs = append(r.Syncs, res)
	}
	return nil
}

// measure adds a sample.
func (k syncKind) measure(ctx context.Context, res *syncResult) (err error) {
	from, err := k.plane(dataplane.Active)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	to, err := k.plane(dataplane.Standby)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	clients, err := newRunner(uint64(k.flows), 0, func(*GeneratorObjects) *ebpf.Program { return from.Program() })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clients.objects.Close()) }()
	open := func() error {
		for _, flags := range []string{"S", "A"} {
			if _, _, err := clients.run(frame(vip, 80, dataplane.TCP, flags), k.flows); err != nil {
				return err
			}
		}
		return nil
	}

	if k.joins {
		if err := open(); err != nil {
			return err
		}
	}
	begin := time.Now()
	a, b, stop, err := k.join(from, to)
	if err != nil {
		return err
	}
	defer stop()
	inSync := func() (bool, error) { return a.State().InSync && b.State().Complete, nil }
	if err := await(ctx, inSync); err != nil {
		return err
	}
	if !k.joins {
		if err := open(); err != nil {
			return err
		}
		begin = time.Now()
	}
	there, share := 0, -1
	all := func() (bool, error) {
		there, err = established(to)
		if share < 0 && (time.Since(begin) >= within || there == k.flows) {
			share = there
		}
		return there == k.flows, err
	}
	if err := await(ctx, all); err != nil {
		return fmt.Errorf("%d of %d connections are there: %w", there, k.flows, err)
	}
	res.Seconds = append(res.Seconds, time.Since(begin).Seconds())
	if !k.joins {
		res.Share = append(res.Share, 100*float64(share)/float64(k.flows))
	}
	st := a.State().Sent
	res.PerFlow = append(res.PerFlow, float64(st.Bytes)/float64(st.Flows))
	return nil
}

func (k syncKind) plane(role dataplane.Role) (*xdp.Plane, error) {
	p, err := xdp.Load(xdp.Config{Flows: k.table, NewFlows: -1}, own)
	if err != nil {
		return nil, err
	}
	s := snapshot(false)
	s.VIPs[0].Role = role
	_, err = p.Apply(s)
	if err = errors.Join(err, p.Renew(dataplane.Unlimited)); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// join synchronises two planes until stop is called.
func (k syncKind) join(a, b *xdp.Plane) (sa, sb *flowsync.Syncer, stop func(), err error) {
	portA, errA := freePort()
	portB, errB := freePort()
	if err := errors.Join(errA, errB); err != nil {
		return nil, nil, nil, err
	}
	make := func(p *xdp.Plane, from, to uint16) (*flowsync.Syncer, error) {
		var session [8]byte
		_, _ = rand.Read(session[:]) // it never fails
		core, err := flowsync.New(flowsync.Config{
			MaxSize: 1472, Bandwidth: k.bandwidth, Session: binary.NativeEndian.Uint64(session[:]) | 1,
			Keys: flowsync.Keys{Send: 1, Keys: []flowsync.Key{flowsync.Derive(1, []byte("bench"))}},
		}, time.Now())
		if err != nil {
			return nil, err
		}
		loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
		return flowsync.NewSyncer(flowsync.Options{
			Core: core, Table: p.NewSweep(), Log: slog.New(slog.DiscardHandler),
			Paths: []flowsync.Path{{Interface: "lo", Port: from, To: []netip.AddrPort{netip.AddrPortFrom(loopback, to)}}},
		}), nil
	}
	sa, errA = make(a, portA, portB)
	sb, errB = make(b, portB, portA)
	if err := errors.Join(errA, errB); err != nil {
		return nil, nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { sa.Run(ctx) })
	wg.Go(func() { sb.Run(ctx) })
	return sa, sb, func() { cancel(); wg.Wait() }, nil
}

// freePort is a UDP port of the loopback address that nobody has.
func freePort() (uint16, error) {
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Port(), nil
}

// established counts a plane's established connections.
func established(p *xdp.Plane) (n int, err error) {
	st, err := p.Stats()
	for _, c := range st.Conns {
		n += int(c.Active)
	}
	return n, err
}

// await polls until cond holds.
func await(ctx context.Context, cond func() (bool, error)) error {
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		ok, err := cond()
		switch {
		case ok || err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case time.Now().After(end):
			return errors.New("not within a minute")
		}
	}
}
