package e2e

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestStrictRoundRobin opens 10,000 connections over 2, 3 and 7 equal servers
// from both CPUs at once; the counts of accepted connections differ by at most
// one.
func TestStrictRoundRobin(t *testing.T) {
	const connections = 10000
	for _, n := range []int{2, 3, 7} {
		t.Run(fmt.Sprintf("%d servers", n), func(t *testing.T) {
			var servers []string
			for i := range n {
				servers = append(servers, fmt.Sprintf("{address: 192.168.145.%d}", 200+i))
			}
			p := newPair(t, n, fmt.Sprintf(`  - virtual: 192.168.145.101:80
    check: {type: tcp, port: 81, interval: 500ms, timeout: 500ms}
    servers: [%s]
`, strings.Join(servers, ", ")))
			counts := make([]atomic.Int64, n)
			for i, s := range p.servers {
				accept := func(port string, count func()) {
					ln, err := s.Listen("tcp4", "0.0.0.0:"+port)
					p.must(err)
					t.Cleanup(func() { ln.Close() })
					go func() {
						for {
							c, err := ln.Accept()
							if err != nil {
								return
							}
							count()
							_, _ = c.Write([]byte{1})
							_ = c.Close()
						}
					}()
				}
				accept("80", func() { counts[i].Add(1) })
				accept("81", func() {}) // the check's
			}
			p.servable("192.168.145.101:80/tcp", n)

			var failed atomic.Int64
			var wg sync.WaitGroup
			begin := time.Now()
			for cpu := range runtime.NumCPU() {
				wg.Go(func() {
					for range connections / runtime.NumCPU() {
						if err := connectFrom(p, cpu); err != nil {
							failed.Add(1)
							if failed.Load() == 1 {
								t.Errorf("connect: %v", err)
							}
						}
					}
				})
			}
			wg.Wait()
			took := time.Since(begin)
			var lo, hi, sum int64 = connections, 0, 0
			var all []int64
			for i := range counts {
				c := counts[i].Load()
				all = append(all, c)
				lo, hi, sum = min(lo, c), max(hi, c), sum+c
			}
			t.Logf("%d connections from %d CPUs in %v: %v", sum, runtime.NumCPU(), took.Round(time.Millisecond), all)
			if failed.Load() != 0 || sum != connections || hi-lo > 1 {
				t.Errorf("%d failed, %d accepted, counts differ by %d: %v", failed.Load(), sum, hi-lo, all)
			}
		})
	}
}

// connectFrom opens and closes a connection on one CPU: on a veth the packets
// are then forwarded on that CPU, too.
func connectFrom(p *pair, cpu int) error {
	return p.client.Do(func() error {
		var old, set unix.CPUSet
		if err := unix.SchedGetaffinity(0, &old); err != nil {
			return err
		}
		set.Set(cpu)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return err
		}
		defer func() { _ = unix.SchedSetaffinity(0, &old) }()
		d := net.Dialer{Timeout: 5 * time.Second}
		c, err := d.DialContext(context.Background(), "tcp4", "192.168.145.101:80")
		if err != nil {
			return err
		}
		// A reset in place of FIN and TIME_WAIT: 10,000 ports stay free.
		_ = c.(*net.TCPConn).SetLinger(0)
		defer c.Close()
		// Only a connection that was accepted is counted, and only then reset:
		// on several CPUs the reset could else overtake the handshake.
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		_, err = c.Read(make([]byte, 1))
		return err
	})
}
