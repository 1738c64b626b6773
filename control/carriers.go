package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"systole/control/config"
	"systole/dataplane"
	"systole/dataplane/fallback"
)

// Carriers are the planes of which one carries a service (fallback.Plane).
type Carriers interface {
	Declare([]dataplane.Service) error
	Choose(fallback.Choice) error
	Tend() (again bool)
	Report() fallback.Report
}

// carried is what was last told of who carries what.
type carried struct {
	services map[dataplane.ServiceKey]string // "xdp", "ipvs: why"
	errors   map[string]string               // of the planes that refused, by name
}

// ChoosePlane says which plane is to carry the services: "auto", "xdp" or
// "ipvs". It returns when they follow, or with the reason why they do not.
func (d *Director) ChoosePlane(ctx context.Context, plane string) error {
	choice, err := fallback.ParseChoice(plane)
	if err != nil {
		return err
	}
	return d.do(ctx, func() error {
		if d.cfg.Witness() {
			return fmt.Errorf("plane: %w", d.noDirector())
		}
		if d.Carriers == nil {
			return errors.New("plane: there is one data plane only")
		}
		if err := d.Carriers.Choose(choice); err != nil {
			return err
		}
		d.event("operator", slog.LevelInfo, "plane %s", choice)
		return d.follow(fmt.Sprintf("plane %s is chosen", choice))
	})
}

// declare tells the planes the services of a config, and is why it cannot be.
func (d *Director) declare(cfg *config.Config) error {
	if d.Carriers == nil {
		return nil
	}
	return d.Carriers.Declare(Services(cfg))
}

// tendCarriers is housekeeping.
func (d *Director) tendCarriers() {
	if d.Carriers == nil {
		return
	}
	if d.Carriers.Tend() {
		d.dirty = true
	}
	d.noteCarriers()
}

// noteCarriers tells what has changed about who carries what.
func (d *Director) noteCarriers() {
	if d.Carriers == nil {
		return
	}
	r := d.Carriers.Report()
	now := carried{make(map[dataplane.ServiceKey]string), make(map[string]string)}
	for _, m := range r.Members {
		if m.Err != nil {
			now.errors[m.Name] = m.Err.Error()
		}
		switch was, is := d.carried.errors[m.Name], now.errors[m.Name]; {
		case is == was:
		case is == "":
			d.event("dataplane", slog.LevelInfo, "%s: follows again with generation %d", m.Name, m.Generation)
		case d.planes[0].Error == "": // else all of them refused, and it has been said
			d.event("dataplane", slog.LevelError, "%s: generation %d stays in force: %s", m.Name, m.Generation, is)
		}
	}
	// Many services change for one reason: they are one event.
	changed := make(map[string][]string)
	for key, c := range r.Carriages {
		text := cmp.Or(c.Plane, "no plane")
		if c.Why != "" {
			text += ": " + c.Why
		}
		now.services[key] = text
		if was, known := d.carried.services[key]; was != text && (known || c.Why != "") {
			changed[text] = append(changed[text], key.String())
		}
	}
	for _, text := range slices.Sorted(maps.Keys(changed)) {
		names := changed[text]
		slices.Sort(names)
		level := slog.LevelInfo
		if strings.HasPrefix(text, "no plane") {
			level = slog.LevelError
		}
		d.event("dataplane", level, "%s carried by %s", some(names), text)
	}
	d.carried = now
}

// some names a few of many.
func some(names []string) string {
	const few = 3
	switch n := len(names); {
	case n == 1:
		return "service " + names[0] + " is"
	case n <= few:
		return "services " + strings.Join(names, ", ") + " are"
	default:
		return fmt.Sprintf("%d services (%s ...) are", n, strings.Join(names[:few], ", "))
	}
}

// carriers puts into the State what the planes report.
func (s *State) carriers(r fallback.Report) {
	s.PlaneChoice = r.Choice.String()
	s.Planes = nil
	for _, m := range r.Members {
		p := PlaneState{Info: m.Info, Generation: m.Generation, Applied: m.Applied, ApplyTook: m.Took, Absent: m.Absent, Leaving: m.Leaving}
		if m.Err != nil {
			p.Error = m.Err.Error()
		}
		s.Planes = append(s.Planes, p)
	}
	for i := range s.Services {
		c := r.Carriages[s.Services[i].Key]
		s.Services[i].Plane, s.Services[i].PlaneWhy = c.Plane, c.Why
	}
}
