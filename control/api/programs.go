package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"systole/control/broker"
	"systole/control/client"
)

// How long a message may wait for room in the cluster.
const (
	defaultWait = 10 * time.Second
	maxWait     = time.Hour
)

// maxMessage bounds the body of a message: 16 KiB of binary values are a third
// longer in base64, and text may be all escapes.
const maxMessage = 128 << 10

// programs adds what programs on this machine may do.
func programs(mux *http.ServeMux, b *broker.Broker) {
	mux.HandleFunc("POST /v1/messages", func(w http.ResponseWriter, r *http.Request) { send(w, r, b) })
	mux.HandleFunc("GET /v1/events", func(w http.ResponseWriter, r *http.Request) { listen(w, r, b) })
}

func send(w http.ResponseWriter, r *http.Request, b *broker.Broker) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessage))
	if err != nil {
		reply(w, nil, fmt.Errorf("request body: %w", err))
		return
	}
	m, wait, err := decodeMessage(body)
	if err != nil {
		reply(w, nil, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	sent, err := b.Send(ctx, m)
	reply(w, sent, err)
}

// decodeMessage reads the body of POST /v1/messages: client.Message, and how
// long it may wait. The error says where the body is wrong; whether the message
// can be sent is the broker's to say.
func decodeMessage(body []byte) (client.Message, time.Duration, error) {
	var in struct {
		Type   string         `json:"type"`
		Dest   string         `json:"dest"`
		Fields unique[string] `json:"fields"`
		Binary unique[[]byte] `json:"binary"`
		Wait   string         `json:"wait"`
	}
	// encoding/json would put other characters in their place.
	if !utf8.Valid(body) {
		return client.Message{}, 0, errors.New("request body: not UTF-8")
	}
	if err := decode(bytes.NewReader(body), &in); err != nil {
		return client.Message{}, 0, err
	}
	wait := defaultWait
	if in.Wait != "" {
		d, err := time.ParseDuration(in.Wait)
		if err != nil || d < 0 || d > maxWait {
			return client.Message{}, 0, fmt.Errorf("wait %q: a duration such as 500ms or 10s, at most %v", in.Wait, maxWait)
		}
		wait = d
	}
	return client.Message{Type: in.Type, Dest: in.Dest, Fields: in.Fields, Binary: in.Binary}, wait, nil
}

// unique is a JSON object in which no name may come twice.
type unique[V any] map[string]V

// UnmarshalJSON refuses what encoding/json would take: the last of two.
func (u *unique[V]) UnmarshalJSON(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	open, err := dec.Token()
	if open == nil || err != nil {
		return err // null: as if it were not there
	}
	if open != json.Delim('{') {
		return errors.New("an object of names and values is wanted")
	}
	*u = make(map[string]V)
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return err
		}
		name := key.(string) // a name, or the decoder would have failed
		if _, twice := (*u)[name]; twice {
			return fmt.Errorf("field %q is there twice", name)
		}
		var v *V
		if err := dec.Decode(&v); err != nil {
			return fmt.Errorf("field %q: %w", name, err)
		}
		if v == nil {
			return fmt.Errorf("field %q has no value", name)
		}
		(*u)[name] = *v
	}
	return nil
}

// wanted reads the query of GET /v1/events. Lists are separated by commas, or
// written as several parameters.
func wanted(r *http.Request) (broker.Filter, error) {
	var w client.Wanted
	for name, values := range r.URL.Query() {
		var list []string
		for _, v := range values {
			list = append(list, strings.Split(v, ",")...)
		}
		list = slices.DeleteFunc(list, func(s string) bool { return s == "" })
		switch name {
		case "kinds":
			for _, v := range list {
				w.Kinds = append(w.Kinds, client.Kind(v))
			}
		case "type":
			w.Types = list
		default:
			return broker.Filter{}, fmt.Errorf("query: %q is unknown: kinds or type", name)
		}
	}
	f, err := broker.NewFilter(w)
	if err != nil {
		return f, fmt.Errorf("query: %w", err)
	}
	return f, nil
}

// listen streams events, one JSON object a line, until the program leaves or
// the subscription ends.
func listen(w http.ResponseWriter, r *http.Request, b *broker.Broker) {
	filter, err := wanted(r)
	if err != nil {
		reply(w, nil, err)
		return
	}
	sub, err := b.Subscribe(filter)
	if err != nil {
		reply(w, nil, err)
		return
	}
	defer sub.Close()
	w.Header().Set("Content-Type", "application/x-ndjson")
	out, enc := http.NewResponseController(w), json.NewEncoder(w)
	for {
		e, ok := sub.Waiting()
		if !ok {
			// All there is goes out before the next wait.
			if out.Flush() != nil {
				return
			}
			if e, err = sub.Next(r.Context()); err != nil {
				return
			}
		}
		if enc.Encode(e) != nil {
			return // the program has left
		}
	}
}
