package control

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"systole/control/config"
	"systole/control/neighbour"
	"systole/dataplane"
)

// By which interface a server is reached, as the plane is told.
func TestPlanInterfaces(t *testing.T) {
	for _, tt := range []struct {
		what string
		nics []string
		mode string
		by   []string
		want string
		ours bool
	}{
		{"not known", []string{"eth0", "eth1"}, "auto", nil, "", true},
		{"one of ours", []string{"eth0", "eth1"}, "auto", []string{"eth1"}, "eth1", true},
		{"the only one", []string{"eth0"}, "auto", []string{"eth0"}, "eth0", true},
		{"a VLAN on one of ours", []string{"eth0", "eth1"}, "auto", []string{"eth1.100", "eth1"}, "eth1", true},
		{"a VLAN that is ours itself", []string{"eth0", "eth1.100"}, "auto", []string{"eth1.100", "eth1"}, "eth1.100", true},
		{"a bond", []string{"bond0", "eth9"}, "auto", []string{"bond0", "eth0", "eth1"}, "bond0", true},
		{"a bridge with one of ours", []string{"eth0", "eth9"}, "auto", []string{"br0", "eth0", "tap3"}, "eth0", true},
		{"a bridge with two of ours", []string{"eth0", "eth1"}, "auto", []string{"br0", "eth0", "eth1"}, "", true},
		{"none of ours", []string{"eth0", "eth1"}, "auto", []string{"eth2.7", "eth2"}, "eth2.7", false},
		{"IPVS finds its way", []string{"eth0"}, "ipvs", []string{"eth2"}, "", true},
	} {
		t.Run(tt.what, func(t *testing.T) {
			cfg, f := testConfig(), allGood()
			cfg.DataPlane = config.DataPlane{Interface: tt.nics[0], Interfaces: tt.nics, Mode: tt.mode}
			f.Neighbours[server1] = Neighbour{MAC: mac1, Interfaces: tt.by}
			f.Neighbours[peerAddr] = Neighbour{MAC: macPeer, Interfaces: tt.by}
			s, why := Plan(cfg, f)
			if r := s.Services[0].Servers[0]; r.Interface != tt.want || !bytes.Equal(r.MAC, mac1) {
				t.Errorf("server %+v, want it by %q", r, tt.want)
			}
			if !slices.Equal(s.PeerInterfaces, []string{tt.want}) || len(s.Peers) != 1 {
				t.Errorf("peers by %q, want %q", s.PeerInterfaces, tt.want)
			}
			// IPVS, which may carry the service, finds its way.
			if reason := why[key(server1)].Reason; reason != "" {
				t.Errorf("reason %q", reason)
			}
			if _, ours := reachedBy(cfg, f.Neighbours[server1]); ours != tt.ours {
				t.Errorf("ours %v, want %v", ours, tt.ours)
			}
		})
	}
}

func TestLeaseOfAnInterface(t *testing.T) {
	two := dataplane.Info{Lease: true, Mode: "native", Interface: "eth0, eth1", Interfaces: []dataplane.Interface{
		{Name: "eth0", Mode: "native"}, {Name: "eth1", Mode: dataplane.Detached, Reason: "interface eth1 is gone"},
	}}
	for iface, want := range map[string]bool{"eth0": true, "eth1": false, "eth2": false, "eth0, eth1": false} {
		if got := keepsLease(two, iface); got != want {
			t.Errorf("keepsLease(%q) = %v", iface, got)
		}
	}
	problems := detachedInterfaces(PlaneState{Info: two})
	if len(problems) != 1 || !strings.Contains(problems[0], "eth1 is gone") {
		t.Errorf("problems %q", problems)
	}
	two.Mode = dataplane.Detached
	if problems := detachedInterfaces(PlaneState{Info: two}); problems != nil {
		t.Errorf("problems %q of a plane that is detached itself", problems)
	}
}

// One of two interfaces goes: an event, and the director is degraded.
func TestOneInterfaceOfTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d, _ := startDirector(t)
		w.alone()
		both := func(second string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.interfaces = []dataplane.Interface{{Name: "eth0", Mode: "native"}, {Name: "eth1", Mode: second, Reason: "because"}}
		}
		both("native")
		time.Sleep(2 * housekeepingPeriod)
		both(dataplane.Detached)
		time.Sleep(2 * housekeepingPeriod)
		s := status(t, d)
		if s.Health == "ok" || !slices.Contains(s.Problems, "data plane fake is not attached to eth1: because") || !said(s, "fake on eth1: native -> detached because") {
			t.Errorf("%s %q %+v", s.Health, s.Problems, s.Events)
		}
		both("generic")
		time.Sleep(2 * housekeepingPeriod)
		if s := status(t, d); slices.ContainsFunc(s.Problems, func(p string) bool { return strings.Contains(p, "eth1") }) || !said(s, "fake on eth1: detached -> generic because") {
			t.Errorf("%s %q %+v", s.Health, s.Problems, s.Events)
		}
	})
}

// A move to another interface is a change, though the MAC address is the same.
func TestNeighbourMovesToAnotherInterface(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d, _ := startDirector(t)
		w.alone()
		at := func(by string) string {
			d.NeighbourChanged(neighbour.Update{Addr: server1, MAC: mac1, Interfaces: []string{by}})
			synctest.Wait()
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, r := range w.table.Services[0].Servers {
				if r.Addr == server1 {
					return r.Interface
				}
			}
			return "no server"
		}
		if a, b := at("eth0"), at("eth7"); a != "eth0" || b != "eth7" {
			t.Errorf("by %q, then %q", a, b)
		}
	})
}

// Status says of a server of XDP's why that gives it nothing, and of IPVS's none.
func TestStatusSaysWhichServersXDPDoesNotReach(t *testing.T) {
	for choice, want := range map[string]string{"xdp": "reached by eth7, to which XDP is not attached", "ipvs": ""} {
		synctest.Test(t, func(t *testing.T) {
			w, d, _ := startDirector(t, withIPVS(""))
			w.alone()
			d.NeighbourChanged(neighbour.Update{Addr: server1, MAC: mac1, Interfaces: []string{"eth7"}})
			if err := d.ChoosePlane(t.Context(), choice); err != nil {
				t.Fatal(err)
			}
			servers := status(t, d).Services[0].Servers
			if got := servers[0].Reason; (got == "") != (want == "") || !strings.HasPrefix(got, want) {
				t.Errorf("%s: %q", choice, got)
			}
			if servers[1].Reason != "" {
				t.Errorf("%s: %q of a server that is known nowhere else", choice, servers[1].Reason)
			}
		})
	}
}
