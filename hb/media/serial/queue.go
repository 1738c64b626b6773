package serial

import "sync"

// leastQueue is the least number of bytes that a queue has room for: a few
// packets, also at 9600 bit/s.
const leastQueue = 2048

// queue holds the packets that wait for the line, as many as it carries in a
// second: what would come later than that is no news. When there is no room the
// oldest go, since the newest beat is the one that counts.
type queue struct {
	limit int           // bytes
	ready chan struct{} // has an element while there may be packets

	mu      sync.Mutex
	packets [][]byte
	size    int
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
		q.drop()
		dropped++
	}
	q.packets = append(q.packets, p)
	q.size += len(p)
	q.mu.Unlock()
	select {
	case q.ready <- struct{}{}:
	default:
	}
	return dropped
}

// pop removes the oldest packet; nil if there is none.
func (q *queue) pop() []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.packets) == 0 {
		return nil
	}
	return q.drop()
}

func (q *queue) drop() []byte {
	p := q.packets[0]
	q.packets[0] = nil
	q.packets = q.packets[1:]
	q.size -= len(p)
	return p
}

// clear removes all packets and returns how many there were.
func (q *queue) clear() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := len(q.packets)
	q.packets, q.size = nil, 0
	return n
}
