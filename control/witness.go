package control

import (
	"errors"
	"fmt"

	"systole/control/takeover"
)

// ErrWitness refuses a command that only a director can obey.
var ErrWitness = errors.New("a witness owns nothing and forwards nothing")

// RoleWitness is the role of a witness in State.
const RoleWitness = "witness"

// witness takes what a director's takeover would: the end alone concerns a node
// that owns nothing.
func (d *Director) witness(in takeover.Input) error {
	switch in.(type) {
	case takeover.Shutdown:
		d.stopped = true
	case takeover.Standby:
		return fmt.Errorf("standby: %w", d.noDirector())
	case takeover.Takeover:
		return fmt.Errorf("takeover: %w", d.noDirector())
	}
	return nil
}

func (d *Director) noDirector() error {
	return fmt.Errorf("%s is no director (cluster.witnesses): %w; ask one of %v", d.cfg.Node, ErrWitness, d.cfg.Cluster.Nodes)
}
