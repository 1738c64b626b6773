package client_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"systole/control/api"
	"systole/control/broker"
	"systole/control/broker/brokertest"
	"systole/control/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// director is the control socket of a director with that heartbeat.
func director(c *brokertest.Cluster) (socket string, stop func()) {
	dir, err := os.MkdirTemp("", "systole-client-")
	if err != nil {
		panic(err)
	}
	socket = filepath.Join(dir, "systole.sock")
	l, err := api.Listen(socket)
	if err != nil {
		panic(err)
	}
	b := broker.New(c)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { b.Run(ctx) })
	wg.Go(func() {
		for range b.Events() {
		}
	})
	wg.Go(func() { _ = api.Serve(ctx, l, nil, b, slog.New(slog.DiscardHandler)) })
	return socket, func() {
		cancel()
		wg.Wait()
		os.RemoveAll(dir)
	}
}

func start(t *testing.T, c *brokertest.Cluster) *client.Client {
	t.Helper()
	socket, stop := director(c)
	t.Cleanup(stop)
	p := client.New(socket)
	t.Cleanup(p.Close)
	return p
}

func TestThousandsOfMessagesInOrder(t *testing.T) {
	c := brokertest.New()
	p := start(t, c)
	const n = 5000
	want := 0
	var sender sync.WaitGroup
	defer sender.Wait()
	for e, err := range p.Listen(t.Context(), client.Wanted{Types: []string{"note"}}) {
		if err != nil {
			t.Fatal(err)
		}
		switch e.Kind {
		case client.KindStart:
			sender.Go(func() {
				for i := range n {
					if i%500 == 0 { // and now and then there is no room
						c.Set(func(c *brokertest.Cluster) { c.Refuse = 3 })
					}
					if _, err := p.Send(t.Context(), client.Message{Type: "note", Binary: map[string][]byte{"i": {byte(i >> 8), byte(i)}}}); err != nil {
						t.Error(err)
					}
				}
			})
		case client.KindMessage:
			if b := e.Binary["i"]; len(b) != 2 || int(b[0])<<8|int(b[1]) != want || e.Seq != uint64(want+1) {
				t.Fatalf("message %d is %+v", want, e)
			}
			want++
		}
		if want == n {
			break
		}
	}
	if want != n {
		t.Errorf("%d messages", want)
	}
}

// The reader stops in the middle, while more comes than sockets and queues
// hold: it then gets what fitted, and the truth about the rest.
func TestMissedIsSaid(t *testing.T) {
	c := brokertest.New()
	p := start(t, c)
	const n = 20000
	heard := 0
	var last error
	for e, err := range p.Listen(t.Context(), client.Wanted{Kinds: []client.Kind{client.KindMessage}}) {
		if err != nil {
			last = err
			continue
		}
		if e.Kind == client.KindStart {
			text := strings.Repeat("x", 1000)
			for i := range n {
				c.Tell(brokertest.Peer(uint64(i+1), "note", "text", text))
			}
			continue
		}
		if heard++; e.Seq != uint64(heard) {
			t.Fatalf("message %d is %d", heard, e.Seq)
		}
	}
	var missed *client.MissedError
	if !errors.As(last, &missed) || heard+int(missed.Missed) != n || missed.Error() != fmt.Sprintf("%d events were left out: they were not read in time", missed.Missed) {
		t.Errorf("%d of %d heard, then: %v", heard, n, last)
	}
}

func TestHowStreamsEnd(t *testing.T) {
	c := brokertest.New()
	p := start(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	for _, tt := range []struct {
		ctx  context.Context
		w    client.Wanted
		do   func()
		want error
		text string
	}{
		{ctx, client.Wanted{}, cancel, context.Canceled, ""},
		{ctx, client.Wanted{}, nil, context.Canceled, ""},
		{t.Context(), client.Wanted{Kinds: []client.Kind{"x"}}, nil, client.ErrRefused, `kind "x": message, node, link or view`},
		{t.Context(), client.Wanted{}, c.End, client.ErrStopped, "the director is stopping"},
		{t.Context(), client.Wanted{}, nil, client.ErrBusy, "the director is stopping"},
	} {
		var last error
		for e, err := range p.Listen(tt.ctx, tt.w) {
			if last != nil {
				t.Errorf("after %v: %+v, %v", last, e, err)
			}
			if last = err; e.Kind == client.KindStart && tt.do != nil {
				tt.do()
			}
		}
		if !errors.Is(last, tt.want) || !strings.Contains(last.Error(), tt.text) {
			t.Errorf("%v, want %v: %s", last, tt.want, tt.text)
		}
	}
}

// A director that is killed says no last word.
func TestBrokenStream(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, `{"n":1,"kind":"start"}`)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	p := client.New(socket)
	defer p.Close()
	var last error
	events := 0
	for _, err := range p.Listen(t.Context(), client.Wanted{}) {
		if last = err; err == nil {
			events++
		}
	}
	if events != 1 || !errors.Is(last, client.ErrBroken) {
		t.Errorf("%d events, then %v", events, last)
	}
}

func TestSendErrors(t *testing.T) {
	c := brokertest.New()
	p := start(t, c)
	for _, tt := range []struct {
		m    client.Message
		want string
	}{
		{client.Message{Type: "status"}, `type "status" belongs to the heartbeat protocol`},
		{client.Message{Type: "note", Fields: map[string]string{"a": "\xff"}}, `field "a": not UTF-8`},
	} {
		if _, err := p.Send(t.Context(), tt.m); !errors.Is(err, client.ErrRefused) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v, want %s", err, tt.want)
		}
	}
	// The director's answer comes before our own patience ends, and is certain.
	c.Set(func(c *brokertest.Cluster) { c.Refuse = 1 << 30 })
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := p.Send(ctx, client.Message{Type: "note"}); !errors.Is(err, client.ErrBusy) || !strings.Contains(err.Error(), "has not acknowledged earlier messages") {
		t.Errorf("%v", err)
	}
	none := client.New(filepath.Join(t.TempDir(), "none"))
	if _, err := none.Send(t.Context(), client.Message{Type: "note"}); !errors.Is(err, client.ErrNotRunning) {
		t.Errorf("%v", err)
	}
}
