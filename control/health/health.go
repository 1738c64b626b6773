package health

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"time"
)

// ErrUnknownType is wrapped by Probe's error for a type that is not registered.
var ErrUnknownType = errors.New("no such type of check: use tcp, http or none")

// Check says how to check a server. The zero value of a field means its
// default.
type Check struct {
	Type     string // "tcp", "http", "none" (always up)
	Addr     netip.Addr
	Port     uint16
	Interval time.Duration // from the start of one check to that of the next; default 2 s
	Timeout  time.Duration // for the whole check; default 1 s, or Interval if that is less
	Rise     int           // consecutive successes until up; default 1
	Fall     int           // consecutive failures until down; default 1

	// http only
	Path        string         // with its query; default "/"
	VirtualHost string         // Host header; default: the address
	Method      string         // default GET
	Expect      *regexp.Regexp // what the body must match; nil: anything
}

// withDefaults fills in what is zero.
func (c Check) withDefaults() Check {
	if c.Interval <= 0 {
		c.Interval = 2 * time.Second
	}
	if c.Timeout <= 0 {
		c.Timeout = min(time.Second, c.Interval)
	}
	c.Rise, c.Fall = max(1, c.Rise), max(1, c.Fall)
	if c.Path == "" {
		c.Path = "/"
	}
	if c.Method == "" {
		c.Method = "GET"
	}
	return c
}

// equal compares expressions by their text: a configuration that is read again
// compiles them anew.
func (c Check) equal(o Check) bool {
	a, b := c.Expect, o.Expect
	c.Expect, o.Expect = nil, nil
	return c == o && (a == b || a != nil && b != nil && a.String() == b.String())
}

// checkers are the types of check. A checker returns nil if the server is
// well, and soon after ctx has ended.
var checkers = map[string]func(ctx context.Context, c Check) error{
	"tcp":  checkTCP,
	"http": checkHTTP,
	"none": checkNone,
}

// Probe runs a check once, within its timeout. Its error says why the server is
// not well.
func Probe(ctx context.Context, c Check) error {
	c = c.withDefaults()
	check, ok := checkers[c.Type]
	if !ok {
		return fmt.Errorf("%q: %w", c.Type, ErrUnknownType)
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	return check(ctx, c)
}
