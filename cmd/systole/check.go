package main

import (
	"errors"
	"fmt"
	"os"

	"systole/control"
	"systole/control/config"
	"systole/dataplane/fallback"
	"systole/dataplane/ipvs"
	"systole/dataplane/xdp"
)

type checkCmd struct {
	File      string `short:"f" help:"Config file." default:"/etc/systole/systole.yaml" placeholder:"FILE"`
	Node      string `help:"Check it as this node would read it; default: the node in the file, else any." placeholder:"NAME"`
	Reference bool   `help:"Print the commented reference config instead."`
}

func (c checkCmd) Run() error {
	if c.Reference {
		_, err := os.Stdout.Write(config.Reference)
		return err
	}
	cfg, err := config.Load(c.File, c.Node)
	var faults config.Errors
	if errors.As(err, &faults) {
		// One line a fault on stdout would mix with data; errors go to stderr.
		for _, f := range faults {
			fmt.Fprintln(os.Stderr, f.Error())
		}
		return exitCode(1)
	}
	if err != nil {
		return err
	}
	carried, err := carriers(cfg)
	if err != nil {
		return fmt.Errorf("%s: %w", cfg.File, err)
	}
	fmt.Print(config.Summary(cfg))
	for _, line := range carried {
		fmt.Println(line)
	}
	for _, w := range config.Warnings(cfg) {
		fmt.Fprintln(os.Stderr, "warning:", w)
	}
	return nil
}

// carriers says of each service which the XDP plane does not carry, or IPVS
// could not take over, that it is so and why. It goes by what the planes can do,
// not by what this machine has.
func carriers(cfg *config.Config) ([]string, error) {
	x := fallback.Candidate{Name: "xdp", Carries: xdp.Carries}
	if cfg.DataPlane.Mode == "ipvs" {
		x.Absent = notWanted
	}
	services := control.Services(cfg)
	if cfg.Witness() {
		services = nil
	}
	cs, err := fallback.Decide(services, x, fallback.Candidate{Name: "ipvs", Carries: ipvs.Carries}, fallback.Auto)
	if err != nil {
		return nil, err
	}
	var out []string
	for i, c := range cs {
		switch {
		case c.Plane == "ipvs" && x.Absent == "":
			out = append(out, fmt.Sprintf("service %s is carried by ipvs, not by xdp: %s", c.Service, c.Why))
		case c.Plane == "xdp" && !c.Holds[1]:
			out = append(out, fmt.Sprintf("service %s has no fallback in ipvs: %v", c.Service, ipvs.Carries(services[i])))
		}
	}
	return out, nil
}
