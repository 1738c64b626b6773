package driver

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"systole/hb"
	"systole/hb/media"
	_ "systole/hb/media/ucast"
	"systole/hb/wire"
)

// Two directors on the loopback interface, each on a port of its own, so that
// no namespace is needed.
func TestTwoNodesOnUcast(t *testing.T) {
	const keepalive, deadtime = 20 * time.Millisecond, 500 * time.Millisecond
	var ports [2]uint16
	for i := range ports {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ports[i] = c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		c.Close()
	}
	var nodes [2]*running
	for i, name := range []string{"a", "b"} {
		m, err := media.Open("ucast", media.Spec{
			Interface: "lo", Port: ports[i],
			Peers: []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), ports[1-i])},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Send([]byte("probe")); errors.Is(err, unix.EPERM) && os.Getenv("SYSTOLE_CI") != "1" {
			m.Close()
			t.Skip("missing: SO_BINDTODEVICE without privilege (Linux 5.7)")
		}
		nodes[i] = &running{result: make(chan error, 1), events: make(chan hb.Event, 10000)}
		nodes[i].run(t, Config{
			Core:  newCore(t, name, keepalive, deadtime, m.Name()),
			Media: []media.Medium{m},
			Load:  LoadAverage,
		})
	}
	a, b := nodes[0], nodes[1]
	await[hb.Joined](t, a)
	await[hb.Joined](t, b)
	for range 20 {
		if err := a.Submit(wire.New("hello")); err != nil {
			t.Fatal(err)
		}
		if d := await[hb.Delivered](t, b); d.Node != "a" {
			t.Fatalf("got %v", d)
		}
	}
	a.cancel()
	if err := <-a.result; err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	for {
		d := await[hb.NodeChanged](t, b)
		if d.To != hb.Dead {
			continue
		}
		// Not before the dead time; how long after is up to the machine.
		if got := time.Since(stopped); got < deadtime-2*keepalive || d.Silence < deadtime {
			t.Errorf("dead after %v, silent for %v", got, d.Silence)
		}
		t.Logf("declared dead after %v of silence; MaxLate %v", d.Silence, b.Stats().MaxLate)
		break
	}
	if s := b.cfg.Media[0].Stats(); s.Received == 0 || s.Failed != 0 {
		t.Errorf("%+v", s)
	}
}
