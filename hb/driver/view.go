package driver

import (
	"sync/atomic"
	"time"

	"systole/hb"
)

// views holds the newest view of the core for any goroutine. The loop makes one
// in memory that it uses again, and waits for nobody: if somebody still reads
// the memory it would take, it takes new memory.
type views struct {
	current atomic.Pointer[view]
	spare   *view // the loop's: the one before current
}

type view struct {
	readers atomic.Int32 // of those who have found it current
	v       hb.View
}

// set is the loop's. It writes only to a view that is not current and that
// nobody reads; whoever begins to read it meanwhile finds that it is not
// current, and leaves it.
func (s *views) set(core *hb.Core, now time.Time) {
	next := s.spare
	if next == nil || next.readers.Load() != 0 {
		next = new(view)
	}
	core.SnapshotInto(now, &next.v)
	s.spare = s.current.Swap(next)
}

// get returns a copy, for any goroutine.
func (s *views) get() hb.View {
	for {
		w := s.current.Load()
		w.readers.Add(1)
		if s.current.Load() == w {
			v := w.v.Clone()
			w.readers.Add(-1)
			return v
		}
		w.readers.Add(-1)
	}
}
