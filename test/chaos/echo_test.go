package chaos

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"

	"systole/test/netlab"
)

// realServer is what the test binary is when it runs with this variable set,
// which is where to listen. A process of its own for each: ten thousand
// connections have two ends, and a process has only so many files.
const realServer = "SYSTOLE_CHAOS_SERVER"

// runEcho answers each byte with itself until it is killed.
func runEcho(at string) error {
	ln, err := net.Listen("tcp4", at)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			// Not io.Copy: it would splice, through two more files.
			for b := make([]byte, 64); ; {
				n, err := c.Read(b)
				if err != nil {
					return
				}
				if _, err := c.Write(b[:n]); err != nil {
					return
				}
			}
		}()
	}
}

// echo answers on port 80 of a host until the lab closes.
func (l *lab) echo(h *netlab.Host) {
	l.Helper()
	self, err := os.Executable()
	l.must(err)
	cmd := h.Command(context.Background(), self)
	cmd.Env = append(os.Environ(), realServer+"=0.0.0.0:80")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	l.must(err)
	_, err = h.Start(cmd)
	l.must(err)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		l.Fatalf("the real server %s says %q, %v", h.Name, line, err)
	}
}
