package hb

import "time"

// peer is what we know of another node.
type peer struct {
	id      int // from 1, in configured order; 0 stands for ourselves or nobody
	name    string
	uuid    [16]byte
	hasUUID bool

	status     Status
	gen        uint64        // 0: never heard
	heard      bool          // a packet came since our start
	quiet      bool          // it joined by itself and its first status is not shown
	since      time.Time     // from when its silence counts
	statusAt   time.Time     // its last status message; zero if none
	statusSeq  uint64        // the newest one
	deadtime   time.Duration // as it announced; ours until then
	lateBeats  uint64
	lostNumber uint64 // messages given up

	win        window
	trigger    uint64    // which numbers we acknowledge, modulo ackEvery
	ackSent    uint64    // our last acknowledgement
	burstStart time.Time // requests are counted from here
	burst      int
	acked      uint64 // of our messages, by it
	ackBase    uint64 // our newest number when it came: it owes nothing below
	links      []link
	guard      peerGuard
	order      order
	newest     uint64                 // its highest number heard on any medium
	passed     [numbersKept]time.Time // when newest came to each of the last numbers
	due        time.Time              // when there is something to do about it; zero: to be found out

	// Of a Systole node (see suspicion in the package comment).
	systole      bool
	keepalive    time.Duration // as it announced
	ends         bool          // its data plane ends with its process
	suspicion    suspicion
	lookAt       time.Time // no new suspicion for a late beat before
	refusalsFrom time.Time // nor for a refusal
	calmAt       time.Time // next calm probe
	warm         int       // how many more are due soon
	echo         echo
}

// live: heard and not dead.
func (p *peer) live() bool { return p.heard && p.status != Dead }
