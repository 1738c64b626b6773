package hb

import (
	"math"
	"math/bits"
	"time"
)

// numbersKept is over how many sequence numbers the loss of a link is taken.
const numbersKept = 128

// numbers is which of a node's last sequence numbers were heard on a link.
// Each numbered packet is sent on every medium, so one that was heard on
// another, or one below it, was sent here too.
type numbers struct {
	heard [numbersKept / 64]uint64 // bit n mod numbersKept
	first uint64                   // counted from here; 0: nothing yet
	last  uint64                   // the highest heard here
	got   uint64                   // heard here since first

	// Of the times before first.
	oldGot, oldMissed uint64
}

func (n *numbers) at(seq uint64) (word *uint64, bit uint64) {
	seq %= numbersKept
	return &n.heard[seq/64], 1 << (seq % 64)
}

func (n *numbers) has(seq uint64) bool { w, b := n.at(seq); return *w&b != 0 }
func (n *numbers) clear(seq uint64)    { w, b := n.at(seq); *w &^= b }

// take notes number seq, which is at most numbersKept below the newest.
func (n *numbers) take(seq uint64) {
	if n.first == 0 {
		n.first = seq
	}
	if seq < n.first || n.has(seq) {
		return
	}
	w, b := n.at(seq)
	*w |= b
	n.got++
	n.last = max(n.last, seq)
}

// restart begins to count anew; newest is the node's newest number.
func (n *numbers) restart(newest uint64) {
	got, missed := n.totals(newest)
	*n = numbers{oldGot: got, oldMissed: missed}
}

// totals are the numbers heard and not heard on the link.
func (n *numbers) totals(newest uint64) (got, missed uint64) {
	got, missed = n.oldGot, n.oldMissed
	if n.first != 0 {
		got += n.got
		missed += newest - n.first + 1 - n.got
	}
	return got, missed
}

// recent says how many of the last numbers up to and including top were lost
// on the link.
func (n *numbers) recent(top, newest uint64) (lost, of uint64) {
	if n.first == 0 || top < n.first {
		return 0, 0
	}
	low := n.first
	if newest >= numbersKept {
		low = max(low, newest-numbersKept+1)
	}
	if top < low {
		return 0, 0
	}
	of = top - low + 1
	var got uint64
	for _, w := range n.heard {
		got += uint64(bits.OnesCount64(w))
	}
	return of - got, of
}

// answers is how many of the last calm probes of a link were answered.
type answers struct {
	bits  uint32
	count int
}

func (a *answers) take(answered bool) {
	a.bits <<= 1
	if answered {
		a.bits |= 1
	}
	a.count = min(a.count+1, 32)
}

// numbered notes a number of the peer on a medium, -1 for one that is not
// listed. What was sent again on request does not count: it would hide the
// loss that made it necessary.
func (c *Core) numbered(now time.Time, p *peer, medium int, seq uint64) {
	if seq > p.newest {
		from := seq
		if p.newest != 0 {
			from = max(p.newest+1, seq-min(seq, numbersKept)+1)
		}
		for n := from; n-1 != seq; n++ { // seq may be the highest there is
			p.passed[n%numbersKept] = now
			for i := range p.links {
				p.links[i].numbers.clear(n)
			}
		}
		p.newest = seq
	} else if p.newest-seq >= numbersKept {
		return
	}
	if medium < 0 {
		return
	}
	l := &p.links[medium]
	if seq < p.newest && (p.win.requested(seq) || now.Sub(p.passed[seq%numbersKept]) > c.settles(p, l)) {
		return
	}
	l.numbers.take(seq)
}

// lossOneWay is the measured share of packets of the peer that are lost on the
// link, by Laplace's rule, so that little experience counts as a bad one. A
// present silence is not part of it.
func (l *link) lossOneWay(p *peer) float64 {
	lost, of := l.numbers.recent(l.numbers.last, p.newest)
	return float64(lost+1) / float64(of+2)
}

// lossRoundTrip is how likely a probe on the link gets no answer though the
// peer lives: the worse of what beats in one direction and calm probes in both
// have shown.
func (l *link) lossRoundTrip(p *peer) float64 {
	oneWay := l.lossOneWay(p)
	both := 1 - (1-oneWay)*(1-oneWay)
	a := &l.answers
	missed := a.count - bits.OnesCount32(a.bits)
	return max(both, float64(missed+1)/float64(a.count+2))
}

// mistake is how likely it may be that all probes of a live node were lost, if
// losses are independent.
const mistake = 1e-9

// probesFor is how many unanswered probes are no accident at this loss.
func probesFor(loss float64) int {
	n := math.Ceil(math.Log(mistake) / math.Log(min(loss, 0.99)))
	return max(leastProbes, int(n))
}
