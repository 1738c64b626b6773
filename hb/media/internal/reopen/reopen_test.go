package reopen

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"systole/hb/media"
)

// plug is what a medium could use.
type plug struct{ shut bool }

func TestOpensAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		absent := errors.New("absent")
		broken := errors.New("broken")
		var why error
		var all []*plug
		m := New("wire", func() (*plug, error) {
			if why != nil {
				return nil, why
			}
			all = append(all, new(plug))
			return all[len(all)-1], nil
		}, func(p *plug) {
			if p.shut {
				t.Error("shut twice")
			}
			p.shut = true
		})
		first, err := m.Get()
		if err != nil || m.Err() != nil || len(all) != 1 || first != all[0] {
			t.Fatalf("%v, %v, %d opened, want the one that New opened", first, err, len(all))
		}
		if held, err := m.Hold(); held != first || err != nil {
			t.Fatalf("held %v, %v", held, err)
		}
		m.Release()
		m.Works()

		why = absent
		if err := m.Broken(first, broken); !errors.Is(err, broken) || err.Error() != "wire: broken" || !first.shut {
			t.Errorf("%v, shut %v", err, first.shut)
		}
		if _, err := m.Hold(); !errors.Is(err, broken) {
			t.Errorf("held though broken: %v", err)
		}
		start := time.Now()
		for range 3 {
			if _, err := m.Get(); !errors.Is(err, absent) || !errors.Is(m.Err(), absent) {
				t.Errorf("%v, %v", err, m.Err())
			}
		}
		if d := time.Since(start); d != 150*time.Millisecond {
			t.Errorf("three attempts took %v, want 0, 50 and 100 ms", d)
		}
		why = nil
		second, err := m.Get()
		if err != nil || second == first {
			t.Fatalf("%v, %v", second, err)
		}
		if err := m.Close(); err != nil || !second.shut {
			t.Errorf("%v, shut %v", err, second.shut)
		}
		_, get := m.Get()
		_, hold := m.Hold()
		for _, err := range []error{get, hold, m.Close(), m.Broken(second, broken)} {
			if err != media.ErrClosed {
				t.Errorf("after Close: %v", err)
			}
		}
	})
}

func TestCloseEndsGet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, late := range []bool{false, true} { // while it waits, and while it opens
			first := true
			var opened *plug
			m := New("wire", func() (*plug, error) {
				if first || !late {
					first = false
					return nil, errors.New("absent")
				}
				time.Sleep(time.Hour)
				opened = new(plug)
				return opened, nil
			}, func(p *plug) { p.shut = true })
			result := make(chan error)
			go func() {
				_, err := m.Get()
				result <- err
			}()
			if late {
				time.Sleep(time.Minute)
			}
			m.Close()
			if err := <-result; err != media.ErrClosed || late && !opened.shut {
				t.Errorf("%v, %v", err, opened)
			}
		}
	})
}
