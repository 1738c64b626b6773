package flowsync

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"golang.org/x/net/ipv4"

	"systole/dataplane"
	"systole/dataplane/flowsync/wire"
)

// ErrNotTaken is a Feed's error if the kernel has not taken all it was sent.
var ErrNotTaken = errors.New("the kernel's backup daemon did not take all flows")

// Feed hands flows to a backup daemon of this machine's own kernel, by
// multicast that does not leave the machine. It belongs to the network
// namespace of the thread that calls Send.
type Feed struct {
	Interface string         // the daemon's; lo serves
	Group     netip.AddrPort // the daemon's, IPv4
	SyncID    uint8
	MaxLen    int // the longest message the daemon takes, bytes
}

const (
	feedQueue  = 64 << 10 // bytes that may wait in the daemon's socket, which holds 208 KiB by default
	feedLooks  = time.Millisecond
	feedReport = time.Second
	feedEcho   = 5 * time.Second // for a message to arrive
)

// Send sends flows and returns when the daemon has taken them from its socket,
// or ctx ends. Flows that no message can say (two families) are left out.
// progress is called about once a second with the number sent so far. If the
// daemon's socket was too small, the flows are sent once more, one message at
// a time; sent counts those of the last round.
func (f Feed) Send(ctx context.Context, flows iter.Seq[dataplane.Flow], progress func(sent int)) (sent int, err error) {
	conn, err := f.dial()
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	echo, err := f.echo(ctx)
	if err != nil {
		return 0, err
	}
	if echo != nil {
		defer echo.Close()
	}
	list, err := os.Open("/proc/thread-self/net/udp")
	if err != nil {
		return 0, fmt.Errorf("the sockets of the kernel's daemon: %w", err)
	}
	defer list.Close()
	look := func() (queued, drops int, err error) {
		if _, err := list.Seek(0, io.SeekStart); err != nil {
			return 0, 0, err
		}
		text, err := io.ReadAll(list)
		if err != nil {
			return 0, 0, fmt.Errorf("the sockets of the kernel's daemon: %w", err)
		}
		return queueOf(text, f.Group)
	}
	for _, room := range []int{feedQueue, 0} {
		_, before, err := look()
		if err != nil {
			return 0, err
		}
		// wait until at most so many bytes are left to be taken.
		wait := func(room int) error {
			for {
				queued, _, err := look()
				if err != nil || queued <= room {
					return err
				}
				select {
				case <-ctx.Done():
					return fmt.Errorf("%w: %d sent: %w", ErrNotTaken, sent, ctx.Err())
				case <-time.After(feedLooks):
				}
			}
		}
		write := func(msg []byte) error {
			if _, err := conn.WriteToUDPAddrPort(msg, f.Group); err != nil || echo == nil {
				return err
			}
			return await(echo, conn.LocalAddr().(*net.UDPAddr).Port, feedEcho)
		}
		if sent, err = f.send(ctx, write, flows, func() error { return wait(room) }, progress); err == nil {
			err = wait(0)
		}
		if err != nil {
			return sent, err
		}
		_, after, err := look()
		if err != nil || after == before {
			return sent, err
		}
	}
	return sent, fmt.Errorf("%w: its socket has no room (sysctl net.ipv4.vs.sync_sock_size)", ErrNotTaken)
}

// send sends all flows once; paced returns when the next message may follow.
func (f Feed) send(ctx context.Context, write func([]byte) error, flows iter.Seq[dataplane.Flow], paced func() error, progress func(int)) (sent int, err error) {
	msg := wire.Begin(make([]byte, 0, f.MaxLen), f.SyncID)
	reported := time.Now()
	flush := func() error {
		n := wire.Count(msg)
		if n == 0 {
			return nil
		}
		if err := write(wire.Finish(msg, nil)); err != nil {
			return fmt.Errorf("%w: %d sent: %w", ErrNotTaken, sent, err)
		}
		sent += n
		msg = wire.Begin(msg, f.SyncID)
		if time.Since(reported) >= feedReport {
			reported = time.Now()
			progress(sent)
		}
		return paced()
	}
	for flow := range flows {
		if err := ctx.Err(); err != nil {
			return sent, fmt.Errorf("%w: %d sent: %w", ErrNotTaken, sent, err)
		}
		e, ok := toEntry(flow)
		if !ok {
			continue
		}
		if wire.Count(msg) == wire.MaxEntries || len(msg)+wire.EntrySize6 > f.MaxLen {
			if err := flush(); err != nil {
				return sent, err
			}
		}
		msg = wire.AppendEntry(msg, &e)
	}
	return sent, flush()
}

// echo is a socket that gets what the daemon's gets, at the same moment. A message
// that was sent may still be on its way to both when the queue of the daemon's
// socket is empty: the kernel puts off what it has no time for. Only a daemon of
// the loopback interface, which is stopped after it, has one; on another interface
// it could be given what another director sends to us. Nil: none.
func (f Feed) echo(ctx context.Context) (*net.UDPConn, error) {
	ifi, err := net.InterfaceByName(f.Interface)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", f.Interface, err)
	}
	if ifi.Flags&net.FlagLoopback == 0 {
		return nil, nil
	}
	conn, err := listen(ctx, f.Interface, false, f.Group.Port())
	if err != nil {
		return nil, fmt.Errorf("hearing what the kernel's daemon hears: %w", err)
	}
	if err := join(conn, ifi, f.Group.Addr(), 0); err != nil {
		conn.Close()
		return nil, fmt.Errorf("group %s on %s: %w", f.Group.Addr(), f.Interface, err)
	}
	return conn, nil
}

// await returns when a message from one of our ports has arrived.
func await(echo *net.UDPConn, from int, patience time.Duration) error {
	if err := echo.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	var start [1]byte
	for {
		_, src, err := echo.ReadFromUDPAddrPort(start[:])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("a message did not arrive within %v: does a packet filter leave multicast alone?", patience)
		}
		if err != nil || int(src.Port()) == from {
			return err
		}
	}
}

// dial is a socket whose messages reach the daemon and stay on this machine.
func (f Feed) dial() (*net.UDPConn, error) {
	ifi, err := net.InterfaceByName(f.Interface)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", f.Interface, err)
	}
	local := &net.UDPAddr{}
	ttl := 0 // looped back, and not sent
	if ifi.Flags&net.FlagLoopback != 0 {
		local.IP, ttl = net.IPv4(127, 0, 0, 1), 1
	}
	open, err := net.ListenUDP("udp4", local)
	if err != nil {
		return nil, fmt.Errorf("socket to the kernel's daemon: %w", err)
	}
	p := ipv4.NewPacketConn(open)
	for _, err := range []error{p.SetMulticastInterface(ifi), p.SetMulticastLoopback(true), p.SetMulticastTTL(ttl)} {
		if err != nil {
			open.Close()
			return nil, fmt.Errorf("multicast on %s: %w", f.Interface, err)
		}
	}
	return open, nil
}

// queueOf finds the sockets bound to an address in /proc/net/udp: how many
// bytes wait in the fullest, and how many datagrams they have lost.
func queueOf(text []byte, at netip.AddrPort) (queued, drops int, err error) {
	// The address is a word in the machine's byte order.
	raw := at.Addr().As4()
	want := fmt.Appendf(nil, "%08X:%04X", binary.NativeEndian.Uint32(raw[:]), at.Port())
	found := false
	for line := range bytes.Lines(text) {
		w := bytes.Fields(line)
		if len(w) < 13 || !bytes.Equal(w[1], want) {
			continue
		}
		_, rx, _ := bytes.Cut(w[4], []byte(":"))
		n, err := strconv.ParseInt(string(rx), 16, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("/proc/net/udp: %q: %w", line, err)
		}
		d, err := strconv.Atoi(string(w[12]))
		if err != nil {
			return 0, 0, fmt.Errorf("/proc/net/udp: %q: %w", line, err)
		}
		queued, drops, found = max(queued, int(n)), drops+d, true
	}
	if !found {
		return 0, 0, fmt.Errorf("no daemon of the kernel has a socket at %s", at)
	}
	return queued, drops, nil
}
