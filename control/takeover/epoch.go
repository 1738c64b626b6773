package takeover

import (
	"fmt"
	"strconv"
	"strings"
)

// epochs are the numbers of the last acquisitions, by class: each is one more
// than all seen so far, so of two owners the higher one is the later. They are
// relative and survive no restart.
//
// They are counted by class, for in a partition both directors acquire what
// the other one had: each class has its own later owner.
type epochs struct{ local, foreign uint64 }

// inverse is the same in the peer's words.
func (e epochs) inverse() epochs { return epochs{e.foreign, e.local} }

func (e epochs) latest() uint64 { return max(e.local, e.foreign) }

// set books an acquisition of c.
func (e *epochs) set(c Class, n uint64) {
	if c&Local != 0 {
		e.local = n
	}
	if c&Foreign != 0 {
		e.foreign = n
	}
}

// String is the form on the wire: hexadecimal, "local/foreign".
func (e epochs) String() string {
	return strconv.FormatUint(e.local, 16) + "/" + strconv.FormatUint(e.foreign, 16)
}

func parseEpochs(s string) (e epochs, err error) {
	local, foreign, ok := strings.Cut(s, "/")
	if ok {
		if e.local, err = strconv.ParseUint(local, 16, 64); err == nil {
			e.foreign, err = strconv.ParseUint(foreign, 16, 64)
		}
	}
	if !ok || err != nil {
		return epochs{}, fmt.Errorf("%q: want two hexadecimal numbers, local/foreign", s)
	}
	return e, nil
}

// weaker is what of c the first holder loses to the second: to the higher
// epoch, and of equal ones to the preferred node. Both in the words of the
// first.
func weaker(c Class, first, second epochs) Class {
	lost := None
	if second.local > first.local {
		lost |= Local
	}
	if second.foreign >= first.foreign {
		lost |= Foreign
	}
	return lost & c
}
