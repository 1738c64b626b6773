package api

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"systole/control"
	"systole/control/broker"
	"systole/control/broker/brokertest"
	"systole/dataplane"
	"systole/dataplane/observe"
)

// fakeDirector records what it was asked.
type fakeDirector struct {
	calls []string
	err   error

	flows  []dataplane.Flow
	source func(observe.Config) (observe.Source, error)
}

func (f *fakeDirector) note(parts ...string) error {
	f.calls = append(f.calls, strings.Join(parts, " "))
	return f.err
}

func (f *fakeDirector) Status(context.Context) (*control.State, error) {
	return &control.State{Node: "node1", Role: "active", Health: "ok", Flows: -1}, f.err
}
func (f *fakeDirector) Standby(_ context.Context, c string) error  { return f.note("standby", c) }
func (f *fakeDirector) Takeover(_ context.Context, c string) error { return f.note("takeover", c) }
func (f *fakeDirector) Reload(context.Context) error               { return f.note("reload") }
func (f *fakeDirector) Quiesce(_ context.Context, server, service string, on bool) error {
	if on {
		return f.note("quiesce", server, service)
	}
	return f.note("resume", server, service)
}

func (f *fakeDirector) AddNodes(_ context.Context, names []string) error {
	return f.note(append([]string{"add"}, names...)...)
}
func (f *fakeDirector) RemoveNodes(_ context.Context, names []string) error {
	return f.note(append([]string{"remove"}, names...)...)
}

func (f *fakeDirector) ChoosePlane(_ context.Context, plane string) error {
	return f.note("plane", plane)
}
func (f *fakeDirector) Flows(plane string) (iter.Seq[dataplane.Flow], error) {
	if plane == "ipvs" {
		return slices.Values(f.flows[:1]), f.err
	}
	return slices.Values(f.flows), f.err
}
func (f *fakeDirector) Observe(cfg observe.Config) (observe.Source, error) {
	if f.err != nil || f.source == nil {
		return nil, cmp.Or(f.err, observe.ErrUnobservable)
	}
	return f.source(cfg)
}

func serve(t *testing.T, d Director) (*Client, string) {
	t.Helper()
	return serveWith(t, d, broker.New(brokertest.New()))
}

func serveWith(t *testing.T, d Director, b *broker.Broker) (*Client, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "run", "systole.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- Serve(ctx, l, d, b, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket was left behind: %v", err)
		}
	})
	return NewClient(path), path
}

func TestCallsReachTheDirector(t *testing.T) {
	d := &fakeDirector{}
	c, path := serve(t, d)
	ctx := t.Context()
	s, err := c.Status(ctx)
	if err != nil || s.Node != "node1" || s.Flows != -1 {
		t.Fatalf("status %+v, %v", s, err)
	}
	for _, err := range []error{
		c.Standby(ctx, "all"), c.Takeover(ctx, "local"), c.Reload(ctx),
		c.Quiesce(ctx, "192.168.145.200", ""), c.Resume(ctx, "192.168.145.200", "192.168.145.101:80/tcp"),
		c.AddNodes(ctx, []string{"node3", "node4"}), c.RemoveNodes(ctx, []string{"node3"}), c.ChoosePlane(ctx, "ipvs"),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	want := "standby all|takeover local|reload|quiesce 192.168.145.200 |resume 192.168.145.200 192.168.145.101:80/tcp|add node3 node4|remove node3|plane ipvs"
	if got := strings.Join(d.calls, "|"); got != want {
		t.Errorf("calls\n got %s\nwant %s", got, want)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket mode %v, %v: whoever may open it may steer the director", st.Mode(), err)
	}
}

func TestARefusalIsToldInItsOwnWords(t *testing.T) {
	c, _ := serve(t, &fakeDirector{err: errors.New("peer node2 is dead: nobody to hand over to")})
	err := c.Standby(t.Context(), "all")
	if err == nil || err.Error() != "peer node2 is dead: nobody to hand over to" {
		t.Fatalf("%v", err)
	}
}

func TestBadRequestsReachNobody(t *testing.T) {
	d := &fakeDirector{}
	_, path := serve(t, d)
	for _, tt := range []struct{ name, request, want string }{
		{"not JSON", post("/v1/standby", "{"), `"error":"request body: unexpected EOF"`},
		{"unknown key", post("/v1/standby", `{"clas":"all"}`), `unknown field \"clas\"`},
		{"wrong kind", post("/v1/standby", `{"class":7}`), `cannot unmarshal number`},
		{"two objects", post("/v1/quiesce", `{"server":"a"}{}`), `one JSON object expected`},
		{"unknown path", post("/v1/standbye", `{}`), "404"},
		{"wrong method", "GET /v1/reload HTTP/1.0\r\n\r\n", "405"},
		{"too large", post("/v1/standby", `{"class":"`+strings.Repeat("x", maxRequest)+`"}`), "request body too large"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if answer := ask(t, path, tt.request); !strings.Contains(answer, tt.want) {
				t.Errorf("answer %q, want %q in it", answer, tt.want)
			}
		})
	}
	if len(d.calls) != 0 {
		t.Errorf("the director was asked: %v", d.calls)
	}
}

// ask sends the bytes of a request and returns those of the answer.
func ask(t *testing.T, socket, request string) string {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	go func() { _, _ = conn.Write([]byte(request)) }()
	var answer strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		answer.Write(buf[:n])
		if err != nil {
			return answer.String()
		}
	}
}

func post(path, body string) string {
	return "POST " + path + " HTTP/1.0\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
}

func TestNobodyThere(t *testing.T) {
	dir := t.TempDir()
	if _, err := NewClient(filepath.Join(dir, "none")).Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("no socket: %v", err)
	}
	// A socket file that a dead director left: nobody listens.
	stale := filepath.Join(dir, "stale")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if _, err := NewClient(stale).Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("stale socket: %v", err)
	}
	l2, err := Listen(stale)
	if err != nil {
		t.Fatalf("a stale socket must be replaced: %v", err)
	}
	defer l2.Close()
	if _, err := Listen(stale); err == nil || !strings.Contains(err.Error(), "another director is running") {
		t.Errorf("a living director's socket was taken: %v", err)
	}
}
