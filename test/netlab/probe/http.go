package probe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"systole/test/netlab"
)

// maxBody bounds what is read of an answer.
const maxBody = 64 << 10

// Request is an HTTP request as the probes make it: HTTP/1.1, no proxy, no
// redirect followed, its connection's address chosen apart from its Host.
type Request struct {
	Target  netip.AddrPort
	Host    string // "www.a.com"
	Path    string // "/"
	Timeout time.Duration
}

// Get asks once over a connection of its own and returns the body of a 200.
func Get(h *netlab.Host, r Request) (body string, err error) {
	err = h.Do(func() error {
		body, err = r.fresh()
		return err
	})
	return body, err
}

// fresh asks once over a new connection made in the caller's namespace.
func (r Request) fresh() (string, error) {
	d := net.Dialer{Timeout: r.Timeout}
	deadline := time.Now().Add(r.Timeout)
	c, err := d.Dial("tcp4", r.Target.String())
	if err != nil {
		return "", err
	}
	defer c.Close()
	return r.on(c, bufio.NewReader(c), deadline, "close")
}

// on asks over an open connection.
func (r Request) on(c net.Conn, rd *bufio.Reader, deadline time.Time, connection string) (string, error) {
	if err := c.SetDeadline(deadline); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: %s\r\n\r\n", r.Path, r.Host, connection); err != nil {
		return "", err
	}
	resp, err := http.ReadResponse(rd, nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("status %s", resp.Status)
	}
	return strings.TrimSpace(string(b)), nil
}

// Tally counts requests.
type Tally struct {
	Requests int
	Failed   int
	First    error          // of those that failed
	Answers  map[string]int // how often each body came
}

func (t *Tally) add(body string, err error) {
	t.Requests++
	if err != nil {
		t.Failed++
		if t.First == nil {
			t.First = err
		}
		return
	}
	if t.Answers == nil {
		t.Answers = make(map[string]int)
	}
	t.Answers[body]++
}

// HTTP is a running probe: workers that each make a request over a fresh
// connection, wait for its end, and make the next one.
type HTTP struct {
	stop  chan struct{}
	wg    sync.WaitGroup
	mu    sync.Mutex
	tally Tally
}

// StartHTTP starts a probe with that many workers. Each starts at most one
// request per millisecond.
func StartHTTP(h *netlab.Host, r Request, workers int) *HTTP {
	p := &HTTP{stop: make(chan struct{})}
	for range workers {
		p.wg.Go(func() {
			_ = h.Do(func() error {
				pace(p.stop, time.Millisecond, func() {
					body, err := r.fresh()
					p.mu.Lock()
					p.tally.add(body, err)
					p.mu.Unlock()
				})
				return nil
			})
		})
	}
	return p
}

// Stop lets the requests under way end and returns the count.
func (p *HTTP) Stop() Tally {
	close(p.stop)
	p.wg.Wait()
	return p.tally
}

// Kept is a running probe: connections that stay open, with a request on each
// every 10 ms.
type Kept struct {
	stop chan struct{}
	wg   sync.WaitGroup
	mu   sync.Mutex
	res  KeptResult
}

// KeptResult tells how the connections fared.
type KeptResult struct {
	Connections int
	Broken      int
	Requests    int
	Slowest     time.Duration // request, of those answered
	First       error         // of the connections that broke
}

// StartKept opens n connections and returns when each has answered once.
func StartKept(ctx context.Context, h *netlab.Host, r Request, n int) (*Kept, error) {
	k := &Kept{stop: make(chan struct{}), res: KeptResult{Connections: n}}
	var conns []net.Conn
	var readers []*bufio.Reader
	for range n {
		c, err := h.DialContext(ctx, "tcp4", r.Target.String())
		if err == nil {
			conns = append(conns, c)
			readers = append(readers, bufio.NewReader(c))
			_, err = r.on(c, readers[len(readers)-1], time.Now().Add(r.Timeout), "keep-alive")
		}
		if err != nil {
			for _, c := range conns {
				c.Close()
			}
			return nil, fmt.Errorf("open a connection to %s: %w", r.Target, err)
		}
	}
	for i, c := range conns {
		k.wg.Go(func() {
			defer c.Close()
			k.run(r, c, readers[i])
		})
	}
	return k, nil
}

var errBroken = errors.New("connection broken")

func (k *Kept) run(r Request, c net.Conn, rd *bufio.Reader) {
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for {
		select {
		case <-k.stop:
			return
		case <-poll.C:
		}
		begin := time.Now()
		_, err := r.on(c, rd, begin.Add(r.Timeout), "keep-alive")
		took := time.Since(begin)
		k.mu.Lock()
		k.res.Requests++
		if err != nil {
			k.res.Broken++
			if k.res.First == nil {
				k.res.First = fmt.Errorf("%w after %v: %w", errBroken, took.Round(time.Millisecond), err)
			}
			k.mu.Unlock()
			return
		}
		k.res.Slowest = max(k.res.Slowest, took)
		k.mu.Unlock()
	}
}

// Broken tells how many connections have broken so far.
func (k *Kept) Broken() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.res.Broken
}

// Stop ends the probe.
func (k *Kept) Stop() KeptResult {
	close(k.stop)
	k.wg.Wait()
	return k.res
}
