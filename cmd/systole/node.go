package main

import (
	"context"
	"fmt"
	"strings"
)

type nodeCmd struct {
	Add    nodeAddCmd    `cmd:"" help:"Add nodes to the running cluster; every live node takes them."`
	Remove nodeRemoveCmd `cmd:"" help:"Remove nodes that are dead, while all others are alive."`
}

type nodeNames struct {
	Names []string `arg:"" name:"name" help:"Names of nodes, as \"uname -n\" says on each."`
	socketFlag
}

type nodeAddCmd struct{ nodeNames }
type nodeRemoveCmd struct{ nodeNames }

func (c nodeAddCmd) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := c.client().AddNodes(ctx, c.Names); err != nil {
		return err
	}
	fmt.Printf("added %s; write it under cluster.witnesses of the config, and its address under peers of each ucast medium, too\n", strings.Join(c.Names, " "))
	return nil
}

func (c nodeRemoveCmd) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := c.client().RemoveNodes(ctx, c.Names); err != nil {
		return err
	}
	fmt.Printf("removed %s; take it out of cluster.witnesses of the config, too\n", strings.Join(c.Names, " "))
	return nil
}
