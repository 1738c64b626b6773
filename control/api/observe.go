package api

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/netip"
	"os"
	"time"

	"systole/dataplane/observe"
)

// ObserveRequest says which packets to tell of: observe.Config in the words of
// the command line.
type ObserveRequest struct {
	Client   string            `json:"client,omitempty"`   // observe.ParseClient
	Service  string            `json:"service,omitempty"`  // observe.ParseService
	Server   string            `json:"server,omitempty"`   // address
	Verdicts []observe.Verdict `json:"verdicts,omitempty"` // none: all
	Snap     int               `json:"snap,omitempty"`     // bytes of each frame
	In       bool              `json:"in,omitempty"`       // frames as they came in
	Out      bool              `json:"out,omitempty"`      // and as they left
	Rate     int               `json:"rate,omitempty"`     // packets per CPU and second
}

// config is the request in the terms of a plane.
func (r ObserveRequest) config() (observe.Config, error) {
	c := observe.Config{Snap: r.Snap, In: r.In, Out: r.Out, Rate: r.Rate}
	c.Filter.Verdicts = r.Verdicts
	var err error
	if r.Client != "" {
		if c.Filter.Client, c.Filter.ClientPort, err = observe.ParseClient(r.Client); err != nil {
			return c, err
		}
	}
	if r.Service != "" {
		if c.Filter.Service, err = observe.ParseService(r.Service); err != nil {
			return c, err
		}
	}
	if r.Server != "" {
		if c.Filter.Server, err = netip.ParseAddr(r.Server); err != nil {
			return c, fmt.Errorf("server %q: an address is wanted", r.Server)
		}
	}
	return c.Complete()
}

// ObserveLine is one line of the answer: one of the four.
type ObserveLine struct {
	Start  bool            `json:"start,omitempty"` // first: from now on packets are seen
	Packet *observe.Packet `json:"packet,omitempty"`
	Lost   *observe.Lost   `json:"lost,omitempty"` // all that was lost so far, when it grows
	End    string          `json:"end,omitempty"`  // last: why no more comes
}

// observing is how long packets are gathered before they are sent on, and how
// often losses are asked for.
const observing = 100 * time.Millisecond

// observePackets answers POST /v1/observe until the reader leaves.
func observePackets(w http.ResponseWriter, r *http.Request, d Director) {
	var in ObserveRequest
	err := decode(http.MaxBytesReader(w, r.Body, maxRequest), &in)
	var cfg observe.Config
	if err == nil {
		cfg, err = in.config()
	}
	var src observe.Source
	if err == nil {
		src, err = begin(r.Context(), d, cfg)
	}
	if err != nil {
		reply(w, nil, err)
		return
	}
	defer src.Close()
	s := newStream(w)
	if s.line(ObserveLine{Start: true}) != nil || s.flush() != nil {
		return
	}
	if err := tell(r.Context(), s, src); err != nil {
		_ = s.line(ObserveLine{End: err.Error()})
		_ = s.flush()
	}
}

// leaving is how long it may take until the observation of a reader that has
// left is over.
const leaving = time.Second

// begin begins to observe, also right after another reader has left.
func begin(ctx context.Context, d Director, cfg observe.Config) (observe.Source, error) {
	for end := time.Now().Add(leaving); ; {
		src, err := d.Observe(cfg)
		if !errors.Is(err, observe.ErrBusy) || time.Now().After(end) {
			return src, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(leaving / 20):
		}
	}
}

// tell sends on what src sees. Its error is why nothing more comes; nil if the
// reader has left.
func tell(ctx context.Context, s *stream, src observe.Source) error {
	var p observe.Packet
	var told observe.Lost
	next := time.Now().Add(observing)
	src.SetDeadline(next)
	for {
		err := src.Read(&p)
		if err == nil {
			if s.line(ObserveLine{Packet: &p}) != nil {
				return nil
			}
		} else if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		now := time.Now()
		if now.Before(next) {
			continue
		}
		next = now.Add(observing)
		src.SetDeadline(next)
		lost, err := src.Lost()
		if lost != told {
			told = lost
			if s.line(ObserveLine{Lost: &lost}) != nil {
				return nil
			}
		}
		if s.flush() != nil || ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Observe tells of packets as they pass, until ctx ends. The first line comes
// when packets are seen. The error, if any, comes last.
func (c *Client) Observe(ctx context.Context, r ObserveRequest) iter.Seq2[ObserveLine, error] {
	return lines(ctx, c, http.MethodPost, "/v1/observe", r, func(l ObserveLine) bool { return l.End != "" })
}
