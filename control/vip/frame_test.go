package vip

import (
	"encoding/hex"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The wanted frames are those of a real heartbeat 3.0.6 at its takeover.
func TestGratuitous(t *testing.T) {
	mac := net.HardwareAddr{0x42, 0x27, 0xdc, 0xaf, 0xbe, 0x0e}
	p, err := gratuitous(mac, netip.MustParseAddr("192.168.145.100"))
	must(t, err)
	for _, c := range []struct {
		name string
		got  []byte
		want string
	}{
		{"request", p.request, "ff ff ff ff ff ff 42 27 dc af be 0e 08 06 00 01 08 00 06 04 00 01" +
			" 42 27 dc af be 0e c0 a8 91 64 00 00 00 00 00 00 c0 a8 91 64"},
		{"reply", p.reply, "ff ff ff ff ff ff 42 27 dc af be 0e 08 06 00 01 08 00 06 04 00 02" +
			" 42 27 dc af be 0e c0 a8 91 64 42 27 dc af be 0e c0 a8 91 64"},
	} {
		want, err := hex.DecodeString(strings.ReplaceAll(c.want, " ", ""))
		must(t, err)
		// Ethernet's least payload is 46 bytes: the rest is padding.
		if len(c.got) != 60 {
			t.Errorf("%s: %d bytes, want 60", c.name, len(c.got))
		}
		if string(c.got[:42]) != string(want) {
			t.Errorf("%s:\n got %x\nwant %x", c.name, c.got[:42], want)
		}
		if strings.Trim(string(c.got[42:]), "\x00") != "" {
			t.Errorf("%s: padding is not zero: %x", c.name, c.got[42:])
		}
	}
}

func TestGratuitousRefuses(t *testing.T) {
	ip := netip.MustParseAddr("192.168.145.100")
	for _, mac := range []net.HardwareAddr{nil, {1, 2, 3}, make(net.HardwareAddr, 20)} {
		if _, err := gratuitous(mac, ip); err == nil {
			t.Errorf("hardware address %q: no error", mac)
		}
	}
}

func TestSchedule(t *testing.T) {
	t0 := time.Unix(1000, 0)
	s := begin(t0)
	now := t0
	var got []time.Duration
	for {
		d, more := s.next(now)
		if !more {
			break
		}
		now = now.Add(d)
		got = append(got, now.Sub(t0))
	}
	want := []time.Duration{1e8, 2e8, 3e8, 4e8, 5e8, 1e9, 5e9, 30e9}
	if len(got) != len(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("repeat %d at %v, want %v", i, got[i], want[i])
		}
	}
}

// However late its user wakes, a schedule never asks for a pair in the past,
// never asks for the same one twice, and ends.
func TestScheduleLate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1000, 0)
		s := begin(now)
		for n := 0; ; n++ {
			d, more := s.next(now)
			if !more {
				if now.Sub(s.start) < 30*time.Second {
					t.Fatalf("ended after %v", now.Sub(s.start))
				}
				return
			}
			if d <= 0 || n == len(repeats) {
				t.Fatalf("pair %d: wait %v", n, d)
			}
			now = now.Add(d + time.Duration(rapid.Int64Range(0, int64(10*time.Second)).Draw(t, "late")))
		}
	})
}

func TestCheckAddr(t *testing.T) {
	ip := netip.MustParseAddr
	for _, c := range []struct {
		name string
		a    Addr
		want string // part of the error; "" is good
	}{
		{"good", Addr{ip("192.168.145.101"), 32, "eth0"}, ""},
		{"mapped", Addr{ip("::ffff:192.168.145.101"), 24, "eth0"}, ""},
		{"none", Addr{netip.Addr{}, 32, "eth0"}, "no address"},
		{"IPv6", Addr{ip("2001:db8::1"), 128, "eth0"}, ""},
		{"IPv6 link-local", Addr{ip("fe80::1"), 128, "eth0"}, "unicast"},
		{"IPv6 loopback", Addr{ip("::1"), 128, "eth0"}, "unicast"},
		{"IPv6 with a zone", Addr{ip("2001:db8::1%eth0"), 128, "eth0"}, "unicast"},
		{"IPv6, prefix 129", Addr{ip("2001:db8::1"), 129, "eth0"}, "prefix length 129 is not in 1 to 128"},
		{"any", Addr{ip("0.0.0.0"), 32, "eth0"}, "unicast"},
		{"multicast", Addr{ip("224.0.0.81"), 32, "eth0"}, "unicast"},
		{"loopback", Addr{ip("127.0.0.1"), 32, "eth0"}, "unicast"},
		{"prefix 0", Addr{ip("192.168.145.101"), 0, "eth0"}, "prefix length 0"},
		{"prefix 33", Addr{ip("192.168.145.101"), 33, "eth0"}, "prefix length 33"},
		{"no interface", Addr{ip("192.168.145.101"), 32, ""}, "no interface"},
	} {
		got, err := c.a.check()
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want == "" && got.IP.Is4In6():
			t.Errorf("%s: %s is not in IPv4 form", c.name, got.IP)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: error %v, want ...%s...", c.name, err, c.want)
		}
	}
}
