package interop

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"systole/test/netlab"
)

// packet is one that was seen on the wire.
type packet struct {
	at time.Time
	message
}

// capture decodes all heartbeat packets that come in to a host, and notes what
// else ours asks there.
func (p *pair) capture(h *netlab.Host) {
	p.t.Helper()
	const etherIPv4 = 0x0800
	c, err := h.ListenRaw(etherIPv4)
	p.must(err)
	done := make(chan struct{})
	p.t.Cleanup(func() { c.Close(); <-done })
	go func() {
		defer close(done)
		buf := make([]byte, 2048)
		for {
			n, _, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if b := datagram(buf[:n]); b != nil {
				p.saw(h.Name, b)
			}
			if q := question(buf[:n]); q != "" && h.Name == theirs {
				p.mu.Lock()
				p.asked = append(p.asked, q)
				p.mu.Unlock()
			}
		}
	}()
}

// datagram is the payload of a frame to the heartbeat port, nil if it is none.
func datagram(frame []byte) []byte {
	const ether, udp, port = 14, 17, 694
	if len(frame) < ether+20 || frame[ether+9] != udp {
		return nil
	}
	ip := frame[ether:]
	length, head := int(ip[2])<<8|int(ip[3]), int(ip[0]&15)*4
	if length > len(ip) || head+8 > length || int(ip[head+2])<<8|int(ip[head+3]) != port {
		return nil
	}
	return ip[head+8 : length]
}

// question names what a frame from ours asks of a machine, beside its daemon: an
// ICMP echo request, or a TCP connection to the heartbeat port. "" if nothing.
func question(frame []byte) string {
	const ether, icmp, echo, tcp, syn, port = 14, 1, 8, 6, 2, 694
	if len(frame) < ether+20 {
		return ""
	}
	ip := frame[ether:]
	head := int(ip[0]&15) * 4
	a := addrs[ours].As4()
	switch {
	case len(ip) < head+14 || [4]byte(ip[12:16]) != a:
	case ip[9] == icmp && ip[head] == echo:
		return "an ICMP echo request"
	case ip[9] == tcp && ip[head+13] == syn && int(ip[head+2])<<8|int(ip[head+3]) == port:
		return "a TCP connection"
	}
	return ""
}

// question must know what it is to find, or that it finds nothing says nothing.
func TestQuestion(t *testing.T) {
	frame := func(from netip.Addr, proto byte, segment ...byte) []byte {
		a := from.As4()
		ip := append(make([]byte, 14), 0x45, 0, 0, 40, 0, 0, 0, 0, 64, proto, 0, 0)
		return append(append(append(ip, a[:]...), 192, 168, 145, 11), append(segment, make([]byte, 20-len(segment))...)...)
	}
	syn := []byte{0x90, 0, 2, 0xb6, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2}
	ack := append(slices.Clone(syn[:13]), 16)
	for _, tt := range []struct {
		name  string
		frame []byte
		want  string
	}{
		{"echo request", frame(addrs[ours], 1, 8), "an ICMP echo request"},
		{"echo reply", frame(addrs[ours], 1, 0), ""},
		{"of another", frame(addrs[theirs], 1, 8), ""},
		{"SYN", frame(addrs[ours], 6, syn...), "a TCP connection"},
		{"ACK", frame(addrs[ours], 6, ack...), ""},
		{"UDP", frame(addrs[ours], 17, syn...), ""},
		{"short", frame(addrs[ours], 1, 8)[:40], ""},
	} {
		if got := question(tt.frame); got != tt.want {
			t.Errorf("%s: %q", tt.name, got)
		}
	}
}

// saw decodes a packet. In classic form, which only a serial line has, it bears
// the field auth always; else theirs leaves it out if told to.
func (p *pair) saw(to string, b []byte) {
	m, err := decode(b, p.key)
	if err == nil {
		err = m.complete(m.get("src") == ours || !p.setup.netstring || b[0] == '>')
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.bad = append(p.bad, fmt.Sprintf("to %s: %v: %q", to, err, b))
		return
	}
	p.packets = append(p.packets, packet{time.Now(), m})
}

// wire are the packets of a node so far, those of one type if t is given.
func (p *pair) wire(src, t string) []packet {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(p.packets), func(m packet) bool {
		return m.get("src") != src || t != "" && m.get("t") != t
	})
}

// inject sends a packet to a node from the client: nobody looks at the source
// address (heartbeat-wire.md section 1).
func (p *pair) inject(to string, b []byte) {
	p.t.Helper()
	c, err := p.client.DialContext(context.Background(), "udp4", netip.AddrPortFrom(addrs[to], 694).String())
	p.must(err)
	defer c.Close()
	_, err = c.Write(b)
	p.must(err)
}
