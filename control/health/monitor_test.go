package health

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var errDown = errors.New("it is down")

func id(n int) ID {
	return ID{Service: "192.0.2.101:80/tcp", Server: netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)})}
}

func num(a netip.Addr) int { b := a.As4(); return int(b[2])<<8 | int(b[3]) }

// lab is a Monitor whose servers are a function, run in a bubble of virtual
// time.
type lab struct {
	*Monitor
	mu      sync.Mutex
	start   time.Time
	results []Result
	logged  bytes.Buffer
	stop    func()
}

func newLab(t *testing.T, probe func(context.Context, Check) error) *lab {
	l := &lab{start: time.Now()}
	log := slog.New(slog.NewTextHandler(&l.logged, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	l.Monitor = New(log, func(r Result) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.results = append(l.results, r)
	})
	l.probe = func(ctx context.Context, c Check) error {
		ctx, cancel := context.WithTimeout(ctx, c.Timeout)
		defer cancel()
		return probe(ctx, c)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { l.Run(ctx); close(done) }()
	l.stop = func() { cancel(); <-done }
	t.Cleanup(l.stop)
	return l
}

// after lets d pass and returns the results since the last call.
func (l *lab) after(d time.Duration) []Result {
	time.Sleep(d)
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.results
	l.results = nil
	return r
}

func check(n int) Check {
	return Check{Type: "tcp", Addr: id(n).Server, Interval: 10 * time.Second, Timeout: 3 * time.Second}
}

func checks(n int) map[ID]Check {
	m := make(map[ID]Check)
	for i := range n {
		m[id(i)] = check(i)
	}
	return m
}

func hang(ctx context.Context, _ Check) error { <-ctx.Done(); return ctx.Err() }

func well(context.Context, Check) error { return nil }

func TestFirstChecksRunAtOnceThenSpreadOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 200
		l := newLab(t, well)
		l.Set(checks(n))
		first := l.after(0)
		if len(first) != n {
			t.Fatalf("%d results at once, want %d", len(first), n)
		}
		for _, r := range first {
			if !r.Up || !r.Changed || r.Checks != 1 || r.At != l.start {
				t.Fatalf("%+v", r)
			}
		}
		// From then on n checks in each interval, at most a few in the same tenth.
		l.after(15 * time.Second)
		times := map[ID][]time.Time{}
		var tenths [10]int
		for _, r := range l.after(30 * time.Second) {
			times[r.ID] = append(times[r.ID], r.At)
			tenths[r.At.Sub(l.start)%(10*time.Second)/time.Second]++
		}
		if len(times) != n {
			t.Errorf("%d of %d targets are still checked", len(times), n)
		}
		for id, at := range times {
			if len(at) != 3 || at[1].Sub(at[0]) != 10*time.Second || at[2].Sub(at[1]) != 10*time.Second {
				t.Errorf("%v: checked at %v", id, at)
			}
		}
		if slices.Max(tenths[:]) > 3*n/10*2 || slices.Min(tenths[:]) < 3*n/10/3 {
			t.Errorf("not even over the interval: %v", tenths)
		}
	})
}

func TestHangingServersDelayNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const bad = maxInFlight - 1
		l := newLab(t, func(ctx context.Context, c Check) error {
			if num(c.Addr) < bad {
				return hang(ctx, c)
			}
			return nil
		})
		l.Set(checks(bad + 100))
		got := l.after(0)
		if len(got) != 100 {
			t.Errorf("%d good ones were found at once, want 100", len(got))
		}
		var down []Result
		for _, r := range l.after(3 * time.Second) {
			if r.ID != (ID{}) && num(r.ID.Server) < bad {
				down = append(down, r)
			}
		}
		if len(down) != bad || down[0].Up || !down[0].Changed || down[0].Took != 3*time.Second || !errors.Is(down[0].Err, context.DeadlineExceeded) {
			t.Errorf("%d down, want %d; the first is %+v", len(down), bad, down[0])
		}
	})
}

// More than can be in flight wait their turn, and none is forgotten.
func TestInFlightIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		now, most := 0, 0
		l := newLab(t, func(ctx context.Context, c Check) error {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			now--
			mu.Unlock()
			return nil
		})
		l.Set(checks(3 * maxInFlight))
		if got := len(l.after(2500 * time.Millisecond)); got != 2*maxInFlight {
			t.Errorf("%d results after 2.5 s, want %d", got, 2*maxInFlight)
		}
		l.after(7 * time.Second)
		seen := map[ID]bool{}
		for _, r := range l.after(20 * time.Second) {
			seen[r.ID] = true
		}
		if most != maxInFlight || len(seen) != 3*maxInFlight {
			t.Errorf("%d in flight, %d targets seen; want %d and %d", most, len(seen), maxInFlight, 3*maxInFlight)
		}
	})
}

// A slow check begins again on its own beat, never before it has ended.
func TestSlowChecksDoNotOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, hang)
		c := check(1)
		c.Timeout = 25 * time.Second // longer than the interval
		l.Set(map[ID]Check{id(1): c})
		got := l.after(200 * time.Second)
		if len(got) < 5 {
			t.Fatalf("%d checks", len(got))
		}
		for i := 2; i < len(got); i++ {
			if d := got[i].At.Sub(got[i-1].At); d != 30*time.Second {
				t.Errorf("check %d ends %s after the one before, want 30s", i, d)
			}
		}
	})
}

func TestRiseFallCountsAndLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script := "+--+---++"
		n := 0
		l := newLab(t, func(context.Context, Check) error {
			n++
			if n > len(script) || script[n-1] == '+' {
				return nil
			}
			return errDown
		})
		c := check(1)
		c.Rise, c.Fall = 2, 3
		l.Set(map[ID]Check{id(1): c})
		got := ""
		for _, r := range l.after(95 * time.Second)[:len(script)] {
			s := map[bool]string{true: "u", false: "d"}[r.Up]
			if r.Changed {
				s = strings.ToUpper(s)
			}
			got += s
			if (r.Err == nil) != (script[r.Checks-1] == '+') || int(r.Failures) != strings.Count(script[:r.Checks], "-") {
				t.Errorf("%+v", r)
			}
		}
		if want := "UuuuuuDdU"; got != want {
			t.Errorf("%s gives %s, want %s", script, got, want)
		}
		l.stop()
		want := `level=INFO msg="check failed, real server is still up" service=192.0.2.101:80/tcp real_server=10.0.0.1 took=0s err="it is down" failed=1 fall=3
level=INFO msg="check failed, real server is still up" service=192.0.2.101:80/tcp real_server=10.0.0.1 took=0s err="it is down" failed=2 fall=3
level=INFO msg="check failed, real server is still up" service=192.0.2.101:80/tcp real_server=10.0.0.1 took=0s err="it is down" failed=1 fall=3
level=INFO msg="check failed, real server is still up" service=192.0.2.101:80/tcp real_server=10.0.0.1 took=0s err="it is down" failed=2 fall=3
`
		if got := l.logged.String(); got != want {
			t.Errorf("log:\n%s\nwant\n%s", got, want)
		}
	})
}

func TestSetKeepsWhatHasNotChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, well)
		with := func(rise int) map[ID]Check {
			m := checks(2)
			for id, c := range m {
				c.Expect, c.Rise = regexp.MustCompile("ok"), rise
				m[id] = c
			}
			return m
		}
		l.Set(with(0))
		l.after(0)
		before := l.after(20 * time.Second)
		l.Set(with(1)) // the same: a default written out, and expressions compiled anew
		if got := l.after(0); len(got) > 0 {
			t.Errorf("checked again at once: %+v", got)
		}
		for _, r := range l.after(10 * time.Second) {
			var last Result
			for _, b := range before {
				if b.ID == r.ID {
					last = b
				}
			}
			if r.At.Sub(last.At) != 10*time.Second || r.Checks != last.Checks+1 || r.Changed {
				t.Errorf("%+v after %+v", r, last)
			}
		}
	})
}

func TestSetChangedAndRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, func(ctx context.Context, c Check) error {
			if c.Port == 81 {
				return errDown
			}
			return nil
		})
		l.Set(checks(3))
		if n := len(l.after(0)); n != 3 {
			t.Fatalf("%d results", n)
		}
		changed := checks(2) // 2 leaves
		c := changed[id(1)]
		c.Port, c.Fall = 81, 2
		changed[id(1)] = c
		l.Set(changed)
		got := l.after(0)
		// Checked at once; up as before, since one failure is not two.
		if len(got) != 1 || got[0].ID != id(1) || !got[0].Up || got[0].Changed || got[0].Checks != 2 || got[0].Failures != 1 {
			t.Errorf("%+v", got)
		}
		for _, r := range l.after(30 * time.Second) {
			if r.ID == id(2) {
				t.Errorf("checked after it left: %+v", r)
			}
		}
		l.Set(nil)
		if got := l.after(time.Minute); len(got) > 0 {
			t.Errorf("%d results without a target", len(got))
		}
		// Back again: nothing is known of it.
		l.Set(checks(1))
		if got := l.after(0); len(got) != 1 || got[0].Checks != 1 || !got[0].Changed {
			t.Errorf("%+v", got)
		}
	})
}

// A check under way for a target that leaves is ended, and its result is
// nobody's.
func TestSetEndsChecksUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan time.Time, 1)
		l := newLab(t, func(ctx context.Context, c Check) error {
			err := hang(ctx, c)
			ended <- time.Now()
			return err
		})
		l.Set(checks(1))
		l.after(time.Second)
		l.Set(nil)
		got := l.after(time.Minute)
		if at := <-ended; at != l.start.Add(time.Second) || len(got) > 0 {
			t.Errorf("ended after %s, with %+v", at.Sub(l.start), got)
		}
	})
}

func TestRunEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, func(ctx context.Context, c Check) error {
			if num(c.Addr) < 50 {
				return hang(ctx, c)
			}
			return nil
		})
		l.Set(checks(100))
		l.after(time.Second)
		l.stop()
		if d := time.Since(l.start); d != time.Second {
			t.Errorf("Run took %s to return", d-time.Second)
		}
		if got := l.after(time.Minute); len(got) > 0 {
			t.Errorf("%d results after the end", len(got))
		}
	})
}

// Set may be called from report: a control loop does it in one goroutine.
func TestSetFromReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m *Monitor
		n := 0
		m = New(slog.New(slog.DiscardHandler), func(r Result) {
			n++
			m.Set(checks(min(n+1, 5))) // each result brings one more
		})
		m.probe = well
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		m.Set(checks(1))
		m.Run(ctx)
		if n != 5 {
			t.Errorf("%d results, want 5", n)
		}
	})
}

// Whatever is set and whatever servers do: a target reports only while it is
// set, its counts are whole, and Up follows from its results.
func TestMonitorAgainstModel(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			var mu sync.Mutex
			l := newLab(t, func(ctx context.Context, c Check) error {
				mu.Lock()
				what := rnd.IntN(4)
				took := time.Duration(rnd.Int64N(int64(4 * time.Second)))
				mu.Unlock()
				select {
				case <-time.After(took):
				case <-ctx.Done():
					return ctx.Err()
				}
				if what == 0 {
					return errDown
				}
				return nil
			})
			model := map[ID]*hysteresis{}
			counts := map[ID]uint64{}
			for range 50 {
				set := map[ID]Check{}
				for i := range 8 {
					mu.Lock()
					in, rise := rnd.IntN(3) > 0, 1+rnd.IntN(2)
					mu.Unlock()
					if in {
						c := check(i)
						c.Rise, c.Fall = rise, 2
						set[id(i)] = c
					}
				}
				l.Set(set)
				for i := range model {
					if _, ok := set[i]; !ok {
						delete(model, i)
						delete(counts, i)
					}
				}
				for i, c := range set {
					if model[i] == nil {
						model[i] = &hysteresis{rise: c.Rise, fall: c.Fall}
					} else if model[i].rise != c.Rise {
						model[i].rise, model[i].against = c.Rise, 0
					}
				}
				for _, r := range l.after(7 * time.Second) {
					h := model[r.ID]
					if h == nil {
						t.Fatalf("seed %d: not set: %+v", seed, r)
					}
					counts[r.ID]++
					if changed := h.observe(r.Err == nil); r.Up != h.up || r.Changed != changed || r.Checks != counts[r.ID] {
						t.Fatalf("seed %d: %+v, want %+v, changed %v, %d checks", seed, r, h, changed, counts[r.ID])
					}
				}
			}
		})
	}
}

func TestCheckEqual(t *testing.T) {
	a := Check{Type: "http", Expect: regexp.MustCompile("ok")}
	b := Check{Type: "http", Expect: regexp.MustCompile("ok")}
	if !a.equal(b) {
		t.Error("the same expression compiled twice")
	}
	for name, b := range map[string]Check{
		"none":      {Type: "http"},
		"another":   {Type: "http", Expect: regexp.MustCompile("OK")},
		"the type":  {Type: "tcp", Expect: a.Expect},
		"the port":  {Type: "http", Expect: a.Expect, Port: 1},
		"a timeout": {Type: "http", Expect: a.Expect, Timeout: 1},
	} {
		if a.equal(b) || b.equal(a) {
			t.Error(name)
		}
	}
}

// With real sockets: one server that is well, one that refuses, one that hangs.
func TestMonitorWithRealServers(t *testing.T) {
	results := make(chan Result, 16)
	m := New(slog.New(slog.DiscardHandler), func(r Result) { results <- r })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { m.Run(ctx); close(done) }()
	defer func() { cancel(); <-done }()

	good, gone := serve(t, func(http.ResponseWriter, *http.Request) {}), refused(t, "http")
	slow := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	for _, c := range []*Check{&good, &gone, &slow} {
		c.Interval, c.Timeout = time.Hour, 100*time.Millisecond
	}
	slow.Timeout = 300 * time.Millisecond
	m.Set(map[ID]Check{id(1): good, id(2): gone, id(3): slow})
	var last Result
	up := map[ID]bool{}
	for range 3 {
		last = <-results
		up[last.ID] = last.Up
	}
	if !up[id(1)] || up[id(2)] || up[id(3)] || last.ID != id(3) {
		t.Errorf("%v, the last was %v; want 1 up and 3 last", up, last.ID)
	}
}
