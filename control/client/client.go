package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"time"
	"unicode/utf8"

	"systole/control/internal/dial"
)

// DefaultSocket is where a director listens unless its config says otherwise.
const DefaultSocket = "/run/systole/systole.sock"

var (
	// ErrNotRunning: nobody answers at the socket.
	ErrNotRunning = dial.ErrNotRunning
	// ErrRefused: the message or the request is not good; the text says what
	// about it.
	ErrRefused = errors.New("refused")
	// ErrBusy: the cluster did not acknowledge earlier messages in time; this
	// one was not sent.
	ErrBusy = errors.New("not sent")
	// ErrStopped: the director ended the stream as it stops itself.
	ErrStopped = errors.New("the director has stopped")
	// ErrBroken: the stream broke off without a word, as when the director was
	// killed.
	ErrBroken = errors.New("the stream of events broke off")
)

// MissedError ends a stream whose events were not read in time.
type MissedError struct {
	Missed uint64 // events left out, after the last one that was seen
	text   string
}

func (e *MissedError) Error() string { return e.text }

// Client speaks to one director. It may be used by several goroutines.
type Client struct {
	socket string
	http   http.Client
}

// New returns a client for the director at the given socket path. No
// connection is made before the first call.
func New(socket string) *Client {
	return &Client{socket: socket, http: http.Client{Transport: dial.Transport(socket)}}
}

// Close closes connections that are kept for the next Send.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// longestWait is how long a director is asked to wait at a time.
const longestWait = time.Hour

// Send sends a message to the cluster. While there is no room it waits, until
// the context ends; then the error wraps ErrBusy or the context's. With the
// latter it is not known whether the message left. It wraps ErrRefused if the
// message is not good and ErrNotRunning if nobody is there.
func (c *Client) Send(ctx context.Context, m Message) (Sent, error) {
	for name, v := range m.Fields {
		// It would arrive as something else: JSON has no other text.
		if !utf8.ValidString(v) {
			return Sent{}, fmt.Errorf("%w: field %q: not UTF-8: send it in Binary", ErrRefused, name)
		}
	}
	wait := longestWait
	if end, ok := ctx.Deadline(); ok {
		// A little less, so that the director's answer is still heard.
		left := time.Until(end)
		wait = min(wait, left-min(left/4, 100*time.Millisecond))
	}
	body, err := json.Marshal(struct {
		Message
		Wait string `json:"wait"`
	}{m, max(0, wait).String()})
	if err != nil {
		return Sent{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, dial.URL("/v1/messages"), bytes.NewReader(body))
	if err != nil {
		return Sent{}, err
	}
	resp, err := c.do(req)
	if err != nil {
		return Sent{}, err
	}
	defer resp.Body.Close()
	var sent Sent
	if err := json.NewDecoder(resp.Body).Decode(&sent); err != nil {
		return Sent{}, dial.Explain(c.socket, fmt.Errorf("answer not understood: %w", err))
	}
	return sent, nil
}

// Listen subscribes and returns the events as they come. The subscription
// begins with the loop and ends with it; the first event says that it is in
// force. The last pair has an error, and no event: the context's, ErrStopped,
// a *MissedError, ErrBroken, ErrRefused or ErrNotRunning.
func (c *Client) Listen(ctx context.Context, w Wanted) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		if err := c.listen(ctx, w, func(e Event) bool { return yield(e, nil) }); err != nil {
			yield(Event{}, err)
		}
	}
}

// listen is Listen with a nil error if yield said that it is enough.
func (c *Client) listen(ctx context.Context, w Wanted, yield func(Event) bool) error {
	q := url.Values{"type": w.Types}
	for _, k := range w.Kinds {
		q.Add("kinds", string(k))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, dial.URL("/v1/events?"+q.Encode()), nil)
	if err != nil {
		return err
	}
	resp, err := c.do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	for {
		var e Event
		err := dec.Decode(&e)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("%w: %w", ErrBroken, err)
		case e.Kind == KindEnd && e.Missed > 0:
			return &MissedError{Missed: e.Missed, text: e.Error}
		case e.Kind == KindEnd:
			return fmt.Errorf("%w: %s", ErrStopped, e.Error)
		case !yield(e):
			return nil
		}
	}
}

// do makes a request; an answer that is none is an error.
func (c *Client) do(req *http.Request) (*http.Response, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx := req.Context(); ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, dial.Explain(c.socket, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	var refusal struct{ Error string }
	if json.NewDecoder(resp.Body).Decode(&refusal) != nil || refusal.Error == "" {
		refusal.Error = resp.Status
	}
	kind := ErrRefused
	if resp.StatusCode == http.StatusServiceUnavailable {
		kind = ErrBusy
	}
	return nil, fmt.Errorf("%w: %s", kind, refusal.Error)
}
