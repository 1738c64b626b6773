package ucast

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"systole/hb/media"
	"systole/hb/media/internal/udp"
	"systole/hb/media/mediatest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOpenRefuses(t *testing.T) {
	peer := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:694")}
	for _, c := range []struct {
		name string
		spec media.Spec
		says string
	}{
		{"no interface", media.Spec{Peers: peer}, "interface name"},
		{"long interface", media.Spec{Interface: "a234567890123456", Peers: peer}, "interface name"},
		{"no peer", media.Spec{Interface: "lo"}, "no peer"},
		{"two families", media.Spec{Interface: "lo", Peers: append(peer, netip.MustParseAddrPort("[2001:db8::1]:694"))}, "ucast lo: peer 2001:db8::1 is of another family"},
		{"two families, IPv6 first", media.Spec{Interface: "lo", Peers: append([]netip.AddrPort{netip.MustParseAddrPort("[2001:db8::1]:694")}, peer...)}, "ucast6 lo: peer 192.0.2.1 is of another family"},
		{"another interface", media.Spec{Interface: "lo", Peers: []netip.AddrPort{netip.MustParseAddrPort("[fe80::1%eth0]:694")}}, "fe80::1%eth0 is an address on interface eth0, not on lo"},
		{"::", media.Spec{Interface: "lo", Peers: []netip.AddrPort{netip.MustParseAddrPort("[::]:694")}}, "one node"},
		{"IPv6 multicast", media.Spec{Interface: "lo", Peers: []netip.AddrPort{netip.MustParseAddrPort("[ff02::694]:694")}}, "one node"},
		{"invalid", media.Spec{Interface: "lo", Peers: make([]netip.AddrPort, 1)}, "a peer has no address"},
		{"second invalid", media.Spec{Interface: "lo", Peers: append(peer, netip.AddrPort{})}, "a peer has no address"},
		{"0.0.0.0", media.Spec{Interface: "lo", Peers: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:694")}}, "one node"},
		{"multicast", media.Spec{Interface: "lo", Peers: []netip.AddrPort{netip.MustParseAddrPort("225.0.0.1:694")}}, "one node"},
		{"broadcast", media.Spec{Interface: "lo", Peers: []netip.AddrPort{netip.MustParseAddrPort("255.255.255.255:694")}}, "one node"},
		{"group", media.Spec{Interface: "lo", Peers: peer, Group: netip.MustParseAddr("225.0.0.1")}, "group means nothing"},
		{"IPv6 twice", media.Spec{Interface: "lo", Peers: []netip.AddrPort{netip.MustParseAddrPort("[fe80::1%lo]:0"), netip.MustParseAddrPort("[fe80::1]:694")}}, "[fe80::1]:694 is there twice"},
		{"twice", media.Spec{Interface: "lo", Peers: append(peer, netip.MustParseAddrPort("[::ffff:192.0.2.1]:0"))}, "192.0.2.1:694 is there twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := media.Open("ucast", c.spec)
			if !errors.Is(err, media.ErrSpec) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %v and %q", err, media.ErrSpec, c.says)
			}
			if m != nil {
				m.Close()
			}
		})
	}
}

// freePorts returns UDP ports that nothing is bound to at present.
func freePorts(t *testing.T, n int) (ports []uint16) {
	t.Helper()
	for range n {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ports = append(ports, c.LocalAddr().(*net.UDPAddr).AddrPort().Port())
	}
	return ports
}

// onLoopback opens a medium that receives on port and sends to 127.0.0.1:to.
func onLoopback(t *testing.T, port, to uint16) *udp.Medium {
	t.Helper()
	return onHost(t, netip.MustParseAddr("127.0.0.1"), port, to)
}

// onHost does the same with another address of the loopback interface.
func onHost(t *testing.T, host netip.Addr, port, to uint16) *udp.Medium {
	t.Helper()
	m, err := media.Open("ucast", media.Spec{Interface: "lo", Port: port, Peers: []netip.AddrPort{netip.AddrPortFrom(host, to)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	if why := m.(*udp.Medium).Err(); why != nil {
		if errors.Is(why, unix.EPERM) {
			mediatest.Missing(t, "SO_BINDTODEVICE without privilege (Linux 5.7)")
		}
		t.Fatal(why)
	}
	return m.(*udp.Medium)
}

func TestExchange(t *testing.T) {
	p := freePorts(t, 2)
	a, b := onLoopback(t, p[0], p[1]), onLoopback(t, p[1], p[0])
	if want := "ucast lo:"; !strings.HasPrefix(a.Name(), want) || a.Name() == b.Name() {
		t.Errorf("names %q and %q, want different ones that begin with %q", a.Name(), b.Name(), want)
	}
	buf := make([]byte, 1500)
	for _, way := range []struct{ from, to *udp.Medium }{{a, b}, {b, a}, {a, b}} {
		want := bytes.Repeat([]byte("beat"), 100)
		if err := way.from.Send(want); err != nil {
			t.Fatal(err)
		}
		n, err := way.to.Receive(buf)
		if err != nil || !bytes.Equal(buf[:n], want) {
			t.Fatalf("got %q, %v", buf[:n], err)
		}
	}
	if got, want := a.Stats(), (media.Stats{Sent: 2, Received: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestSendDoesNotAllocate(t *testing.T) {
	p := freePorts(t, 1)
	m := onLoopback(t, p[0], p[0])
	beat := make([]byte, 300)
	if n := testing.AllocsPerRun(100, func() {
		if err := m.Send(beat); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Section 1: from a port of its own, with low delay.
func TestSourcePortAndTOS(t *testing.T) {
	for _, f := range []struct {
		network, host        string
		level, option, class int
	}{
		{"udp4", "127.0.0.1", unix.IPPROTO_IP, unix.IP_RECVTOS, unix.IP_TOS},
		{"udp6", "::1", unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, unix.IPV6_TCLASS},
	} {
		host := netip.MustParseAddr(f.host)
		c, err := net.ListenUDP(f.network, net.UDPAddrFromAddrPort(netip.AddrPortFrom(host, 0)))
		if err != nil {
			mediatest.Missing(t, "IPv6 on lo")
		}
		defer c.Close()
		rc, err := c.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		rc.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), f.level, f.option, 1) })
		if err != nil {
			t.Fatal(err)
		}
		port := freePorts(t, 1)[0]
		m := onHost(t, host, port, c.LocalAddr().(*net.UDPAddr).AddrPort().Port())
		if err := m.Send([]byte("beat")); err != nil {
			t.Fatal(err)
		}
		buf, oob := make([]byte, 100), make([]byte, 100)
		_, oobn, _, from, err := c.ReadMsgUDPAddrPort(buf, oob)
		if err != nil {
			t.Fatal(err)
		}
		if from.Port() == port || from.Port() == media.DefaultPort {
			t.Errorf("%s: sent from port %d", f.network, from.Port())
		}
		cmsgs, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err != nil || len(cmsgs) != 1 || cmsgs[0].Header.Type != int32(f.class) {
			t.Fatalf("%s: control messages %v, %v", f.network, cmsgs, err)
		}
		if tos := cmsgs[0].Data[0]; tos != 0x10 {
			t.Errorf("%s: TOS %#x, want 0x10", f.network, tos)
		}
	}
}

func TestPeerWithoutDaemonIsNoError(t *testing.T) {
	p := freePorts(t, 2)
	m := onLoopback(t, p[0], p[1])
	for i := range 50 {
		if err := m.Send([]byte("beat")); err != nil {
			t.Fatalf("send %d: %v", i, err)
		}
	}
}

func TestCloseEndsReceive(t *testing.T) {
	p := freePorts(t, 1)
	m := onLoopback(t, p[0], p[0])
	result := make(chan error)
	go func() {
		buf := make([]byte, 100)
		for {
			_, err := m.Receive(buf)
			if err != nil {
				result <- err
				return
			}
			m.Close() // it does read by now
		}
	}()
	if err := m.Send([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := <-result; err != media.ErrClosed {
		t.Errorf("Receive: %v", err)
	}
	if err := m.Send(nil); err != media.ErrClosed {
		t.Errorf("Send: %v", err)
	}
	if err := m.Close(); err != media.ErrClosed {
		t.Errorf("Close: %v", err)
	}
}

// What Receive waits for, a packet or the next attempt, ends with Close.
func TestCloseEndsWaiting(t *testing.T) {
	p := freePorts(t, 2)
	for name, m := range map[string]media.Medium{
		"packet":    onLoopback(t, p[0], p[1]),
		"interface": absent(t),
	} {
		done := make(chan error)
		go func() {
			for {
				if _, err := m.Receive(make([]byte, 10)); err == media.ErrClosed {
					done <- err
					return
				}
			}
		}()
		time.Sleep(20 * time.Millisecond) // likely, but not needed: it waits by now
		m.Close()
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			t.Fatalf("%s: Receive does not return", name)
		}
	}
}

func absent(t *testing.T) media.Medium {
	t.Helper()
	m, err := media.Open("ucast", media.Spec{Interface: "absent0", Peers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:694")}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func TestAbsentInterface(t *testing.T) {
	m := absent(t)
	const want = "ucast absent0: interface absent0 does not exist"
	if m.Name() != "ucast absent0" {
		t.Errorf("name %q", m.Name())
	}
	if err := m.Send([]byte("x")); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("Send: %v, want %s", err, want)
	}
	if _, err := m.Receive(make([]byte, 10)); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("Receive: %v, want %s", err, want)
	}
	if got := m.Stats(); got != (media.Stats{Failed: 1}) {
		t.Errorf("got %+v", got)
	}
}

func BenchmarkSend(b *testing.B) {
	m, err := media.Open("ucast", media.Spec{Interface: "lo", Port: 47694, Peers: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:47694")}})
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	beat := make([]byte, 300)
	b.ReportAllocs()
	for b.Loop() {
		if err := m.Send(beat); err != nil {
			b.Fatal(err)
		}
	}
}
