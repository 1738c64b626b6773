package host

import (
	"slices"
	"sync"

	"systole/hb"
)

// pending are the notices that nobody has read yet. They are bounded by their
// kinds: what is there already is not added again, and of a carrier only the
// last change is news.
type pending struct {
	ready chan struct{} // has an element when there may be notices

	mu      sync.Mutex
	notices []hb.Notice
	ended   bool
}

func (p *pending) add(n hb.Notice) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case n.Kind == hb.CarrierLost || n.Kind == hb.CarrierBack:
		before := len(p.notices)
		p.notices = slices.DeleteFunc(p.notices, func(o hb.Notice) bool {
			return o.Medium == n.Medium && o.Kind != n.Kind && (o.Kind == hb.CarrierLost || o.Kind == hb.CarrierBack)
		})
		if len(p.notices) < before {
			return // they cancel out
		}
	case slices.Contains(p.notices, n):
		return
	}
	p.notices = append(p.notices, n)
	select {
	case p.ready <- struct{}{}:
	default:
	}
}

func (p *pending) take() (n hb.Notice, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.notices) == 0 {
		return n, false
	}
	n = p.notices[0]
	p.notices = slices.Delete(p.notices, 0, 1)
	return n, true
}

// end closes done, once.
func (p *pending) end(done chan struct{}) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return false
	}
	p.ended = true
	close(done)
	return true
}
