package scheduler

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
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

// Server is a real server as a scheduler sees it.
type Server struct {
	Addr   netip.Addr
	Weight uint32 // 0: no slot
}

// scheduler makes a table; hashed ones are not walked but hashed into.
type scheduler struct {
	table  func(servers []Server) ([]int, error)
	hashed bool
}

// schedulers is the registry, by the names LVS knows them by.
var schedulers = map[string]scheduler{
	"rr":  {table: roundRobin},
	"wrr": {table: weighted},
	"sh":  {table: byAddress(weighted), hashed: true},
	"mh":  {table: byAddress(maglev), hashed: true},
	lc:    {table: roundRobin},
	wlc:   {table: roundRobin},
}

// Names lists the schedulers in alphabetical order.
func Names() []string {
	return slices.Sorted(maps.Keys(schedulers))
}

// Hashed tells whether the client's address chooses the slot (sh, mh), not a
// counter (rr, wrr) or the servers' connections (lc, wlc).
func Hashed(name string) bool { return schedulers[name].hashed }

// Slots returns the table of one cycle: each element is an index into servers.
// It is empty if no weight is positive. Errors wrap ErrUnknown or
// ErrTooManySlots.
func Slots(name string, servers []Server) ([]int, error) {
	s, ok := schedulers[name]
	if !ok {
		return nil, fmt.Errorf("%w %q: choose one of %s", ErrUnknown, name, strings.Join(Names(), ", "))
	}
	return s.table(servers)
}

// byAddress makes a table that does not depend on the order of the servers.
func byAddress(table func([]Server) ([]int, error)) func([]Server) ([]int, error) {
	return func(servers []Server) ([]int, error) {
		order := make([]int, len(servers))
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int { return servers[a].Addr.Compare(servers[b].Addr) })
		sorted := make([]Server, len(servers))
		for i, at := range order {
			sorted[i] = servers[at]
		}
		slots, err := table(sorted)
		for i, s := range slots {
			slots[i] = order[s]
		}
		return slots, err
	}
}

// roundRobin asks of a weight only whether it is 0.
func roundRobin(servers []Server) ([]int, error) {
	slots := make([]int, 0, len(servers))
	for i, s := range servers {
		if s.Weight > 0 {
			slots = append(slots, i)
		}
	}
	if len(slots) > MaxSlots {
		return nil, fmt.Errorf("%w: %d servers, at most %d are possible", ErrTooManySlots, len(slots), MaxSlots)
	}
	return slots, nil
}

// divisor is the greatest that all weights have in common; sum is theirs.
func divisor(servers []Server) (sum, divisor uint64) {
	for _, s := range servers {
		sum += uint64(s.Weight)
		divisor = gcd(divisor, uint64(s.Weight))
	}
	return sum, divisor
}

// weighted is smooth weighted round robin. In each step every server earns its
// weight, the richest takes the slot and pays the sum of all weights. After a
// cycle of sum/gcd steps all accounts are back at zero, which makes the table
// exact; and no account ever falls to minus the sum, which is the "at most one
// slot beyond its share" of the package's promise.
func weighted(servers []Server) ([]int, error) {
	sum, divisor := divisor(servers)
	if sum == 0 {
		return nil, nil
	}
	cycle := sum / divisor
	if cycle > MaxSlots {
		return nil, fmt.Errorf("%w: they add up to %d with no common divisor but %d, that is %d slots of at most %d: use smaller weights or multiples of one number",
			ErrTooManySlots, sum, divisor, cycle, MaxSlots)
	}
	slots := make([]int, 0, cycle)
	account := make([]int64, len(servers))
	for range cycle {
		richest := -1
		for i, s := range servers {
			if s.Weight == 0 {
				continue
			}
			account[i] += int64(uint64(s.Weight) / divisor)
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
