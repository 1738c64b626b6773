package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"systole/control"
)

// Help is what --help says beyond the list of flags.
func (planeCmd) Help() string {
	return `Connections outlive a change. The plane that gives a service up goes on with
what it has, and its connections are copied to the other one. If XDP is lost
(another program in its place, the interface gone) IPVS goes on with its
connections, and gives them back when XDP is attached again; packets that come
within the hundredths of a second until IPVS has them are answered with a reset.
So before XDP is taken off on purpose, say "plane ipvs", and wait for
"connections carried" in the log.`
}

type planeCmd struct {
	Plane string `arg:"" optional:"" default:"" enum:",auto,xdp,ipvs" help:"xdp: XDP carries what it can, and IPVS has none of it; ipvs: IPVS carries what it can; auto: XDP, and IPVS where XDP cannot or is down. Default: show it."`
	socketFlag
}

func (c planeCmd) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if c.Plane != "" {
		if err := c.client().ChoosePlane(ctx, c.Plane); err != nil {
			return err
		}
	}
	s, err := c.client().Status(ctx)
	if err != nil {
		return err
	}
	return writePlanes(os.Stdout, s)
}

// writePlanes renders what carries what, and why.
func writePlanes(w io.Writer, s *control.State) error {
	fmt.Fprintf(w, "plane %s\n\n", orDash(s.PlaneChoice))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	tablePlanes(t, s.Planes)
	fmt.Fprintln(t, "\nSERVICE\tPLANE\tWHY")
	for _, svc := range s.Services {
		fmt.Fprintf(t, "%s\t%s\t%s\n", svc.Service, orDash(svc.Plane), svc.PlaneWhy)
	}
	return t.Flush()
}

func tablePlanes(w io.Writer, planes []control.PlaneState) {
	fmt.Fprintln(w, "PLANE\tMODE\tINTERFACE\tGENERATION\tSTATE")
	for _, p := range planes {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\n", p.Name, orDash(p.Mode), orDash(p.Interface), p.Generation, planeState(p))
	}
	for _, p := range planes {
		tableInterfaces(w, p)
	}
}

// tableInterfaces has a line for each of several interfaces; one is told of with
// its plane.
func tableInterfaces(w io.Writer, p control.PlaneState) {
	if len(p.Interfaces) < 2 {
		return
	}
	fmt.Fprintln(w, "\nINTERFACE\tMODE\tIN\tOUT\tWHY")
	for _, i := range p.Interfaces {
		name := i.Name
		if len(i.Members) > 0 {
			name += " (" + strings.Join(i.Members, ", ") + ")"
		}
		c := p.Traffic[i.Name]
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\n", name, i.Mode, c.InPackets, c.OutPackets, i.Reason)
	}
}

// carrier is the plane that carries a service, for the table of services: as
// IPVS names it, with its reason if there is one.
func carrier(svc control.ServiceState) string {
	switch {
	case svc.PlaneWhy == "":
		return svc.Plane
	case svc.Plane == "":
		return "no plane: " + svc.PlaneWhy
	}
	return svc.Plane + ": " + svc.PlaneWhy
}
