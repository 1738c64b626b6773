package scheduler

import (
	"errors"
	"fmt"
	"math"
)

// The schedulers of the fewest connections.
const lc, wlc = "lc", "wlc"

// Least tells whether the servers' connections choose the slot, as Fewest does.
func Least(name string) bool { return name == lc || name == wlc }

// ErrTooHeavy means that weights have too large a range: divided by their
// common divisor one is above MaxWeight.
var ErrTooHeavy = errors.New("weights are too large")

// MaxWeight is what a weight of a least-connection scheduler can be, once all
// are divided by their common divisor. It is that of ipvsadm.
const MaxWeight = math.MaxUint16

// ActiveCost is what one active connection counts beside inactive ones.
const ActiveCost = 256

// Overhead is what a server's connections count, active and inactive ones as
// IPVS tells them apart: ip_vs_dest_conn_overhead in include/net/ip_vs.h.
func Overhead(active, inactive uint64) int64 { return int64(active*ActiveCost + inactive) }

// Fewest is the least-connection schedulers' choice: the index of the server
// that a new connection goes to, -1 if none has a weight. overheads are the
// servers', by index. It is the reference for planes, which have loops of their
// own: ip_vs_lc_schedule in net/netfilter/ipvs/ip_vs_lc.c, and
// ip_vs_wlc_schedule in ip_vs_wlc.c. Of several that are equal it is the first.
func Fewest(name string, servers []Server, overheads []int64) int {
	least := -1
	for i, s := range servers {
		if s.Weight == 0 {
			continue
		}
		if least < 0 || overheads[i]*share(name, servers[least]) < overheads[least]*share(name, s) {
			least = i
		}
	}
	return least
}

// share is by which a server's overhead is divided: lc asks of a weight only
// whether it is 0.
func share(name string, s Server) int64 {
	if name == lc {
		return 1
	}
	return int64(s.Weight)
}

// Weights are by what a least-connection scheduler divides the overheads of the
// servers in slots: 1 with lc, with wlc their weights without the divisor that
// all have in common. An error wraps ErrTooHeavy.
func Weights(name string, servers []Server, slots []int) ([]uint16, error) {
	_, divisor := divisor(servers)
	weights := make([]uint16, len(slots))
	for i, at := range slots {
		w := uint64(share(name, servers[at]))
		if name != lc {
			w /= divisor
		}
		if w > MaxWeight {
			return nil, fmt.Errorf("%w: %d is above %d and they have no common divisor but %d: use smaller weights or multiples of one number",
				ErrTooHeavy, servers[at].Weight, MaxWeight, divisor)
		}
		weights[i] = uint16(w)
	}
	return weights, nil
}
