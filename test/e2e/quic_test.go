package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"systole/test/netlab"
)

// quicServer stands in for a server of QUIC: an Initial makes a connection and
// is answered with its ID, which has the server's in it; a packet with a short
// header is answered with its number if its connection is known, and else not
// at all.
type quicServer struct {
	id    []byte
	mu    sync.Mutex
	conns map[string]bool
}

const quicIDLength = 8 // of all connection IDs: first byte, server ID of two, nonce

func (p *pair) quicServer(h *netlab.Host, id []byte) *quicServer {
	p.t.Helper()
	pc, err := h.ListenPacket("udp4", "192.168.145.101:443")
	p.must(err)
	p.t.Cleanup(func() { pc.Close() })
	s := &quicServer{id: id, conns: map[string]bool{}}
	go func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			if out := s.answer(buf[:n]); out != nil {
				_, _ = pc.WriteTo(out, from)
			}
		}
	}()
	return s
}

func (s *quicServer) answer(in []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case in[0]&0x80 != 0:
		cid := append([]byte{byte(rand.IntN(0xe0))}, s.id...) // any but the configuration 7
		cid = append(cid, random(quicIDLength-len(cid))...)
		s.conns[string(cid)] = true
		return cid
	case s.conns[string(in[1:1+quicIDLength])]:
		return in[1+quicIDLength:]
	}
	return nil
}

// quicConn is a client's connection, at one socket or another.
type quicConn struct {
	pc   net.PacketConn
	cid  []byte
	sent uint64
}

var quicService = &net.UDPAddr{IP: net.IPv4(192, 168, 145, 101), Port: 443}

func (p *pair) socket() net.PacketConn {
	p.t.Helper()
	pc, err := p.client.ListenPacket("udp4", "192.168.145.1:0")
	p.must(err)
	p.t.Cleanup(func() { pc.Close() })
	return pc
}

// ask sends a packet until it is answered: UDP may lose one.
func (c *quicConn) ask(packet []byte, tries int) ([]byte, error) {
	buf := make([]byte, 2048)
	for range tries {
		if _, err := c.pc.WriteTo(packet, quicService); err != nil {
			return nil, err
		}
		_ = c.pc.SetReadDeadline(time.Now().Add(200 * time.Millisecond * slow))
		n, _, err := c.pc.ReadFrom(buf)
		if err == nil {
			return buf[:n], nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("no answer to %d packets", tries)
}

func (c *quicConn) open() (err error) {
	// An Initial of version 1 with an ID of the client's choice.
	packet := append([]byte{0xc0, 0, 0, 0, 1, 8}, random(1200)...)
	c.cid, err = c.ask(packet, 5)
	return err
}

func random(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

func (c *quicConn) ping(tries int) error {
	c.sent++
	data := fmt.Appendf(nil, "%020d", c.sent)
	packet := append(append([]byte{0x40}, c.cid...), data...)
	for {
		got, err := c.ask(packet, tries)
		if err != nil || bytes.Equal(got, data) {
			return err
		}
		// An answer to one that was sent again.
	}
}

// pingAll pings on all connections at once; it returns how many are lost.
func pingAll(conns []*quicConn, tries int) (lost int) {
	errs := make([]error, len(conns))
	var wg sync.WaitGroup
	for i, c := range conns {
		wg.Go(func() { errs[i] = c.ping(tries) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			lost++
		}
	}
	return lost
}

// TestQUICConnectionsKeepTheirServer moves clients to other ports, as a NAT does
// that forgets, and then kills the director: without its flows the other one
// finds the server of each connection, by its ID.
func TestQUICConnectionsKeepTheirServer(t *testing.T) {
	const connections = 60
	service := func(quic bool) string {
		out, id := "  - virtual: 192.168.145.101:443\n    protocol: udp\n    check: {type: none}\n", func(int) string { return "" }
		if quic {
			out += "    quic: {server_id_length: 2}\n"
			id = func(i int) string { return fmt.Sprintf(", server_id: 0a0%d", i) }
		}
		out += "    servers:\n"
		for i := range 3 {
			out += fmt.Sprintf("      - {address: 192.168.145.%d%s}\n", 200+i, id(i))
		}
		return out
	}
	p := newPair(t, 3, service(true))
	for i, h := range p.servers {
		p.quicServer(h, []byte{0x0a, byte(i)})
	}
	const name = "192.168.145.101:443/udp"
	p.servable(name, 3)
	conns := make([]*quicConn, connections)
	move := func() {
		for _, c := range conns {
			c.pc = p.socket()
		}
	}
	used := map[byte]int{}
	for i := range conns {
		conns[i] = &quicConn{pc: p.socket()}
		p.must(conns[i].open())
		used[conns[i].cid[2]]++
	}
	if used[0] != connections/3 || used[1] != connections/3 || used[2] != connections/3 {
		t.Errorf("connections by server: %v", used)
	}
	if lost := pingAll(conns, 5); lost > 0 {
		t.Errorf("%d of %d connections were lost where they began", lost, connections)
	}

	w := p.watch("node1", "trace", "192.168.145.1")
	for range 3 {
		move()
		if lost := pingAll(conns, 5); lost > 0 {
			t.Errorf("%d of %d connections were lost at other ports", lost, connections)
		}
	}
	p.wait("a packet in the trace", 5*time.Second, func() bool {
		return strings.Contains(w.out.String(), "quic_kept (forwarded by the connection's ID")
	})
	p.stop(w)
	if s := p.status("node1"); s.Reasons["quic_kept"] < 3*connections || s.Reasons["quic_unknown"] != 0 {
		t.Errorf("reasons %v", s.Reasons)
	}

	p.must(p.daemons["node1"].proc.Signal(syscall.SIGKILL))
	p.active("node2")
	if lost := pingAll(conns, 20); lost > 0 {
		t.Errorf("%d of %d connections did not outlive their director", lost, connections)
	}

	// Without IDs most of them get another server: the test can fail.
	p.write("node2", service(false))
	if out, err := p.systole("node2", "reload"); err != nil {
		t.Fatalf("reload: %v: %s", err, out)
	}
	p.wait("a generation without IDs", 5*time.Second, func() bool {
		s := p.status("node2")
		return s != nil && s.Services[0].ServerIDLength == 0
	})
	move()
	rand.Shuffle(len(conns), func(i, j int) { conns[i], conns[j] = conns[j], conns[i] })
	if lost := pingAll(conns, 2); lost < connections/3 {
		t.Errorf("without IDs %d of %d connections were lost, so what kept them before?", lost, connections)
	}
}
