package xdp

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
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
// one's end counts, whichever it is.
func TestFirstWayToWaitCounts(t *testing.T) {
	never := make(chan struct{})
	defer close(never)
	stands := func() bool { <-never; return true }
	takes := func(d time.Duration, ok bool) func() bool {
		return func() bool { time.Sleep(d); return ok }
	}
	for _, tt := range []struct {
		name          string
		visit, kernel func() bool
	}{
		{"visit at once", takes(0, true), stands},
		{"visit after its patience", takes(4*visitPatience, true), stands},
		{"kernel", stands, takes(0, true)},
		{"visit fails at once", takes(0, false), takes(visitPatience, true)},
		{"visit fails while the kernel is asked", takes(2*visitPatience, false), takes(6*visitPatience, true)},
	} {
		r := readers{visit: joint{period: tt.visit}, kernel: joint{period: tt.kernel}}
		over := make(chan struct{})
		go func() { r.wait(); close(over) }()
		select {
		case <-over:
		case <-time.After(5 * time.Second):
			t.Errorf("%s: still waits", tt.name)
		}
	}
}

// A visit that failed has waited for nobody.
func TestFailedVisitDoesNotCount(t *testing.T) {
	waited := false
	r := readers{
		visit:  joint{period: func() bool { return false }},
		kernel: joint{period: func() bool { time.Sleep(2 * visitPatience); waited = true; return true }},
	}
	if r.wait(); !waited {
		t.Error("did not wait for the kernel")
	}
}

// However many wait, one thread does; and for each a period that began after it
// asked.
func TestManyShareAPeriod(t *testing.T) {
	var began, atOnce atomic.Int64
	j := joint{period: func() bool {
		if atOnce.Add(1) > 1 {
			t.Error("two at once")
		}
		began.Add(1)
		time.Sleep(100 * time.Microsecond)
		atOnce.Add(-1)
		return true
	}}
	const threads, asks = 16, 50
	var all sync.WaitGroup
	for range threads {
		all.Go(func() {
			for range asks {
				before := began.Load()
				p := j.join()
				<-p.over
				if began.Load() == before {
					t.Error("got a period that had begun")
				}
			}
		})
	}
	all.Wait()
	if n := began.Load(); n >= threads*asks/2 {
		t.Errorf("%d periods for %d that asked", n, threads*asks)
	} else {
		t.Logf("%d periods for %d that asked", n, threads*asks)
	}
}
