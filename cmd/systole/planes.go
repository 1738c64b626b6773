package main

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"systole/control"
	"systole/control/config"
	"systole/dataplane"
	"systole/dataplane/ipvs"
	"systole/dataplane/xdp"
)

// planes are the data planes of this machine, the one that forwards first, and
// those it cannot have.
type planes struct {
	open   []dataplane.Plane
	absent []control.PlaneState
}

// openPlanes opens XDP (native, else generic) and, with the same table, kernel
// IPVS where the kernel has it. One is enough; none is an error, but on a
// witness, which has none.
func openPlanes(cfg *config.Config, log *slog.Logger) (planes, error) {
	var p planes
	if cfg.Witness() {
		return p, nil
	}
	var reasons []error
	missing := func(name string, err error) {
		log.Warn("data plane not available", "plane", name, "why", err)
		p.absent = append(p.absent, control.PlaneState{Info: dataplane.Info{Name: name, Reason: err.Error()}, Absent: true})
		reasons = append(reasons, fmt.Errorf("%s: %w", name, err))
	}
	dp := cfg.DataPlane
	if dp.Mode != "ipvs" {
		x, err := xdp.Open(xdp.Config{Interface: dp.Interface, Mode: dp.Mode, PinDir: dp.Pin, Flows: dp.Flows, Log: log})
		switch {
		case err == nil:
			p.open = append(p.open, x)
		case dp.Mode != "auto":
			return p, fmt.Errorf("dataplane.mode is %s: %w", dp.Mode, err)
		default:
			missing("xdp", err)
		}
	}
	v, err := ipvs.Open(ipvs.Config{Log: log})
	if err != nil {
		missing("ipvs", err)
	} else {
		p.open = append(p.open, v)
	}
	if len(p.open) == 0 {
		return p, fmt.Errorf("no data plane can forward: %w", errors.Join(reasons...))
	}
	for _, pl := range p.open {
		i := pl.Info()
		log.Info("data plane", "plane", i.Name, "mode", i.Mode, "interface", i.Interface, "why", i.Reason, "lease", i.Lease)
	}
	return p, nil
}

// renew grants all planes that keep a lease a time. ErrNoLease if none does.
func (p planes) renew(d time.Duration) error {
	err := dataplane.ErrNoLease
	for _, pl := range p.open {
		switch e := pl.Renew(d); {
		case errors.Is(e, dataplane.ErrNoLease):
		case e != nil:
			return fmt.Errorf("%s: %w", pl.Info().Name, e)
		default:
			err = nil
		}
	}
	return err
}

func (p planes) close() error {
	var errs []error
	for _, pl := range p.open {
		errs = append(errs, pl.Close())
	}
	return errors.Join(errs...)
}
