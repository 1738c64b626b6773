package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"systole/control"
	"systole/dataplane"
	"systole/dataplane/observe"
	"systole/test/golden"
)

func someFlows() []dataplane.Flow {
	web := dataplane.ServiceKey{VIP: netip.MustParseAddr("192.168.145.101"), Port: 80, Protocol: dataplane.TCP}
	dns := dataplane.ServiceKey{VIP: web.VIP, Port: 53, Protocol: dataplane.UDP}
	all := dataplane.ServiceKey{VIP: netip.MustParseAddr("2001:db8::101"), Protocol: dataplane.TCP}
	a, b := netip.MustParseAddr("192.168.145.200"), netip.MustParseAddr("192.168.145.201")
	flow := func(client string, s dataplane.ServiceKey, port uint16, server netip.Addr, state dataplane.FlowState, age time.Duration) dataplane.Flow {
		return dataplane.Flow{Client: netip.MustParseAddrPort(client), Service: s, Port: port, Server: server, State: state, Age: age, Expires: 900*time.Second - age}
	}
	return []dataplane.Flow{
		flow("10.0.0.1:40000", web, 80, a, dataplane.FlowEstablished, time.Second),
		flow("10.0.0.1:40001", web, 80, b, dataplane.FlowSyn, 2*time.Second),
		flow("10.0.7.2:40000", web, 80, b, dataplane.FlowFin, 3*time.Second),
		flow("10.0.0.1:53000", dns, 53, a, dataplane.FlowUDP, 4*time.Second),
		flow("[2001:db8::1]:1", all, 22, b, dataplane.FlowEstablished, 5*time.Second),
	}
}

// short is an answer on one line: clients' ports or groups, and the end.
func short(t *testing.T, c *Client, q FlowQuery) string {
	t.Helper()
	var out []string
	for l, err := range c.Flows(t.Context(), q) {
		switch {
		case err != nil:
			out = append(out, "error: "+err.Error())
		case l.Flow != nil:
			out = append(out, fmt.Sprintf("%s>%d", l.Flow.Client, l.Flow.Port))
		case l.Group != nil:
			out = append(out, fmt.Sprintf("%s=%d", l.Group.Name, l.Group.Flows))
		default:
			out = append(out, fmt.Sprintf("%d/%d", l.End.Flows, l.End.More))
		}
	}
	return strings.Join(out, " ")
}

func TestFlowsAreFiltered(t *testing.T) {
	c, _ := serve(t, &fakeDirector{flows: someFlows()})
	for _, tt := range []struct {
		name  string
		query FlowQuery
		want  string
	}{
		{"all", FlowQuery{}, "10.0.0.1:40000>80 10.0.0.1:40001>80 10.0.7.2:40000>80 10.0.0.1:53000>53 [2001:db8::1]:1>22 5/0"},
		{"plane", FlowQuery{Plane: "ipvs"}, "10.0.0.1:40000>80 1/0"},
		{"client", FlowQuery{Client: netip.MustParsePrefix("10.0.7.0/24")}, "10.0.7.2:40000>80 1/0"},
		{"port", FlowQuery{Port: 40000}, "10.0.0.1:40000>80 10.0.7.2:40000>80 2/0"},
		{"service", FlowQuery{Service: "192.168.145.101:53/udp"}, "10.0.0.1:53000>53 1/0"},
		{"address", FlowQuery{Service: "2001:db8::101"}, "[2001:db8::1]:1>22 1/0"},
		{"server", FlowQuery{Server: netip.MustParseAddr("192.168.145.200")}, "10.0.0.1:40000>80 10.0.0.1:53000>53 2/0"},
		{"state", FlowQuery{State: "established"}, "10.0.0.1:40000>80 [2001:db8::1]:1>22 2/0"},
		{"none", FlowQuery{Client: netip.MustParsePrefix("10.9.0.0/16")}, "0/0"},
		{"limit", FlowQuery{Limit: 2}, "10.0.0.1:40000>80 10.0.0.1:40001>80 5/3"},
		{"count", FlowQuery{Limit: -1}, "5/5"},
		{"by server", FlowQuery{By: "server"}, "192.168.145.201=3 192.168.145.200=2 5/0"},
		{"by service", FlowQuery{By: "service", Limit: 2}, "192.168.145.101:80/tcp=3 192.168.145.101:53/udp=1 5/1"},
		{"by client", FlowQuery{By: "client", Client: netip.MustParsePrefix("10.0.0.0/8")}, "10.0.0.1=3 10.0.7.2=1 4/0"},
		{"by state", FlowQuery{By: "state"}, "ESTABLISHED=2 FIN_WAIT=1 SYN_RECV=1 UDP=1 5/0"},
	} {
		if got := short(t, c, tt.query); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

func TestFlowsThatCannotBeListed(t *testing.T) {
	c, path := serve(t, &fakeDirector{err: control.ErrNoFlows})
	if got := short(t, c, FlowQuery{}); got != "error: "+control.ErrNoFlows.Error() {
		t.Error(got)
	}
	for query, want := range map[string]string{
		"client=10.0.0.1":        "query: client: ",
		"port=70000":             "query: port: ",
		"service=web":            "query: service: ",
		"server=web1":            "query: server: ",
		"state=OPEN":             "query: state: ",
		"by=age":                 "query: by: ",
		"limit=-2":               "query: limit: ",
		"limit=x":                "query: limit: ",
		"order=age":              "query: order: unknown",
		"by=client&by=server":    "query: by is there 2 times",
		"client=10.0.0.1%2F33":   "query: client: ",
		"service=10.0.0.1:80/ip": "query: service: ",
	} {
		answer := ask(t, path, "GET /v1/flows?"+query+" HTTP/1.0\r\n\r\n")
		if !strings.HasPrefix(answer, "HTTP/1.0 409") || !strings.Contains(answer, want) {
			t.Errorf("%s: %q, want a refusal with %q", query, answer, want)
		}
	}
}

// A query goes through the URL whole.
func TestFlowQueryIsCarried(t *testing.T) {
	for _, q := range []FlowQuery{
		{}, {Limit: -1},
		{Client: netip.MustParsePrefix("10.0.0.0/8"), Port: 7, Service: "192.168.145.101:80/tcp", Server: netip.MustParseAddr("2001:db8::2"), State: "UDP", By: "state", Limit: 9},
	} {
		got, err := parseFlowQuery(q.values())
		if err != nil || !reflect.DeepEqual(got, q) {
			t.Errorf("%+v arrives as %+v, %v", q, got, err)
		}
	}
}

// The director's memory is bounded, whatever the number of clients.
func TestTooManyClientsAreSaid(t *testing.T) {
	flows := func(yield func(dataplane.Flow) bool) {
		for i := range uint32(maxGroups + 1000) {
			a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
			if !yield(dataplane.Flow{Client: netip.AddrPortFrom(a, 1), State: dataplane.FlowSyn}) {
				return
			}
		}
	}
	var last FlowLine
	for l := range (FlowQuery{By: "client", Limit: 1}).answer(flows) {
		last = l
	}
	if want := (FlowsEnd{Flows: maxGroups + 1000, More: maxGroups - 1, Ungrouped: 1000}); last.End == nil || *last.End != want {
		t.Errorf("%+v, want %+v", last.End, want)
	}
}

// The lines are a promise to programs.
func TestFlowsJSON(t *testing.T) {
	var b bytes.Buffer
	for _, q := range []FlowQuery{{Limit: 2}, {By: "server"}} {
		for l := range q.answer(func(yield func(dataplane.Flow) bool) {
			for _, f := range someFlows() {
				if !yield(f) {
					return
				}
			}
		}) {
			if err := json.NewEncoder(&b).Encode(l); err != nil {
				t.Fatal(err)
			}
		}
	}
	golden.Check(t, "flows.jsonl", b.Bytes())
}

func FuzzFlowQuery(f *testing.F) {
	f.Add("client=10.0.0.0/8&port=1&service=192.168.145.101&state=udp&by=server&limit=-1")
	f.Add("limit=99999999999999999999")
	f.Fuzz(func(t *testing.T, raw string) {
		v, err := url.ParseQuery(raw)
		if err != nil {
			return
		}
		q, err := parseFlowQuery(v)
		if err != nil {
			return
		}
		again, err := parseFlowQuery(q.values())
		if err != nil || !reflect.DeepEqual(again, q) {
			t.Errorf("%q: %+v, then %+v, %v", raw, q, again, err)
		}
	})
}

// packets is a source that has some.
type packets struct {
	list   []observe.Packet
	lost   observe.Lost
	end    error
	closed atomic.Bool
	until  time.Time
}

func (p *packets) Read(to *observe.Packet) error {
	if len(p.list) == 0 {
		time.Sleep(time.Until(p.until))
		return os.ErrDeadlineExceeded
	}
	*to, p.list = p.list[0], p.list[1:]
	return nil
}
func (p *packets) SetDeadline(at time.Time)    { p.until = at }
func (p *packets) Lost() (observe.Lost, error) { return p.lost, p.end }
func (p *packets) Close() error                { p.closed.Store(true); return nil }

func samplePacket() observe.Packet {
	return observe.Packet{
		At: time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.UTC), Interface: "eth0", CPU: 1, Verdict: observe.Tx,
		Reasons: []string{"syn_evicted"}, Service: "192.168.145.101:80/tcp", Server: netip.MustParseAddr("192.168.145.200"), Scheduled: true,
		Before: "NONE", After: "SYN_RECV", In: []byte{1, 2, 3}, InLength: 60, Out: []byte{4, 5, 6}, OutLength: 60,
	}
}

func TestPacketsAreTold(t *testing.T) {
	src := &packets{list: []observe.Packet{samplePacket()}, lost: observe.Lost{Full: 3}, end: observe.ErrEnded}
	var asked observe.Config
	c, _ := serve(t, &fakeDirector{source: func(cfg observe.Config) (observe.Source, error) { asked = cfg; return src, nil }})
	var b bytes.Buffer
	for l, err := range c.Observe(t.Context(), ObserveRequest{Client: "10.0.0.1:7", Service: "192.168.145.101", Server: "192.168.145.200", Verdicts: observe.Taken(), Snap: 100, In: true, Rate: 5}) {
		if err != nil {
			t.Fatal(err)
		}
		if err := json.NewEncoder(&b).Encode(l); err != nil {
			t.Fatal(err)
		}
	}
	golden.Check(t, "observe.jsonl", b.Bytes())
	want := observe.Config{
		Filter: observe.Filter{
			Client: netip.MustParsePrefix("10.0.0.1/32"), ClientPort: 7, Service: dataplane.ServiceKey{VIP: netip.MustParseAddr("192.168.145.101")},
			Server: netip.MustParseAddr("192.168.145.200"), Verdicts: observe.Taken(),
		},
		Snap: 100, In: true, Rate: 5, Buffer: observe.DefaultBuffer,
	}
	if !reflect.DeepEqual(asked, want) {
		t.Errorf("the plane was asked for\n%+v, want\n%+v", asked, want)
	}
	for end := time.Now().Add(5 * time.Second); !src.closed.Load(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the source was not closed")
		}
	}
}

// A reader that goes takes the observation with it.
func TestObservationEndsWithItsReader(t *testing.T) {
	src := &packets{}
	c, _ := serve(t, &fakeDirector{source: func(observe.Config) (observe.Source, error) { return src, nil }})
	for l, err := range c.Observe(t.Context(), ObserveRequest{In: true}) {
		if err != nil || !l.Start {
			t.Fatalf("%+v, %v", l, err)
		}
		break
	}
	for end := time.Now().Add(5 * time.Second); !src.closed.Load(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nobody reads, and the source is still open")
		}
	}
}

// A reader that stands still must not keep the program observed, or the flow
// table read, for ever.
func TestAStreamGivesUpOnAReader(t *testing.T) {
	dead := &stalled{ResponseRecorder: httptest.NewRecorder()}
	s := newStream(dead)
	if err := s.line(FlowLine{End: &FlowsEnd{}}); err != nil {
		t.Fatal(err)
	}
	if err := s.flush(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if d := time.Until(dead.deadline); d <= 0 || d > writePatience {
		t.Errorf("the write had %v", d)
	}
}

// stalled takes nothing, and knows deadlines as a connection does.
type stalled struct {
	*httptest.ResponseRecorder
	deadline time.Time
}

func (s *stalled) SetWriteDeadline(at time.Time) error { s.deadline = at; return nil }
func (s *stalled) Write([]byte) (int, error)           { return 0, os.ErrDeadlineExceeded }

func TestObservationsThatAreRefused(t *testing.T) {
	d := &fakeDirector{source: func(observe.Config) (observe.Source, error) { return nil, observe.ErrBusy }}
	_, path := serve(t, d)
	for _, tt := range []struct{ body, want string }{
		{`{"client":"web"}`, `client \"web\"`},
		{`{"service":"web"}`, `service \"web\"`},
		{`{"server":"web1"}`, `server \"web1\"`},
		{`{"verdicts":["forward"]}`, `verdict \"forward\"`},
		{`{"snap":9999}`, "from 14 to 4096"},
		{`{"snaplen":1}`, `unknown field \"snaplen\"`},
		{`{}`, "observed already"},
	} {
		answer := ask(t, path, post("/v1/observe", tt.body))
		head, _, _ := strings.Cut(answer, "\r\n")
		if !strings.Contains(answer, tt.want) || !strings.Contains(head, "409") && !strings.Contains(head, "503") {
			t.Errorf("%s: %q, want a refusal with %q", tt.body, answer, tt.want)
		}
	}
}

// What the API tells of a flow is enough to have it again.
func TestFlowDescribed(t *testing.T) {
	flows := someFlows()
	i := 0
	for l := range (FlowQuery{}).answer(slices.Values(flows)) {
		if l.Flow == nil {
			break
		}
		if f, err := l.Flow.Described(); err != nil || f != flows[i] {
			t.Errorf("%+v, %v; want %+v", f, err, flows[i])
		}
		i++
	}
	if i != len(flows) {
		t.Errorf("%d flows of %d", i, len(flows))
	}
	for _, f := range []Flow{{Service: "x", State: "UDP"}, {Service: "192.168.145.101:80/tcp", State: "OPEN"}} {
		if d, err := f.Described(); err == nil {
			t.Errorf("%+v is %+v", f, d)
		}
	}
}
