package probe

import (
	"slices"
	"time"
)

// Never stands for the answer time of a probe that got none.
const Never time.Duration = -1

// Shot is one question: when it was sent and when its answer came, both since
// the start of the series.
type Shot struct {
	Sent, Answered time.Duration
}

// Series is what a probe at a fixed pace has seen, in the order of sending.
type Series struct {
	Start time.Time
	End   time.Duration // when watching ended; a silence up to then counts
	Shots []Shot
}

// Gap is a time without answers.
type Gap struct {
	From, To time.Duration // the answers before and after it
}

// Length of the gap.
func (g Gap) Length() time.Duration { return g.To - g.From }

// Gap is the longest time between two consecutive answers, in the order in
// which they came. The start of the series and its end count as answers, so
// a service that never came back has a gap up to the end.
func (s Series) Gap() Gap {
	answers := make([]time.Duration, 0, len(s.Shots)+1)
	for _, shot := range s.Shots {
		if shot.Answered != Never {
			answers = append(answers, shot.Answered)
		}
	}
	slices.Sort(answers)
	answers = append(answers, max(s.End, lastOf(answers)))
	var longest Gap
	var before time.Duration
	for _, at := range answers {
		if g := (Gap{before, at}); g.Length() > longest.Length() {
			longest = g
		}
		before = at
	}
	return longest
}

func lastOf(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	return d[len(d)-1]
}

// Lost counts the questions without an answer.
func (s Series) Lost() int {
	n := 0
	for _, shot := range s.Shots {
		if shot.Answered == Never {
			n++
		}
	}
	return n
}

// Stall is the longest time between two questions: how long the probe itself
// was held up. A gap is known no better than this.
func (s Series) Stall() time.Duration {
	var longest time.Duration
	for i := 1; i < len(s.Shots); i++ {
		longest = max(longest, s.Shots[i].Sent-s.Shots[i-1].Sent)
	}
	return longest
}

// Median of some durations; zero for none.
func Median(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	d = slices.Sorted(slices.Values(d))
	return (d[(len(d)-1)/2] + d[len(d)/2]) / 2
}

// seqOf finds which question an answer belongs to: the latest one, of the n
// sent so far, whose number ends in these 16 bits. ok is false if none does.
func seqOf(id uint16, n int) (seq int, ok bool) {
	if n == 0 {
		return 0, false
	}
	last := n - 1
	seq = last - int(uint16(last)-id)
	return seq, seq >= 0
}
