package health

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// at makes a check of what listens on an address of this host.
func at(typ string, a net.Addr) Check {
	ap := a.(*net.TCPAddr).AddrPort()
	return Check{Type: typ, Addr: ap.Addr().Unmap(), Port: ap.Port(), Timeout: 5 * time.Second}
}

// serve runs a server for one test.
func serve(t *testing.T, h http.HandlerFunc) Check {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return at("http", s.Listener.Addr())
}

// raw accepts connections and answers each with some bytes, then closes it;
// "reset" is for a reset.
func raw(t *testing.T, answer string) Check {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			// All of the request is taken in first: else closing resets.
			buf := make([]byte, 4096)
			for n := 0; !strings.Contains(string(buf[:n]), "\r\n\r\n"); {
				k, err := c.Read(buf[n:])
				if err != nil {
					break
				}
				n += k
			}
			if answer == "reset" {
				c.(*net.TCPConn).SetLinger(0)
			} else {
				io.WriteString(c, answer)
			}
			c.Close()
		}
	}()
	return at("http", l.Addr())
}

// refused is a check of a port where nobody listens.
func refused(t *testing.T, typ string) Check {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := at(typ, l.Addr())
	l.Close()
	return c
}

// want compares a probe's error; @ stands for the server's address.
func want(t *testing.T, c Check, text string) {
	t.Helper()
	err := Probe(context.Background(), c)
	got := ""
	if err != nil {
		got = strings.ReplaceAll(err.Error(), netip.AddrPortFrom(c.Addr, c.Port).String(), "@")
	}
	if got != text {
		t.Errorf("got  %q\nwant %q", got, text)
	}
}

func TestTCP(t *testing.T) {
	c := serve(t, nil)
	c.Type = "tcp"
	want(t, c, "")
	want(t, refused(t, "tcp"), "connect to @: connection refused")
}

func TestNone(t *testing.T) { want(t, refused(t, "none"), "") }

func TestUnknownType(t *testing.T) {
	if err := Probe(context.Background(), Check{Type: "icmp"}); !errors.Is(err, ErrUnknownType) {
		t.Error(err)
	}
}

func TestHTTP(t *testing.T) {
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	body := func(s string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, s) }
	}
	ok := regexp.MustCompile("ok")
	for _, c := range []struct {
		name   string
		serve  http.HandlerFunc
		expect *regexp.Regexp
		want   string
	}{
		{"200", status(200), nil, ""},
		{"204", status(204), nil, ""},
		{"299", status(299), nil, ""},
		{"300", status(300), nil, "status 300, want 2xx"},
		{"404", status(404), nil, "status 404, want 2xx"},
		{"503", status(503), nil, "status 503, want 2xx"},
		{"redirect", http.RedirectHandler("/login", http.StatusFound).ServeHTTP, nil,
			`status 302, want 2xx: redirects are not followed, this one goes to "/login"`},
		{"body", body("all ok here"), ok, ""},
		{"wrong body", body("maintenance\n"), ok, `body does not match "ok" (got 12 bytes: "maintenance\n")`},
		{"no body", body(""), ok, `body does not match "ok" (got 0 bytes: "")`},
		{"wrong body, long", body(strings.Repeat("x", 2000)), ok,
			`body does not match "ok" (got 2000 bytes: "` + strings.Repeat("x", 60) + `...")`},
		{"503 with the right body", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503); io.WriteString(w, "ok") }, ok, "status 503, want 2xx"},
		{"within the first MiB", body(strings.Repeat("x", maxBody-2) + "ok" + "more"), ok, ""},
		{"past the first MiB", body(strings.Repeat("x", maxBody-1) + "ok"), ok,
			`body does not match "ok" (got 1048576 bytes: "` + strings.Repeat("x", 60) + `...")`},
	} {
		t.Run(c.name, func(t *testing.T) {
			check := serve(t, c.serve)
			check.Expect = c.expect
			want(t, check, c.want)
		})
	}
	want(t, refused(t, "http"), "connect to @: connection refused")
}

func TestHTTPOfBrokenServers(t *testing.T) {
	for _, c := range []struct{ name, answer, want string }{
		{"closes", "", "GET /: @ closed the connection without an answer"},
		{"is no web server", "220 mail ready\r\n", `GET /: bad answer from @: malformed HTTP status code "mail"`},
		{"breaks off", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", "status 200, but the body breaks off after 5 bytes: unexpected EOF"},
		{"resets", "reset", "GET /: connection to @: connection reset by peer"},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nok", ""},
		{"has endless headers", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 2*maxHeader), "GET /: bad answer from @: net/http: server response headers exceeded 65536 bytes; aborted"},
	} {
		t.Run(c.name, func(t *testing.T) { want(t, raw(t, c.answer), c.want) })
	}
}

func TestHTTPRequest(t *testing.T) {
	got := make(chan string, 1)
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got <- fmt.Sprint(r.Method, " ", r.RequestURI, " of ", r.Host, " close ", r.Close, " gzip ", r.Header.Get("Accept-Encoding"))
	})
	want(t, c, "")
	if g, w := <-got, fmt.Sprintf("GET / of 127.0.0.1:%d close true gzip ", c.Port); g != w {
		t.Errorf("%q, want %q", g, w)
	}
	c.Path, c.VirtualHost, c.Method = "/a%20b?x=1&y=/", "www.a.com:8080", "HEAD"
	want(t, c, "")
	if g, w := <-got, "HEAD /a%20b?x=1&y=/ of www.a.com:8080 close true gzip "; g != w {
		t.Errorf("%q, want %q", g, w)
	}
}

// A page that a server compresses unasked is matched as it came.
func TestHTTPDoesNotInflate(t *testing.T) {
	var page bytes.Buffer
	z := gzip.NewWriter(&page)
	z.Write(make([]byte, 100))
	z.Close()
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(page.Bytes())
	})
	c.Expect = regexp.MustCompile(`^\x1f`)
	want(t, c, "")
	c.Expect = regexp.MustCompile(`^\x00`)
	if err := Probe(context.Background(), c); err == nil || !strings.Contains(err.Error(), "does not match") {
		t.Error(err)
	}
}

// Servers that hang cost the timeout, and say where they hung.
func TestTimeouts(t *testing.T) {
	free := make(chan struct{})
	defer close(free)
	hang := func(first string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if first != "" {
				io.WriteString(w, first)
				w.(http.Flusher).Flush()
			}
			select {
			case <-free:
			case <-r.Context().Done():
			}
		}
	}
	// A listener whose backlog is full answers no more SYN.
	full, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	backlog(t, full)

	const timeout = 150 * time.Millisecond
	for _, c := range []struct {
		name  string
		check Check
		want  string
	}{
		{"connect", at("tcp", full.Addr()), "connect to @: no answer within 150ms"},
		{"http connect", at("http", full.Addr()), "connect to @: no answer within 150ms"},
		{"answer", serve(t, hang("")), "connected to @, but no answer to GET / within 150ms"},
		{"body", serve(t, hang("begin")), "status 200, but the body is not complete within 150ms (got 5 bytes)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.check.Timeout = timeout
			start := time.Now()
			want(t, c.check, c.want)
			if took := time.Since(start); took < timeout {
				t.Errorf("gave up after %s", took)
			}
		})
	}
}

// backlog fills the queue of a listener that accepts nothing.
func backlog(t *testing.T, l net.Listener) {
	t.Helper()
	sc, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	shrink(t, sc)
	for range 16 {
		c, err := net.DialTimeout("tcp", l.Addr().String(), 100*time.Millisecond)
		if err != nil {
			return
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("the backlog does not fill")
}

// The end of the caller's context ends a check at once, whatever it waits for.
func TestProbeEndsWithItsContext(t *testing.T) {
	var asked atomic.Int32
	ctx, cancel := context.WithCancel(context.Background())
	c := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		cancel()
		<-r.Context().Done()
	})
	c.Timeout = time.Hour
	if err := Probe(ctx, c); !errors.Is(err, context.Canceled) || asked.Load() != 1 {
		t.Errorf("%v after %d requests", err, asked.Load())
	}
}

// FuzzHTTP gives a check whatever a server may answer: it must end, and never
// take for well what has no 2xx status line.
func FuzzHTTP(f *testing.F) {
	for _, s := range []string{"", "HTTP/1.1 200 OK\r\n\r\nok", "HTTP/1.1 204 No\r\n\r\n", "HTTP/1.1 100 C\r\n\r\nHTTP/1.1 500 E\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "HTTP/1.1 301 M\r\nLocation: \x01\r\n\r\n", "HTTP/0.9 200\n\n"} {
		f.Add([]byte(s))
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { l.Close() })
	c := at("http", l.Addr())
	c.Expect = regexp.MustCompile("ok")
	f.Fuzz(func(t *testing.T, answer []byte) {
		go func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Read(make([]byte, 1024))
			conn.Write(answer)
			conn.Close()
		}()
		err := Probe(context.Background(), c)
		if err == nil && !regexp.MustCompile(`HTTP/[0-9.]+ +2[0-9][0-9](?s:.*)ok`).Match(answer) {
			t.Errorf("well: %q", answer)
		}
	})
}
