package vip

import "time"

// repeats are the times of the pairs that follow the first, counted from it.
// The burst is for frames lost on the way; the late ones are for switches that
// block a port for a while after link-up (spanning tree: up to 30 s), and for
// hosts that had no entry to correct at the time.
var repeats = [...]time.Duration{
	100 * time.Millisecond,
	200 * time.Millisecond,
	300 * time.Millisecond,
	400 * time.Millisecond,
	500 * time.Millisecond,
	1 * time.Second,
	5 * time.Second,
	30 * time.Second,
}

// schedule is one run through repeats. The zero value has not begun.
type schedule struct {
	start time.Time
	done  int // how many of repeats lie behind
}

// begin starts the run: the first pair is sent at now, by the caller.
func begin(now time.Time) schedule { return schedule{start: now} }

// next is the wait from now until the next pair, or false when there is none
// left. Pairs that have become overdue meanwhile are left out: after a stall
// one announcement says as much as five.
func (s *schedule) next(now time.Time) (time.Duration, bool) {
	since := now.Sub(s.start)
	for s.done < len(repeats) && repeats[s.done] <= since {
		s.done++
	}
	if s.done == len(repeats) {
		return 0, false
	}
	return repeats[s.done] - since, true
}
