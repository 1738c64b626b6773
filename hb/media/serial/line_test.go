package serial

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"systole/hb/wire"
)

func TestQueueDropsTheOldest(t *testing.T) {
	q := newQueue(9600)
	if q.limit != leastQueue || newQueue(460800).limit != 46080 {
		t.Errorf("limits %d, %d", q.limit, newQueue(460800).limit)
	}
	packet := func(first byte, n int) []byte { p := make([]byte, n); p[0] = first; return p }
	for i := range 4 {
		if n := q.push(packet(byte(i), leastQueue/4)); n != 0 {
			t.Errorf("packet %d: %d dropped", i, n)
		}
	}
	if n := q.push(packet(4, leastQueue/4+1)); n != 2 {
		t.Errorf("%d dropped, want 2", n)
	}
	var got []byte
	for p := q.pop(); p != nil; p = q.pop() {
		got = append(got, p[0])
	}
	if !slices.Equal(got, []byte{2, 3, 4}) || q.size != 0 {
		t.Errorf("left %v, size %d", got, q.size)
	}
	q.push(packet(1, 1000))
	q.push(packet(2, 1000))
	if n := q.push(packet(3, leastQueue)); n != 2 {
		t.Errorf("%d dropped for the longest packet, want 2", n)
	}
	if n := q.clear(); n != 1 || q.pop() != nil || q.size != 0 {
		t.Errorf("%d cleared, size %d", n, q.size)
	}
}

func TestBeatsOvertakeAndStay(t *testing.T) {
	q := newQueue(9600)
	for _, p := range []string{"m1", "b1", "m2", "b2"} {
		p += "\n"
		if p[0] == 'b' {
			p = string(beatBegin) + p
		}
		q.push([]byte(p))
	}
	if n := q.push(make([]byte, q.limit-2*(len(beatBegin)+3))); n != 2 {
		t.Errorf("%d dropped, want the two messages", n)
	}
	for _, want := range []string{"b1\n", "b2\n", "\x00"} {
		if p := q.pop(); !bytes.HasSuffix(p, []byte(want)) {
			t.Errorf("got %q, want %q", p, want)
		}
	}
	q.push(append(bytes.Clone(beatBegin), "b3"...))
	if n := q.push(make([]byte, q.limit)); n != 1 {
		t.Errorf("%d dropped, want the beat, too", n)
	}
}

// What the core calls a beat is one here.
func TestBeatIsRecognised(t *testing.T) {
	for typ, want := range map[string]bool{"status": true, "statusx": false, "resource": false} {
		text, err := wire.AppendText(nil, packet(t, wire.Both, wire.New(typ, "src", "a")))
		if err != nil || bytes.HasPrefix(text, beatBegin) != want {
			t.Errorf("%s: %q, %v", typ, text, err)
		}
	}
}

// stamps notes when each write came.
type stamps struct {
	start time.Time
	at    []time.Duration
	fail  error
}

func (s *stamps) Write(p []byte) (int, error) {
	if s.fail != nil && len(p) > 1 {
		return 0, s.fail
	}
	s.at = append(s.at, time.Since(s.start))
	return len(p), nil
}

func newLine() *line { return &line{stop: make(chan struct{}), written: make(chan struct{})} }

// A packet of 192 bytes is 100 ms long at 19200 bit/s: no other is given to the
// kernel meanwhile, however many wait.
func TestWriterKeepsToTheLinesRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, q, w := newLine(), newQueue(19200), &stamps{start: time.Now()}
		var sent, failed atomic.Uint64
		for range 3 {
			q.push(make([]byte, 192))
		}
		go l.write(w, q, 19200, &sent, &failed)
		time.Sleep(time.Second)
		q.push(make([]byte, 384))
		time.Sleep(50 * time.Millisecond)
		q.push(make([]byte, 192))
		time.Sleep(time.Second)
		close(l.stop)
		<-l.written
		ms := time.Millisecond
		if want := []time.Duration{0, 0, 100 * ms, 200 * ms, 1000 * ms, 1200 * ms}; !slices.Equal(w.at, want) {
			t.Errorf("written at %v, want %v", w.at, want)
		}
		if sent.Load() != 5 || failed.Load() != 0 {
			t.Errorf("%d sent, %d failed", sent.Load(), failed.Load())
		}
	})
}

func TestWriterTellsTheReaderWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, q := newLine(), newQueue(9600)
		var sent, failed atomic.Uint64
		broken := errors.New("broken")
		q.push([]byte("beat"))
		go l.write(&stamps{fail: broken}, q, 9600, &sent, &failed)
		<-l.written
		if err := l.why(os.ErrDeadlineExceeded); err != broken {
			t.Errorf("%v, want %v", err, broken)
		}
		if sent.Load() != 0 || failed.Load() != 1 {
			t.Errorf("%d sent, %d failed", sent.Load(), failed.Load())
		}
	})
}

func TestWriterStopsWhereverItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, packets := range []int{0, 1, 5} { // waits for one, or for the line
			l, q := newLine(), newQueue(9600)
			var sent, failed atomic.Uint64
			for range packets {
				q.push(make([]byte, 300))
			}
			go l.write(&stamps{start: time.Now()}, q, 9600, &sent, &failed)
			synctest.Wait()
			close(l.stop)
			<-l.written
		}
	})
}
