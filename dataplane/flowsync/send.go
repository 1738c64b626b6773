package flowsync

import (
	"time"
)

// Window is how many messages back a sender knows what was in them, and a
// receiver which of them it has. At 100 Mbit/s it is a second.
const Window = 8192

// sentMessage is what is remembered of a message.
type sentMessage struct {
	number uint64
	at     time.Time
	places []uint32 // of its flows
}

// sender is the half of a Core that sends.
type sender struct {
	number uint64 // of the last message
	last   time.Time
	sent   []sentMessage // by number modulo Window
	floor  uint64        // the fate of all messages up to it is known
	flows  uint64        // number of the last message with flows

	filled time.Time
	tokens int // bytes that may leave now; a message may overdraw it
	syns   int // of them for flows on probation

	wishes uint32 // the peer's newest wish
	unmet  bool   // it could not store all of it
	gives  uint32 // its last one that is fulfilled
	sweeps int    // ends of sweeps until all that was asked for has left
	reach  uint64 // the peer has all that if it has all messages up to this one
	whole  bool   // a sweep for a wish is under way
	done   uint32 // the last one whose fulfilment the peer has confirmed
	tell   bool   // the peer is to hear of gives at once

	stranger uint64 // a session that does not know ours
	greeted  time.Time

	epoch int // how often it was begun anew

	out     [][]byte
	buffers [][]byte
}

// restart begins with a new session of the peer: what was sent before is of no
// use to it.
func (s *sender) restart() {
	s.floor, s.reach = s.number, s.number
	s.flows = 0
	s.epoch++
	s.wishes, s.gives, s.done, s.sweeps, s.whole = 0, 0, 0, 0, false
}

// refill adds the bandwidth of the time that has passed.
func (s *sender) refill(now time.Time, bandwidth int) {
	d := min(max(now.Sub(s.filled), 0), time.Second/burst)
	s.filled = now
	n := int(float64(bandwidth) * d.Seconds())
	s.tokens = min(s.tokens+n, bandwidth/burst)
	s.syns = min(s.syns+n/synShare, bandwidth/burst/synShare)
}

// buffer is memory for the next message.
func (s *sender) buffer() []byte {
	n := len(s.out)
	if n < len(s.buffers) {
		return s.buffers[n]
	}
	return nil
}

// places is memory for the places of the next message.
func (s *sender) places() []uint32 {
	if s.sent == nil {
		s.sent = make([]sentMessage, Window)
	}
	return s.sent[(s.number+1)%Window].places[:0]
}

// keep puts a finished message out and remembers what was in it.
func (s *sender) keep(msg []byte, places []uint32, now time.Time) {
	if n := len(s.out); n < len(s.buffers) {
		s.buffers[n] = msg
	} else {
		s.buffers = append(s.buffers, msg)
	}
	s.out = append(s.out, msg)
	s.last = now
	if s.sent == nil {
		s.sent = make([]sentMessage, Window)
	}
	m := &s.sent[s.number%Window]
	if places == nil {
		places = m.places[:0]
	} else {
		s.flows = s.number
	}
	*m = sentMessage{number: s.number, at: now, places: places}
}

// greet notes a session that is to be told ours.
func (s *sender) greet(session uint64) { s.stranger = session }

// confirm takes what the peer has, and has what it has missed sent again. It
// returns how many flows that are.
func (s *sender) confirm(t *trailer, table Table) (again uint64) {
	if t.upto <= s.floor || t.upto > s.number {
		return 0
	}
	for _, r := range t.missed {
		for n := max(r.first, s.floor+1); n < r.first+uint64(r.n); n++ {
			if m := &s.sent[n%Window]; m.number == n && len(m.places) > 0 {
				table.Again(m.places)
				again += uint64(len(m.places))
			}
		}
	}
	if again > 0 {
		// The sweep that is under way may have passed them.
		s.sweeps = max(s.sweeps, 2)
	}
	s.floor = t.upto
	s.settle()
	return again
}

// settle notes when the peer has all that it asked for. What is lost later, of
// what is new, is no reason to take that back.
func (s *sender) settle() {
	if s.gives == s.wishes && s.sweeps == 0 && s.floor >= s.reach {
		s.done = s.wishes
	}
}

// wish takes the number of the peer's last wish.
func (s *sender) wish(n uint32, table Table) {
	s.unmet = n == 0
	if n == 0 || n == s.wishes {
		return
	}
	s.wishes, s.whole = n, true
	s.sweeps = 1 // AgainAll begins one
	table.AgainAll()
}

// ended notes that a sweep has come to the end of the table. It returns how
// many whole tables have been sent with it.
func (s *sender) ended() uint64 {
	if s.sweeps == 0 {
		return 0
	}
	if s.sweeps--; s.sweeps > 0 {
		return 0
	}
	s.reach = s.number
	s.tell = s.gives != s.wishes
	s.gives = s.wishes
	s.settle()
	if !s.whole {
		return 0
	}
	s.whole = false
	return 1
}

// synced: the peer has confirmed all that it asked for.
func (s *sender) synced() bool { return s.wishes != 0 && s.done == s.wishes && !s.unmet }

// waits: a message with flows is not confirmed.
func (s *sender) waits() bool { return s.flows > s.floor }

// lag is how long.
func (s *sender) lag(now time.Time) time.Duration {
	for n := max(s.floor+1, s.number-min(s.number, Window-1)); s.waits() && n <= s.flows; n++ {
		if m := &s.sent[n%Window]; m.number == n && len(m.places) > 0 {
			return now.Sub(m.at)
		}
	}
	return 0
}
