package control

import (
	"context"
	"fmt"
	"log/slog"
)

// eventsKept is how many events State shows.
const eventsKept = 64

// eventLog is the director's recent history.
type eventLog struct {
	ring []EventState
}

func (l *eventLog) add(e EventState) {
	if len(l.ring) == eventsKept {
		l.ring = append(l.ring[:0], l.ring[1:]...)
	}
	l.ring = append(l.ring, e)
}

// event records something worth telling, in the state and in the log: the same
// words in both.
func (d *Director) event(kind string, level slog.Level, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	d.events.add(EventState{At: d.Now(), Kind: kind, Text: text})
	d.Log.Log(context.Background(), level, text, "kind", kind)
}
