package interop

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"systole/hb/media/mediatest"
	"systole/test/netlab"
)

// path is a medium between ours and theirs.
type path struct {
	kind  string // "ucast", "bcast", "mcast", "serial"
	cable *cable // of serial
}

const baud = 115200

// lines are the path in our config and in ha.cf.
func (m path) lines() (systole, hacf string) {
	switch m.kind {
	case "ucast":
		return fmt.Sprintf("{type: ucast, interface: %s, peers: {%s: %s, %s: %s}}", netlab.NIC, ours, addrs[ours], theirs, addrs[theirs]),
			fmt.Sprintf("ucast %s %s", netlab.NIC, addrs[ours])
	case "bcast":
		return fmt.Sprintf("{type: bcast, interface: %s}", netlab.NIC), "bcast " + netlab.NIC
	case "mcast":
		return fmt.Sprintf("{type: mcast, interface: %s}", netlab.NIC), fmt.Sprintf("mcast %s 225.0.0.1 694 1 0", netlab.NIC)
	case "serial":
		return fmt.Sprintf("{type: serial, device: %s, baud: %d}", m.cable.device[ours], baud), "serial " + m.cable.device[theirs]
	}
	panic("no such medium: " + m.kind)
}

// names are what the path is called by our status and by cl_status.
func (m path) names() (systole, clStatus string) {
	if m.kind == "serial" {
		return "serial " + m.cable.device[ours], m.cable.device[theirs]
	}
	return m.kind + " " + netlab.NIC, netlab.NIC
}

// cable is a null-modem cable. There is no flow control: what a machine does
// not read is lost, and so is all while the cable is cut.
type cable struct {
	device map[string]string   // by node
	held   map[string]*os.File // the devices: what is set stays so
	cut    atomic.Bool
}

// layCable shows saw each packet that a node sends.
func layCable(t *testing.T, saw func(to string, frame []byte)) *cable {
	t.Helper()
	c := &cable{device: map[string]string{}, held: map[string]*os.File{}}
	ends := map[string]*os.File{}
	for _, n := range nodes {
		ends[n], c.device[n] = mediatest.Pty(t)
		f, err := os.OpenFile(c.device[n], os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		if err := raw(f); err != nil {
			t.Fatalf("%s: %v", c.device[n], err)
		}
		c.held[n] = f
	}
	for _, way := range [][2]string{{ours, theirs}, {theirs, ours}} {
		done := make(chan struct{})
		t.Cleanup(func() { ends[way[0]].Close(); <-done })
		go func() {
			defer close(done)
			c.carry(ends[way[0]], ends[way[1]], func(b []byte) { saw(way[1], b) })
		}()
	}
	return c
}

// raw keeps a terminal from echoing before a daemon has it set up.
func raw(f *os.File) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var errno error
	err = rc.Control(func(fd uintptr) {
		var t *unix.Termios
		if t, errno = unix.IoctlGetTermios(int(fd), unix.TCGETS); errno != nil {
			return
		}
		t.Iflag, t.Oflag = 0, 0
		t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
		errno = unix.IoctlSetTermios(int(fd), unix.TCSETS, t)
	})
	return errors.Join(err, errno)
}

func (c *cable) carry(from, to *os.File, saw func([]byte)) {
	buf := make([]byte, 4096)
	var stream string
	for {
		n, err := from.Read(buf)
		if err != nil {
			return // closed
		}
		if c.cut.Load() {
			stream = ""
			continue
		}
		stream += string(buf[:n])
		for {
			_, tail, begun := strings.Cut(stream, ">>>\n")
			body, rest, ended := strings.Cut(tail, "\n<<<\n")
			if !begun || !ended {
				break
			}
			saw([]byte(">>>\n" + body + "\n<<<\n"))
			stream = rest
		}
		if err := to.SetWriteDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
	}
}

// flush throws away what a machine had no daemon to read.
func (c *cable) flush(node string) error {
	rc, err := c.held[node].SyscallConn()
	if err != nil {
		return err
	}
	var errno error
	err = rc.Control(func(fd uintptr) { errno = unix.IoctlSetInt(int(fd), unix.TCFLSH, unix.TCIFLUSH) })
	return errors.Join(err, errno)
}
