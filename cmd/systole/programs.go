package main

import (
	"systole/control/broker"
	"systole/hb"
	"systole/hb/driver"
)

// tapped is the heartbeat for the director: its events come by way of the
// broker, which keeps those of programs.
type tapped struct {
	*driver.Driver
	programs *broker.Broker
}

func (t tapped) Events() <-chan hb.Event { return t.programs.Events() }
