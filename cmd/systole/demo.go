package main

import (
	"context"
	"errors"
	"os"

	"systole/cmd/systole/demo"
)

type demoCmd struct {
	JSON  bool   `help:"One JSON document in place of the text."`
	Keep  bool   `help:"Leave the lab up at the end, until Ctrl-C, and say how to enter each namespace."`
	Pause bool   `help:"Wait for Enter between the steps."`
	Mode  string `help:"dataplane.mode of the directors: auto, native or generic." default:"auto" enum:"auto,native,generic"`
}

func (c demoCmd) Run(ctx context.Context) error {
	err := demo.Run(ctx, demo.Options{
		JSON: c.JSON, Keep: c.Keep, Pause: c.Pause, Mode: c.Mode,
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
	})
	if errors.Is(err, demo.ErrFailed) {
		return exitCode(1) // the report said what
	}
	return err
}
