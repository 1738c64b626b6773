package dataplane

import (
	"net/netip"
	"testing"
)

// What a tunnel leaves of an MTU, by the header's parts: 20 or 40 bytes of IP, 12
// of UDP and GUE.
func TestMost(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for _, tt := range []struct {
		r                RealServer
		most             int
		narrow4, narrow6 bool
	}{
		{RealServer{Addr: v4}, 1500, false, false},
		{RealServer{Addr: v4, MTU: 100}, 100, false, false}, // no tunnel
		{RealServer{Addr: v4, Forward: Masq, MTU: 100}, 100, false, false},
		{RealServer{Addr: v4, Forward: IPIP}, 1480, false, false},
		{RealServer{Addr: v6, Forward: IPIP}, 1460, false, false},
		{RealServer{Addr: v4, Forward: GUE, MTU: 9000}, 8968, false, false},
		{RealServer{Addr: v6, Forward: GUE}, 1448, false, false},
		{RealServer{Addr: v6, Forward: IPIP, MTU: 1320}, 1280, false, false},
		{RealServer{Addr: v6, Forward: IPIP, MTU: 1319}, 1279, false, true},
		{RealServer{Addr: v4, Forward: GUE, MTU: 608}, 576, false, true},
		{RealServer{Addr: v4, Forward: GUE, MTU: 607}, 575, true, true},
	} {
		if got := tt.r.Most(); got != tt.most {
			t.Errorf("%+v: %d bytes, want %d", tt.r, got, tt.most)
		}
		for vip, want := range map[netip.Addr]bool{v4: tt.narrow4, v6: tt.narrow6} {
			if got := tt.r.Narrow(ServiceKey{VIP: vip}); got != want {
				t.Errorf("%+v for %s: too narrow %v, want %v", tt.r, vip, got, want)
			}
		}
	}
}
