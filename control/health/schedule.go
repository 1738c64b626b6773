package health

import (
	"container/heap"
	"hash/fnv"
	"time"
)

// target is a server that is being checked.
type target struct {
	id    ID
	check Check

	state            hysteresis
	checks, failures uint64

	due   time.Time // of the next check
	base  time.Time // the grid of its checks is base + n x interval
	index int       // in the schedule; -1 while it is being checked
	stop  func()    // ends the check under way
	gone  bool      // replaced or removed: nobody wants the result
}

// next is when t is checked after the check that was due at t.due has ended at
// now: on its grid, skipping what has been missed. The grid begins with the
// first check's end, at a phase that depends on the target alone, so that
// targets that begin together part at once, and evenly.
func (t *target) next(now time.Time) time.Time {
	every := t.check.Interval
	if t.base.IsZero() {
		t.base = t.due.Add(every/2 + phase(t.id, every))
		if t.base.After(now) {
			return t.base
		}
	}
	return t.base.Add((now.Sub(t.base)/every + 1) * every)
}

// phase is a part of every that is fixed for an ID and evenly spread over IDs.
func phase(id ID, every time.Duration) time.Duration {
	h := fnv.New64a()
	h.Write([]byte(id.Service))
	a := id.Server.As16()
	h.Write(a[:])
	// FNV's low bits are the good ones; the mixing is that of MurmurHash3's end.
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return time.Duration(x % uint64(every))
}

// schedule is a heap of the targets that wait, the next one first.
type schedule []*target

func (s schedule) Len() int           { return len(s) }
func (s schedule) Less(i, j int) bool { return s[i].due.Before(s[j].due) }
func (s schedule) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].index, s[j].index = i, j
}

// Push implements heap.Interface.
func (s *schedule) Push(x any) {
	t := x.(*target)
	t.index = len(*s)
	*s = append(*s, t)
}

// Pop implements heap.Interface.
func (s *schedule) Pop() any {
	old := *s
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*s = old[:len(old)-1]
	t.index = -1
	return t
}

func (s *schedule) add(t *target) { heap.Push(s, t) }

func (s *schedule) remove(t *target) {
	if t.index >= 0 {
		heap.Remove(s, t.index)
	}
}

// take removes the next target if it is due at now; nil if none is.
func (s *schedule) take(now time.Time) *target {
	if len(*s) == 0 || (*s)[0].due.After(now) {
		return nil
	}
	return heap.Pop(s).(*target)
}
