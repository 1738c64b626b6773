package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"systole/test/netlab"
)

// datagrams are sent to the virtual address at a steady pace, each from a port
// of its own now and then, so that there are flows and new clients; every one
// that arrives at a real server is counted.
type datagrams struct {
	*lab
	sent, arrived atomic.Uint64
	gap           atomic.Int64 // longest pause between two that arrived, ns
	done          chan struct{}
	wg            sync.WaitGroup
}

const datagramPort = 5353

// pour sends until end is called, in 1 ms steps.
func (l *lab) pour() *datagrams {
	l.Helper()
	d := &datagrams{lab: l, done: make(chan struct{})}
	var last atomic.Int64
	for _, s := range l.servers {
		pc, err := s.ListenPacket("udp4", fmt.Sprintf("0.0.0.0:%d", datagramPort))
		l.must(err)
		l.Cleanup(func() { pc.Close() })
		go func() {
			b := make([]byte, 64)
			for {
				if _, _, err := pc.ReadFrom(b); err != nil {
					return
				}
				now := time.Now().UnixNano()
				d.arrived.Add(1)
				if before := last.Swap(now); before != 0 && now-before > d.gap.Load() {
					d.gap.Store(now - before)
				}
			}
		}()
	}
	var conns []net.Conn
	l.must(l.client.Do(func() error {
		for range 64 {
			c, err := net.Dial("udp4", netip.AddrPortFrom(vip, datagramPort).String())
			if err != nil {
				return err
			}
			conns = append(conns, c)
		}
		return nil
	}))
	d.wg.Go(func() {
		defer func() {
			for _, c := range conns {
				c.Close()
			}
		}()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-d.done:
				return
			case <-tick.C:
			}
			if _, err := conns[i%len(conns)].Write([]byte("tick")); err == nil {
				d.sent.Add(1)
			}
		}
	})
	return d
}

// end waits for what is under way and tells how many were lost.
func (d *datagrams) end() (sent, lost uint64, gap time.Duration) {
	close(d.done)
	d.wg.Wait()
	sent = d.sent.Load()
	for end := time.Now().Add(time.Second); d.arrived.Load() < sent && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
	}
	return sent, sent - min(sent, d.arrived.Load()), time.Duration(d.gap.Load())
}

// lone is a lab in which only the first director ever runs, with a service of
// datagrams beside the one of connections.
func lone(t *testing.T) (*lab, *node) {
	t.Helper()
	l := newLab(t)
	n := l.nodes[0]
	file := filepath.Join(n.dir, "systole.yaml")
	b, err := os.ReadFile(file)
	l.must(err)
	var servers strings.Builder
	for _, s := range l.servers {
		fmt.Fprintf(&servers, "{address: %s}, ", s.Addr.Addr())
	}
	more := fmt.Sprintf("  - virtual: %s:%d\n    protocol: udp\n    check: {type: none}\n    servers: [%s]\ndataplane:", vip, datagramPort, servers.String())
	l.must(os.WriteFile(file, []byte(strings.Replace(string(b), "dataplane:", more, 1)), 0o600))
	l.start(n)
	l.until("the lone director serves", func() bool { return l.settled(n) })
	return l, n
}

// settled: it has decided, and serves with all servers.
func (l *lab) settled(n *node) bool {
	s := n.status()
	if s == nil || s.Takeover.State != "stable" || s.Role != "active" || s.Planes[0].Generation == 0 {
		return false
	}
	for _, svc := range s.Services {
		for _, r := range svc.Servers {
			if !r.InTable || r.Reason != "" {
				return false
			}
		}
	}
	return true
}

// newcomers opens a connection now and then, from a machine of its own that has
// forgotten who has the virtual address: somebody must answer ARP for it. None may
// take half a second, in which a segment that was lost would not be sent again.
// (A machine of its own, because a kernel drops the packet that is just being sent
// to a neighbour as it is forgotten: NEIGH_DEAD of skb:kfree_skb.)
func (l *lab) newcomers(from *netlab.Host, done <-chan struct{}) (connects, failed int) {
	for {
		select {
		case <-done:
			return connects, failed
		case <-time.After(20 * time.Millisecond):
		}
		l.forget(from)
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		c, err := from.DialContext(ctx, "tcp4", netip.AddrPortFrom(vip, 80).String())
		cancel()
		if connects++; err != nil {
			failed++
			continue
		}
		c.Close()
	}
}

// forget removes the virtual address from a client's neighbour table.
func (l *lab) forget(client *netlab.Host) {
	nl := client.Netlink()
	link, err := nl.LinkByName(netlab.NIC)
	if err != nil {
		l.Error(err)
		return
	}
	err = nl.NeighDel(&netlink.Neigh{LinkIndex: link.Attrs().Index, IP: vip.AsSlice()})
	if err != nil && !errors.Is(err, unix.ENOENT) {
		l.Error(err)
	}
}

// The daemon of a director that is alone is killed, or told to restart, and
// started again: nothing is
// lost, neither of what is open nor of what is new, in the time in which it waits
// for its peer, nor when that is over.
func TestLoneDirectorRestarts(t *testing.T) {
	l, n := lone(t)
	open := l.connect(200)
	stream := l.pour()
	done, news := make(chan struct{}), make(chan [2]int, 1)
	newcomer := l.host("newcomer", 2)
	l.must(newcomer.DisableTxChecksum())
	go func() {
		c, f := l.newcomers(newcomer, done)
		news <- [2]int{c, f}
	}()
	how := []syscall.Signal{syscall.SIGKILL, syscall.SIGUSR1, syscall.SIGKILL, syscall.SIGKILL}
	for i, sig := range how {
		l.must(n.proc.Signal(sig))
		<-n.proc.Done()
		time.Sleep(50 * time.Millisecond) // of its absence
		began := time.Now()
		l.start(n)
		l.until("it has decided and serves", func() bool { return l.settled(n) })
		t.Logf("restart %d (%v): owner again after %v; %d datagrams lost so far, or under way", i+1, sig, time.Since(began).Round(time.Millisecond), stream.sent.Load()-stream.arrived.Load())
	}
	time.Sleep(200 * time.Millisecond) // of traffic after the last
	sent, lost, gap := stream.end()
	close(done)
	newcomers := <-news
	cut, again := open.finish()
	t.Logf("%d restarts: %d of %d datagrams lost (longest pause %v), %d of %d new connections failed, %d of %d open ones lost, %d segments sent again",
		len(how), lost, sent, gap.Round(time.Millisecond), newcomers[1], newcomers[0], cut, len(open.conns), again)
	if lost != 0 || newcomers[1] != 0 || cut != 0 || sent < 1000 || newcomers[0] < 100 {
		t.Error("a restart of the only director must not lose anything")
	}
}
