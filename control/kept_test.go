package control

import (
	"net/netip"
	"testing"
	"testing/synctest"

	"systole/control/config"
	"systole/control/neighbour"
	"systole/dataplane"
	"systole/hb"
)

var (
	keptVIP = netip.MustParseAddr("192.168.145.101")
	server3 = netip.MustParseAddr("192.168.145.203")
)

// leftServing is the world of a daemon whose predecessor was alone. One of its
// servers is not known yet.
func leftServing(w *world) {
	w.inherited = []netip.Addr{keptVIP}
	w.here[keptVIP] = true
	for _, c := range []*config.Config{w.cfg, w.next} {
		c.Services[0].Servers = append(c.Services[0].Servers, config.Server{Addr: server3, Weight: 1})
	}
}

// untouched: the generation of the predecessor is in force, and said to be.
func (w *world) untouched(t *testing.T, d *Director) {
	t.Helper()
	synctest.Wait()
	if got := w.take(); got != "" || w.table.VIPs != nil || w.granted != dataplane.Unlimited {
		t.Errorf("did %q, table %v, lease %v", got, w.table.VIPs, w.granted)
	}
	if s := status(t, d); s.Role != "active" || s.Holds != "none" || s.Lease != "unlimited" || !s.Groups[0].VIPs[0].Present {
		t.Errorf("role %s, holds %s, lease %s, address %v", s.Role, s.Holds, s.Lease, s.Groups[0].VIPs[0].Present)
	}
}

// What a predecessor that was alone has left serving stays until all servers are
// known, or the director has decided; it is replaced in one step.
func TestWhatWasServedAloneIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d, _ := startDirector(t, leftServing)
		w.untouched(t, d)
		if err := d.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.untouched(t, d)
		w.check(d, server3, nil)
		w.untouched(t, d) // up, but its MAC address is not known
		d.NeighbourChanged(neighbour.Update{Addr: server3, MAC: mac1})
		synctest.Wait()
		if got, want := w.take(), "role active"; got != want || w.servers() != "192.168.145.200=1 192.168.145.201=3 192.168.145.203=1" {
			t.Errorf("all known: did %q, want %q; %s", got, want, w.servers())
		}
		w.alone()
		if got, want := w.take(), "add 192.168.145.101; announce 192.168.145.101"; got != want {
			t.Errorf("alone: did %q, want %q", got, want)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w, d, _ := startDirector(t, leftServing)
		w.alone()
		if got, want := w.take(), "role active; add 192.168.145.101; announce 192.168.145.101"; got != want {
			t.Errorf("alone, before all servers are known: did %q, want %q", got, want)
		}
		if s := status(t, d); s.Holds != "all" {
			t.Errorf("holds %s", s.Holds)
		}
	})
}

// The first that is heard of the peer ends it, whatever it is.
func TestKeptNoLongerThanNobodyIsHeard(t *testing.T) {
	for _, ev := range []hb.Event{
		hb.LinkChanged{Node: "node2", Medium: "eth0", State: hb.LinkUp, Up: true},
		hb.NodeChanged{Node: "node2", From: hb.Init, To: hb.Up},
	} {
		synctest.Test(t, func(t *testing.T) {
			w, d, _ := startDirector(t, leftServing)
			w.events <- hb.LinkChanged{Node: "witness", Medium: "eth0", State: hb.LinkUp, Up: true}
			w.untouched(t, d)
			w.peer = hb.PeerView{Name: "node2", Status: hb.Up, Heard: true}
			w.events <- ev
			synctest.Wait()
			if got, want := w.take(), "del 192.168.145.101; role standby"; got != want {
				t.Errorf("%v: did %q, want %q", ev, got, want)
			}
			if s := status(t, d); s.Role != "standby" {
				t.Errorf("%v: %s", ev, s.Role)
			}
		})
	}
}

func TestStopWhileKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d, cancel := startDirector(t, leftServing)
		w.untouched(t, d)
		cancel()
		<-d.done
		if got, want := w.take(), "del 192.168.145.101; role standby"; got != want {
			t.Errorf("did %q, want %q", got, want)
		}
	})
}

func TestKept(t *testing.T) {
	for _, tt := range []struct {
		name      string
		inherited []netip.Addr
		edit      func(*config.Config)
		want      int
	}{
		{"served alone", []netip.Addr{keptVIP}, func(*config.Config) {}, 1},
		{"a lease that has ended", nil, func(*config.Config) {}, 0},
		{"not in the config any more", []netip.Addr{netip.MustParseAddr("192.168.145.99")}, func(*config.Config) {}, 0},
		{"at most one", []netip.Addr{keptVIP}, func(c *config.Config) { c.Cluster.Partition = config.AtMostOne }, 0},
		{"a legacy peer", []netip.Addr{keptVIP}, func(c *config.Config) { c.Cluster.Legacy = true }, 0},
		{"a witness now", []netip.Addr{keptVIP}, func(c *config.Config) { c.Cluster.Witnesses = []string{c.Node} }, 0},
	} {
		c := testConfig()
		tt.edit(c)
		if got := Kept(c, []dataplane.Plane{&world{inherited: tt.inherited}}); len(got) != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}
