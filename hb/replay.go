package hb

// replayWindow accepts each number once, in any order as long as it is less
// than replayWidth below the highest (the way of RFC 4303 section 3.4.3).
// What is older is refused: it may have been there.
type replayWindow struct {
	top  uint64
	seen [replayWidth / 64]uint64 // number n is bit n mod replayWidth
}

// replayWidth is more than a burst of NS_ messages can get out of order: the
// answer to one request has at most rexmitBurst packets.
const replayWidth = 256

// accept takes note of n, from 1. It is false if n was there or may have been.
func (w *replayWindow) accept(n uint64) bool {
	if n == 0 || w.top >= replayWidth && n <= w.top-replayWidth {
		return false
	}
	if n > w.top {
		// What the ring now stands for anew has not been seen.
		if n-w.top >= replayWidth {
			w.seen = [replayWidth / 64]uint64{}
		} else {
			for m := w.top + 1; m <= n; m++ {
				w.seen[m/64%uint64(len(w.seen))] &^= 1 << (m % 64)
			}
		}
		w.top = n
	}
	word, bit := &w.seen[n/64%uint64(len(w.seen))], uint64(1)<<(n%64)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	return true
}
