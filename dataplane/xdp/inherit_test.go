package xdp

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"systole/dataplane"
)

// What a predecessor serves is inherited if it was the owner and its lease has
// no end, and until the first Apply.
func TestInherited(t *testing.T) {
	six := netip.MustParseAddr("2001:db8::101")
	draining := netip.MustParseAddr("192.168.145.102")
	s := twoServices(1)
	s.VIPs = append(s.VIPs, dataplane.VIP{Addr: six, Role: dataplane.Active}, dataplane.VIP{Addr: draining, Role: dataplane.Draining},
		dataplane.VIP{Addr: netip.MustParseAddr("192.168.145.103"), Role: dataplane.Standby})
	l := newLAN(t)
	cfg := l.config(t)
	for _, tt := range []struct {
		lease time.Duration
		want  []netip.Addr
	}{{dataplane.Unlimited, []netip.Addr{testVIP, six}}, {time.Hour, nil}, {0, nil}} {
		p := open(t, cfg)
		apply(t, p, s)
		if err := p.Renew(tt.lease); err != nil {
			t.Fatal(err)
		}
		if got := p.Info().Inherited; got != nil {
			t.Errorf("lease %v: its own generation is inherited: %v", tt.lease, got)
		}
		p.crash(t)
		p = open(t, cfg)
		if got := p.Info().Inherited; !slices.Equal(got, tt.want) {
			t.Errorf("lease %v: %v, want %v", tt.lease, got, tt.want)
		}
		p.crash(t)
	}
}
