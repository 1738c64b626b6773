package mediatest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Pty opens a pseudo terminal: what is written to master comes out of the
// device and the other way round. master ends with the test.
func Pty(t testing.TB) (master *os.File, device string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		Missing(t, fmt.Sprintf("pseudo terminals: %v", err))
	}
	t.Cleanup(func() { master.Close() })
	rc, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	var errno error
	err = rc.Control(func(fd uintptr) {
		if errno = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); errno == nil {
			n, errno = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	})
	if err := errors.Join(err, errno); err != nil {
		t.Fatal(err)
	}
	device = fmt.Sprintf("/dev/pts/%d", n)
	if _, err := os.Stat(device); err != nil {
		Missing(t, fmt.Sprintf("pseudo terminals: %v", err))
	}
	return master, device
}

// NullModem makes two serial devices with a cable between them, and a function
// that takes it all away, at the latest at the end of the test.
func NullModem(t testing.TB) (a, b string, cut func()) {
	t.Helper()
	ma, a := Pty(t)
	mb, b := Pty(t)
	var copies sync.WaitGroup
	copies.Go(func() { copyAll(ma, mb) })
	copies.Go(func() { copyAll(mb, ma) })
	cut = func() {
		ma.Close()
		mb.Close()
		copies.Wait()
	}
	t.Cleanup(cut)
	return a, b, cut
}

// copyAll copies until one of the two is closed; that nobody has the device
// open is no end.
func copyAll(to, from *os.File) {
	for {
		_, err := io.Copy(to, onlyReader{from})
		if !errors.Is(err, syscall.EIO) {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// onlyReader keeps io.Copy from asking the kernel to splice.
type onlyReader struct{ io.Reader }
