package xdp

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestParseCPUs(t *testing.T) {
	for _, tt := range []struct {
		list string
		want []int
	}{
		{"0\n", []int{0}}, {"0-1\n", []int{0, 1}}, {"0,2-4,7\n", []int{0, 2, 3, 4, 7}},
		{"", nil}, {"0-", nil}, {"3-1", nil}, {"a", nil}, {"0,", nil}, {"-1", nil},
	} {
		got, err := parseCPUs([]byte(tt.list))
		if !slices.Equal(got, tt.want) || (err == nil) != (tt.want != nil) {
			t.Errorf("%q: %v, %v; want %v", tt.list, got, err, tt.want)
		}
	}
}

func FuzzParseCPUs(f *testing.F) {
	f.Add([]byte("0-3,8\n"))
	f.Fuzz(func(t *testing.T, list []byte) {
		cpus, err := parseCPUs(list)
		if err == nil && (len(cpus) == 0 || !strings.ContainsAny(string(list), "0123456789")) {
			t.Errorf("%q: %v", list, cpus)
		}
	})
}

// Where the tests run every CPU can be visited; if not, Apply still works, but
// twenty times a second at most.
func TestVisitCPUs(t *testing.T) {
	begin := time.Now()
	const visits = 100
	for range visits {
		if err := visitCPUs(); err != nil {
			t.Skip("this machine does not let us run on all of its CPUs:", err)
		}
	}
	t.Logf("%v for a visit", time.Since(begin)/visits)
	begin = time.Now()
	waitForReaders()
	t.Logf("%v for a wait", time.Since(begin))
}

// On a busy machine each of the two ways to wait can take seconds: the other
// one's end counts, whichever it is. A visit that failed has waited for nobody.
func TestFirstWayToWaitCounts(t *testing.T) {
	const patience, never = visitPatience, time.Hour
	for _, tt := range []struct {
		name          string
		visit, kernel time.Duration // how long they take
		visited       bool
		want          time.Duration
	}{
		{"visit at once", 0, never, true, 0},
		{"visit after its patience", 4 * patience, never, true, 4 * patience},
		{"kernel", never, 3 * patience, true, patience + 3*patience},
		{"visit fails at once", 0, patience, false, patience},
		{"visit fails while the kernel is asked", 2 * patience, 6 * patience, false, patience + 6*patience},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				takes := func(d time.Duration, ok bool) func() bool {
					return func() bool { time.Sleep(d); return ok }
				}
				r := readers{visit: joint{period: takes(tt.visit, tt.visited)}, kernel: joint{period: takes(tt.kernel, true)}}
				begin := time.Now()
				r.wait()
				if took := time.Since(begin); took != tt.want {
					t.Errorf("waited %v, want %v", took, tt.want)
				}
				time.Sleep(2 * never) // until what stands still has ended as well
			})
		})
	}
}

// However many wait, one thread does; and for each a period that began after it
// asked.
func TestManyShareAPeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var began, atOnce atomic.Int64
		j := joint{period: func() bool {
			if atOnce.Add(1) > 1 {
				t.Error("two at once")
			}
			began.Add(1)
			time.Sleep(time.Millisecond)
			atOnce.Add(-1)
			return true
		}}
		const threads, asks = 16, 50
		var all sync.WaitGroup
		for range threads {
			all.Go(func() {
				for range asks {
					before := began.Load()
					<-j.join().over
					if began.Load() == before {
						t.Error("got a period that had begun")
					}
				}
			})
		}
		all.Wait()
		// All who ask while one lasts share the next.
		if n := began.Load(); n > 2*asks+1 {
			t.Errorf("%d periods for %d threads that asked %d times each", n, threads, asks)
		}
	})
}
