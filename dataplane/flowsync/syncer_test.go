package flowsync

import (
	"context"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"systole/test/need"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// eventually polls, since real sockets have their own time.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 5 s: %s", what)
		}
	}
}

// Two nodes on the loopback interface; one of them is restarted.
func TestSyncersOnSockets(t *testing.T) {
	need.Root(t, "sockets bound to an interface")
	loopback := func(port uint16) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
	}
	var told atomic.Int32
	run := func(session uint64, port, to uint16, tab *table) (*Syncer, func()) {
		core, err := New(testConfig(session), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		s := NewSyncer(Options{
			Core: core, Table: tab, Log: slog.New(slog.DiscardHandler),
			Paths:   []Path{{Interface: "lo", Port: port, To: []netip.AddrPort{loopback(to)}}, {Interface: "none0", Port: port, To: []netip.AddrPort{loopback(to)}}},
			Changed: func(st State) { told.Add(1) },
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { s.Run(ctx); close(done) }()
		return s, func() { cancel(); <-done }
	}
	full := newTable(true)
	for i := range 2000 {
		full.put(flow(i))
	}
	a, stopA := run(1, 28848, 28849, full)
	defer stopA()
	other := newTable(false)
	b, stopB := run(2, 28849, 28848, other)
	eventually(t, "the table is across", func() bool { return a.State().InSync && b.State().Complete })
	stopB()
	if n := full.missing(other); n != 0 {
		t.Errorf("%d flows are missing", n)
	}
	other = newTable(false)
	b, stopB = run(3, 28849, 28848, other)
	eventually(t, "the table is across again", func() bool { return a.State().Passes == 2 && a.State().InSync && b.State().Complete })
	if err := b.SetKeys(Keys{Send: 2, Keys: []Key{Derive(2, []byte("x"))}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a peer with another key is gone", func() bool { return !a.State().Peer && b.State().Bad > 0 })
	stopB()
	if n := full.missing(other); n != 0 {
		t.Errorf("%d flows are missing", n)
	}
	if told.Load() < 4 {
		t.Errorf("told %d times", told.Load())
	}
}
