package hb

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestWindow checks the window against the definition: a number is new if it
// was neither received nor given up, and is at or above the first one.
func TestWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w window
		known := map[uint64]bool{} // received or given up
		highest := rapid.Uint64Range(0, 1000).Draw(t, "start")
		first := uint64(0)
		for range rapid.IntRange(1, 300).Draw(t, "n") {
			var seq uint64
			switch rapid.IntRange(0, 9).Draw(t, "kind") {
			case 0:
				seq = highest + rapid.Uint64Range(1, 2*historySize).Draw(t, "jump")
			case 1, 2, 3:
				seq = highest + rapid.Uint64Range(1, 8).Draw(t, "ahead")
			default:
				seq = max(1, highest-min(highest, rapid.Uint64Range(0, 600).Draw(t, "behind")))
			}
			if first == 0 {
				first, highest = seq, seq
			}
			fresh, added, lost := w.receive(seq)
			if want := seq >= first && !known[seq]; fresh != want {
				t.Fatalf("%d: fresh %v, want %v", seq, fresh, want)
			}
			known[seq] = true
			highest = max(highest, seq)
			for _, s := range lost {
				for n := s.first; n <= s.last; n++ {
					if known[n] {
						t.Fatalf("%d is lost, but was known", n)
					}
					known[n] = true
				}
			}
			if w.last != highest {
				t.Fatalf("last %d, want %d", w.last, highest)
			}
			if len(w.missing) >= historySize || added > gapLimit || added > len(w.missing) {
				t.Fatalf("%d missing, %d added", len(w.missing), added)
			}
			if !slices.IsSortedFunc(w.missing, func(a, b missing) int { return int(int64(a.seq) - int64(b.seq)) }) {
				t.Fatalf("missing is not sorted: %v", w.missing)
			}
			// Missing is exactly what is not known.
			var want []uint64
			for n := max(first, highest-min(highest, 2*historySize)); n <= highest; n++ {
				if !known[n] {
					want = append(want, n)
				}
			}
			var got []uint64
			for _, m := range w.missing {
				got = append(got, m.seq)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("missing %v, want %v", got, want)
			}
			contiguous := highest
			if len(want) > 0 {
				contiguous = want[0] - 1
			}
			if w.contiguous() != contiguous {
				t.Fatalf("contiguous %d, want %d", w.contiguous(), contiguous)
			}
		}
	})
}

func TestWindowLimits(t *testing.T) {
	var w window
	w.receive(100)
	if _, added, lost := w.receive(100 + gapLimit + 1); added != gapLimit || lost != nil {
		t.Errorf("a gap of 250: %d added, %v lost", added, lost)
	}
	if _, added, lost := w.receive(351 + gapLimit + 2); added != 0 || !slices.Equal(lost, []span{{101, 350}, {352, 602}}) {
		t.Errorf("a gap of 251: %d added, %v lost", added, lost)
	}
	// A number at the end of the range makes no trouble.
	if fresh, _, lost := w.receive(1<<64 - 1); !fresh || lost[0] != (span{604, 1<<64 - 2}) {
		t.Errorf("the highest number: %v, lost %v", fresh, lost)
	}
	if fresh, _, _ := w.receive(1); fresh {
		t.Error("1 is new after the highest number")
	}
	var restarted window
	restarted.fromOne()
	if _, added, _ := restarted.receive(4); added != 3 || restarted.contiguous() != 0 {
		t.Errorf("after a restart number 4 first: %d added", added)
	}
}
