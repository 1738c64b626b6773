package driver

import (
	"fmt"
	"time"

	"systole/hb"
)

// noticeBuffer is how many notices wait for the loop. A suspicion asks some
// dozens of times.
const noticeBuffer = 256

// notice is one on its way from Hosts to the loop.
type notice struct {
	hb.Notice
	at time.Time // when it was read
}

// readHosts ends with Hosts, or with d.stop.
func (d *Driver) readHosts() {
	for {
		n, err := d.cfg.Hosts.Receive()
		at := time.Now()
		if err != nil {
			select {
			case <-d.stop:
			case d.troubles <- hb.Report{Level: hb.Warn, Text: fmt.Sprintf("the machines of the other nodes cannot be asked any more, so that they die at their dead time only: %v", err)}:
			}
			return
		}
		select {
		case d.notices <- notice{n, at}:
		case <-d.stop:
			return
		}
	}
}
