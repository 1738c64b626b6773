package takeover

import (
	"testing"

	"pgregory.net/rapid"
)

func TestEpochsOnTheWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := epochs{rapid.Uint64().Draw(t, "local"), rapid.Uint64().Draw(t, "foreign")}
		if got, err := parseEpochs(e.String()); err != nil || got != e {
			t.Fatalf("%v -> %v, %v", e, got, err)
		}
	})
	for _, s := range []string{"", "1", "/", "1/", "/1", "x/1", "1/-1", "1/2/3", "1 /2", "10000000000000000/0"} {
		if e, err := parseEpochs(s); err == nil {
			t.Errorf("%q was read as %v", s, e)
		}
	}
}

// Of two holders of a class exactly one loses it, and both say which.
func TestOneOfTwoHoldersIsWeaker(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		number := rapid.Uint64Range(0, 3)
		a := epochs{number.Draw(t, "a local"), number.Draw(t, "a foreign")}
		b := epochs{number.Draw(t, "b local"), number.Draw(t, "b foreign")} // in b's words
		c := Class(rapid.IntRange(0, int(All)).Draw(t, "class"))
		lostByA := weaker(c, a, b.inverse())
		lostByB := weaker(c.Inverse(), b, a.inverse()).Inverse()
		if lostByA&lostByB != None || lostByA|lostByB != c {
			t.Fatalf("of %s a %v loses %s, b %v loses %s", c, a, lostByA, b, lostByB)
		}
	})
}
