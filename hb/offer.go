package hb

import (
	"time"

	"systole/hb/wire"
)

// offerLimit is how many of our messages may be unacknowledged when one is
// offered. The rest of the window, up to flowLimit, is for Submit: a program
// that sends as fast as it can must not keep takeover from speaking.
const offerLimit = flowLimit - 50

// Offer is Submit for messages that can wait, those of programs. It fails with
// ErrFlow earlier than Submit does, so that a part of the window (section 6.4)
// always remains for Submit. It returns the number the message was sent with.
func (c *Core) Offer(now time.Time, m wire.Message) (seq uint64, err error) {
	if c.flow && c.unacked() > offerLimit && !c.stopped {
		return 0, ErrFlow
	}
	if err := c.Submit(now, m); err != nil {
		return 0, err
	}
	return c.history.newest, nil
}
