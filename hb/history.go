package hb

import "time"

// history keeps our last messages as they were sent, for retransmission
// (section 6.1). It is a ring: number n is in slot n mod historySize.
type history struct {
	newest uint64
	slots  [historySize]sent
}

// sent is one packet. The memory of an overwritten one is used again.
type sent struct {
	data   []byte
	beat   bool
	epoch  uint64    // guard.epoch when it was signed
	resent time.Time // last retransmission; zero if none
}

// put keeps a copy of the packet with the number after newest.
func (h *history) put(data []byte, beat bool, epoch uint64) {
	h.newest++
	s := &h.slots[h.newest%historySize]
	s.data = append(s.data[:0], data...)
	s.beat, s.epoch, s.resent = beat, epoch, time.Time{}
}

// oldest is the lowest number that is still there; above newest if none is.
func (h *history) oldest() uint64 {
	if h.newest < historySize {
		return 1
	}
	return h.newest - historySize + 1
}

// get returns the packet with number seq, which is within oldest to newest.
func (h *history) get(seq uint64) *sent { return &h.slots[seq%historySize] }
