package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"systole/control"
	"systole/control/api"
)

// handoverPatience is how long standby and takeover wait to see it done.
const handoverPatience = 15 * time.Second

type standbyCmd struct {
	Class string `arg:"" optional:"" default:"all" enum:"all,local,foreign" help:"all, local (groups that prefer this node) or foreign."`
	socketFlag
}

func (c standbyCmd) Run(ctx context.Context) error {
	return handover(ctx, c.client(), "standby", c.Class, func(s *control.State) bool { return released(s, c.Class) })
}

type takeoverCmd struct {
	Class string `arg:"" optional:"" default:"all" enum:"all,local,foreign" help:"all, local (groups that prefer this node) or foreign."`
	socketFlag
}

func (c takeoverCmd) Run(ctx context.Context) error {
	return handover(ctx, c.client(), "takeover", c.Class, func(s *control.State) bool { return acquired(s, c.Class) })
}

// handover starts one and waits until the director shows that it is done.
func handover(ctx context.Context, c *api.Client, what, class string, done func(*control.State) bool) error {
	ctx, cancel := context.WithTimeout(ctx, handoverPatience)
	defer cancel()
	begin := time.Now()
	var err error
	if what == "standby" {
		err = c.Standby(ctx, class)
	} else {
		err = c.Takeover(ctx, class)
	}
	if err != nil {
		return err
	}
	for {
		s, err := c.Status(ctx)
		switch {
		case err == nil && done(s) && s.Takeover.Standby == "idle":
			fmt.Fprintf(os.Stdout, "%s %s: done in %v; %s holds %s\n", what, class, time.Since(begin).Round(time.Millisecond), s.Node, s.Holds)
			return nil
		case err != nil && ctx.Err() == nil:
			return fmt.Errorf("%s %s was begun, but it is not known to be done: %w", what, class, err)
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return ctx.Err()
			}
			return fmt.Errorf("%s %s was begun, but is not done after %v; see `systole status` and the peer's log", what, class, handoverPatience)
		}
	}
}

func released(s *control.State, class string) bool {
	return s.Holds == "none" || (class != "all" && s.Holds != "all" && s.Holds != class)
}

func acquired(s *control.State, class string) bool {
	return s.Holds == "all" || s.Holds == class
}

type quiesceCmd struct{ serverArgs }
type resumeCmd struct{ serverArgs }

type serverArgs struct {
	Server  string `arg:"" help:"Address of the real server."`
	Service string `arg:"" optional:"" help:"Only in this virtual service, e.g. 192.168.145.101:80/tcp; default: all."`
	socketFlag
}

func (c quiesceCmd) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return c.client().Quiesce(ctx, c.Server, c.Service)
}

func (c resumeCmd) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return c.client().Resume(ctx, c.Server, c.Service)
}

type reloadCmd struct{ socketFlag }

func (c reloadCmd) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := c.client().Reload(ctx); err != nil {
		return err
	}
	fmt.Println("config loaded")
	return nil
}
