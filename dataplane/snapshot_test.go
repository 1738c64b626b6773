package dataplane

import (
	"net/netip"
	"slices"
	"testing"
)

func TestServiceKeyNames(t *testing.T) {
	for _, s := range []string{"192.168.145.101:80/tcp", "192.168.145.101:53/udp", "[2001:db8::1]:443/tcp"} {
		k, err := ParseServiceKey(s)
		if err != nil || k.String() != s {
			t.Errorf("%s -> %v, %v", s, k, err)
		}
	}
	for _, s := range []string{"", "192.168.145.101:80", "192.168.145.101/tcp", "192.168.145.101:80/sctp", "www.a.com:80/tcp", "192.168.145.101:99999/tcp", "192.168.145.101:80/tcp/x"} {
		if k, err := ParseServiceKey(s); err == nil {
			t.Errorf("%q was read as %v", s, k)
		}
	}
}

func TestServiceKeyOrder(t *testing.T) {
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	want := []ServiceKey{{a, 53, TCP}, {a, 53, UDP}, {a, 80, TCP}, {b, 53, TCP}}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, ServiceKey.Compare)
	if !slices.Equal(got, want) {
		t.Errorf("order %v", got)
	}
}

func TestWordsForPeople(t *testing.T) {
	for got, want := range map[string]string{
		TCP.String(): "tcp", UDP.String(): "udp", Protocol(132).String(): "proto-132",
		Standby.String(): "standby", Active.String(): "active", Draining.String(): "draining", Role(9).String(): "role-9",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
