package udp

import (
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"systole/hb/media"
	"systole/hb/media/mediatest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// to is a medium that sends to one address.
func to(device, addr string) Config {
	dest := []netip.AddrPort{netip.MustParseAddrPort(addr)}
	return Config{Kind: "ucast", Device: device, Port: media.DefaultPort, To: func(int) ([]netip.AddrPort, error) { return dest, nil }}
}

// Packets for a neighbour that does not answer ARP stay in the socket's
// account: when it is used up, Send must not wait for room.
func TestFullSocketDropsInsteadOfWaiting(t *testing.T) {
	if !mediatest.OwnNetns(t) {
		return
	}
	mediatest.Cable(t, "hb0", "192.0.2.1/24", "hb1")
	mediatest.SetUp(t, "hb0")
	m, err := Open(to("hb0", "192.0.2.2:694"))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	s, err := m.conn.Get()
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptInt(s.out, unix.SOL_SOCKET, unix.SO_SNDBUF, 8192); err != nil {
		t.Fatal(err)
	}
	const n = 200
	packet, start := make([]byte, 1400), time.Now()
	for range n {
		if err := m.Send(packet); err != nil {
			t.Fatal(err)
		}
	}
	// ARP is given up after 3 s; who waits for room waits that long.
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("took %v", d)
	}
	if s := m.Stats(); s.Dropped == 0 || s.Sent == 0 || s.Sent+s.Dropped != n {
		t.Errorf("got %+v of %d packets", s, n)
	}
}
