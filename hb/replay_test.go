package hb

import (
	"testing"

	"pgregory.net/rapid"
)

// TestReplayWindow compares the window with a set of all numbers that came.
func TestReplayWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w replayWindow
		seen := map[uint64]bool{}
		top := uint64(0)
		for range rapid.IntRange(1, 300).Draw(t, "numbers") {
			var n uint64
			switch rapid.IntRange(0, 9).Draw(t, "kind") {
			case 0:
				n = rapid.Uint64Range(0, top+1000).Draw(t, "any")
			case 1:
				n = top + replayWidth + rapid.Uint64Range(0, 2).Draw(t, "far") - 1
			case 2:
				n = top - min(top, replayWidth+rapid.Uint64Range(0, 2).Draw(t, "old")-1)
			default:
				n = top + 5 - min(top+5, rapid.Uint64Range(0, 20).Draw(t, "near"))
			}
			tooOld := top >= replayWidth && n <= top-replayWidth
			want := n > 0 && !seen[n] && !tooOld
			if got := w.accept(n); got != want {
				t.Fatalf("number %d with top %d: accepted %v, want %v", n, top, got, want)
			}
			if want {
				seen[n] = true
			}
			top = max(top, w.top)
			if w.top != top || want && top < n {
				t.Fatalf("top is %d after %d", w.top, n)
			}
		}
	})
}
