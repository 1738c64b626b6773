package main

import (
	"errors"
	"fmt"
	"os"

	"systole/control/config"
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
	fmt.Print(config.Summary(cfg))
	return nil
}
