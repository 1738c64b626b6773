package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"systole/control"
	"systole/control/api"
	"systole/control/broker"
	"systole/control/broker/brokertest"
)

// stubborn is a director that begins a hand-over and never ends it.
type stubborn struct {
	api.Director // what it is not asked for
	refuse       error
}

func (s stubborn) Status(context.Context) (*control.State, error) {
	return &control.State{Node: "node1", Holds: "all", Takeover: control.TakeoverState{Standby: "asked"}}, nil
}
func (s stubborn) Standby(context.Context, string) error  { return s.refuse }
func (s stubborn) Takeover(context.Context, string) error { return s.refuse }

func (s stubborn) ChoosePlane(context.Context, string) error { return nil }

func TestHandoverThatDoesNotEnd(t *testing.T) {
	for _, tt := range []struct {
		director stubborn
		want     string
	}{
		{stubborn{}, "standby all was begun, but is not done"},
		{stubborn{refuse: errors.New("no other director is alive")}, "no other director is alive"},
	} {
		path := filepath.Join(t.TempDir(), "systole.sock")
		l, err := api.Listen(path)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- api.Serve(ctx, l, tt.director, broker.New(brokertest.New()), slog.New(slog.DiscardHandler))
		}()

		impatient, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		err = handover(impatient, api.NewClient(path), "standby", "all", func(s *control.State) bool { return released(s, "all") })
		cancel()
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v, want %q", err, tt.want)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
