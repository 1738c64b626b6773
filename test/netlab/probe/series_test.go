package probe

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

const ms = time.Millisecond

func TestSeries(t *testing.T) {
	for _, tc := range []struct {
		name  string
		end   time.Duration
		shots []Shot
		gap   Gap
		lost  int
		stall time.Duration
	}{
		{name: "nothing asked"},
		{name: "nothing answered", end: 5 * ms, shots: []Shot{{1 * ms, Never}, {2 * ms, Never}}, gap: Gap{0, 5 * ms}, lost: 2, stall: ms},
		{name: "all well", end: 4 * ms, shots: []Shot{{0, ms}, {ms, 2 * ms}, {2 * ms, 3 * ms}}, gap: Gap{0, ms}, stall: ms},
		{name: "silence in the middle", end: 12 * ms,
			shots: []Shot{{0, ms}, {ms, Never}, {2 * ms, Never}, {9 * ms, 10 * ms}, {10 * ms, 11 * ms}}, gap: Gap{ms, 10 * ms}, lost: 2, stall: 7 * ms},
		{name: "never came back", end: 20 * ms, shots: []Shot{{0, ms}, {ms, Never}}, gap: Gap{ms, 20 * ms}, lost: 1, stall: ms},
		{name: "answers out of order", end: 9 * ms, shots: []Shot{{0, 8 * ms}, {ms, 2 * ms}, {2 * ms, 4 * ms}}, gap: Gap{4 * ms, 8 * ms}, stall: ms},
		{name: "an answer after the end", end: 3 * ms, shots: []Shot{{0, ms}, {2 * ms, 7 * ms}}, gap: Gap{ms, 7 * ms}, stall: 2 * ms},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := Series{End: tc.end, Shots: tc.shots}
			if got := s.Gap(); got != tc.gap {
				t.Errorf("Gap() = %+v, want %+v", got, tc.gap)
			}
			if got := s.Lost(); got != tc.lost {
				t.Errorf("Lost() = %d, want %d", got, tc.lost)
			}
			if got := s.Stall(); got != tc.stall {
				t.Errorf("Stall() = %v, want %v", got, tc.stall)
			}
		})
	}
}

// No two neighbouring answers are further apart than the gap says, and losing
// an answer never makes it smaller.
func TestGapIsTheLongest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s Series
		var at time.Duration
		for _, step := range rapid.SliceOfN(rapid.IntRange(1, 50), 1, 40).Draw(t, "steps") {
			at += time.Duration(step) * ms
			s.Shots = append(s.Shots, Shot{at, at + ms/2})
		}
		s.End = at + ms
		gap := s.Gap()
		prev := time.Duration(0)
		for _, shot := range s.Shots {
			if d := shot.Answered - prev; d > gap.Length() {
				t.Fatalf("answers %v apart, gap is %v", d, gap.Length())
			}
			prev = shot.Answered
		}
		s.Shots[rapid.IntRange(0, len(s.Shots)-1).Draw(t, "lost")].Answered = Never
		if less := s.Gap(); less.Length() < gap.Length() {
			t.Fatalf("without an answer the gap went from %v to %v", gap.Length(), less.Length())
		}
	})
}

func TestSeqOf(t *testing.T) {
	if _, ok := seqOf(0, 0); ok {
		t.Error("an answer before any question")
	}
	if _, ok := seqOf(5, 3); ok {
		t.Error("an answer to a question not asked yet")
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 1<<20).Draw(t, "sent")
		seq := n - 1 - rapid.IntRange(0, min(n-1, 1<<16-1)).Draw(t, "back")
		if got, ok := seqOf(uint16(seq), n); !ok || got != seq {
			t.Fatalf("seqOf(%#x, %d) = %d, %v; want %d", uint16(seq), n, got, ok, seq)
		}
	})
}

func TestMedian(t *testing.T) {
	d := []time.Duration{9, 1, 5}
	if got := Median(d); got != 5 || d[0] != 9 {
		t.Errorf("odd: %d, argument now %v", got, d)
	}
	if got := Median([]time.Duration{4, 8}); got != 6 {
		t.Errorf("even: %d", got)
	}
	if got := Median(nil); got != 0 {
		t.Errorf("none: %d", got)
	}
}

func TestJudge(t *testing.T) {
	names := []string{"node1", "node2"}
	ticks := []Tick{
		{At: 0, ARP: 1, Forward: 1},
		{At: 5 * ms, ARP: 1, Forward: 0},
		{At: 10 * ms},
		{At: 15 * ms, ARP: 2, Forward: 3}, // a planned hand-over
		{At: 20 * ms, ARP: 3, Forward: 2},
		{At: 25 * ms, ARP: 1, Forward: 2}, // one says so, the other does it
		{At: 30 * ms, ARP: 2, Forward: 2},
	}
	want := Owners{
		Ticks: 7, Nobody: 1,
		ARP:     map[string]int{"node1": 4, "node2": 3},
		Forward: map[string]int{"node1": 2, "node2": 4},
		TwoARP:  1, TwoForward: 1, Two: 3, First: 15 * ms,
	}
	if diff := cmp.Diff(want, judge(ticks, names)); diff != "" {
		t.Error(diff)
	}
	if got := judge(ticks[:3], names); got.Two != 0 || got.First != Never {
		t.Errorf("one owner: %+v", got)
	}
	if got, want := judge(ticks, names).String(), "node1 4, node2 4, nobody 1 of 7 questions"; got != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
}
