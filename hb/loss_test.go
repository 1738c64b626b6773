package hb_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"systole/hb"
	"systole/hb/hbtest"
	"systole/hb/wire"
)

// TestMessagesUnderLoss sends control messages as fast as flow control lets
// them, on networks that lose ever more each way. All arrive, each once, in
// order for who wants that; what it costs is printed: -v, and SYSTOLE_SOAK=1
// for 10,000 messages instead of 400.
func TestMessagesUnderLoss(t *testing.T) {
	messages := 400
	if os.Getenv("SYSTOLE_SOAK") != "" {
		messages = 10_000
	}
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "loss each way\tmessages\tdelivered\tvirtual time\tmessages/s\tpackets lost\trequests\trequests per lost packet\trefused by flow control\t")
	for _, loss := range []float64{0, 0.1, 0.3, 0.5} {
		t.Run(fmt.Sprintf("%.0f%%", 100*loss), func(t *testing.T) {
			s := newSim(t, 1, 2, hb.Config{
				Keepalive: 100 * time.Millisecond, Deadtime: time.Minute, Initdead: time.Minute, StartGrace: -1,
				Media: []string{"eth0"}, Format: wire.Netstring, Ordered: true,
			})
			var delivered, inOrder int
			s.events = func(node string, e hb.Event) {
				switch e := e.(type) {
				case hb.Delivered:
					if node == "b" && !e.FromSelf {
						delivered++
					}
				case hb.Ordered:
					if info, _ := e.Message.Get("info"); node == "b" && !e.FromSelf {
						if info != fmt.Sprint(inOrder) {
							t.Fatalf("%v: message %s in order, want %d", s.Since(), info, inOrder)
						}
						inOrder++
					}
				case hb.Lost, hb.Gap:
					t.Errorf("%v %s: %v", s.Since(), node, e)
				}
			}
			for _, name := range s.names {
				s.boot(name)
			}
			if !s.RunUntil(10*time.Second, s.agreed) {
				t.Fatal("the nodes do not find together")
			}
			s.Faults = hbtest.Faults{Loss: loss, MinDelay: 100 * time.Microsecond, MaxDelay: 300 * time.Microsecond}
			began, requests, lost, refused := s.Now(), s.requests(), s.Network.Lost, 0
			for i := range messages {
				for {
					err := s.Submit("a", wire.New("test", "dest", "b", "info", fmt.Sprint(i)))
					if err == nil {
						break
					}
					if !errors.Is(err, hb.ErrFlow) {
						t.Fatal(err)
					}
					refused++
					s.Run(time.Millisecond)
					if s.Now().Sub(began) > time.Hour {
						t.Fatalf("message %d is still refused after an hour", i)
					}
				}
			}
			if !s.RunUntil(time.Hour, func() bool { return inOrder == messages }) || delivered != messages {
				t.Errorf("%d messages, %d delivered, %d in order", messages, delivered, inOrder)
			}
			took := s.Now().Sub(began)
			requests, lost = s.requests()-requests, s.Network.Lost-lost
			ratio := "-"
			if lost > 0 {
				r := float64(requests) / float64(lost)
				ratio = fmt.Sprintf("%.2f", r)
				// Each lost packet costs one request, or is one: a request, its
				// answer, a beat, an acknowledgement. More would be a storm.
				if r > 1.1 {
					t.Errorf("%d requests for %d lost packets", requests, lost)
				}
			} else if requests > 0 {
				t.Errorf("%d requests, though nothing was lost", requests)
			}
			fmt.Fprintf(w, "%.0f %%\t%d\t%d\t%v\t%.0f\t%d\t%d\t%s\t%d\t\n", 100*loss, messages, delivered,
				took.Round(time.Millisecond), float64(messages)/took.Seconds(), lost, requests, ratio, refused)
		})
	}
	w.Flush()
	t.Log("\n" + table.String())
}
