package media

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestRegistry(t *testing.T) {
	t.Cleanup(func() { delete(registry.open, "carrier-pigeon") })
	var got Spec
	Register("carrier-pigeon", func(s Spec) (Medium, error) { got = s; return nil, ErrClosed })
	if _, err := Open("carrier-pigeon", Spec{Interface: "roof"}); err != ErrClosed || got.Interface != "roof" {
		t.Errorf("got %v, %v", got, err)
	}
	_, err := Open("telepathy", Spec{})
	if !errors.Is(err, ErrSpec) || !strings.Contains(err.Error(), `"telepathy", known: carrier-pigeon`) {
		t.Errorf("unknown kind: %v", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("the same kind can be registered twice")
		}
	}()
	Register("carrier-pigeon", nil)
}

func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b Backoff
		done := make(chan struct{})
		for round := range 2 {
			for i, want := range []time.Duration{0, 50, 100, 200, 400, 800, 1000, 1000} {
				start := time.Now()
				if !b.Wait(done) {
					t.Fatal("done too early")
				}
				if got := time.Since(start); got != want*time.Millisecond {
					t.Errorf("round %d, attempt %d: waited %v, want %v", round, i, got, want*time.Millisecond)
				}
			}
			b.Reset()
		}
		b.Wait(done)
		start := time.Now()
		close(done)
		if b.Wait(done) || time.Since(start) != 0 {
			t.Errorf("waits %v though done", time.Since(start))
		}
	})
}
