package media

import "time"

// The intervals at which a broken medium is tried again. The longest one is
// short, since an attempt is cheap and the medium may be the only one.
const (
	minBackoff = 50 * time.Millisecond
	MaxBackoff = time.Second
)

// Backoff is the growing interval between attempts to open a medium. The zero
// value is ready: the first attempt is not delayed.
type Backoff struct{ next time.Duration }

// Wait waits before the next attempt. It returns false as soon as done is
// closed.
func (b *Backoff) Wait(done <-chan struct{}) bool {
	t := time.NewTimer(b.next)
	defer t.Stop()
	b.next = min(max(2*b.next, minBackoff), MaxBackoff)
	select {
	case <-done:
		return false
	case <-t.C:
		return true
	}
}

// Reset is called after an attempt that succeeded.
func (b *Backoff) Reset() { b.next = 0 }
