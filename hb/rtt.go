package hb

import "time"

// roundTrip is a smoothed round trip time and how much it varies, as in
// RFC 6298, section 2.
type roundTrip struct {
	smooth, vary time.Duration
	known        bool
	stale        bool // known from before a break: the next sample begins anew
}

func (r *roundTrip) sample(d time.Duration) {
	d = max(0, d)
	if !r.known || r.stale {
		*r = roundTrip{smooth: d, vary: d / 2, known: true}
		return
	}
	r.vary += ((r.smooth - d).Abs() - r.vary) / 4
	r.smooth += (d - r.smooth) / 8
}

// patience is after how long without an answer there is none, unless it was
// lost: the time-out of RFC 6298 without its lower limit of a second. Only if
// known.
func (r *roundTrip) patience() time.Duration { return r.smooth + 4*r.vary }
