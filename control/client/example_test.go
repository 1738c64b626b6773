package client_test

import (
	"context"
	"fmt"

	"systole/control/broker/brokertest"
	"systole/control/client"
)

// A program that announces a release to the programs on all directors, and
// hears them announce theirs.
func Example() {
	socket, stop := director(brokertest.New()) // in earnest: client.DefaultSocket
	defer stop()

	c := client.New(socket)
	defer c.Close()
	ctx := context.Background()
	for e, err := range c.Listen(ctx, client.Wanted{Types: []string{"app.release"}}) {
		if err != nil {
			fmt.Println("no more events:", err) // ask again, and look at the new snapshot
			break
		}
		switch e.Kind {
		case client.KindStart: // from now on nothing is missed
			sent, err := c.Send(ctx, client.Message{Type: "app.release", Fields: map[string]string{"version": "7"}})
			if err != nil {
				fmt.Println("not announced:", err)
				return
			}
			fmt.Printf("announced as message %d of %s\n", sent.Seq, sent.Node)
		case client.KindNode:
			fmt.Printf("%s is %s\n", e.Node, e.Status)
		case client.KindLink:
			fmt.Printf("%s on %s: %s\n", e.Node, e.Medium, e.State)
		case client.KindMessage:
			fmt.Printf("%s runs release %s\n", e.Node, e.Fields["version"])
			return
		}
	}
	// Output:
	// announced as message 1 of node1
	// node1 is active
	// node2 is active
	// node2 on ucast eth0: up
	// node2 on serial ttyS0: dead
	// node1 runs release 7
}
