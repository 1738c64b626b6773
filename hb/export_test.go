package hb

import "time"

// FreshDeadline is Deadline without what is remembered of the peers.
func (c *Core) FreshDeadline() time.Time {
	c.stir()
	return c.earliestDeadline()
}
