package hb

import (
	"fmt"
	"time"
)

// reportKind groups reports that share a rate limit.
type reportKind uint8

const (
	reportMalformed reportKind = iota
	reportAuth
	reportStranger
	reportIdentity
	reportReplay
	reportLate
	reportAck
	reportRexmit
	reportBacklog
	reportBacklogError
	reportNodes
	reportEncode
)

// reportPeriod is how often at most one kind of report comes.
const reportPeriod = 10 * time.Second

// limitKey: by peer, so that one bad node does not hide another. The map
// cannot grow beyond kinds x nodes.
type limitKey struct {
	kind reportKind
	peer int
}

type limit struct {
	until   time.Time
	omitted int
}

// report makes a Report unless one of the same kind was made just before.
func (c *Core) report(now time.Time, kind reportKind, peer int, level Level, format string, args ...any) {
	l := c.limits[limitKey{kind, peer}]
	if l == nil {
		l = new(limit)
		c.limits[limitKey{kind, peer}] = l
	}
	if now.Before(l.until) {
		l.omitted++
		return
	}
	text := fmt.Sprintf(format, args...)
	if l.omitted > 0 {
		text += fmt.Sprintf(" (and %d more like this before)", l.omitted)
	}
	l.until, l.omitted = now.Add(reportPeriod), 0
	c.event(Report{level, text})
}
