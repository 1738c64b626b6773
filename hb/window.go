package hb

import (
	"slices"
	"time"
)

// window is what has been received of one sender's sequence numbers
// (section 6.2). Messages are accepted as they come; the window only knows
// which numbers below the highest are still missing.
type window struct {
	last    uint64 // highest number accepted
	started bool   // last says something
	missing []missing
}

// missing is a number that was skipped, and when to ask for it.
type missing struct {
	seq   uint64
	due   time.Time
	asked bool // it was asked for
}

// span is a range of sequence numbers, both ends included.
type span struct{ first, last uint64 }

// fromOne makes the new window of a node that restarted before our eyes expect
// number 1. The original takes whatever number comes first; what was lost
// before it would go unnoticed.
func (w *window) fromOne() { w.last, w.started = 0, true }

// receive takes note of number seq. It says whether that is new; how many
// numbers were added to the end of missing (their due is for the caller to
// set); and which numbers have to be given up.
func (w *window) receive(seq uint64) (fresh bool, added int, lost []span) {
	switch {
	case !w.started:
		w.last, w.started = seq, true
		return true, 0, nil
	case seq == w.last:
		return false, 0, nil
	case seq < w.last:
		return w.drop(seq), 0, nil
	}
	gap := seq - w.last - 1
	if gap > gapLimit {
		lost = append(w.abandon(), span{w.last + 1, seq - 1})
		w.last = seq
		return true, 0, lost
	}
	for n := w.last + 1; n < seq; n++ {
		w.missing = append(w.missing, missing{seq: n})
	}
	w.last = seq
	// What the sender does not keep any more need not be asked for; this also
	// bounds the set.
	if w.last > historySize {
		lost = w.forget(w.last - historySize)
	}
	return true, min(int(gap), len(w.missing)), lost
}

// drop removes seq from the missing numbers; false if it is not missing.
func (w *window) drop(seq uint64) bool {
	i, ok := w.find(seq)
	if ok {
		w.missing = slices.Delete(w.missing, i, i+1)
	}
	return ok
}

// requested: seq is missing and was asked for.
func (w *window) requested(seq uint64) bool {
	i, ok := w.find(seq)
	return ok && w.missing[i].asked
}

func (w *window) find(seq uint64) (int, bool) {
	return slices.BinarySearchFunc(w.missing, seq, func(m missing, seq uint64) int {
		switch {
		case m.seq < seq:
			return -1
		case m.seq > seq:
			return 1
		}
		return 0
	})
}

// forget gives up every missing number up to and including seq.
func (w *window) forget(seq uint64) []span {
	n := 0
	for n < len(w.missing) && w.missing[n].seq <= seq {
		n++
	}
	lost := spans(w.missing[:n])
	w.missing = slices.Delete(w.missing, 0, n)
	return lost
}

// abandon gives up every missing number.
func (w *window) abandon() []span {
	lost := spans(w.missing)
	w.missing = w.missing[:0]
	return lost
}

// contiguous is the number up to which nothing is missing any more.
func (w *window) contiguous() uint64 {
	if len(w.missing) > 0 {
		return w.missing[0].seq - 1
	}
	return w.last
}

// spans joins neighbouring numbers.
func spans(ms []missing) []span {
	var s []span
	for _, m := range ms {
		if n := len(s); n > 0 && s[n-1].last+1 == m.seq {
			s[n-1].last = m.seq
			continue
		}
		s = append(s, span{m.seq, m.seq})
	}
	return s
}
