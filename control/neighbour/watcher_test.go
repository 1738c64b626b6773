package neighbour

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"systole/test/netlab/selflan"
)

// watch runs a watcher in the director's namespace and delivers what it says.
func watch(t *testing.T, w *Watcher, addrs ...string) <-chan Update {
	t.Helper()
	said := make(chan Update, 100)
	w.report = func(u Update) { said <- u }
	follow(w, addrs...)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return said
}

func follow(w *Watcher, addrs ...string) {
	var list []netip.Addr
	for _, a := range addrs {
		list = append(list, netip.MustParseAddr(a))
	}
	w.Set(list)
}

// expect waits for the next update; why is part of its reason.
func expect(t *testing.T, said <-chan Update, addr string, mac net.HardwareAddr, why string) {
	t.Helper()
	select {
	case u := <-said:
		if u.Addr.String() != addr || !bytes.Equal(u.MAC, mac) || !strings.Contains(u.Why, why) || (why == "") != (u.Why == "") {
			t.Fatalf("said %+v, want %s %v %q", u, addr, mac, why)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("said nothing, want %s %v %q", addr, mac, why)
	}
}

func TestMain(m *testing.M) { selflan.Main(m) }

var must = selflan.Must

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// here sets a sysctl of the director's namespace.
func here(t *testing.T, path, value string) {
	t.Helper()
	must(t, os.WriteFile("/proc/sys/"+path, []byte(value), 0))
}

// hasty makes the director's kernel ask ten times as often.
func hasty(t *testing.T) {
	here(t, "net/ipv4/neigh/eth0/retrans_time_ms", "100")
	here(t, "net/ipv4/neigh/eth0/delay_first_probe_time", "0")
}

func setMAC(t *testing.T, h *selflan.Host, mac net.HardwareAddr) {
	t.Helper()
	must(t, h.LinkSetHardwareAddr(h.Eth0(t), mac))
}

func TestLearn(t *testing.T) {
	l := selflan.New(t)
	hasty(t)
	server := l.Host(t, "port1", "192.168.145.11/24")
	w := New(quiet(), nil)
	t0 := time.Now()
	said := watch(t, w, "192.168.145.11")
	expect(t, said, "192.168.145.11", server.MAC(t), "")
	t.Logf("learnt after %v", time.Since(t0))

	// One nobody has, until somebody has it.
	follow(w, "192.168.145.11", "192.168.145.12")
	t0 = time.Now()
	expect(t, said, "192.168.145.12", nil, "no answer to ARP on eth0")
	t.Logf("no answer after %v", time.Since(t0))
	late := l.Host(t, "port2", "192.168.145.12/24")
	t0 = time.Now()
	expect(t, said, "192.168.145.12", late.MAC(t), "")
	t.Logf("a late one learnt after %v", time.Since(t0))
}

// A second watcher finds the kernel's entry made: no message comes for it.
func TestLearnWhatTheKernelKnows(t *testing.T) {
	l := selflan.New(t)
	server := l.Host(t, "port1", "192.168.145.11/24")
	for range 2 {
		expect(t, watch(t, New(quiet(), nil), "192.168.145.11"), "192.168.145.11", server.MAC(t), "")
	}
}

func TestReasons(t *testing.T) {
	selflan.New(t)
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	must(t, netlink.LinkSetUp(lo))
	w := New(quiet(), nil)
	said := watch(t, w, "10.9.8.7")
	expect(t, said, "10.9.8.7", nil, "no route")
	must(t, netlink.RouteAdd(&netlink.Route{Gw: net.IPv4(192, 168, 145, 1)}))
	expect(t, said, "10.9.8.7", nil, "no answer of the router 192.168.145.1 on eth0")
	for _, c := range []struct{ addr, why string }{
		{"192.168.145.2", "is this host"},
		{"127.0.0.1", "is this host"},
		{"192.168.145.255", "not the address of a host"},
		{"2001:db8::11", "no route"},
	} {
		follow(w, c.addr)
		expect(t, said, c.addr, nil, c.why)
	}
}

// A server that changes its MAC address and says so.
func TestGratuitousARP(t *testing.T) {
	l := selflan.New(t)
	server := l.Host(t, "port1", "192.168.145.11/24")
	said := watch(t, New(quiet(), nil), "192.168.145.11")
	expect(t, said, "192.168.145.11", server.MAC(t), "")
	here(t, "net/ipv4/neigh/eth0/locktime", "0")
	server.Sysctl(t, "net/ipv4/conf/eth0/arp_notify", "1")
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 0xbb}
	t0 := time.Now()
	setMAC(t, server, mac)
	expect(t, said, "192.168.145.11", mac, "")
	t.Logf("learnt after %v", time.Since(t0))
}

// A server whose NIC was replaced and who says nothing: the kernel asks the
// old address in vain, which must not make it unknown in between.
func TestSilentChange(t *testing.T) {
	l := selflan.New(t)
	hasty(t)
	server := l.Host(t, "port1", "192.168.145.11/24")
	w := New(quiet(), nil)
	w.refresh = 100 * time.Millisecond
	said := watch(t, w, "192.168.145.11")
	old := server.MAC(t)
	expect(t, said, "192.168.145.11", old, "")
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 0xcc}
	setMAC(t, server, mac)
	// Reachable for half a minute: make it stale now.
	eth0, err := netlink.LinkByName("eth0")
	must(t, err)
	must(t, netlink.NeighSet(&netlink.Neigh{
		LinkIndex: eth0.Attrs().Index, State: netlink.NUD_STALE, IP: net.IPv4(192, 168, 145, 11), HardwareAddr: old,
	}))
	expect(t, said, "192.168.145.11", mac, "")
}

// The entry is removed, as garbage collection or an operator does: nothing is
// said, and it is asked for again.
func TestRemovedEntry(t *testing.T) {
	l := selflan.New(t)
	server := l.Host(t, "port1", "192.168.145.11/24")
	said := watch(t, New(quiet(), nil), "192.168.145.11")
	expect(t, said, "192.168.145.11", server.MAC(t), "")
	eth0, err := netlink.LinkByName("eth0")
	must(t, err)
	must(t, netlink.NeighDel(&netlink.Neigh{LinkIndex: eth0.Attrs().Index, IP: net.IPv4(192, 168, 145, 11)}))
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		all, err := netlink.NeighList(eth0.Attrs().Index, netlink.FAMILY_V4)
		must(t, err)
		if len(all) > 0 && all[0].HardwareAddr != nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("not asked for again")
		}
	}
	select {
	case u := <-said:
		t.Errorf("said %+v", u)
	default:
	}
}

func TestServerDies(t *testing.T) {
	l := selflan.New(t)
	hasty(t)
	server := l.Host(t, "port1", "192.168.145.11/24")
	said := watch(t, New(quiet(), nil), "192.168.145.11")
	expect(t, said, "192.168.145.11", server.MAC(t), "")
	must(t, server.LinkSetDown(server.Eth0(t)))
	eth0, err := netlink.LinkByName("eth0")
	must(t, err)
	must(t, netlink.NeighDel(&netlink.Neigh{LinkIndex: eth0.Attrs().Index, IP: net.IPv4(192, 168, 145, 11)}))
	expect(t, said, "192.168.145.11", nil, "no answer to ARP on eth0")
}

// The interface goes down and comes back: the routes go, then the network is
// there again.
func TestInterfaceDown(t *testing.T) {
	l := selflan.New(t)
	server := l.Host(t, "port1", "192.168.145.11/24")
	said := watch(t, New(quiet(), nil), "192.168.145.11")
	expect(t, said, "192.168.145.11", server.MAC(t), "")
	eth0, err := netlink.LinkByName("eth0")
	must(t, err)
	must(t, netlink.LinkSetDown(eth0))
	expect(t, said, "192.168.145.11", nil, "no route")
	must(t, netlink.LinkSetUp(eth0))
	expect(t, said, "192.168.145.11", server.MAC(t), "")
}

// The first subscription hears nothing and overruns; what happened meanwhile
// must come out of the listing of the second.
func TestOverrun(t *testing.T) {
	l := selflan.New(t)
	server := l.Host(t, "port1", "192.168.145.11/24")
	for name, overrun := range map[string]func(*subscription){
		"neighbours closed": func(s *subscription) { close(s.updates); <-s.stop; close(s.links) },
		"links closed":      func(s *subscription) { close(s.links); <-s.stop; close(s.updates) },
		"broken":            func(s *subscription) { s.broken <- struct{}{}; <-s.stop; close(s.updates); close(s.links) },
	} {
		t.Run(name, func(t *testing.T) {
			w := New(quiet(), nil)
			var count atomic.Int32
			w.subscribe = func() (*subscription, error) {
				switch count.Add(1) {
				case 1:
					s := newSubscription()
					go overrun(s)
					return s, nil
				case 2:
					return nil, unix.ENOBUFS
				}
				return subscribe()
			}
			expect(t, watch(t, w, "192.168.145.11"), "192.168.145.11", server.MAC(t), "")
			if n := count.Load(); n != 3 {
				t.Errorf("%d subscriptions, want 3", n)
			}
		})
	}
}

func TestEventOf(t *testing.T) {
	ip := net.IPv4(192, 168, 145, 11)
	msg := func(typ uint16, family, state int) netlink.NeighUpdate {
		return netlink.NeighUpdate{Type: typ, Neigh: netlink.Neigh{LinkIndex: 2, Family: family, State: state, IP: ip, HardwareAddr: macA}}
	}
	for _, c := range []struct {
		name string
		u    netlink.NeighUpdate
		want fate
		mine bool
	}{
		{"reachable", msg(unix.RTM_NEWNEIGH, unix.AF_INET, netlink.NUD_REACHABLE), resolved, true},
		{"stale", msg(unix.RTM_NEWNEIGH, unix.AF_INET, netlink.NUD_STALE), resolved, true},
		{"delay", msg(unix.RTM_NEWNEIGH, unix.AF_INET, netlink.NUD_DELAY), resolved, true},
		{"probe", msg(unix.RTM_NEWNEIGH, unix.AF_INET, netlink.NUD_PROBE), resolved, true},
		{"permanent", msg(unix.RTM_NEWNEIGH, unix.AF_INET, netlink.NUD_PERMANENT), resolved, true},
		{"incomplete", msg(unix.RTM_NEWNEIGH, unix.AF_INET, netlink.NUD_INCOMPLETE), resolving, true},
		{"none", msg(unix.RTM_NEWNEIGH, unix.AF_INET, netlink.NUD_NONE), resolving, true},
		{"failed", msg(unix.RTM_NEWNEIGH, unix.AF_INET, netlink.NUD_FAILED), failed, true},
		{"removed", msg(unix.RTM_DELNEIGH, unix.AF_INET, netlink.NUD_STALE), gone, true},
		{"bridge", msg(unix.RTM_NEWNEIGH, unix.AF_BRIDGE, netlink.NUD_REACHABLE), 0, false},
		{"IPv6", msg(unix.RTM_NEWNEIGH, unix.AF_INET6, netlink.NUD_REACHABLE), resolved, true},
		{"nothing", netlink.NeighUpdate{}, 0, false},
	} {
		got, mine := eventOf(c.u)
		if mine != c.mine || got.fate != c.want {
			t.Errorf("%s: fate %v, mine %v", c.name, got.fate, mine)
		}
		if mine && (got.place != place{2, rs1} || (got.fate == resolved) != (got.mac != nil)) {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}
