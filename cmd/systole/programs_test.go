package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"systole/control/api"
	"systole/control/broker"
	"systole/control/broker/brokertest"
	"systole/control/client"
)

// programsOf is the control socket of a director with that heartbeat.
func programsOf(t *testing.T, c *brokertest.Cluster) socketFlag {
	t.Helper()
	path := filepath.Join(t.TempDir(), "systole.sock")
	l, err := api.Listen(path)
	if err != nil {
		t.Fatal(err)
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
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return socketFlag{path}
}

// parse is what the command line makes of its arguments.
func parse(t *testing.T, args ...string) cli {
	t.Helper()
	var c cli
	if _, err := kong.Must(&c).Parse(args); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSendFromTheCommandLine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte{0, 1, 0xff}, 0o600); err != nil {
		t.Fatal(err)
	}
	c := brokertest.New()
	socket := programsOf(t, c)
	for _, tt := range []struct {
		args []string
		want string // the message, or the error
	}{
		{[]string{"note"}, "t=note"},
		{[]string{"note", "a=1,2", "b=x=y", "c= z;", "--dest", "node2"}, `t=note a=1,2 b=x=y c=" z;" dest=node2`},
		{[]string{"note", "--binary", "key=" + file}, "t=note key=0001ff"},
		{[]string{"note", "a"}, `"a": write NAME=VALUE`},
		{[]string{"note", "a=1", "a=2"}, "field a is there twice"},
		{[]string{"note", "text=1", "--stdin"}, "with --stdin this field is for the lines"},
		{[]string{"note", "--binary", "key=" + file + ".none"}, "--binary key: open"},
		{[]string{"status"}, "belongs to the heartbeat protocol"},
		{[]string{"note", "a="}, `field "a": is empty`},
	} {
		c.Set(func(c *brokertest.Cluster) { c.Sent = nil })
		cmd := parse(t, append([]string{"send"}, tt.args...)...).Send
		cmd.socketFlag = socket
		var got string
		if err := cmd.Run(t.Context()); err != nil {
			got = err.Error()
		} else {
			c.Set(func(c *brokertest.Cluster) { got = c.Sent[0].String() })
		}
		message := strings.HasPrefix(tt.want, "t=")
		if message && got != tt.want || !message && !strings.Contains(got, tt.want) {
			t.Errorf("%q: %s, want %s", tt.args, got, tt.want)
		}
	}
}

func TestSendLines(t *testing.T) {
	for _, tt := range []struct {
		in, sent, said, err string
	}{
		{"one\n\ntwo words\r\nlast", `text=one; ; text="two words\r"; text=last`, "note: 4 messages were sent, 1 to 4 of node1\n", ""},
		{"", "", "note: nothing was sent\n", ""},
		{"one\nbad\x00\nnever\n", "text=one", "note: 1 message was sent, 1 of node1\n", `line 2: refused: message: field "text": contains a NUL`},
		{"one\n" + strings.Repeat("x", maxLine+1), "text=one", "note: 1 message was sent, 1 of node1\n", "line 2 is longer than 65536 bytes"},
		{strings.Repeat("x", 20<<10), "", "note: nothing was sent\n", "line 1: refused: message: field \"text\": makes the message longer than 16384 bytes"},
	} {
		c := brokertest.New()
		p := programsOf(t, c).programs()
		defer p.Close()
		var out bytes.Buffer
		s := sender{client: p, wait: 10 * time.Second, out: &out}
		err := s.lines(t.Context(), client.Message{Type: "note", Fields: map[string]string{"k": "v"}}, strings.NewReader(tt.in))
		if err != nil && (tt.err == "" || !strings.HasPrefix(err.Error(), tt.err)) || err == nil && tt.err != "" {
			t.Errorf("%.20q: %v, want %s", tt.in, err, tt.err)
		}
		var sent []string
		for _, m := range c.Sent {
			if k, _ := m.Get("k"); k != "v" {
				t.Errorf("%.20q: the other field is missing: %s", tt.in, m)
			}
			m.Del("t")
			m.Del("k")
			sent = append(sent, m.String())
		}
		if got := strings.Join(sent, "; "); got != tt.sent || out.String() != tt.said {
			t.Errorf("%.20q: sent %s, want %s; said %q", tt.in, got, tt.sent, out.String())
		}
	}
}

// Ctrl-C while nothing comes in, and while there is no room.
func TestSendLinesCanBeInterrupted(t *testing.T) {
	c := brokertest.New()
	p := programsOf(t, c).programs()
	defer p.Close()
	for _, full := range []bool{false, true} {
		r, w := io.Pipe()
		var out bytes.Buffer
		s := sender{client: p, wait: time.Minute, out: &out}
		ctx, cancel := context.WithCancel(t.Context())
		errs := make(chan error)
		go func() { errs <- s.lines(ctx, client.Message{Type: "note"}, r) }()
		if full {
			c.Set(func(c *brokertest.Cluster) { c.Refuse = 1 << 30 })
		}
		fmt.Fprintln(w, "line")
		for done := false; !done; time.Sleep(time.Millisecond) {
			c.Set(func(c *brokertest.Cluster) { done = len(c.Sent) == 1 && !full || full && c.Refuse < 1<<30 })
		}
		cancel()
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		w.Close()
	}
}

func TestEventsForPeople(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.Local)
	for _, tt := range []struct {
		e    client.Event
		want string
	}{
		{client.Event{Kind: client.KindMessage, Node: "node2", Seq: 3, Type: "note",
			Fields: map[string]string{"b": "x y", "a": "1", "c": "\x1b[2J", "q": `"`}, Binary: map[string][]byte{"k": {0, 255}}},
			`message node2 3 note a=1 b="x y" c="\x1b[2J" q="\"" k=0x00ff`},
		{client.Event{Kind: client.KindLost, Node: "node2", First: 4, Last: 5, Why: "messages 4 to 5 are lost"}, "lost node2 (messages 4 to 5 are lost)"},
		{client.Event{Kind: client.KindNode, Node: "node2", Status: "dead", Why: "silent\n"}, `node node2 dead ("silent\n")`},
		{client.Event{Kind: client.KindLink, Node: "node2", Medium: "ucast eth0", State: "up"}, "link node2 ucast eth0: up"},
		{client.Event{Kind: client.KindView, Node: "node1", Why: "no quorum", View: &client.View{Number: 7, Coordinator: "node1", Members: []string{"node1", "node3"}}},
			"view node1 7 of node1: node1 node3; quorum=false settled=false (no quorum)"},
	} {
		tt.e.At = at
		if got, want := eventLine(tt.e), "03:04:05.678 "+tt.want; got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}

func TestWhatListenWants(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want client.Wanted
	}{
		{nil, client.Wanted{}},
		{[]string{"--type", "a,b", "--type", "c"}, client.Wanted{Types: []string{"a", "b", "c"}, Kinds: []client.Kind{"message"}}},
		{[]string{"--type", "a", "--kind", "message,link"}, client.Wanted{Types: []string{"a"}, Kinds: []client.Kind{"message", "link"}}},
	} {
		if got := parse(t, append([]string{"listen"}, tt.args...)...).Listen.wanted(); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%q: %+v, want %+v", tt.args, got, tt.want)
		}
	}
	if err := (listenCmd{Count: -1}).Run(t.Context()); err == nil {
		t.Error("a negative count was taken")
	}
}

func TestListenEndsAsAsked(t *testing.T) {
	socket := programsOf(t, brokertest.New())
	interrupted, cancel := context.WithCancel(t.Context())
	cancel()
	for _, run := range []struct {
		ctx context.Context
		cmd listenCmd
	}{
		{t.Context(), listenCmd{For: 20 * time.Millisecond, socketFlag: socket}},
		{interrupted, listenCmd{socketFlag: socket}},
	} {
		run.cmd.Kind = []string{"message"}
		if err := run.cmd.Run(run.ctx); err != nil {
			t.Error(err)
		}
	}
}

func TestListenForPrograms(t *testing.T) {
	c := brokertest.New()
	socket := programsOf(t, c)
	r, w := io.Pipe()
	errs := make(chan error, 1)
	go func() {
		errs <- listenCmd{JSON: true, Count: 1, Type: []string{"note"}, socketFlag: socket}.listen(t.Context(), w)
		w.Close()
	}()
	var buf [4096]byte
	n, err := r.Read(buf[:]) // the first line says that it hears
	if err != nil || !strings.Contains(string(buf[:n]), `"kind":"start"`) {
		t.Fatalf("%q, %v", buf[:n], err)
	}
	c.Tell(brokertest.Peer(1, "other"), brokertest.Peer(2, "note", "a", "1"))
	rest, err := io.ReadAll(r)
	if err != nil || !strings.HasSuffix(string(rest), `"seq":2,"type":"note","fields":{"a":"1"}}`+"\n") || strings.Count(string(rest), "\n") != 1 {
		t.Errorf("%s, %v", rest, err)
	}
	if err := <-errs; err != nil {
		t.Error(err)
	}
	// The end of the director is an error, for a script to see.
	c.End()
	err = listenCmd{socketFlag: socket}.listen(t.Context(), io.Discard)
	if !errors.Is(err, client.ErrStopped) && !errors.Is(err, client.ErrBusy) { // before or after it heard of it
		t.Errorf("%v", err)
	}
}
