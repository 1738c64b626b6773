package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrInvalid is what every Errors is, to be tested with errors.Is: the file
// was read and is not a configuration.
var ErrInvalid = errors.New("invalid configuration")

// Error is one fault of a configuration file and its place.
type Error struct {
	File string
	Line int // from 1
	Col  int // from 1, in characters
	Msg  string
}

// Error is "file:line:col: message".
func (e Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Col, e.Msg)
}

// Errors are all faults of a file in the order of their places, no two alike.
type Errors []Error

// Error is one line for each fault.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i := range e {
		lines[i] = e[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Is makes errors.Is(err, ErrInvalid) true.
func (e Errors) Is(target error) bool { return target == ErrInvalid }

// tidy sorts by place and removes repetitions, which aliases cause: the value
// behind an anchor is read as often as it is used.
func (e Errors) tidy() Errors {
	slices.SortFunc(e, func(a, b Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col), cmp.Compare(a.Msg, b.Msg))
	})
	return slices.Compact(e)
}
