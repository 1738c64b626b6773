package chaos

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// clients are open TCP connections that are asked in turn.
type clients struct {
	*lab
	conns []net.Conn
	dead  []atomic.Bool
	asked atomic.Uint64
	heard atomic.Int64          // when the last answer came
	gap   atomic.Int64          // longest time without an answer, ns
	first atomic.Pointer[error] // why the first was lost
	done  chan struct{}
	wg    sync.WaitGroup
}

// connect opens n connections to the virtual address and keeps asking on them.
func (l *lab) connect(n int) *clients {
	l.Helper()
	var limit unix.Rlimit
	l.must(unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	if want := uint64(n + 1000); limit.Cur < want {
		limit.Cur, limit.Max = want, max(limit.Max, want)
		l.must(syscall.Setrlimit(unix.RLIMIT_NOFILE, (*syscall.Rlimit)(&limit))) // Go gives it back to children
	}
	c := &clients{lab: l, dead: make([]atomic.Bool, n), done: make(chan struct{})}
	l.must(l.client.Do(func() error {
		for i := range n {
			var d net.Dialer
			d.Timeout = 5 * time.Second
			conn, err := d.Dial("tcp4", netip.AddrPortFrom(vip, 80).String())
			if err != nil {
				return fmt.Errorf("connection %d: %w", i+1, err)
			}
			c.conns = append(c.conns, conn)
		}
		return nil
	}))
	const workers = 64
	for w := range workers {
		c.wg.Go(func() {
			for i := w; ; i += workers {
				if i >= n {
					i = w
				}
				select {
				case <-c.done:
					return
				default:
				}
				c.ask(i)
				time.Sleep(10 * time.Millisecond) // some 5,000 questions a second
			}
		})
	}
	l.Cleanup(func() {
		c.end()
		for _, conn := range c.conns {
			conn.Close()
		}
	})
	return c
}

// patience is how long an answer may take: longer than TCP's first
// retransmissions.
const patience = 10 * time.Second

// ask sends one byte and waits for it to come back.
func (c *clients) ask(i int) {
	if c.dead[i].Load() {
		return
	}
	b := []byte{byte(i)}
	conn := c.conns[i]
	err := conn.SetDeadline(time.Now().Add(patience))
	if err == nil {
		_, err = conn.Write(b)
	}
	if err == nil {
		_, err = io.ReadFull(conn, b)
	}
	if err == nil && b[0] != byte(i) {
		err = errors.New("another answer")
	}
	c.asked.Add(1)
	if err != nil {
		c.dead[i].Store(true)
		c.first.CompareAndSwap(nil, &err)
		return
	}
	now := time.Now().UnixNano()
	if before := c.heard.Swap(now); before != 0 && now-before > c.gap.Load() {
		c.gap.Store(now - before)
	}
}

func (c *clients) end() {
	select {
	case <-c.done:
	default:
		close(c.done)
	}
	c.wg.Wait()
}

// finish asks each connection once more and tells how many were lost, and how
// many segments had to be sent again, by all clients.
func (c *clients) finish() (lost int, again uint32) {
	c.Helper()
	c.end()
	var wg sync.WaitGroup
	for i := range c.conns {
		wg.Go(func() { c.ask(i) })
		if i%1000 == 999 {
			wg.Wait()
		}
	}
	wg.Wait()
	for i, conn := range c.conns {
		if c.dead[i].Load() {
			lost++
		}
		raw, err := conn.(*net.TCPConn).SyscallConn()
		c.must(err)
		c.must(raw.Control(func(fd uintptr) {
			info, e := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
			if e != nil {
				err = e
				return
			}
			again += info.Total_retrans
		}))
		c.must(err)
	}
	if why := c.first.Load(); why != nil {
		c.Logf("the first: %v", *why)
	}
	return lost, again
}

// The daemon is killed and started again, under open connections: none is lost.
// It has no living peer, so its data plane goes on alone.
func TestKilledDaemonKeepsConnections(t *testing.T) {
	l := newLab(t)
	n := l.nodes[0]
	l.start(n)
	l.until("the director serves", func() bool { return l.serves(n) })
	c := l.connect(size(1000, established))
	kills := size(3, 50)
	began := time.Now()
	for range kills {
		n.kill()
		asked := c.asked.Load()
		l.until("the data plane goes on alone", func() bool { return c.asked.Load() > asked+200 })
		l.start(n)
		l.until("the director serves again", func() bool { return l.serves(n) })
	}
	lost, again := c.finish()
	t.Logf("%d kills and restarts in %v, %d open connections, %d questions: %d connections lost, %d segments sent again",
		kills, time.Since(began).Round(time.Millisecond), len(c.conns), c.asked.Load(), lost, again)
	if lost != 0 {
		t.Errorf("%d connections lost", lost)
	}
}

// The address goes from one director to the other and back, with open
// connections: none is lost.
func TestHandOversKeepConnections(t *testing.T) {
	l := newLab(t)
	for _, n := range l.nodes {
		l.start(n)
	}
	owner, other := l.owner()
	c := l.connect(size(1000, established))
	handOvers := size(4, 100)
	began := time.Now()
	last := began
	for i := range handOvers {
		l.must(owner.api.Standby(t.Context(), "all"))
		now, then := l.owner()
		if now != other {
			t.Fatalf("hand-over %d: %s has the address", i+1, now.Name)
		}
		owner, other = now, then
		asked := c.asked.Load()
		l.until("connections go on", func() bool { return c.asked.Load() > asked+200 })
		if time.Since(last) > 10*time.Second {
			last = time.Now()
			t.Logf("%d of %d hand-overs", i+1, handOvers)
		}
	}
	lost, again := c.finish()
	t.Logf("%d hand-overs in %v, %d open connections, %d questions: %d connections lost, %d segments sent again",
		handOvers, time.Since(began).Round(time.Millisecond), len(c.conns), c.asked.Load(), lost, again)
	if lost != 0 {
		t.Errorf("%d connections lost", lost)
	}
}
