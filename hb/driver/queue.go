package driver

import (
	"fmt"

	"systole/hb"
)

// queue holds the events that wait for their reader: in order, and at most
// limit of them. From half of it on Reports are left out, which anybody can
// cause, and suspicions, of which a lossy network has many, so that there is
// room for the others, which are few.
type queue struct {
	limit     int
	events    []hb.Event
	head      int // events before it are gone
	dropped   int // Reports left out since the last one that was not
	overflown bool
}

func (q *queue) len() int { return len(q.events) - q.head }

// push is false if e was left out.
func (q *queue) push(e hb.Event) bool {
	if mere(e) && q.len() >= q.limit/2 {
		q.dropped++
		return false
	}
	if q.dropped > 0 && q.len() < q.limit/2 {
		q.add(hb.Report{Level: hb.Warn, Text: fmt.Sprintf("%d reports were left out: heartbeat events were not read in time", q.dropped)})
		q.dropped = 0
	}
	q.add(e)
	return true
}

// mere: nobody acts on the event.
func mere(e hb.Event) bool {
	switch e.(type) {
	case hb.Report, hb.Suspected, hb.Cleared:
		return true
	}
	return false
}

func (q *queue) add(e hb.Event) {
	if q.len() >= q.limit {
		q.overflown = true
		return
	}
	if q.head > 0 && len(q.events) == cap(q.events) {
		n := copy(q.events, q.events[q.head:])
		clear(q.events[n:])
		q.events, q.head = q.events[:n], 0
	}
	q.events = append(q.events, e)
}

// first is the oldest event, or nil.
func (q *queue) first() hb.Event {
	if q.len() == 0 {
		return nil
	}
	return q.events[q.head]
}

// pop removes the oldest event.
func (q *queue) pop() {
	q.events[q.head] = nil
	if q.head++; q.head == len(q.events) {
		q.events, q.head = q.events[:0], 0
	}
}
