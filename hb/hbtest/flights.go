package hbtest

import (
	"time"
)

// flight is a packet under way, or if do is not nil, something to be done at
// its time: with to, what the network brings that node beside packets.
type flight struct {
	at     time.Duration // since the start of the network
	order  uint64        // of two at one time the earlier sent goes first
	to     *node
	medium string
	p      *packet
	do     func()
}

// packet is what flights carry. It is used again when the last one has landed.
type packet struct {
	data  []byte
	users int

	from  *node  // nil: Inject
	life  uint64 // of from
	again bool   // a beat that is sent again
	beat  bool   // and if so:
	sent  time.Duration
	seq   string // its number, when it was asked for
}

// flights is a heap by time, then by order of sending. It is made by hand:
// that of the standard library allocates for each packet.
type flights []flight

func (f flights) less(i, j int) bool {
	return f[i].at < f[j].at || f[i].at == f[j].at && f[i].order < f[j].order
}

func (f *flights) push(x flight) {
	*f = append(*f, x)
	h := *f
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if !h.less(i, up) {
			break
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
}

func (f *flights) pop() flight {
	h := *f
	first, n := h[0], len(h)-1
	h[0], h[n] = h[n], flight{}
	h = h[:n]
	*f = h
	for i := 0; ; {
		down := 2*i + 1
		if down >= n {
			break
		}
		if down+1 < n && h.less(down+1, down) {
			down++
		}
		if !h.less(down, i) {
			break
		}
		h[i], h[down] = h[down], h[i]
		i = down
	}
	return first
}

// pack returns a packet with a copy of data.
func (n *Network) pack(data []byte) *packet {
	p := &packet{}
	if k := len(n.free); k > 0 {
		p, n.free = n.free[k-1], n.free[:k-1]
	}
	*p = packet{data: append(p.data[:0], data...)}
	return p
}

// unpack ends one use of a packet.
func (n *Network) unpack(p *packet) {
	if p.users--; p.users <= 0 {
		n.free = append(n.free, p)
	}
}

// After does something when d has passed. do may call everything but Run and
// RunUntil.
func (n *Network) After(d time.Duration, do func()) {
	n.bring(nil, d, do)
}

// bring does what a node is told by way of the network, when d has passed.
func (n *Network) bring(to *node, d time.Duration, do func()) {
	n.order++
	n.flights.push(flight{at: n.Since() + max(0, d), order: n.order, to: to, do: do})
}

// Landed is when the last arrives of what is under way now, since the start of
// the network: packets, echoes and refusals. It is in the past if nothing is.
func (n *Network) Landed() (at time.Duration) {
	for _, f := range n.flights {
		if f.to != nil {
			at = max(at, f.at)
		}
	}
	return at
}
