package chaos

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// synced has the directors carry their flow tables to each other.
func (l *lab) synced() {
	l.Helper()
	for _, n := range l.nodes {
		file := filepath.Join(n.dir, "systole.yaml")
		b, err := os.ReadFile(file)
		l.must(err)
		l.must(os.WriteFile(file, []byte(strings.Replace(string(b), "dataplane:", "sync: {}\ndataplane:", 1)), 0o600))
	}
}

// inSync: a director's peer has all of its flow table.
func (n *node) inSync(flows int) bool {
	s := n.status()
	return s != nil && s.Sync != nil && s.Sync.InSync && s.Sync.Lag == 0 && s.Flows >= int64(flows)
}

// The active director is killed under open connections, the other one takes
// over with its flow table, and the killed one comes back and gets the table
// again, to be the next: no connection is lost.
func TestFailoversKeepConnections(t *testing.T) {
	l := newLab(t)
	l.synced()
	for _, n := range l.nodes {
		l.start(n)
	}
	owner, other := l.owner()
	c := l.connect(size(300, established))
	n := size(3, 100)
	began := time.Now()
	last := began
	var pauses, resyncs []time.Duration
	for i := range n {
		l.until("the other director has all flows", func() bool { return owner.inSync(len(c.conns)) && other.inSync(len(c.conns)) })
		c.gap.Store(0)
		owner.kill()
		asked := c.asked.Load()
		l.until("the other director serves", func() bool { return l.serves(other) })
		l.until("connections go on", func() bool { return c.asked.Load() > asked+200 })
		pauses = append(pauses, time.Duration(c.gap.Load()))

		back := time.Now()
		l.start(owner)
		now, then := l.owner()
		if now != other {
			t.Fatalf("failover %d: %s has the address", i+1, now.Name)
		}
		l.until("the killed director has all flows again", func() bool { return now.inSync(len(c.conns)) })
		resyncs = append(resyncs, time.Since(back))
		owner, other = now, then
		if time.Since(last) > 10*time.Second {
			last = time.Now()
			t.Logf("%d of %d failovers", i+1, n)
		}
	}
	lost, again := c.finish()
	slices.Sort(pauses)
	slices.Sort(resyncs)
	t.Logf("%d failovers in %v, %d open connections, %d questions: %d connections lost, %d segments sent again; without an answer for %v in the median and %v at worst; back and in sync after %v and %v",
		n, time.Since(began).Round(time.Millisecond), len(c.conns), c.asked.Load(), lost, again,
		pauses[n/2].Round(time.Millisecond), pauses[n-1].Round(time.Millisecond),
		resyncs[n/2].Round(time.Millisecond), resyncs[n-1].Round(time.Millisecond))
	if lost != 0 {
		t.Errorf("%d connections lost", lost)
	}
}
