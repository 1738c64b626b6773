// Package dial reaches the control socket of a director on this machine and
// tells an operator why it cannot.
package dial

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"syscall"
)

// ErrNotRunning means that nobody answers at the control socket.
var ErrNotRunning = errors.New("no director is running here")

// URL is the address of a path of the API; the host is of no account.
func URL(path string) string { return "http://systole" + path }

// Transport dials the socket for whatever host a URL names.
func Transport(socket string) *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}
}

// Explain turns an error of a request into one for an operator; test with
// errors.Is for ErrNotRunning and the errors of the context.
func Explain(socket string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: %s does not answer (start one with `systole run -f FILE`, or name its socket with --socket)", ErrNotRunning, socket)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: permission denied: the control socket belongs to the director's user (try sudo)", socket)
	}
	return fmt.Errorf("control socket %s: %w", socket, err)
}
