package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
)

const (
	maxBody   = 1 << 20 // of a page is read and matched
	maxHeader = 64 << 10
	excerpt   = 60 // bytes of a page in an error
)

// checkHTTP asks for a page. It is well if the status is 2xx and the page, read
// to its end or to maxBody, matches Expect.
//
// Redirects are failures and not followed: where they lead to is another
// server's health. Nothing is kept from one check to the next, no connection,
// no cookie, and no proxy is used.
func checkHTTP(ctx context.Context, c Check) error {
	to := netip.AddrPortFrom(c.Addr, c.Port).String()
	u, err := url.ParseRequestURI(c.Path)
	if err != nil {
		return fmt.Errorf("path %q: %w", c.Path, err)
	}
	u.Scheme, u.Host = "http", to
	req, err := http.NewRequestWithContext(ctx, c.Method, u.String(), nil)
	if err != nil {
		return err
	}
	req.Host = c.VirtualHost // empty: the address
	req.Header.Set("User-Agent", "systole-health-check")

	// Connected here and not by the transport, which would go on with it in the
	// background when the time is up, and whose errors do not tell the stages.
	conn, err := dial(ctx, c)
	if err != nil {
		return err
	}
	defer conn.Close()
	t := &http.Transport{
		DialContext:            func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
	}
	resp, err := t.RoundTrip(req) // a Client would follow redirects
	var errno syscall.Errno
	switch {
	case err != nil && timedOut(ctx, err):
		return fmt.Errorf("connected to %s, but no answer to %s %s within %s", to, c.Method, c.Path, c.Timeout)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%s %s: %s closed the connection without an answer", c.Method, c.Path, to)
	case errors.As(err, &errno):
		return fmt.Errorf("%s %s: connection to %s: %w", c.Method, c.Path, to, errno)
	case err != nil:
		if inner := errors.Unwrap(err); inner != nil { // without the transport's preface
			err = inner
		}
		return fmt.Errorf("%s %s: bad answer from %s: %w", c.Method, c.Path, to, err)
	}
	defer resp.Body.Close()

	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		if to := resp.Header.Get("Location"); to != "" && resp.StatusCode < 400 {
			return fmt.Errorf("status %d, want 2xx: redirects are not followed, this one goes to %q", resp.StatusCode, cut(to))
		}
		return fmt.Errorf("status %d, want 2xx", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	switch {
	case err != nil && timedOut(ctx, err):
		return fmt.Errorf("status %d, but the body is not complete within %s (got %d bytes)", resp.StatusCode, c.Timeout, len(body))
	case err != nil:
		return fmt.Errorf("status %d, but the body breaks off after %d bytes: %w", resp.StatusCode, len(body), err)
	case c.Expect != nil && !c.Expect.Match(body):
		return fmt.Errorf("body does not match %q (got %d bytes: %q)", c.Expect, len(body), cut(string(body)))
	}
	return nil
}

// cut shortens what a server said to what fits a log line.
func cut(s string) string {
	if len(s) > excerpt {
		return s[:excerpt] + "..."
	}
	return s
}
