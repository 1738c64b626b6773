package control

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"systole/control/config"
)

// A peer's address on the LAN, which second chance needs, comes from
// cluster.addresses, else from a medium there.
func TestPeerAddrs(t *testing.T) {
	other := netip.MustParseAddr("192.168.145.12")
	mcast := []config.Medium{{Type: "mcast", Interface: "eth0"}, {Type: "serial", Device: "/dev/ttyS0"}}
	for _, c := range []struct {
		name string
		edit func(*config.Config)
		want []netip.Addr
	}{
		{"medium", func(*config.Config) {}, []netip.Addr{peerAddr}},
		{"medium of another LAN", func(c *config.Config) { c.DataPlane.Interface = "eth1" }, nil},
		{"media without addresses", func(c *config.Config) { c.Cluster.Media = mcast }, nil},
		{"written", func(c *config.Config) {
			c.Cluster.Media = mcast
			c.Cluster.Addresses = map[string]netip.Addr{"node1": netip.MustParseAddr("192.168.145.10"), "node2": other}
		}, []netip.Addr{other}},
	} {
		cfg := testConfig()
		c.edit(cfg)
		if got := peerAddrs(cfg); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		for _, a := range c.want {
			if !slices.Contains(neighbourTargets(cfg), a) {
				t.Errorf("%s: the MAC address of %s is not asked for", c.name, a)
			}
		}
	}
}

func TestWithoutPeerAddressSaysSo(t *testing.T) {
	for _, known := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			_, d, _ := startDirector(t, func(w *world) {
				if !known {
					w.cfg.Cluster.Media = []config.Medium{{Type: "bcast", Interface: "eth0", Port: 694}}
				}
			})
			said := slices.ContainsFunc(status(t, d).Events, func(e EventState) bool {
				return strings.Contains(e.Text, "no second chance") && strings.Contains(e.Text, "cluster.addresses")
			})
			if said == known {
				t.Errorf("address known %v, said %v", known, said)
			}
		})
	}
}
