package serial

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"go.bug.st/serial"
	"golang.org/x/sys/unix"
)

// line is an open serial line and the goroutine that writes to it.
type line struct {
	*os.File
	stop    chan struct{} // closed: the writer ends
	written chan struct{} // closed: the writer has ended
	failed  atomic.Pointer[error]
}

// openLine opens a line at so many bit/s, 8N1, raw, without flow control.
//
// The library sets the line up. Reading and writing go by a descriptor of our
// own, in the runtime's poller: so Close ends both, also a write that the other
// end has no room for, and any number of descriptors may be open. Settings
// belong to the line and stay as long as somebody has it open.
func openLine(device string, baud int) (*line, error) {
	// Without O_NONBLOCK this would wait for a modem.
	f, err := os.OpenFile(device, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	p, err := serial.Open(device, &serial.Mode{BaudRate: baud, DataBits: 8, Parity: serial.NoParity, StopBits: serial.OneStopBit})
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("set up %s: %w", device, err)
	}
	if err := p.Close(); err != nil {
		f.Close()
		return nil, fmt.Errorf("set up %s: %w", device, err)
	}
	l := &line{File: f, stop: make(chan struct{}), written: make(chan struct{})}
	if err := l.claim(); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", device, err)
	}
	return l, nil
}

// claim keeps other programs off, throws away what waited from before, and sees
// to it that reads can be ended.
func (l *line) claim() error {
	if err := l.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("reads cannot be ended: %w", err)
	}
	if err := l.ioctl(unix.TIOCEXCL, 0); err != nil {
		return fmt.Errorf("TIOCEXCL: %w", err)
	}
	if err := l.ioctl(unix.TCFLSH, unix.TCIOFLUSH); err != nil {
		return fmt.Errorf("TCFLSH: %w", err)
	}
	return nil
}

func (l *line) ioctl(request uint, value int) error {
	rc, err := l.SyscallConn()
	if err != nil {
		return err
	}
	var errno error
	err = rc.Control(func(fd uintptr) { errno = unix.IoctlSetInt(int(fd), request, value) })
	return errors.Join(err, errno)
}

// write takes packets from q until the line is closed or fails. It keeps to the
// line's rate itself: the kernel would take some thousand bytes at once, and
// what waits there cannot be dropped any more.
func (l *line) write(w io.Writer, q *queue, baud int, sent, failed *atomic.Uint64) {
	defer close(l.written)
	timer := time.NewTimer(0)
	defer timer.Stop()
	// Ends what was cut off when the line broke; between packets it is nothing.
	if _, err := w.Write([]byte("\n")); err != nil {
		l.fail(err)
		return
	}
	for {
		select {
		case <-timer.C: // the line is free
		case <-l.stop:
			return
		}
		p := q.pop()
		for p == nil {
			select {
			case <-q.ready:
				p = q.pop()
			case <-l.stop:
				return
			}
		}
		if _, err := w.Write(p); err != nil {
			failed.Add(1)
			l.fail(err)
			return
		}
		sent.Add(1)
		timer.Reset(time.Duration(len(p)) * 10 * time.Second / time.Duration(baud))
	}
}

// fail ends the reader, which reports why.
func (l *line) fail(err error) {
	l.failed.CompareAndSwap(nil, &err)
	l.SetReadDeadline(time.Unix(1, 0))
}

// why is the reason of a read that ended with err.
func (l *line) why(err error) error {
	if p := l.failed.Load(); p != nil {
		return *p
	}
	if err == io.EOF {
		return fmt.Errorf("the line was hung up: %w", syscall.EIO)
	}
	return err
}

// shut closes the line and waits until its writer has ended; to be called once.
func (l *line) shut() {
	close(l.stop)
	// Else closing waits until the rest is on the line (closing_wait of
	// setserial(8)), or for as long as the line is stuck.
	l.ioctl(unix.TCFLSH, unix.TCOFLUSH)
	l.Close()
	<-l.written
}
