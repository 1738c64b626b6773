package driver

import (
	"time"

	"systole/hb/wire"
)

// Offer is Submit for messages that can wait: see hb.Core.Offer. It returns
// the number the message was sent with.
func (d *Driver) Offer(m wire.Message) (seq uint64, err error) {
	if stopped := d.do(func(now time.Time) { seq, err = d.core.Offer(now, m) }); stopped != nil {
		return 0, stopped
	}
	return seq, err
}
