package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"systole/control"
	"systole/control/broker"
	"systole/dataplane"
	"systole/dataplane/observe"
)

type (
	classRequest struct {
		Class string `json:"class"`
	}
	serverRequest struct {
		Server  string `json:"server"`
		Service string `json:"service,omitempty"`
	}
	nodesRequest struct {
		Nodes []string `json:"nodes"`
	}
	planeRequest struct {
		Plane string `json:"plane"`
	}
	errorReply struct {
		Error string `json:"error"`
	}
)

// maxRequest bounds a request's body: the largest is a few dozen bytes.
const maxRequest = 64 << 10

// Director is what the socket steers: control.Director, or a test's stand-in.
type Director interface {
	Status(ctx context.Context) (*control.State, error)
	Standby(ctx context.Context, class string) error
	Takeover(ctx context.Context, class string) error
	Reload(ctx context.Context) error
	Quiesce(ctx context.Context, server, service string, on bool) error
	AddNodes(ctx context.Context, names []string) error
	RemoveNodes(ctx context.Context, names []string) error
	ChoosePlane(ctx context.Context, plane string) error
	Flows(plane string) (iter.Seq[dataplane.Flow], error)
	Observe(cfg observe.Config) (observe.Source, error)
}

// Listen makes the control socket, mode 0600. A socket left by a director that
// died is replaced; one that still answers is not.
func Listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("control socket %s: another director is running here; stop it, or set control.socket", path)
	} else if errors.Is(err, syscall.ECONNREFUSED) {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("control socket: %w", err)
		}
	}
	// The mode is right from the first moment, not after a chmod.
	old := syscall.Umask(0o177)
	defer syscall.Umask(old)
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return l, nil
}

// Serve answers on l until ctx ends, then closes l and removes the socket.
func Serve(ctx context.Context, l net.Listener, d Director, b *broker.Broker, log *slog.Logger) error {
	srv := &http.Server{
		Handler:           Handler(d, b),
		ReadHeaderTimeout: 5 * time.Second,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			srv.Close()
		}
	})
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("control socket: %w", err)
	}
	return nil
}

// Handler is the API itself, without a socket.
func Handler(d Director, b *broker.Broker) http.Handler {
	mux := http.NewServeMux()
	programs(mux, b)
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) {
		s, err := d.Status(r.Context())
		reply(w, s, err)
	})
	mux.HandleFunc("GET /v1/flows", func(w http.ResponseWriter, r *http.Request) { listFlows(w, r, d) })
	mux.HandleFunc("POST /v1/observe", func(w http.ResponseWriter, r *http.Request) { observePackets(w, r, d) })
	mux.HandleFunc("POST /v1/standby", func(w http.ResponseWriter, r *http.Request) {
		act(w, r, func(in classRequest) error { return d.Standby(r.Context(), in.Class) })
	})
	mux.HandleFunc("POST /v1/takeover", func(w http.ResponseWriter, r *http.Request) {
		act(w, r, func(in classRequest) error { return d.Takeover(r.Context(), in.Class) })
	})
	mux.HandleFunc("POST /v1/reload", func(w http.ResponseWriter, r *http.Request) {
		reply(w, struct{}{}, d.Reload(r.Context()))
	})
	mux.HandleFunc("POST /v1/quiesce", func(w http.ResponseWriter, r *http.Request) {
		act(w, r, func(in serverRequest) error { return d.Quiesce(r.Context(), in.Server, in.Service, true) })
	})
	mux.HandleFunc("POST /v1/resume", func(w http.ResponseWriter, r *http.Request) {
		act(w, r, func(in serverRequest) error { return d.Quiesce(r.Context(), in.Server, in.Service, false) })
	})
	mux.HandleFunc("POST /v1/plane", func(w http.ResponseWriter, r *http.Request) {
		act(w, r, func(in planeRequest) error { return d.ChoosePlane(r.Context(), in.Plane) })
	})
	mux.HandleFunc("POST /v1/nodes/add", func(w http.ResponseWriter, r *http.Request) {
		act(w, r, func(in nodesRequest) error { return d.AddNodes(r.Context(), in.Nodes) })
	})
	mux.HandleFunc("POST /v1/nodes/remove", func(w http.ResponseWriter, r *http.Request) {
		act(w, r, func(in nodesRequest) error { return d.RemoveNodes(r.Context(), in.Nodes) })
	})
	return mux
}

// act decodes a request strictly and does it.
func act[In any](w http.ResponseWriter, r *http.Request, do func(In) error) {
	var in In
	if err := decode(http.MaxBytesReader(w, r.Body, maxRequest), &in); err != nil {
		reply(w, nil, err)
		return
	}
	reply(w, struct{}{}, do(in))
}

// decode reads one JSON object and nothing else.
func decode(r io.Reader, in any) error {
	dec := json.NewDecoder(r)
	dec.DisallowUnknownFields()
	if err := dec.Decode(in); err != nil {
		return fmt.Errorf("request body: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("request body: one JSON object expected, found more")
	}
	return nil
}

// notNow are the errors of requests that were good and may be tried again.
var notNow = []error{context.DeadlineExceeded, context.Canceled, broker.ErrBusy, broker.ErrStopped, broker.ErrSubscriptions, observe.ErrBusy}

func reply(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		code := http.StatusConflict
		if slices.ContainsFunc(notNow, func(e error) bool { return errors.Is(err, e) }) {
			code = http.StatusServiceUnavailable
		}
		w.WriteHeader(code)
		v = errorReply{err.Error()}
	}
	// The client is gone if this fails; there is nobody to tell.
	_ = json.NewEncoder(w).Encode(v)
}
