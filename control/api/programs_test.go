package api

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"systole/control/broker"
	"systole/control/broker/brokertest"
	"systole/control/client"
	"systole/control/internal/dial"
)

// programsOf runs the API of a director with that heartbeat.
func programsOf(t *testing.T, c *brokertest.Cluster) (socket string) {
	t.Helper()
	b := broker.New(c)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { b.Run(ctx) })
	wg.Go(func() {
		for range b.Events() {
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	_, socket = serveWith(t, &fakeDirector{}, b)
	return socket
}

func TestBadMessagesReachNobody(t *testing.T) {
	c := brokertest.New()
	socket := programsOf(t, c)
	for _, tt := range []struct{ name, request, want string }{
		{"no body", post("/v1/messages", ""), `"error":"request body: EOF"`},
		{"unknown key", post("/v1/messages", `{"typ":"note"}`), `unknown field \"typ\"`},
		{"no type", post("/v1/messages", `{}`), `"error":"message: type \"\": is missing"`},
		{"the protocol's type", post("/v1/messages", `{"type":"status"}`), `belongs to the heartbeat protocol`},
		{"field twice", post("/v1/messages", `{"type":"note","fields":{"a":"1","a":"2"}}`), `field \"a\" is there twice`},
		{"field is a number", post("/v1/messages", `{"type":"note","fields":{"a":1}}`), `field \"a\": json: cannot unmarshal number`},
		{"field is null", post("/v1/messages", `{"type":"note","fields":{"a":null}}`), `field \"a\" has no value`},
		{"fields are a list", post("/v1/messages", `{"type":"note","fields":["a"]}`), `an object of names and values is wanted`},
		{"no base64", post("/v1/messages", `{"type":"note","binary":{"a":"?"}}`), `field \"a\": illegal base64`},
		{"not UTF-8", post("/v1/messages", "{\"type\":\"note\",\"fields\":{\"a\":\"\xff\"}}"), `request body: not UTF-8`},
		{"bad wait", post("/v1/messages", `{"type":"note","wait":"soon"}`), `wait \"soon\": a duration`},
		{"negative wait", post("/v1/messages", `{"type":"note","wait":"-1s"}`), `wait \"-1s\": a duration`},
		{"long wait", post("/v1/messages", `{"type":"note","wait":"2h"}`), `at most 1h0m0s`},
		{"two objects", post("/v1/messages", `{"type":"note"}{}`), `one JSON object expected`},
		{"too large", post("/v1/messages", `{"type":"`+strings.Repeat("x", maxMessage)+`"}`), "request body too large"},
		{"wrong method", "GET /v1/messages HTTP/1.0\r\n\r\n", "405"},
		{"unknown kind", "GET /v1/events?kinds=messages HTTP/1.0\r\n\r\n", `query: kind \"messages\": message, node, link or view`},
		{"unknown parameter", "GET /v1/events?kind=link HTTP/1.0\r\n\r\n", `query: \"kind\" is unknown: kinds or type`},
		{"bad type", "GET /v1/events?type=a%20b HTTP/1.0\r\n\r\n", `query: type \"a b\": contains ' '`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			answer := ask(t, socket, tt.request)
			if !strings.Contains(answer, tt.want) || !strings.HasPrefix(answer, "HTTP/1.0 4") {
				t.Errorf("answer %q, want %q in it", answer, tt.want)
			}
		})
	}
	c.Set(func(c *brokertest.Cluster) {
		if len(c.Sent) != 0 {
			t.Errorf("sent: %v", c.Sent)
		}
	})
}

// What curl does: the answer to a message, and a line for each event.
func TestTheFormOnTheSocket(t *testing.T) {
	c := brokertest.New()
	socket := programsOf(t, c)
	answer := ask(t, socket, post("/v1/messages", `{"type":"note","fields":{"a":"1"},"binary":{"b":"AAEC"},"wait":"1s"}`))
	if !strings.Contains(answer, "200 OK") || !strings.HasSuffix(answer, "\r\n\r\n{\"node\":\"node1\",\"seq\":1}\n") {
		t.Errorf("%q", answer)
	}
	c.Set(func(c *brokertest.Cluster) {
		if got := c.Sent[0].String(); got != "t=note a=1 b=000102" {
			t.Errorf("sent %s", got)
		}
		c.Refuse = 1 << 30
	})
	answer = ask(t, socket, post("/v1/messages", `{"type":"note","wait":"10ms"}`))
	if !strings.Contains(answer, "503 Service Unavailable") || !strings.Contains(answer, `{"error":"not sent: the cluster has not acknowledged`) {
		t.Errorf("%q", answer)
	}
	// A stream that the end of the heartbeat ends.
	resp, err := (&http.Client{Transport: dial.Transport(socket)}).Get(dial.URL("/v1/events?kinds=link,message"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for i, want := range []string{
		`{"n":1,"at":"|","kind":"start","node":"node1","self":true}`,
		`{"n":2,"at":"|","kind":"link","snapshot":true,"node":"node2","medium":"ucast eth0","state":"up"}`,
		`{"n":3,"at":"|","kind":"link","snapshot":true,"node":"node2","medium":"serial ttyS0","state":"dead"}`,
		`{"n":4,"at":"|","kind":"message","node":"node2","generation":11,"seq":9,"type":"hello","fields":{"a":"1"}}`,
		`{"n":5,"at":"|","kind":"end","node":"node1","self":true,"error":"the director is stopping"}`,
	} {
		switch i {
		case 3:
			c.Tell(brokertest.Peer(9, "hello", "a", "1"))
		case 4:
			c.End()
		}
		before, after, _ := strings.Cut(want, "|")
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), before) || !strings.HasSuffix(lines.Text(), after) {
			t.Errorf("line %s, want %s", lines.Text(), want)
		}
	}
	if lines.Scan() {
		t.Errorf("and %s", lines.Text())
	}
}

// A program that leaves takes the message along that waits.
func TestLeavingTakesTheMessageBack(t *testing.T) {
	c := brokertest.New()
	c.Refuse = 1 << 30
	socket := programsOf(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error)
	p := client.New(socket)
	defer p.Close()
	go func() {
		_, err := p.Send(ctx, client.Message{Type: "gone"})
		errs <- err
	}()
	const retry = 20 * time.Millisecond // the broker's, at most
	refusals := func() (left int) {
		c.Set(func(c *brokertest.Cluster) { left = c.Refuse })
		return left
	}
	for refusals() == 1<<30 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	// The director learns of it a moment later, and does not offer it any more.
	ends := time.Now().Add(5 * time.Second)
	for before, now := -1, refusals(); before != now; before, now = now, refusals() {
		if time.Now().After(ends) {
			t.Fatal("the message still waits")
		}
		time.Sleep(5 * retry)
	}
	c.Set(func(c *brokertest.Cluster) { c.Refuse = 0 })
	if _, err := p.Send(t.Context(), client.Message{Type: "stays"}); err != nil {
		t.Error(err)
	}
	c.Set(func(c *brokertest.Cluster) {
		if len(c.Sent) != 1 || c.Sent[0].Type() != "stays" {
			t.Errorf("sent %v", c.Sent)
		}
	})
}

func FuzzMessage(f *testing.F) {
	for _, s := range []string{
		`{"type":"note","fields":{"a":"1","b":"x\ny"},"binary":{"k":"AAEC"},"dest":"node2","wait":"10s"}`,
		`{"type":"note","fields":{"a":"1","a":"2"}}`, `{"fields":null,"binary":{"a":null}}`, `{"wait":"1e9h"}`, `[]`, "\xff",
	} {
		f.Add([]byte(s))
	}
	c := brokertest.New()
	c.Mute = true
	f.Fuzz(func(t *testing.T, body []byte) {
		m, wait, err := decodeMessage(body)
		if err != nil {
			return
		}
		if wait < 0 || wait > maxWait {
			t.Errorf("wait %v", wait)
		}
		// Whatever it is, the broker says yes or no at once.
		c.Sent = nil
		if _, err := broker.New(c).Send(t.Context(), m); (err == nil) != (len(c.Sent) == 1) {
			t.Errorf("%v, and sent %v", err, c.Sent)
		}
	})
}
