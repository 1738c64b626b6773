package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"

	"systole/test/netlab"
)

// UDPConfig describes a UDP probe.
type UDPConfig struct {
	Host     *netlab.Host
	Target   netip.AddrPort
	Name     string        // the name asked for, "www.a.com"
	Interval time.Duration // default 1 ms
	// Sockets are used in turn; default 16. To a director each is one flow:
	// enough of them to reach every real server, and few enough to look like
	// clients and not like a flood.
	Sockets int
}

// patience is how long after the last question answers are waited for.
const patience = 200 * time.Millisecond

// UDP is a running probe: a DNS question to Target every Interval, each with
// its own id. The sockets are not connected, so an ICMP error does not disturb
// the next question.
type UDP struct {
	start time.Time
	stop  chan struct{}
	wg    sync.WaitGroup // the sender
	rd    sync.WaitGroup // the readers
	conns []net.PacketConn

	mu    sync.Mutex
	shots []Shot
	open  int // questions without an answer yet
}

// StartUDP starts a probe.
func StartUDP(cfg UDPConfig) (*UDP, error) {
	if cfg.Interval == 0 {
		cfg.Interval = time.Millisecond
	}
	if cfg.Sockets == 0 {
		cfg.Sockets = 16
	}
	question, err := new(dns.Msg).SetQuestion(dns.Fqdn(cfg.Name), dns.TypeA).Pack()
	if err != nil {
		return nil, fmt.Errorf("udp probe: question %q: %w", cfg.Name, err)
	}
	u := &UDP{stop: make(chan struct{}), shots: make([]Shot, 0, 1<<14)}
	for range cfg.Sockets {
		pc, err := cfg.Host.ListenPacket("udp4", netip.AddrPortFrom(cfg.Host.Addr.Addr(), 0).String())
		if err != nil {
			u.closeAll()
			return nil, fmt.Errorf("udp probe: %w", err)
		}
		u.conns = append(u.conns, pc)
	}
	u.start = time.Now()
	for _, pc := range u.conns {
		u.rd.Go(func() { u.read(pc) })
	}
	to := net.UDPAddrFromAddrPort(cfg.Target)
	u.wg.Go(func() {
		pace(u.stop, cfg.Interval, func() { u.send(question, to) })
	})
	return u, nil
}

func (u *UDP) send(question []byte, to net.Addr) {
	u.mu.Lock()
	seq := len(u.shots)
	u.shots = append(u.shots, Shot{Sent: time.Since(u.start), Answered: Never})
	u.open++
	u.mu.Unlock()
	question[0], question[1] = byte(seq>>8), byte(seq)
	// A question that cannot be sent (no route while the cable is cut, a full
	// queue) is one without an answer.
	_, _ = u.conns[seq%len(u.conns)].WriteTo(question, to)
}

func (u *UDP) read(pc net.PacketConn) {
	buf := make([]byte, 1500)
	for {
		n, _, err := pc.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || !answers(buf[:n]) {
			continue
		}
		now := time.Since(u.start)
		u.mu.Lock()
		if seq, ok := seqOf(uint16(buf[0])<<8|uint16(buf[1]), len(u.shots)); ok && u.shots[seq].Answered == Never {
			u.shots[seq].Answered = now
			u.open--
		}
		u.mu.Unlock()
	}
}

// answers tells whether a packet is a DNS response without error (RFC 1035,
// 4.1.1: QR set, RCODE 0).
func answers(p []byte) bool { return len(p) >= 12 && p[2]&0x80 != 0 && p[3]&0x0f == 0 }

// Served waits until a question sent after t has been answered.
func (u *UDP) Served(ctx context.Context, t time.Time) error {
	after := t.Sub(u.start)
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	for {
		if u.servedSince(after) {
			return nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("no answer to UDP questions: %w", ctx.Err())
		}
	}
}

func (u *UDP) servedSince(after time.Duration) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := len(u.shots) - 1; i >= 0 && u.shots[i].Sent >= after; i-- {
		if u.shots[i].Answered != Never {
			return true
		}
	}
	return false
}

// Stop ends the probe and returns what it saw. Answers under way are waited
// for, for at most 200 ms.
func (u *UDP) Stop() Series {
	close(u.stop)
	u.wg.Wait()
	end := time.Since(u.start)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		u.mu.Lock()
		open := u.open
		u.mu.Unlock()
		if open == 0 {
			break
		}
	}
	u.closeAll()
	u.rd.Wait()
	return Series{Start: u.start, End: end, Shots: u.shots}
}

func (u *UDP) closeAll() {
	for _, pc := range u.conns {
		pc.Close()
	}
}
