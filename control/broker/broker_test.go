package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"systole/control/broker/brokertest"
	"systole/control/client"
	"systole/hb"
	"systole/hb/wire"
)

// start runs a broker until the test ends. Who passes a director gets its
// events in it.
func start(t *testing.T, c *brokertest.Cluster, director chan<- hb.Event) *Broker {
	t.Helper()
	b := New(c)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { b.Run(ctx) })
	if director != nil {
		wg.Go(func() {
			for ev := range b.Events() {
				director <- ev
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return b
}

func subscribe(t *testing.T, b *Broker, w client.Wanted) *Subscription {
	t.Helper()
	f, err := NewFilter(w)
	if err != nil {
		t.Fatal(err)
	}
	s, err := b.Subscribe(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// waiting are the events that are there, in words.
func waiting(t *testing.T, s *Subscription) []string {
	t.Helper()
	synctest.Wait()
	var out []string
	for {
		e, ok := s.Waiting()
		if !ok {
			return out
		}
		if e.At.IsZero() {
			t.Errorf("%+v has no time", e)
		}
		out = append(out, words(e))
	}
}

func words(e client.Event) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", e.Kind, e.Node)
	for _, s := range []string{e.Medium, e.Status, e.State, e.Type, e.Dest, e.Error} {
		if s != "" {
			b.WriteString(" " + s)
		}
	}
	if e.Kind == client.KindMessage {
		fmt.Fprintf(&b, " %d/%d", e.Generation, e.Seq)
	}
	for _, k := range slices.Sorted(maps.Keys(e.Fields)) {
		fmt.Fprintf(&b, " %s=%s", k, e.Fields[k])
	}
	for _, k := range slices.Sorted(maps.Keys(e.Binary)) {
		fmt.Fprintf(&b, " %s=%x", k, e.Binary[k])
	}
	if e.Kind == client.KindLost {
		fmt.Fprintf(&b, " %d-%d", e.First, e.Last)
	}
	if e.Self {
		b.WriteString(" self")
	}
	if e.Snapshot {
		b.WriteString(" snapshot")
	}
	return b.String()
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("events\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestEventsAfterASnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, director := brokertest.New(), make(chan hb.Event, 100)
		b := start(t, c, director)
		s := subscribe(t, b, client.Wanted{})
		expect(t, waiting(t, s), "start node1 self", "node node1 active self snapshot", "node node2 active snapshot",
			"link node2 ucast eth0 up snapshot", "link node2 serial ttyS0 dead snapshot")
		odd := brokertest.Peer(5, "odd").(hb.Ordered)
		odd.Message.Fields = append(odd.Message.Fields,
			wire.Field{Name: "x", Type: wire.String, Value: []byte("\xff")},
			wire.Field{Name: "x", Type: wire.String, Value: []byte("second")},
			wire.Field{Name: "list", Type: wire.List, Value: []byte("ab")})
		for _, ev := range []hb.Event{
			hb.LinkChanged{Node: "node2", Medium: "ucast eth0", Silence: 3 * time.Second},
			hb.NodeChanged{Node: "node2", From: hb.Active, To: hb.Dead, Why: "silent"},
			hb.LinkChanged{Node: "node2", Medium: "ucast eth0", Up: true, State: hb.LinkUp},
			brokertest.Peer(3, "app.note", "text", "hello", "dest", "node1"), brokertest.Peer(4, "resource", "rsc_hold", "all"), odd,
			hb.Gap{Node: "node2", First: 6, Last: 9}, hb.Joined{}, hb.Lost{Node: "node2", First: 6, Last: 9},
			hb.Delivered{Node: "node2", Message: wire.New("app.note")}, hb.Delivered{Node: "node2", Message: wire.New("resource")}, hb.Stalled{For: time.Second}, hb.Report{Text: "x"},
		} {
			c.Tell(ev)
		}
		expect(t, waiting(t, s), "link node2 ucast eth0 dead", "node node2 dead", "link node2 ucast eth0 up",
			"message node2 app.note node1 11/3 text=hello",
			"message node2 odd 11/5 list=6162 x=ff", "lost node2 6-9", "node node1 active self")
		// The director gets all but the programs' messages.
		var got []string
		for len(director) > 0 {
			got = append(got, fmt.Sprintf("%T", <-director))
		}
		if want := "hb.LinkChanged hb.NodeChanged hb.LinkChanged hb.Joined hb.Lost hb.Delivered hb.Stalled hb.Report"; strings.Join(got, " ") != want {
			t.Errorf("the director got %v", got)
		}
	})
}

func TestFilters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := brokertest.New()
		b := start(t, c, make(chan hb.Event, 100))
		for _, tt := range []struct {
			w    client.Wanted
			want []string
		}{
			{client.Wanted{Kinds: []client.Kind{client.KindMessage}}, []string{"start node1 self", "message node2 a 11/1", "lost node2 2-2"}},
			{client.Wanted{Types: []string{"b", "resource"}}, []string{"message node2 resource 11/3"}},
			{client.Wanted{Kinds: []client.Kind{client.KindLink}}, []string{"start node1 self", "link node2 ucast eth0 up snapshot",
				"link node2 serial ttyS0 dead snapshot", "link node2 m late"}},
			{client.Wanted{Kinds: []client.Kind{client.KindNode}}, []string{"start node1 self", "node node1 active self snapshot",
				"node node2 active snapshot", "node node2 dead"}},
		} {
			s := subscribe(t, b, tt.w)
			c.Tell(brokertest.Peer(1, "a"))
			c.Tell(hb.Gap{Node: "node2", First: 2, Last: 2})
			c.Tell(brokertest.Peer(3, "resource"))
			c.Tell(hb.LinkChanged{Node: "node2", Medium: "m", State: hb.LinkLate})
			c.Tell(hb.NodeChanged{Node: "node2", To: hb.Dead})
			got := waiting(t, s)
			if len(tt.w.Types) > 0 { // only its messages are of interest
				got = slices.DeleteFunc(got, func(s string) bool { return !strings.HasPrefix(s, "message") })
			}
			expect(t, got, tt.want...)
			s.Close()
		}
	})
}

func TestBadFilters(t *testing.T) {
	for _, tt := range []struct {
		w    client.Wanted
		want string
	}{
		{client.Wanted{Kinds: []client.Kind{"lost"}}, `kind "lost": message, node, link or view`},
		{client.Wanted{Types: []string{"a b"}}, `type "a b": contains ' '`},
		{client.Wanted{Types: []string{"a"}, Kinds: []client.Kind{client.KindNode}}, `type "a": types are of messages`},
	} {
		if _, err := NewFilter(tt.w); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %s", tt.w, err, tt.want)
		}
	}
}

// A heartbeat without room slows a program and drops nothing.
func TestNoRoomMeansWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := brokertest.New()
		c.Refuse = 250
		b := start(t, c, make(chan hb.Event, 100))
		begin := time.Now()
		sent, err := b.Send(t.Context(), client.Message{Type: "note"})
		if err != nil || sent != (client.Sent{Node: "node1", Seq: 1}) {
			t.Fatalf("%+v, %v", sent, err)
		}
		// 250 refusals with pauses of 1, 2, 4, 8, 16 and 20 ms.
		if took, want := time.Since(begin), 31*time.Millisecond+245*lastRetry; took != want {
			t.Errorf("took %v, want %v", took, want)
		}
	})
}

func TestPatienceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := brokertest.New()
		c.Refuse, c.State.Seq, c.State.Peers[0].Acked = 1<<30, 300, 99
		b := start(t, c, make(chan hb.Event, 100))
		errs := make(chan error)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for range 2 { // the second does not even get its turn
			go func() {
				_, err := b.Send(ctx, client.Message{Type: "note"})
				errs <- err
			}()
			synctest.Wait()
		}
		for range 2 {
			if err := <-errs; !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), "node node2 has acknowledged messages up to 99 of 300") {
				t.Errorf("%v", err)
			}
		}
		c.Set(func(c *brokertest.Cluster) { c.Refuse = 0 })
		if _, err := b.Send(t.Context(), client.Message{Type: "note"}); err != nil || len(c.Sent) != 1 {
			t.Errorf("%v; %d sent: one that was given up went out", err, len(c.Sent))
		}
	})
}

// A machine that does not keep up with its own messages slows its programs:
// the heartbeat's queue of events never gets more than it can bear.
func TestOwnMessagesThatDoNotComeBackSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := brokertest.New()
		c.Mute = true
		b := start(t, c, make(chan hb.Event, 1000))
		for range maxAhead {
			if _, err := b.Send(t.Context(), client.Message{Type: "note"}); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := b.Send(ctx, client.Message{Type: "note"}); !errors.Is(err, errAhead) || !errors.Is(err, ErrBusy) {
			t.Errorf("%v", err)
		}
		c.Tell(brokertest.Own(1, wire.New("resource"))) // not a program's
		synctest.Wait()
		if n := b.ahead.Load(); n != maxAhead {
			t.Errorf("%d are on their way, want %d", n, maxAhead)
		}
		c.Tell(brokertest.Own(2, wire.New("note")))
		synctest.Wait()
		// What is for another node alone does not come back and does not count.
		for _, dest := range []string{"node2", "node2", "NODE1"} {
			if _, err := b.Send(t.Context(), client.Message{Type: "note", Dest: dest}); err != nil {
				t.Error(err)
			}
		}
		if n := b.ahead.Load(); n != maxAhead {
			t.Errorf("%d are on their way, want %d", n, maxAhead)
		}
	})
}

func TestMessagesKeepTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := brokertest.New()
		b := start(t, c, make(chan hb.Event, 100))
		s := subscribe(t, b, client.Wanted{Kinds: []client.Kind{client.KindMessage}})
		const n = 5000
		go func() {
			for i := range n {
				if i%97 == 0 {
					c.Set(func(c *brokertest.Cluster) { c.Refuse = i % 7 })
				}
				if _, err := b.Send(t.Context(), client.Message{Type: "note", Fields: map[string]string{"i": fmt.Sprint(i + 1)}}); err != nil {
					t.Error(err)
				}
			}
		}()
		for i := 0; i <= n; i++ {
			e, err := s.Next(t.Context())
			if err != nil || e.N != uint64(i+1) {
				t.Fatalf("event %d: %+v, %v", i, e, err)
			}
			if i > 0 && (e.Seq != uint64(i) || e.Fields["i"] != fmt.Sprint(i) || !e.Self) {
				t.Fatalf("message %d: %+v", i, e)
			}
		}
	})
}

// Many programs at once, none starves.
func TestSendersTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := brokertest.New()
		b := start(t, c, make(chan hb.Event, 100))
		c.Refuse = 1
		for i := range 5 {
			go func() {
				_, _ = b.Send(t.Context(), client.Message{Type: fmt.Sprintf("t%d", i)})
			}()
			synctest.Wait()
		}
		time.Sleep(time.Second)
		synctest.Wait()
		var got []string
		for _, m := range c.Sent {
			got = append(got, m.Type())
		}
		if want := "t0 t1 t2 t3 t4"; strings.Join(got, " ") != want {
			t.Errorf("sent %v, want %s", got, want)
		}
	})
}

// A program that does not read loses the end of its stream and is told how
// much; another one and the director do not notice.
func TestSlowSubscriber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, director := brokertest.New(), make(chan hb.Event, 100)
		b := start(t, c, director)
		w := client.Wanted{Kinds: []client.Kind{client.KindMessage}}
		slow, brisk := subscribe(t, b, w), subscribe(t, b, w)
		heard := 0
		for i := range maxQueue + 100 {
			c.Tell(brokertest.Peer(uint64(i+1), "note"))
			heard += len(waiting(t, brisk))
		}
		if heard != maxQueue+101 { // with start
			t.Errorf("the other heard %d", heard)
		}
		for i := range maxQueue + 1 {
			if e, err := slow.Next(t.Context()); err != nil || i > 0 && e.Seq != uint64(i) {
				t.Fatalf("event %d: %+v, %v", i, e, err)
			}
			if i == 10 { // room again is of no use: there is a gap already
				c.Tell(brokertest.Peer(1<<20, "note"))
				synctest.Wait()
			}
		}
		e, err := slow.Next(t.Context())
		if err != nil || e.Kind != client.KindEnd || e.Missed != 101 || e.Error != "101 events were left out: they were not read in time" {
			t.Errorf("%+v, %v", e, err)
		}
		if _, err := slow.Next(t.Context()); err != io.EOF {
			t.Errorf("after the end: %v", err)
		}
		if len(b.subs) != 1 {
			t.Errorf("%d subscriptions are left", len(b.subs))
		}
	})
}

func TestQueueIsBoundedInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := brokertest.New()
		b := start(t, c, make(chan hb.Event, 100))
		s := subscribe(t, b, client.Wanted{})
		big := strings.Repeat("x", maxBytes)
		for i := range maxQueueBytes/maxBytes + 1 {
			c.Tell(brokertest.Peer(uint64(i+1), "note", "text", big))
		}
		got := waiting(t, s)
		if last := got[len(got)-1]; !strings.HasPrefix(last, "end node1") || len(got) > maxQueueBytes/maxBytes+6 {
			t.Errorf("%d events, the last is %.80s", len(got), last)
		}
		if s.bytes != 0 {
			t.Errorf("%d bytes are left in an empty queue", s.bytes)
		}
	})
}

// A director that hangs is the heartbeat's to notice: the broker stops reading.
func TestDirectorThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := brokertest.New()
		b := start(t, c, nil)
		const told = 2 * maxPending
		go func() {
			for i := range told {
				c.Tell(hb.Lost{First: uint64(i)})
			}
			c.End()
		}()
		synctest.Wait()
		if len(c.Events()) != cap(c.Events()) {
			t.Error("the broker reads on though nobody takes")
		}
		for i := range told {
			if ev := <-b.Events(); ev != (hb.Lost{First: uint64(i)}) {
				t.Fatalf("event %d is %v", i, ev)
			}
		}
		if ev, ok := <-b.Events(); ok {
			t.Errorf("and %v", ev)
		}
	})
}

func TestTheEndOfTheHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := brokertest.New()
		c.Refuse = 1 << 30
		b := start(t, c, make(chan hb.Event, 100))
		s := subscribe(t, b, client.Wanted{Kinds: []client.Kind{client.KindMessage}})
		errs := make(chan error)
		for range 2 { // one has its turn, one has not
			go func() {
				_, err := b.Send(t.Context(), client.Message{Type: "note"})
				errs <- err
			}()
		}
		synctest.Wait()
		c.Tell(brokertest.Peer(1, "note"))
		c.End()
		for range 2 {
			if err := <-errs; !errors.Is(err, ErrStopped) {
				t.Errorf("%v", err)
			}
		}
		expect(t, waiting(t, s), "start node1 self", "message node2 note 11/1", "end node1 the director is stopping self")
		if _, err := b.Subscribe(Filter{}); !errors.Is(err, ErrStopped) {
			t.Errorf("a new subscription: %v", err)
		}
	})
}

func TestRefusalsOfTheHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := brokertest.New()
		b := start(t, c, make(chan hb.Event, 100))
		c.Err = fmt.Errorf("%w: dest %q is no node", hb.ErrMessage, "node7")
		if _, err := b.Send(t.Context(), client.Message{Type: "note", Dest: "node7"}); err != c.Err {
			t.Errorf("%v", err)
		}
		c.Err = hb.ErrStopped
		if _, err := b.Send(t.Context(), client.Message{Type: "note"}); !errors.Is(err, ErrStopped) {
			t.Errorf("%v", err)
		}
		if n := b.ahead.Load(); n != 0 {
			t.Errorf("%d messages are waited for that were not sent", n)
		}
	})
}

func TestSubscriptionsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, brokertest.New(), make(chan hb.Event, 100))
		var last *Subscription
		for range maxSubscriptions {
			last = subscribe(t, b, client.Wanted{})
		}
		if _, err := b.Subscribe(Filter{}); !errors.Is(err, ErrSubscriptions) {
			t.Errorf("%v", err)
		}
		last.Close()
		subscribe(t, b, client.Wanted{})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		waiting(t, last)
		if _, err := last.Next(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
}
