package driver

import (
	"testing"
	"time"
)

// TestAlarm: half a millisecond is not a whole one, most of the time; what is
// long is left to others; after close nobody reads any more.
func TestAlarm(t *testing.T) {
	var a alarm
	if a.set(time.Millisecond) {
		t.Error("an alarm that is not open was set")
	}
	if err := a.open(); err != nil {
		t.Fatal(err)
	}
	if a.set(shortWait + 1) {
		t.Error("set for a long wait")
	}
	const want = 500 * time.Microsecond
	best := time.Hour
	for range 50 {
		begin := time.Now()
		if !a.set(want) {
			t.Fatal("not set")
		}
		<-a.c
		took := time.Since(begin)
		if took < want {
			t.Fatalf("woken after %v", took)
		}
		best = min(best, took)
	}
	if best > want*3/2 {
		t.Errorf("half a millisecond took %v at best", best)
	}
	if !a.set(-time.Second) {
		t.Error("not set for what is due")
	}
	<-a.c
	a.close()
	if a.set(want) {
		t.Error("set after close")
	}
}
