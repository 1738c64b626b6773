package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"systole/control"
	"systole/control/internal/dial"
)

// ErrNotRunning means that nobody answers at the control socket.
var ErrNotRunning = dial.ErrNotRunning

// Client talks to a director's control socket.
type Client struct {
	socket string
	http   http.Client
}

// NewClient returns a client for the director at the given socket path. No
// connection is made before the first call.
func NewClient(socket string) *Client {
	t := dial.Transport(socket)
	t.DisableKeepAlives = true
	return &Client{socket: socket, http: http.Client{Transport: t}}
}

// Status returns the director's state.
func (c *Client) Status(ctx context.Context) (*control.State, error) {
	s := new(control.State)
	if err := c.call(ctx, http.MethodGet, "/v1/status", nil, s); err != nil {
		return nil, err
	}
	return s, nil
}

// Standby hands the groups of a class ("all", "local", "foreign") to the peer.
// It returns when the hand-over has begun; Status tells when it is done.
func (c *Client) Standby(ctx context.Context, class string) error {
	return c.call(ctx, http.MethodPost, "/v1/standby", classRequest{class}, nil)
}

// Takeover asks the peer to hand over the groups of a class.
func (c *Client) Takeover(ctx context.Context, class string) error {
	return c.call(ctx, http.MethodPost, "/v1/takeover", classRequest{class}, nil)
}

// Reload makes the director read its config again. On error the old config is
// still in force.
func (c *Client) Reload(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/v1/reload", nil, nil)
}

// Quiesce sets a real server's weight to 0: its flows stay, it gets no new
// ones. An empty service means all services of that server.
func (c *Client) Quiesce(ctx context.Context, server, service string) error {
	return c.call(ctx, http.MethodPost, "/v1/quiesce", serverRequest{server, service}, nil)
}

// Resume undoes Quiesce.
func (c *Client) Resume(ctx context.Context, server, service string) error {
	return c.call(ctx, http.MethodPost, "/v1/resume", serverRequest{server, service}, nil)
}

// ChoosePlane says which plane is to carry the services: "auto", "xdp", "ipvs".
func (c *Client) ChoosePlane(ctx context.Context, plane string) error {
	return c.call(ctx, http.MethodPost, "/v1/plane", planeRequest{plane}, nil)
}

// AddNodes adds nodes to the cluster.
func (c *Client) AddNodes(ctx context.Context, names []string) error {
	return c.call(ctx, http.MethodPost, "/v1/nodes/add", nodesRequest{names}, nil)
}

// RemoveNodes removes nodes that are dead from the cluster; all others must
// be alive.
func (c *Client) RemoveNodes(ctx context.Context, names []string) error {
	return c.call(ctx, http.MethodPost, "/v1/nodes/remove", nodesRequest{names}, nil)
}

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	body, err := c.open(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(body).Decode(out); err != nil {
		return fmt.Errorf("control socket %s: answer not understood (is the director of another version?): %w", c.socket, err)
	}
	return nil
}

// open asks and returns the answer, if it is not a refusal.
func (c *Client) open(ctx context.Context, method, path string, in any) (io.ReadCloser, error) {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, dial.URL(path), &body)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, dial.Explain(c.socket, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	var e errorReply
	if json.NewDecoder(resp.Body).Decode(&e) != nil || e.Error == "" {
		return nil, fmt.Errorf("control socket %s: %s", c.socket, resp.Status)
	}
	return nil, errors.New(e.Error)
}
