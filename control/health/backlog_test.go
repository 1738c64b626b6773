package health

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// shrink makes the backlog of a listening socket as short as can be.
func shrink(t *testing.T, c syscall.RawConn) {
	t.Helper()
	var err error
	if e := c.Control(func(fd uintptr) { err = unix.Listen(int(fd), 0) }); e != nil || err != nil {
		t.Fatal(e, err)
	}
}
