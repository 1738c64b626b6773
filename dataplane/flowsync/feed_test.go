package flowsync

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"systole/dataplane"
	"systole/dataplane/flowsync/wire"
)

var feedGroup = netip.MustParseAddrPort("224.0.0.81:8848")

const udpList = `   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  120: 510000E0:2290 00000000:0000 07 00000000:00000A00 00:00000000 00000000     0        0 0 2 0000000000000000 3
  120: 00000000:2290 00000000:0000 07 00000000:00FF0000 00:00000000 00000000     0        0 9 2 0000000000000000 99
  120: 510000E0:2290 00000000:0000 07 00000000:00000100 00:00000000 00000000     0        0 0 2 0000000000000000 4
`

func TestQueueOf(t *testing.T) {
	queued, drops, err := queueOf([]byte(udpList), feedGroup)
	if queued != 0xa00 || drops != 7 || err != nil {
		t.Errorf("%d bytes wait, %d lost, %v", queued, drops, err)
	}
	for name, tt := range map[string]struct{ text, want string }{
		"no daemon":  {udpList[:strings.Index(udpList, "\n")+1], "no daemon of the kernel has a socket at 224.0.0.81:8848"},
		"queue":      {strings.ReplaceAll(udpList, "00000A00", "xyz"), "/proc/net/udp"},
		"lost":       {strings.ReplaceAll(udpList, " 4\n", " -\n"), "/proc/net/udp"},
		"short line": {" 120: 510000E0:2290\n", "no daemon"},
	} {
		if _, _, err := queueOf([]byte(tt.text), feedGroup); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A message is awaited by the port it comes from; one that does not come is an
// error that says so.
func TestFeedAwaitsItsMessage(t *testing.T) {
	f := Feed{Interface: "lo", Group: netip.MustParseAddrPort("224.0.0.81:8849")}
	echo, err := f.echo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	var ports []int
	for range 2 {
		conn, err := f.dial()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.WriteToUDPAddrPort([]byte("message"), f.Group); err != nil {
			t.Fatal(err)
		}
		ports = append(ports, conn.LocalAddr().(*net.UDPAddr).Port)
	}
	if err := await(echo, ports[1], time.Minute); err != nil {
		t.Error(err)
	}
	if err := await(echo, ports[1], time.Millisecond); err == nil || !strings.Contains(err.Error(), "did not arrive") {
		t.Errorf("a message that was not sent: %v", err)
	}
}

func FuzzQueueOf(f *testing.F) {
	f.Add([]byte(udpList))
	f.Fuzz(func(t *testing.T, text []byte) {
		if queued, drops, err := queueOf(text, feedGroup); err != nil && (queued != 0 || drops != 0) {
			t.Errorf("%d, %d, %v", queued, drops, err)
		}
	})
}

// All flows are sent, in messages that the daemon takes whole; those of two
// families cannot be said.
func TestFeedSends(t *testing.T) {
	const flows = 1000
	var all []dataplane.Flow
	for i := range flows {
		all = append(all, flow(i))
	}
	mixed := flow(flows)
	mixed.Server = netip.MustParseAddr("2001:db8::1")
	six := mixed
	six.Client, six.Service.VIP = netip.MustParseAddrPort("[2001:db8::9]:40000"), netip.MustParseAddr("2001:db8::80")
	all = append(all, mixed, six)
	for _, size := range []int{200, 1472, 32 << 10} {
		var got []wire.Entry
		write := func(msg []byte) error {
			var m wire.Message
			if len(msg) > size {
				t.Errorf("a message of %d bytes, want at most %d", len(msg), size)
			}
			if err := wire.Decode(msg, &m); err != nil || m.SyncID != 7 {
				t.Errorf("sync id %d, %v", m.SyncID, err)
			}
			got = append(got, m.Entries...)
			return nil
		}
		paced := 0
		sent, err := Feed{SyncID: 7, MaxLen: size}.send(t.Context(), write, slices.Values(all), func() error { paced++; return nil }, func(int) {})
		if err != nil || sent != flows+1 || len(got) != sent || paced == 0 {
			t.Fatalf("%d sent, %d arrived, waited %d times, %v", sent, len(got), paced, err)
		}
		for i, e := range got[:flows] {
			if back, ok := fromEntry(&e); !ok || back.Client != all[i].Client || back.Server != all[i].Server || back.State != all[i].State {
				t.Fatalf("flow %d became %+v", i, back)
			}
		}
	}
}

// A feed ends with its time, or when a message cannot be sent.
func TestFeedEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	endless := func(yield func(dataplane.Flow) bool) {
		for yield(flow(1)) {
		}
	}
	write := func([]byte) error { return nil }
	f := Feed{MaxLen: 1472}
	if _, err := f.send(ctx, write, endless, func() error { return nil }, nil); !errors.Is(err, ErrNotTaken) || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	broken := errors.New("no way out")
	if _, err := f.send(t.Context(), func([]byte) error { return broken }, endless, nil, nil); !errors.Is(err, ErrNotTaken) || !errors.Is(err, broken) {
		t.Error(err)
	}
	if _, err := (Feed{Interface: "no-such-nic"}).Send(t.Context(), endless, nil); err == nil || !strings.Contains(err.Error(), "no-such-nic") {
		t.Error(err)
	}
}
