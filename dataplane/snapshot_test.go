package dataplane

import (
	"net/netip"
	"slices"
	"testing"
)

func TestServiceKeyNames(t *testing.T) {
	for _, s := range []string{"192.168.145.101:80/tcp", "192.168.145.101:53/udp", "[2001:db8::1]:443/tcp", "192.168.145.101:5060/sctp",
		"192.168.145.101:0/udp", "192.168.145.101:8000-8099/tcp", "[2001:db8::1]:1-65535/udp", "fwmark:7", "fwmark6:4294967295"} {
		k, err := ParseServiceKey(s)
		if err != nil || k.String() != s {
			t.Errorf("%s -> %v, %v", s, k, err)
		}
	}
	for _, s := range []string{"", "192.168.145.101:80", "192.168.145.101/tcp", "192.168.145.101:80/icmp", "192.168.145.101:80-80/tcp", "192.168.145.101:80-79/tcp", "192.168.145.101:0-79/tcp", "192.168.145.101:80-/tcp",
		"192.168.145.101:80-0090/tcp", "192.168.145.101:80-70000/tcp", "fwmark:0", "fwmark:07", "fwmark:-1", "fwmark7:7", "fwmark:4294967296", "www.a.com:80/tcp", "192.168.145.101:99999/tcp", "192.168.145.101:80/tcp/x"} {
		if k, err := ParseServiceKey(s); err == nil {
			t.Errorf("%q was read as %v", s, k)
		}
	}
}

func TestServiceKeyOrder(t *testing.T) {
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	key := func(a netip.Addr, first, last uint16, p Protocol, mark uint32) ServiceKey {
		return ServiceKey{VIP: a, Port: first, LastPort: last, Protocol: p, Mark: mark}
	}
	want := []ServiceKey{key(a, 53, 0, TCP, 0), key(a, 53, 0, UDP, 0), key(a, 53, 60, TCP, 0), key(a, 80, 0, TCP, 0),
		key(b, 53, 0, TCP, 0), key(netip.IPv4Unspecified(), 0, 0, 0, 7)}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, ServiceKey.Compare)
	if !slices.Equal(got, want) {
		t.Errorf("order %v", got)
	}
}

func TestWordsForPeople(t *testing.T) {
	for got, want := range map[string]string{
		TCP.String(): "tcp", UDP.String(): "udp", SCTP.String(): "sctp", Protocol(50).String(): "proto-50",
		Gate.String(): "gate", IPIP.String(): "ipip", GUE.String(): "gue", Masq.String(): "masq",
		Reset.String(): "reset", Reschedule.String(): "reschedule", Keep.String(): "keep",
		Standby.String(): "standby", Active.String(): "active", Draining.String(): "draining", Role(9).String(): "role-9",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
