package neighbour

import (
	"net"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"systole/test/netlab/selflan"
)

// A cable is cut and plugged, and the switch port forwards only a while after
// the link is there. What counts is when a datagram, as a beat is one, arrives
// after the path is open.
func TestCableCutAndPlugged(t *testing.T) {
	for _, c := range []struct {
		name string
		rush time.Duration
		most time.Duration // zero: for comparison only
	}{
		{"the kernel alone", 0, 0},
		{"with requests of our own", rush, 150 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			// Not multiples of pace, which would flatter.
			for _, deaf := range []time.Duration{10 * time.Millisecond, 160 * time.Millisecond, 430 * time.Millisecond} {
				if took := cutAndPlug(t, c.rush, deaf); c.most != 0 && took > c.most {
					t.Errorf("a port that forwards %v after link-up: a datagram arrives %v after the path is open, want at most %v", deaf, took, c.most)
				} else {
					t.Logf("a port that forwards %v after link-up: a datagram arrives %v after the path is open", deaf, took)
				}
			}
		})
	}
}

// cutAndPlug measures from the moment the path is open until a datagram of the
// director arrives at its peer.
func cutAndPlug(t *testing.T, rush, deaf time.Duration) (took time.Duration) {
	t.Run("", func(t *testing.T) {
		l := selflan.New(t)
		peer := l.Host(t, "port1", "192.168.145.3/24")
		var in *net.UDPConn
		peer.Do(t, func() (err error) {
			in, err = net.ListenUDP("udp4", &net.UDPAddr{Port: 694})
			return err
		})
		defer in.Close()
		w := New(quiet(), nil)
		w.rush = rush
		said := watch(t, w, "192.168.145.3")
		expect(t, said, "192.168.145.3", peer.MAC(t), "")

		port, err := l.Switch.LinkByName("port0")
		must(t, err)
		must(t, l.Switch.LinkSetDown(port))
		awaitCarrier(t, false)
		time.Sleep(300 * time.Millisecond) // the cut
		// Between two isolated ports the switch passes nothing.
		other, err := l.Switch.LinkByName("port1")
		must(t, err)
		must(t, l.Switch.LinkSetIsolated(port, true))
		must(t, l.Switch.LinkSetIsolated(other, true))
		must(t, l.Switch.LinkSetUp(port))
		awaitCarrier(t, true)
		time.Sleep(deaf)
		open := time.Now()
		must(t, l.Switch.LinkSetIsolated(port, false))

		// Not before: what waits in the queue of the neighbour's entry leaves
		// when that is resolved, as the first datagram after the opening does.
		out, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(192, 168, 145, 3), Port: 694})
		must(t, err)
		defer out.Close()
		got := make(chan time.Time, 1)
		go func() {
			if _, err := in.Read(make([]byte, 16)); err == nil {
				got <- time.Now()
			}
		}()
		beat := time.NewTicker(10 * time.Millisecond)
		defer beat.Stop()
		end := time.After(5 * time.Second)
		for {
			_, _ = out.Write([]byte("beat")) // the kernel may say that the last had no way
			select {
			case at := <-got:
				took = at.Sub(open)
				return
			case <-end:
				t.Fatal("no datagram arrives")
			case <-beat.C:
			}
		}
	})
	return took
}

// awaitCarrier waits until the director's interface has, or has lost, its
// carrier in the kernel's eyes.
func awaitCarrier(t *testing.T, up bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		eth0, err := netlink.LinkByName("eth0")
		must(t, err)
		if eth0.Attrs().RawFlags&unix.IFF_RUNNING != 0 == up {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the carrier is not %v", up)
		}
	}
}

func TestCarrierOf(t *testing.T) {
	const live = unix.IFF_UP | unix.IFF_RUNNING
	msg := func(typ uint16, family uint8, flags uint32) netlink.LinkUpdate {
		var u netlink.LinkUpdate
		u.Header.Type, u.Family, u.Index, u.Flags = typ, family, 2, flags
		return u
	}
	for _, c := range []struct {
		name     string
		u        netlink.LinkUpdate
		up, mine bool
	}{
		{"carrier", msg(unix.RTM_NEWLINK, unix.AF_UNSPEC, live), true, true},
		{"no carrier", msg(unix.RTM_NEWLINK, unix.AF_UNSPEC, unix.IFF_UP), false, true},
		{"off", msg(unix.RTM_NEWLINK, unix.AF_UNSPEC, unix.IFF_RUNNING), false, true},
		{"removed", msg(unix.RTM_DELLINK, unix.AF_UNSPEC, live), false, true},
		{"a bridge about its port", msg(unix.RTM_NEWLINK, unix.AF_BRIDGE, live), true, false},
	} {
		if ifindex, up, mine := carrierOf(c.u); ifindex != 2 || mine != c.mine || mine && up != c.up {
			t.Errorf("%s: interface %d, up %v, mine %v", c.name, ifindex, up, mine)
		}
	}
}
