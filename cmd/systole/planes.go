package main

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"systole/control"
	"systole/control/config"
	"systole/dataplane"
	"systole/dataplane/carry"
	"systole/dataplane/fallback"
	"systole/dataplane/ipvs"
	"systole/dataplane/xdp"
)

// planes are the data planes of this machine, as one; nil: none, as on a witness.
type planes struct {
	both *fallback.Plane
	// table has the flows that are carried to the other director; nil: none.
	table *xdp.Plane
}

// notWanted is why there is no XDP if the operator wants none.
const notWanted = "dataplane.mode is ipvs"

// watchPeriod is how often it is looked whether XDP is still attached; a look is
// a system call.
const watchPeriod = 10 * time.Millisecond

// openPlanes opens XDP (native, else generic) and kernel IPVS where the kernel
// has it. One is enough; none is an error, but on a witness, which has none.
func openPlanes(cfg *config.Config, log *slog.Logger) (planes, error) {
	if cfg.Witness() {
		return planes{}, nil
	}
	c := fallback.Config{
		XDP:   fallback.Member{Name: "xdp", Carries: xdp.Carries, Why: notWanted},
		IPVS:  fallback.Member{Name: "ipvs", Carries: ipvs.Carries},
		Carry: carry.Between(log),
		Back: func(p dataplane.Plane) bool {
			x, ok := p.(*xdp.Plane)
			return ok && x.Attachable()
		},
		Stale: func(p dataplane.Plane) bool {
			x, ok := p.(*xdp.Plane)
			return ok && x.Stale()
		},
		Log: log, Now: time.Now,
	}
	var reasons []error
	missing := func(m *fallback.Member, err error) {
		log.Warn("data plane not available", "plane", m.Name, "why", err)
		m.Why = strings.TrimPrefix(err.Error(), dataplane.ErrUnavailable.Error()+": ")
		reasons = append(reasons, fmt.Errorf("%s: %w", m.Name, err))
	}
	dp := cfg.DataPlane
	if dp.Mode != "ipvs" {
		open := func() (dataplane.Plane, error) {
			p, err := xdp.Open(xdp.Config{Interfaces: dp.NICs(), Mode: dp.Mode, PinDir: dp.Pin, Flows: dp.Flows, Evict: dp.Evict, Log: log})
			if err != nil {
				return nil, err // not a Plane that is nil
			}
			return p, nil
		}
		switch p, err := open(); {
		case err == nil:
			c.XDP.Plane = p
		case dp.Mode != "auto":
			return planes{}, fmt.Errorf("dataplane.mode is %s: %w", dp.Mode, err)
		default:
			missing(&c.XDP, err)
			c.XDP.Open = open
		}
	}
	if p, err := ipvs.Open(ipvs.Config{Log: log}); err != nil {
		missing(&c.IPVS, err)
	} else {
		c.IPVS.Plane = p
	}
	if c.XDP.Plane == nil && c.IPVS.Plane == nil {
		return planes{}, fmt.Errorf("no data plane can forward: %w", errors.Join(reasons...))
	}
	for _, m := range []fallback.Member{c.XDP, c.IPVS} {
		if m.Plane != nil {
			i := m.Plane.Info()
			log.Info("data plane", "plane", i.Name, "mode", i.Mode, "interface", i.Interface, "why", i.Reason, "lease", i.Lease)
		}
	}
	p := planes{both: fallback.New(c)}
	go p.both.Watch(watchPeriod)
	p.table, _ = c.XDP.Plane.(*xdp.Plane)
	if err := p.both.Declare(control.Services(cfg)); err != nil {
		return planes{}, errors.Join(fmt.Errorf("%s: %w", cfg.File, err), p.close())
	}
	return p, nil
}

// list is the plane there is, for the director.
func (p planes) list() []dataplane.Plane {
	if p.both == nil {
		return nil
	}
	return []dataplane.Plane{p.both}
}

func (p planes) carriers() control.Carriers {
	if p.both == nil {
		return nil
	}
	return p.both
}

// renew grants all planes that keep a lease a time. ErrNoLease if none does.
func (p planes) renew(d time.Duration) error {
	if p.both == nil {
		return dataplane.ErrNoLease
	}
	return p.both.Renew(d)
}

func (p planes) close() error {
	if p.both == nil {
		return nil
	}
	return p.both.Close()
}
