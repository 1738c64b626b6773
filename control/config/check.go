package config

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"regexp/syntax"
	"strings"
	"time"
	"unicode"
)

var laterChecks = func() map[string]string {
	m := map[string]string{
		"negotiate": "is called http here",
		"connect":   "is called tcp here",
		"tcp_check": "is called tcp here",
		"http_get":  "is called http here",
		"on":        "is called none here",
		"off":       "is not a check: give the server weight 0",
	}
	for _, s := range strings.Fields("https ssl_get ping dns smtp imap pop ldap mysql pgsql radius sip external misc_check grpc udp script") {
		m[s] = "is not there yet: use tcp, http or none"
	}
	return m
}()

// check reads a health check. What it does not say it takes from base, the
// check of the service; a base without a Type has but a port.
func (d *decoder) check(m *mapping, base Check) Check {
	portless := base.Type == "" || base.Type == "none" // nobody asked for a port yet
	if base.Type == "" {
		base = Check{Type: "tcp", Port: base.Port, Interval: 2 * time.Second, Rise: 1, Fall: 1}
	}
	c := base
	typ := read(m, "type", base.Type, oneOf([]string{"tcp", "http", "none"}, laterChecks))
	c.Type = typ.val

	prt := read(m, "port", base.Port, port)
	const least, most = 10 * time.Millisecond, time.Hour
	interval := read(m, "interval", base.Interval, duration(least, most))
	def := base.Timeout
	if def == 0 || def > interval.val {
		def = min(time.Second, interval.val)
	}
	timeout := read(m, "timeout", def, duration(time.Millisecond, most))
	rise := read(m, "rise", base.Rise, number(1, 1000))
	fall := read(m, "fall", base.Fall, number(1, 1000))
	if timeout.set && !interval.bad && timeout.val > interval.val {
		d.errorf(timeout.at, "timeout %s is longer than interval %s: a check must end before the next begins",
			short(timeout.val), short(interval.val))
	}
	c.Port, c.Interval, c.Timeout, c.Rise, c.Fall = prt.val, interval.val, timeout.val, rise.val, fall.val

	if c.Type != "none" && c.Port == 0 && !prt.bad && !typ.bad && portless {
		m.missing("port", "the port to check, such as port: 80, as the service has no port of its own; or check: {type: none}")
	}

	if base.Type != "http" || c.Type != "http" {
		c.Path, c.VirtualHost, c.Method, c.Expect = "/", "", "GET", ""
	}
	path := read(m, "path", c.Path, requestPath)
	host := read(m, "virtual_host", c.VirtualHost, hostHeader)
	method := read(m, "method", c.Method, oneOf([]string{"GET", "HEAD"}, map[string]string{
		"get": "must be in capitals: write GET", "head": "must be in capitals: write HEAD",
		"post": "changes things on the server: use GET or HEAD"}))
	expect := read(m, "expect", c.Expect, expression)
	c.Path, c.VirtualHost, c.Method, c.Expect = path.val, host.val, method.val, expect.val

	if !typ.bad {
		d.withoutEffect(m, c.Type)
	}
	if c.Type == "http" && c.Method == "HEAD" && c.Expect != "" {
		at := method.at
		if expect.set {
			at = expect.at
		}
		d.errorf(at, "expect needs a body, and the answer to HEAD has none: use method GET")
	}
	if c.Type != "http" {
		c.Path, c.VirtualHost, c.Method, c.Expect = "", "", "", ""
	}
	m.done()
	return c
}

// withoutEffect reports keys that mean nothing for a type of check.
func (d *decoder) withoutEffect(m *mapping, typ string) {
	for _, e := range m.entries {
		switch e.key {
		case "path", "virtual_host", "method", "expect":
			if typ != "http" {
				d.errorf(e.at, "%s has no effect in a check of type %s: write type: http, or remove it", e.key, typ)
			}
		case "port", "interval", "timeout", "rise", "fall":
			if typ == "none" {
				d.errorf(e.at, "%s has no effect in a check of type none: remove it", e.key)
			}
		}
	}
}

func requestPath(s scalar) (string, error) {
	v, err := text(s)
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(v, "/") {
		return "", fmt.Errorf("%q does not begin with /: write %q", v, "/"+v)
	}
	if _, err := url.ParseRequestURI(v); err != nil || strings.ContainsFunc(v, unicode.IsSpace) || strings.Contains(v, "#") {
		return "", fmt.Errorf("%q cannot be asked for: write special characters as %%XX, a space as %%20", v)
	}
	return v, nil
}

var hostPattern = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_.])?(:[0-9]{1,5})?$`)

func hostHeader(s scalar) (string, error) {
	v, err := text(s)
	switch {
	case err != nil:
		return "", err
	case strings.Contains(v, "://"):
		return "", fmt.Errorf("%q is a URL: write the host name alone, and path: for the rest", v)
	case !hostPattern.MatchString(v):
		return "", fmt.Errorf("%q is not a host name: write one such as www.example.com", v)
	}
	return v, nil
}

func expression(s scalar) (string, error) {
	v, err := text(s)
	if err != nil {
		return "", err
	}
	if _, err := regexp.Compile(v); err != nil {
		var se *syntax.Error
		if !errors.As(err, &se) {
			return "", err
		}
		hint := `put a \ before characters that stand for themselves`
		if se.Code == syntax.ErrInvalidPerlOp {
			hint = "look-ahead, look-behind and back-references of Perl do not exist here (RE2)"
		}
		return "", fmt.Errorf("%q is not a regular expression, %s in %q: %s", v, se.Code, se.Expr, hint)
	}
	return v, nil
}
