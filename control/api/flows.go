package api

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"systole/control/internal/dial"
	"systole/dataplane"
)

// Flow is a flow as the API tells it.
type Flow struct {
	Client  netip.AddrPort `json:"client"`
	Service string         `json:"service"`
	Port    uint16         `json:"port"` // the client's destination port
	Server  netip.Addr     `json:"server"`
	State   string         `json:"state"`      // as IPVS has it: "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "UDP"
	Age     time.Duration  `json:"age_ns"`     // since its last packet
	Expires time.Duration  `json:"expires_ns"` // until it is forgotten
}

// Described is the flow in the planes' own terms.
func (f *Flow) Described() (dataplane.Flow, error) {
	key, err := dataplane.ParseServiceKey(f.Service)
	if err != nil {
		return dataplane.Flow{}, err
	}
	i := slices.Index(flowStates, f.State)
	if i < 0 {
		return dataplane.Flow{}, fmt.Errorf("state %q: one of %s", f.State, strings.Join(flowStates, ", "))
	}
	return dataplane.Flow{
		Client: f.Client, Service: key, Port: f.Port, Server: f.Server, State: dataplane.FlowSyn + dataplane.FlowState(i),
		Age: f.Age, Expires: f.Expires,
	}, nil
}

// FlowGroup is how many flows have something in common: a server, a service, a
// client address, a state.
type FlowGroup struct {
	Name  string `json:"name"`
	Flows int    `json:"flows"`
}

// FlowsEnd is the last line of a list of flows, and says that it is whole.
type FlowsEnd struct {
	Flows int `json:"flows"` // that fit the query
	More  int `json:"more"`  // of them were not listed: flows, or groups
	// Ungrouped is how many flows are in none of the groups: there are too
	// many clients to count each.
	Ungrouped int `json:"ungrouped"`
}

// FlowLine is one line of the answer: one of the three.
type FlowLine struct {
	Flow  *Flow      `json:"flow,omitempty"`
	Group *FlowGroup `json:"group,omitempty"`
	End   *FlowsEnd  `json:"end,omitempty"`
}

// FlowQuery says which flows are wanted: those that fit all of it.
type FlowQuery struct {
	Plane   string       // "xdp", "ipvs"; "": all
	Client  netip.Prefix // source addresses; zero: any
	Port    uint16       // source port; 0: any
	Service string       // as dataplane.ServiceKey's String; or its address alone; "": any
	Server  netip.Addr   // zero: any
	State   string       // "": any
	By      string       // "server", "service", "client", "state": groups and not flows
	Limit   int          // of lines; 0: none; -1: only the end
}

// maxGroups bounds the director's memory: services, servers and states are few,
// but a flood can come from any number of addresses.
const maxGroups = 1 << 16

// flowStates are the words for them, from FlowSyn on.
var flowStates = []string{
	dataplane.FlowSyn.String(), dataplane.FlowEstablished.String(), dataplane.FlowFin.String(), dataplane.FlowUDP.String(),
}

var flowGroups = []string{"server", "service", "client", "state"}

func (q FlowQuery) values() url.Values {
	v := url.Values{}
	set := func(name, value string, is bool) {
		if is {
			v.Set(name, value)
		}
	}
	set("plane", q.Plane, q.Plane != "")
	set("client", q.Client.String(), q.Client.IsValid())
	set("port", strconv.Itoa(int(q.Port)), q.Port != 0)
	set("service", q.Service, q.Service != "")
	set("server", q.Server.String(), q.Server.IsValid())
	set("state", q.State, q.State != "")
	set("by", q.By, q.By != "")
	set("limit", strconv.Itoa(q.Limit), q.Limit != 0)
	return v
}

// parseFlowQuery reads what values writes. The error names the parameter.
func parseFlowQuery(v url.Values) (q FlowQuery, err error) {
	for name, values := range v {
		if len(values) != 1 {
			return q, fmt.Errorf("query: %s is there %d times", name, len(values))
		}
		value := values[0]
		switch name {
		case "plane":
			q.Plane = value
		case "client":
			q.Client, err = netip.ParsePrefix(value)
		case "port":
			var n uint64
			n, err = strconv.ParseUint(value, 10, 16)
			q.Port = uint16(n)
		case "service":
			q.Service = value
			if _, e := netip.ParseAddr(value); e != nil {
				_, err = dataplane.ParseServiceKey(value)
			}
		case "server":
			q.Server, err = netip.ParseAddr(value)
		case "state":
			if q.State = strings.ToUpper(value); !slices.Contains(flowStates, q.State) {
				err = fmt.Errorf("%q: one of %s", value, strings.Join(flowStates, ", "))
			}
		case "by":
			if q.By = value; !slices.Contains(flowGroups, value) {
				err = fmt.Errorf("%q: one of %s", value, strings.Join(flowGroups, ", "))
			}
		case "limit":
			if q.Limit, err = strconv.Atoi(value); err == nil && q.Limit < -1 {
				err = fmt.Errorf("%d: a number of lines, 0 for all, -1 for none", q.Limit)
			}
		default:
			err = errors.New("unknown: plane, client, port, service, server, state, by or limit")
		}
		if err != nil {
			return q, fmt.Errorf("query: %s: %w", name, err)
		}
	}
	return q, nil
}

// fits tells whether a flow is wanted.
func (q FlowQuery) fits(f dataplane.Flow) bool {
	switch {
	case q.Client.IsValid() && !q.Client.Contains(f.Client.Addr()),
		q.Port != 0 && q.Port != f.Client.Port(),
		q.Server.IsValid() && q.Server != f.Server,
		q.State != "" && q.State != f.State.String(),
		q.Service != "" && q.Service != f.Service.String() && q.Service != f.Service.VIP.String():
		return false
	}
	return true
}

// group is the name of the group a flow belongs to.
func (q FlowQuery) group(f dataplane.Flow) string {
	switch q.By {
	case "server":
		return f.Server.String()
	case "service":
		return f.Service.String()
	case "client":
		return f.Client.Addr().String()
	}
	return f.State.String()
}

// answer gives the lines of the answer to one query, the end last. Its memory
// does not grow with the flow table.
func (q FlowQuery) answer(flows iter.Seq[dataplane.Flow]) iter.Seq[FlowLine] {
	return func(yield func(FlowLine) bool) {
		var end FlowsEnd
		groups := map[string]int{}
		for f := range flows {
			if !q.fits(f) {
				continue
			}
			end.Flows++
			if q.By != "" {
				if name := q.group(f); groups[name] > 0 || len(groups) < maxGroups {
					groups[name]++
				} else {
					end.Ungrouped++
				}
				continue
			}
			if q.Limit < 0 || q.Limit > 0 && end.Flows > q.Limit {
				end.More++
				continue
			}
			line := FlowLine{Flow: &Flow{
				Client: f.Client, Service: f.Service.String(), Port: f.Port, Server: f.Server, State: f.State.String(),
				Age: f.Age, Expires: f.Expires,
			}}
			if !yield(line) {
				return
			}
		}
		for i, g := range largest(groups) {
			if q.Limit < 0 || q.Limit > 0 && i >= q.Limit {
				end.More = len(groups) - i
				break
			}
			if !yield(FlowLine{Group: &g}) {
				return
			}
		}
		yield(FlowLine{End: &end})
	}
}

// largest are the groups, the largest first.
func largest(groups map[string]int) []FlowGroup {
	out := make([]FlowGroup, 0, len(groups))
	for name, n := range groups {
		out = append(out, FlowGroup{name, n})
	}
	slices.SortFunc(out, func(a, b FlowGroup) int {
		return cmp.Or(cmp.Compare(b.Flows, a.Flows), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// writePatience is how long a reader may let a stream stand: the director holds
// on to its flow table, or to its observed program, that long.
const writePatience = 5 * time.Second

// stream writes lines of JSON and gives up on a reader that takes none.
type stream struct {
	out *http.ResponseController
	buf *bufio.Writer
	enc *json.Encoder
}

func newStream(w http.ResponseWriter) *stream {
	w.Header().Set("Content-Type", "application/x-ndjson")
	s := &stream{out: http.NewResponseController(w)}
	s.buf = bufio.NewWriterSize(deadlined{w, s.out}, 32<<10)
	s.enc = json.NewEncoder(s.buf)
	return s
}

func (s *stream) line(v any) error { return s.enc.Encode(v) }

func (s *stream) flush() error {
	return errors.Join(s.buf.Flush(), s.out.Flush())
}

// deadlined gives each write its time. A response that knows no deadlines, a
// test's, has none.
type deadlined struct {
	w   http.ResponseWriter
	out *http.ResponseController
}

func (d deadlined) Write(b []byte) (int, error) {
	if err := d.out.SetWriteDeadline(time.Now().Add(writePatience)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	return d.w.Write(b)
}

// listFlows answers GET /v1/flows.
func listFlows(w http.ResponseWriter, r *http.Request, d Director) {
	q, err := parseFlowQuery(r.URL.Query())
	if err != nil {
		reply(w, nil, err)
		return
	}
	flows, err := d.Flows(q.Plane)
	if err != nil {
		reply(w, nil, err)
		return
	}
	s := newStream(w)
	for l := range q.answer(flows) {
		if s.line(l) != nil || r.Context().Err() != nil {
			return // the reader has left
		}
	}
	_ = s.flush()
}

var errCut = errors.New("the answer was cut short: the director has stopped, or did not want to wait")

// Flows lists flows as the director meets them in its table, or groups of them,
// the largest first; the last line is the end. The error comes last too.
func (c *Client) Flows(ctx context.Context, q FlowQuery) iter.Seq2[FlowLine, error] {
	return lines(ctx, c, http.MethodGet, "/v1/flows?"+q.values().Encode(), nil,
		func(l FlowLine) bool { return l.End != nil })
}

// lines reads an answer of many lines; the last is one for which end is true.
func lines[L any](ctx context.Context, c *Client, method, path string, in any, end func(L) bool) iter.Seq2[L, error] {
	return func(yield func(L, error) bool) {
		var none L
		body, err := c.open(ctx, method, path, in)
		if err != nil {
			yield(none, err)
			return
		}
		defer body.Close()
		dec := json.NewDecoder(bufio.NewReaderSize(body, 64<<10))
		for {
			var l L
			switch err := dec.Decode(&l); {
			case ctx.Err() != nil:
				yield(none, ctx.Err())
				return
			case err != nil:
				yield(none, fmt.Errorf("control socket %s: %w", c.socket, errors.Join(errCut, dial.Explain(c.socket, err))))
				return
			}
			if !yield(l, nil) || end(l) {
				return
			}
		}
	}
}
