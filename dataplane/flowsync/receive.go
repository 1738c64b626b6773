package flowsync

import (
	"errors"
	"math/bits"
	"time"

	"systole/dataplane"
	"systole/dataplane/flowsync/wire"
)

func isUnsigned(err error) bool { return errors.Is(err, ErrUnsigned) }

// receiver is the half of a Core that receives.
type receiver struct {
	highest uint64              // number of the peer's newest message
	floor   uint64              // all up to it are settled: taken, or known by the peer to be missed
	have    [Window / 64]uint64 // which of the last Window numbers were taken

	order order // which message set a flow, while earlier ones are missed

	flowsAt  uint64 // the newest message with flows
	owed     bool   // the peer waits to hear what has arrived
	reported uint64 // as far as the last missing() tells

	wants uint32 // number of our last wish for the whole table
	asked time.Time
	given uint32 // the last one that is fulfilled, says the peer

	refused   bool // flows were, under this generation:
	refusedAt uint64
	unmetTill time.Time // and of the table that was asked for

	trailer trailer
	msg     wire.Message
	flows   []dataplane.Flow
	runs    []run
	gap     uint64 // messages found missing with the last one
}

// restart begins a session of the peer with its message number first.
func (r *receiver) restart(first uint64) {
	r.highest, r.floor = first-1, first-1
	clear(r.have[:])
	r.order.clear()
	r.flowsAt, r.owed, r.given, r.refused = 0, false, 0, false
}

// ask wishes for the whole table.
func (r *receiver) ask(now time.Time) {
	r.wants++
	if r.wants == 0 {
		r.wants = 1
	}
	r.asked, r.owed = now, true
	r.refused, r.unmetTill = false, time.Time{}
}

// refuse notes that flows were of nobody known under a generation. If they are
// of the table that was asked for, the wish is not fulfilled for a while, in
// which the servers they are of may become known.
func (r *receiver) refuse(now time.Time, generation uint64) {
	r.refused, r.refusedAt = true, generation
	if r.given != r.wants {
		r.unmetTill, r.owed = now.Add(patience), true
	}
}

// unmet: the table that was asked for has flows of servers that are not known.
func (r *receiver) unmet(now time.Time) bool { return now.Before(r.unmetTill) }

// mayAsk: the last wish is not too young.
func (r *receiver) mayAsk(now time.Time) bool { return now.Sub(r.asked) >= askPeriod }

func (r *receiver) has(n uint64) bool { return r.have[n%Window/64]>>(n%64)&1 != 0 }
func (r *receiver) set(n uint64)      { r.have[n%Window/64] |= 1 << (n % 64) }
func (r *receiver) unset(n uint64)    { r.have[n%Window/64] &^= 1 << (n % 64) }

// take notes the arrival of message n; floor is what its sender says of the
// fate of the earlier ones. fresh: it counts. lost: others are missed that are
// too old to be asked for.
func (r *receiver) take(n, floor uint64) (lost, fresh bool) {
	r.gap = 0
	switch {
	case n <= r.floor || n+Window <= r.highest:
		return false, false
	case n <= r.highest:
		if r.has(n) {
			return false, false
		}
		r.set(n)
	case n-r.highest >= Window:
		// What is between is lost, but for what the sender has settled.
		lost = n-1 > max(floor, r.highest)
		r.gap = n - 1 - r.highest
		clear(r.have[:])
		r.highest = n
		r.set(n)
		r.floor = n - 1
	default:
		r.gap = n - 1 - r.highest
		for m := r.highest + 1; m <= n; m++ {
			// m takes the place of m-Window.
			if old := m - min(m, Window); old > max(r.floor, floor) && !r.has(old) {
				lost = true
			}
			r.unset(m)
		}
		r.highest = n
		r.set(n)
		r.floor = max(r.floor, n-min(n, Window))
	}
	if floor < r.highest {
		r.floor = max(r.floor, floor)
	}
	return lost, true
}

// expect notes what the peer waits to hear: an answer is owed if there is
// something that it does not know yet. A message without flows that arrived is
// nothing it waits for.
func (r *receiver) expect(n uint64, flows bool, floor uint64) {
	if flows {
		r.flowsAt = max(r.flowsAt, n)
	}
	if at := r.contiguous(); r.flowsAt > floor || at < r.highest && at >= floor {
		r.owed = true
	}
}

// owes: an answer is due.
func (r *receiver) owes() bool { return r.owed }

// contiguous is the number up to which nothing is missed.
func (r *receiver) contiguous() uint64 {
	n := r.floor
	for n < r.highest {
		word := ^r.have[(n+1)%Window/64] >> ((n + 1) % 64)
		run := uint64(bits.TrailingZeros64(word))
		run = min(run, 64-(n+1)%64)
		if run == 0 {
			break
		}
		n += run
	}
	return min(n, r.highest)
}

// missing lists what is missed up to reported, which is the highest number
// unless the list would be too long.
func (r *receiver) missing() []run {
	r.runs = r.runs[:0]
	r.reported = r.highest
	for n := r.floor + 1; n < r.highest; n++ {
		if r.has(n) {
			continue
		}
		if k := len(r.runs) - 1; k >= 0 && r.runs[k].first+uint64(r.runs[k].n) == n {
			r.runs[k].n++
			continue
		}
		if len(r.runs) == maxRuns {
			r.reported = n - 1
			break
		}
		r.runs = append(r.runs, run{n, 1})
	}
	if r.runs == nil {
		r.runs = []run{}
	}
	return r.runs
}
