package scheduler

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// MaxSlots bounds the table of one service. It is far more than weights that
// somebody chose need, and keeps weights that a program computed from filling
// the plane.
const MaxSlots = 16384

// Errors of Slots, to be tested with errors.Is.
var (
	// ErrUnknown means that there is no scheduler of that name.
	ErrUnknown = errors.New("unknown scheduler")
	// ErrTooManySlots means that the weights have too large a sum once
	// divided by their common divisor.
	ErrTooManySlots = errors.New("weights need too many slots")
)

// schedulers is the registry, by the names LVS knows them by.
var schedulers = map[string]func(weights []uint32) ([]int, error){
	"rr":  roundRobin,
	"wrr": weighted,
}

// Names lists the schedulers in alphabetical order.
func Names() []string {
	return slices.Sorted(maps.Keys(schedulers))
}

// Slots returns the table of one cycle: each element is an index into weights.
// It is empty if no weight is positive. Errors wrap ErrUnknown or
// ErrTooManySlots.
func Slots(name string, weights []uint32) ([]int, error) {
	build, ok := schedulers[name]
	if !ok {
		return nil, fmt.Errorf("%w %q: choose one of %s", ErrUnknown, name, strings.Join(Names(), ", "))
	}
	return build(weights)
}

// roundRobin asks of a weight only whether it is 0.
func roundRobin(weights []uint32) ([]int, error) {
	var slots []int
	for i, w := range weights {
		if w > 0 {
			slots = append(slots, i)
		}
	}
	if len(slots) > MaxSlots {
		return nil, fmt.Errorf("%w: %d servers, at most %d are possible", ErrTooManySlots, len(slots), MaxSlots)
	}
	return slots, nil
}

// weighted is smooth weighted round robin. In each step every server earns its
// weight, the richest takes the slot and pays the sum of all weights. After a
// cycle of sum/gcd steps all accounts are back at zero, which makes the table
// exact; and no account ever falls to minus the sum, which is the "at most one
// slot beyond its share" of the package's promise.
func weighted(weights []uint32) ([]int, error) {
	var sum, divisor uint64
	for _, w := range weights {
		sum += uint64(w)
		divisor = gcd(divisor, uint64(w))
	}
	if sum == 0 {
		return nil, nil
	}
	cycle := sum / divisor
	if cycle > MaxSlots {
		return nil, fmt.Errorf("%w: they add up to %d with no common divisor but %d, that is %d slots of at most %d: use smaller weights or multiples of one number",
			ErrTooManySlots, sum, divisor, cycle, MaxSlots)
	}
	slots := make([]int, 0, cycle)
	account := make([]int64, len(weights))
	for range cycle {
		richest := -1
		for i, w := range weights {
			if w == 0 {
				continue
			}
			account[i] += int64(uint64(w) / divisor)
			if richest < 0 || account[i] > account[richest] {
				richest = i
			}
		}
		account[richest] -= int64(cycle)
		slots = append(slots, richest)
	}
	return slots, nil
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
