package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"systole/control"
)

// echo answers each byte with itself on port 80, and checks on port 81.
func (p *pair) echo() {
	p.t.Helper()
	for _, s := range p.servers {
		for _, port := range []string{"80", "81"} {
			ln, err := s.Listen("tcp4", "0.0.0.0:"+port)
			p.must(err)
			p.t.Cleanup(func() { ln.Close() })
			go func() {
				for {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					_ = quiet(c) // an error is its end's
					go func() { _, _ = io.Copy(c, c); c.Close() }()
				}
			}()
		}
	}
}

// quiet ends the probes that both ends of an idle connection send each 15 s, and
// after nine without an answer give it up: of 10,000 connections they are 2,700
// packets a second with their answers, which is what an emulated machine can do
// and more.
func quiet(c net.Conn) error { return c.(*net.TCPConn).SetKeepAlive(false) }

// open opens n connections, each of which has carried a byte both ways.
func (p *pair) open(n int) []net.Conn {
	p.t.Helper()
	conns := make([]net.Conn, n)
	for i := range conns {
		ctx, cancel := context.WithTimeout(p.t.Context(), 5*time.Second*slow)
		c, err := p.client.DialContext(ctx, "tcp4", "192.168.145.101:80")
		cancel()
		p.must(err)
		_ = c.(*net.TCPConn).SetLinger(0)
		p.must(quiet(c))
		p.t.Cleanup(func() { c.Close() })
		conns[i] = c
	}
	if lost, first := alive(conns, 1); lost > 0 {
		p.t.Fatalf("%d new connections do not work: %v", lost, first)
	}
	return conns
}

// asked is how many connections are asked at a time. Each has a segment under
// way, and the queues between namespaces are short: 256 places in a veth's ring,
// 1000 in a processor's backlog. Of thousands at once an emulated machine loses
// most before they reach the director, TCP repeats them, ever later, and the last
// ones have not come through when their time is over: nothing of which says
// anything of the director.
const asked = 100

// alive sends a byte on each connection and waits for its echo.
func alive(conns []net.Conn, b byte) (lost int, first error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	turn := make(chan struct{}, asked)
	for _, c := range conns {
		turn <- struct{}{}
		wg.Go(func() {
			defer func() { <-turn }()
			_ = c.SetDeadline(time.Now().Add(10 * time.Second * slow))
			got := [1]byte{}
			_, err := c.Write([]byte{b})
			if err == nil {
				_, err = io.ReadFull(c, got[:])
			}
			if err == nil && got[0] != b {
				err = fmt.Errorf("%d came back as %d", b, got[0])
			}
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				if lost++; first == nil {
					first = err
				}
			}
		})
	}
	wg.Wait()
	return lost, first
}

// inSync waits until a director says that the other has its flows.
func (p *pair) inSync(name string) {
	p.t.Helper()
	p.wait("the peer has "+name+"'s flows", 10*time.Second, func() bool {
		s := p.status(name)
		return s != nil && s.Sync != nil && s.Sync.InSync && s.Sync.Lag == 0
	})
}

// TestConnectionsOutliveTheirDirector kills the active director under 1,000
// open connections, and lets it come back: the failback waits for the flow
// table, and every connection lives on.
func TestConnectionsOutliveTheirDirector(t *testing.T) {
	for mode, how := range map[string]string{
		"multicast": "sync: {}\n",
		"unicast":   "sync: {mode: unicast, peers: {node1: 192.168.145.10, node2: 192.168.145.11}}\n",
	} {
		t.Run(mode, func(t *testing.T) { outlive(t, how) })
	}
}

func outlive(t *testing.T, how string) {
	const connections = 1000
	p := newPair(t, 2, `  - virtual: 192.168.145.101:80
    check: {type: tcp, port: 81, interval: 200ms, timeout: 200ms}
    servers: [{address: 192.168.145.200}, {address: 192.168.145.201}]
`, func(p *pair) {
		p.echo()
		for _, n := range nodes {
			p.replace(n, "metrics:", how+"metrics:")
			p.replace(n, "auto_failback: false", "auto_failback: true")
		}
	})
	p.servable("192.168.145.101:80/tcp", 2)
	p.inSync("node1")
	conns := p.open(connections)
	time.Sleep(100 * time.Millisecond) // what the peer is promised to need
	if s := p.status("node2"); s.Flows < connections || !s.Sync.Complete {
		t.Errorf("100 ms after the last connection the peer has %d flows, want %d: %+v", s.Flows, connections, s.Sync)
	}

	p.must(p.daemons["node1"].proc.Signal(syscall.SIGKILL))
	p.active("node2")
	lost, first := alive(conns, 2)
	t.Logf("kill -9: %d of %d connections lost", lost, connections)
	if lost > 0 {
		t.Errorf("%d of %d connections did not outlive the director: %v", lost, connections, first)
	}
	if s := p.status("node2"); s.Sync == nil || s.Sync.InSync {
		t.Errorf("a dead peer has the flows: %+v", s.Sync)
	}

	// Its flows were pinned; it must not count on them.
	<-p.daemons["node1"].proc.Done()
	p.start("node1")
	p.active("node1")
	lost, first = alive(conns, 3)
	t.Logf("failback: %d of %d connections lost", lost, connections)
	if lost > 0 {
		t.Errorf("%d of %d connections did not outlive the failback: %v", lost, connections, first)
	}
	var there, gave time.Time
	for _, e := range p.status("node2").Events {
		switch e.Text {
		case "the other director has our flow table":
			there = e.At
		case "giving node1 its groups back (auto_failback on)":
			gave = e.At
		}
	}
	if there.IsZero() || gave.Before(there) {
		t.Errorf("groups given back at %v, the flow table was there at %v", gave, there)
	}
	for _, c := range conns {
		if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	}
}

// TestHandedOverConnectionsOutliveTheOldDaemon: without synchronisation the
// director that handed over goes on forwarding what began there. Its daemon may
// crash and be started again, or stand still for longer than the dead time: its
// data plane is not gone for that.
func TestHandedOverConnectionsOutliveTheOldDaemon(t *testing.T) {
	p := newPair(t, 2, `  - virtual: 192.168.145.101:80
    check: {type: tcp, port: 81, interval: 200ms, timeout: 200ms}
    servers: [{address: 192.168.145.200}, {address: 192.168.145.201}]
`, (*pair).echo)
	p.servable("192.168.145.101:80/tcp", 2)
	conns := p.open(100)
	old := p.daemons["node1"]
	if out, err := p.systole("node1", "standby"); err != nil {
		t.Fatalf("standby: %v %s", err, out)
	}
	p.active("node2")
	ask := func(when string) {
		t.Helper()
		if lost, first := alive(conns, 2); lost > 0 {
			t.Errorf("%s: %d of %d connections lost: %v", when, lost, len(conns), first)
		}
	}
	node1 := func(status string) {
		t.Helper()
		p.wait("node1 is "+status, 10*time.Second, func() bool {
			s := p.status("node2")
			return s != nil && slices.ContainsFunc(s.Nodes, func(n control.NodeState) bool { return n.Name == "node1" && n.Status == status })
		})
	}
	ask("after the hand-over")

	p.must(old.proc.Signal(syscall.SIGSTOP))
	node1("dead")
	ask("while the old daemon stands still")
	p.must(old.proc.Signal(syscall.SIGCONT))
	node1("active")
	ask("when it runs again")

	old.proc.Kill()
	node1("dead")
	ask("after it was killed")
	p.start("node1")
	p.backOnStandby("node1")
	ask("when it was started again")
}
