package hb

import (
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

// TestHex: it reads what package strconv reads.
func TestHex(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(
			rapid.StringMatching(`[0-9a-fA-F]{0,20}`), rapid.StringMatching(`0{0,20}[1f][0-9a-f]{15}`), rapid.StringMatching(`[ -~]{0,5}`),
		).Draw(t, "text")
		want, err := strconv.ParseUint(text, 16, 64)
		got, ok := hex([]byte(text))
		if ok != (err == nil) || ok && got != want {
			t.Fatalf("%q: got %d %v, want %d %v", text, got, ok, want, err)
		}
	})
}
