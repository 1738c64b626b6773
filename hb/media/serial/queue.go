package serial

import (
	"bytes"
	"sync"
)

// leastQueue is the least number of bytes that a queue has room for: a few
// packets, also at 9600 bit/s.
const leastQueue = 2048

// beatBegin is how the text of a beat begins: t is our first field.
var beatBegin = []byte(">>>\nt=status\n")

// queue holds the packets that wait for the line, as many as it carries in a
// second: what would come later than that is no news. A beat overtakes all that
// is none: were it to wait behind a burst of messages, which have arrived on
// another path long since, the peer could hold us for dead. When there is no
// room the oldest go, beats last.
type queue struct {
	limit int           // bytes
	ready chan struct{} // has an element while there may be packets

	mu          sync.Mutex
	beats, rest [][]byte
	size        int
}

// newQueue returns a queue for a line of so many bit/s. 8N1 makes ten bits of a
// byte.
func newQueue(baud int) *queue {
	return &queue{limit: max(leastQueue, baud/10), ready: make(chan struct{}, 1)}
}

// push appends p, which is not longer than limit, and returns how many packets
// had to go for it.
func (q *queue) push(p []byte) (dropped int) {
	q.mu.Lock()
	for q.size+len(p) > q.limit {
		if len(q.rest) > 0 {
			q.take(&q.rest)
		} else {
			q.take(&q.beats)
		}
		dropped++
	}
	if bytes.HasPrefix(p, beatBegin) {
		q.beats = append(q.beats, p)
	} else {
		q.rest = append(q.rest, p)
	}
	q.size += len(p)
	q.mu.Unlock()
	select {
	case q.ready <- struct{}{}:
	default:
	}
	return dropped
}

// pop removes the packet that is next; nil if there is none.
func (q *queue) pop() []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case len(q.beats) > 0:
		return q.take(&q.beats)
	case len(q.rest) > 0:
		return q.take(&q.rest)
	}
	return nil
}

// take removes the oldest of a list.
func (q *queue) take(list *[][]byte) []byte {
	p := (*list)[0]
	(*list)[0] = nil
	*list = (*list)[1:]
	q.size -= len(p)
	return p
}

// clear removes all packets and returns how many there were.
func (q *queue) clear() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := len(q.beats) + len(q.rest)
	q.beats, q.rest, q.size = nil, nil, 0
	return n
}
