package health

// hysteresis turns the results of single checks into up and down.
type hysteresis struct {
	rise, fall int
	known      bool // there has been a result
	up         bool
	against    int // consecutive results that speak against up
}

// observe takes a result and tells whether the state changed. The first result
// decides by itself: with nothing known there is no state to defend, and to
// wait for rise more would leave a director that has just started without
// servers.
func (h *hysteresis) observe(ok bool) (changed bool) {
	if !h.known {
		h.known, h.up = true, ok
		return true
	}
	if ok == h.up {
		h.against = 0
		return false
	}
	h.against++
	if h.up && h.against < h.fall || !h.up && h.against < h.rise {
		return false
	}
	h.up, h.against = ok, 0
	return true
}
