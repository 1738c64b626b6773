package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"time"

	"systole/control"
	"systole/control/api"
	"systole/dataplane"
	"systole/dataplane/ipvs"
)

// ipvsCmd takes ipvsadm's letters for what it shows. It changes nothing: the
// table is the config's affair.
type ipvsCmd struct {
	List    ipvsListCmd    `cmd:"" default:"withargs" help:"List the table as \"ipvsadm -ln\" does (the default)."`
	Save    ipvsSaveCmd    `cmd:"" help:"Print the table as \"ipvsadm-save -n\" does."`
	Restore ipvsRestoreCmd `cmd:"" help:"Print what ipvsadm-save printed as services of a Systole config. It changes nothing: put them into the config and reload."`
}

type ipvsListCmd struct {
	List    bool `short:"l" help:"List the table (always done)."`
	Numeric bool `short:"n" help:"Numeric addresses (always so)."`
	Exact   bool `help:"Counters in full, not in thousands (K), millions (M) ..."`

	Stats      bool `xor:"view" help:"Connections, packets and bytes so far."`
	Rate       bool `xor:"view" help:"Connections, packets and bytes a second, over --interval."`
	Thresholds bool `xor:"view" help:"Limits of connections."`
	TunInfo    bool `xor:"view" help:"Tunnels."`
	Timeout    bool `xor:"view" help:"The timeouts of connections that services do not set."`
	Daemon     bool `xor:"view" help:"The kernel's own sync daemons."`
	Connection bool `short:"c" xor:"view" help:"The connections of either plane. Of persistent clients, those that IPVS remembers."`

	PersistentConn bool          `help:"Clients that persistence binds; with -c, what persistence engines found."`
	Interval       time.Duration `default:"2s" help:"Between the two looks of --rate. The kernel's IPVS counts every two seconds."`
	socketFlag
}

func (c ipvsListCmd) Run(ctx context.Context) error {
	switch {
	case c.Timeout:
		return c.timeouts(os.Stdout)
	case c.Daemon:
		return c.daemons(os.Stdout)
	case c.Connection:
		return c.connections(ctx, os.Stdout)
	}
	t, err := ipvsStatus(ctx, c.socketFlag)
	if err != nil {
		return err
	}
	if c.Rate {
		if t, err = c.rates(ctx, t); err != nil {
			return err
		}
	}
	return ipvs.List(os.Stdout, t.Table, c.view(), c.Exact)
}

func (c ipvsListCmd) view() ipvs.View {
	for _, v := range []struct {
		asked bool
		view  ipvs.View
	}{
		{c.Stats, ipvs.ViewStats}, {c.Rate, ipvs.ViewRate}, {c.Thresholds, ipvs.ViewThresholds},
		{c.PersistentConn, ipvs.ViewPersistent}, {c.TunInfo, ipvs.ViewTunnels},
	} {
		if v.asked {
			return v.view
		}
	}
	return ipvs.ViewTable
}

// rates looks a second time.
func (c ipvsListCmd) rates(ctx context.Context, before reading) (reading, error) {
	if c.Interval <= 0 {
		return before, fmt.Errorf("--interval=%s: want more than 0", c.Interval)
	}
	select {
	case <-time.After(c.Interval):
	case <-ctx.Done():
		return before, ctx.Err()
	}
	after, err := ipvsStatus(ctx, c.socketFlag)
	if err != nil {
		return before, err
	}
	after.Rates(before.Table, after.at.Sub(before.at))
	return after, nil
}

// reading is a table and when it was read.
type reading struct {
	ipvs.Table
	at time.Time
}

// ipvsStatus asks the director for its table.
func ipvsStatus(ctx context.Context, f socketFlag) (reading, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	s, err := f.client().Status(ctx)
	if err != nil {
		return reading{}, err
	}
	t, err := ipvsTable(s)
	return reading{t, s.At}, err
}

// kernelIPVS does something with the kernel's own IPVS, which is not the
// director's to tell about.
func kernelIPVS(do func(*ipvs.Plane) error) error {
	p, err := ipvs.Open(ipvs.Config{Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	return errors.Join(do(p), p.Close()) // it created no service, so Close removes none
}

// timeouts are the kernel's, or those of the xdp plane where there is no IPVS.
func (c ipvsListCmd) timeouts(w io.Writer) error {
	err := kernelIPVS(func(p *ipvs.Plane) error {
		t, err := p.Timeouts()
		if err != nil {
			return err
		}
		return ipvs.ListTimeouts(w, t)
	})
	if errors.Is(err, dataplane.ErrUnavailable) {
		return ipvs.ListTimeouts(w, dataplane.Timeouts{TCP: 15 * time.Minute, TCPFin: 2 * time.Minute, UDP: 5 * time.Minute})
	}
	return err
}

// daemons are the kernel's: none where there is no IPVS.
func (c ipvsListCmd) daemons(w io.Writer) error {
	err := kernelIPVS(func(p *ipvs.Plane) error {
		d, err := p.Daemons()
		if err != nil {
			return err
		}
		return ipvs.ListDaemons(w, d)
	})
	if errors.Is(err, dataplane.ErrUnavailable) {
		return nil
	}
	return err
}

// connections are those of both planes.
func (c ipvsListCmd) connections(ctx context.Context, w io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	s, err := c.client().Status(ctx)
	if err != nil {
		return err
	}
	has := func(name string) bool {
		return slices.ContainsFunc(s.Planes, func(p control.PlaneState) bool { return p.Name == name && !p.Absent })
	}
	var kernel []ipvs.Connection
	if has("ipvs") {
		if kernel, err = kernelConnections(); err != nil {
			return err
		}
	}
	var flows []dataplane.Flow
	if has("xdp") {
		for l, err := range c.client().Flows(ctx, api.FlowQuery{Plane: "xdp"}) {
			if err != nil {
				return err
			}
			if l.Flow == nil {
				break // the end
			}
			f, err := l.Flow.Described()
			if err != nil {
				return fmt.Errorf("answer not understood (is the director of another version?): %w", err)
			}
			flows = append(flows, f)
		}
	}
	return ipvs.ListConnections(w, bothPlanes(s, kernel, flows), c.PersistentConn)
}

func kernelConnections() (all []ipvs.Connection, err error) {
	err = kernelIPVS(func(p *ipvs.Plane) error {
		for conn, err := range p.Connections() {
			if err != nil {
				return err
			}
			all = append(all, conn)
		}
		return nil
	})
	return all, err
}

// bothPlanes are the kernel's connections and the flows of xdp. After planes have
// taken turns both have some: told is then what the plane has that carries the
// service.
func bothPlanes(s *control.State, kernel []ipvs.Connection, flows []dataplane.Flow) []ipvs.Connection {
	type end struct {
		protocol        string
		client, virtual netip.AddrPort
	}
	at := make(map[end]int, len(kernel))
	for i, c := range kernel {
		at[end{c.Protocol, c.Client, c.Virtual}] = i
	}
	carries := make(map[string]bool)
	for _, svc := range s.Services {
		carries[svc.Service] = svc.Plane == "xdp"
	}
	for _, f := range flows {
		c := ipvs.ConnectionOf(f)
		i, twice := at[end{c.Protocol, c.Client, c.Virtual}]
		switch {
		case !twice:
			kernel = append(kernel, c)
		case carries[f.Service.String()]:
			kernel[i] = c
		}
	}
	return kernel
}

type ipvsSaveCmd struct {
	Numeric bool `short:"n" help:"Numeric addresses (always so)."`
	socketFlag
}

func (c ipvsSaveCmd) Run(ctx context.Context) error {
	t, err := ipvsStatus(ctx, c.socketFlag)
	if err != nil {
		return err
	}
	return ipvs.Save(os.Stdout, t.Table)
}

type ipvsRestoreCmd struct {
	File string `arg:"" help:"What \"ipvsadm-save -n\" printed; - is standard input."`
}

func (c ipvsRestoreCmd) Run() error {
	data, err := os.ReadFile(c.File)
	if c.File == "-" {
		data, err = io.ReadAll(os.Stdin)
	}
	if err != nil {
		return err
	}
	return ipvsRestore(os.Stdout, os.Stderr, c.File, data)
}

// ipvsRestore prints a saved table as a config, or every error with its place.
func ipvsRestore(out, complaints io.Writer, file string, data []byte) error {
	services, err := ipvs.ParseSave(bytes.NewReader(data))
	var several interface{ Unwrap() []error }
	switch {
	case errors.As(err, &several):
		for _, e := range several.Unwrap() {
			fmt.Fprintf(complaints, "%s:%v\n", file, e)
		}
		return exitCode(1)
	case err != nil:
		return fmt.Errorf("%s: %w", file, err)
	}
	return ipvs.WriteConfig(out, services)
}

// ipvsTable is a State's table in IPVS's terms: the servers that are in the
// table, fallback included.
func ipvsTable(s *control.State) (ipvs.Table, error) {
	var snap dataplane.Snapshot
	for i := range s.Services {
		svc, err := s.Services[i].Described()
		if err != nil {
			return ipvs.Table{}, fmt.Errorf("answer not understood (is the director of another version?): %w", err)
		}
		snap.Services = append(snap.Services, svc)
	}
	t := ipvs.TableOf(snap)
	t.Size = s.FlowTableSize
	for i := range t.Services {
		svc := &t.Services[i]
		svc.Stats = ipvs.StatsOf(s.Services[i].Counters)
		state := make(map[netip.Addr]*control.ServerState)
		for j := range s.Services[i].Servers {
			r := &s.Services[i].Servers[j]
			if a, err := netip.ParseAddr(r.Address); err == nil && r.InTable {
				state[a] = r
			}
		}
		for j := range svc.Servers {
			d := &svc.Servers[j]
			r := state[d.Addr.Addr()]
			d.Stats = ipvs.StatsOf(r.Counters)
			d.Active, d.Inactive, d.Persistent = uint32(r.Conns.Active), uint32(r.Conns.Inactive), uint32(r.Conns.Persistent)
		}
	}
	return t, nil
}
