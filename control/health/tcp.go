package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
)

// checkTCP is well if the port accepts a connection, which is closed again in
// order: a server does not log an error for it.
func checkTCP(ctx context.Context, c Check) error {
	conn, err := dial(ctx, c)
	if err != nil {
		return err
	}
	return conn.Close()
}

func dial(ctx context.Context, c Check) (net.Conn, error) {
	to := netip.AddrPortFrom(c.Addr, c.Port).String()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", to)
	if err == nil {
		return conn, nil
	}
	if timedOut(ctx, err) {
		return nil, fmt.Errorf("connect to %s: no answer within %s", to, c.Timeout)
	}
	// "dial tcp 192.0.2.200:80: connect: connection refused" says it all twice.
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return nil, fmt.Errorf("connect to %s: %w", to, errno)
	}
	return nil, fmt.Errorf("connect to %s: %w", to, err)
}

// timedOut tells whether err is the end of the check's time, in whichever of
// its forms, and not that the caller gave up.
func timedOut(ctx context.Context, err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(ctx.Err(), context.DeadlineExceeded)
}
