package main

import (
	"log/slog"
	"net/netip"
	"testing"

	"systole/control/config"
	"systole/control/vip"
	"systole/test/netlab/selflan"
)

func TestMain(m *testing.M) { selflan.Main(m) }

// A daemon whose heartbeat has ended stops without a hand-over. What it added
// goes with it, also what a reload had brought, and so does nothing else.
func TestTheWayOutTakesTheAddressesOfReloads(t *testing.T) {
	selflan.New(t)
	addr := func(ip string) vip.Addr {
		return vip.Addr{IP: netip.MustParseAddr(ip), PrefixLen: 32, Interface: "eth0"}
	}
	atStart, reloaded, gone, foreign := addr("192.168.145.101"), addr("192.168.145.102"), addr("192.168.145.103"), addr("192.168.145.104")
	log := slog.New(slog.DiscardHandler)
	operator := vip.New(log, 0)
	defer operator.Close()
	selflan.Must(t, operator.Add(foreign))

	cfg := &config.Config{Groups: []config.Group{{Name: "web", VIPs: []config.VIP{{Addr: atStart.IP, PrefixLen: 32, Interface: "eth0"}}}}}
	d := daemon{cfg: cfg, log: log, addresses: vip.New(log, 0)}
	defer d.addresses.Close()
	for _, a := range []vip.Addr{atStart, reloaded, gone} {
		selflan.Must(t, d.addresses.Add(a))
	}
	selflan.Must(t, d.addresses.Del(gone))
	selflan.Must(t, operator.Add(gone)) // not ours any more

	selflan.Must(t, d.leave())
	for a, want := range map[vip.Addr]bool{atStart: false, reloaded: false, gone: true, foreign: true} {
		if got, err := operator.Present(a); err != nil || got != want {
			t.Errorf("%s is there: %v, want %v (%v)", a, got, want, err)
		}
	}
	if left := d.addresses.Added(); len(left) != 0 {
		t.Errorf("still noted: %v", left)
	}
}
