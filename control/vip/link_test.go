package vip

import (
	"errors"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

func TestLinks(t *testing.T) {
	m1, m2 := net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}
	base := link{"eth0", true, m1}
	for _, c := range []struct {
		name     string
		before   *link
		now      link
		announce string
		stale    []string
	}{
		{"nothing changed", &base, base, "", nil},
		{"carrier lost", &base, link{"eth0", false, m1}, "", nil},
		{"link up", &link{"eth0", false, m1}, base, "eth0", nil},
		{"still down", &link{"eth0", false, m1}, link{"eth0", false, m1}, "", nil},
		{"new MAC", &base, link{"eth0", true, m2}, "eth0", []string{"eth0"}},
		{"new MAC while down", &link{"eth0", false, m1}, link{"eth0", false, m2}, "", []string{"eth0"}},
		{"made anew", nil, base, "eth0", []string{"eth0"}},
		{"made anew, down", nil, link{"eth0", false, m1}, "", []string{"eth0"}},
		{"renamed", &link{"eth9", true, m1}, base, "", []string{"eth9", "eth0"}},
	} {
		l := links{}
		if c.before != nil {
			l[3] = *c.before
		}
		got := l.set(3, c.now)
		if got.announce != c.announce || !slices.Equal(got.stale, c.stale) {
			t.Errorf("%s: announce %q, stale %v; want %q, %v", c.name, got.announce, got.stale, c.announce, c.stale)
		}
		if (got.why != "") != (got.announce != "") {
			t.Errorf("%s: announces %q because %q", c.name, got.announce, got.why)
		}
	}
}

func TestLinkRemoved(t *testing.T) {
	l := links{3: {"eth0", true, nil}}
	if got := l.remove(3); !slices.Equal(got.stale, []string{"eth0"}) || got.why != "" {
		t.Errorf("got %+v", got)
	}
	if got := l.remove(3); len(got.stale) != 0 {
		t.Errorf("unknown interface: %+v", got)
	}
}

// message is a link message about eth0, number 3.
func message(typ uint16, family uint8, flags uint32) netlink.LinkUpdate {
	u := netlink.LinkUpdate{Link: &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "eth0", RawFlags: flags}}}
	u.Header.Type = typ
	u.IfInfomsg = nl.IfInfomsg{IfInfomsg: unix.IfInfomsg{Family: family, Index: 3}}
	return u
}

// Messages are followed; when some were lost everything is announced again,
// since a link-up may have been among them, and they are followed anew.
func TestLinkWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := newSubscription(), newSubscription()
		subs := []*subscription{first, nil, second} // the second attempt fails
		overrun := make(chan struct{})
		subscribe := func() (s *subscription, err error) {
			s, subs = subs[0], subs[1:]
			if s == nil {
				return nil, errors.New("no memory")
			}
			s.links[3] = link{name: "eth0"}
			go func() { // as the library does
				select {
				case <-s.stop:
				case <-overrun:
				}
				close(s.updates)
			}()
			return s, nil
		}
		heard := make(chan change, 10)
		w, err := watchLinks(quiet(), subscribe, func(c change) { heard <- c })
		must(t, err)
		const up = unix.IFF_UP | unix.IFF_RUNNING
		for _, step := range []struct {
			name string
			do   func()
			want []string
		}{
			{"still down", func() { first.updates <- message(unix.RTM_NEWLINK, unix.AF_UNSPEC, unix.IFF_UP) }, nil},
			{"a bridge's message", func() { first.updates <- message(unix.RTM_NEWLINK, unix.AF_BRIDGE, up) }, nil},
			{"up", func() { first.updates <- message(unix.RTM_NEWLINK, unix.AF_UNSPEC, up) }, []string{"eth0: link up"}},
			{"still up", func() { first.updates <- message(unix.RTM_NEWLINK, unix.AF_UNSPEC, up) }, nil},
			{"messages lost", func() { overrun <- struct{}{}; time.Sleep(time.Second) }, []string{": link messages were lost"}},
			{"up, heard by the next", func() { second.updates <- message(unix.RTM_NEWLINK, unix.AF_UNSPEC, up) }, []string{"eth0: link up"}},
			{"removed", func() { second.updates <- message(unix.RTM_DELLINK, unix.AF_UNSPEC, 0) }, []string{": "}},
		} {
			step.do()
			synctest.Wait()
			if got := reasons(heard); !slices.Equal(got, step.want) {
				t.Errorf("%s: %q, want %q", step.name, got, step.want)
			}
		}
		w.close()
	})
}

func reasons(heard <-chan change) []string {
	var out []string
	for {
		select {
		case c := <-heard:
			out = append(out, c.announce+": "+c.why)
		default:
			return out
		}
	}
}
