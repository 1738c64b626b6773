package dataplane

import (
	"strings"
	"testing"
)

// FuzzParseServiceKey: what is accepted is what String writes of it, and a
// refusal quotes the text.
func FuzzParseServiceKey(f *testing.F) {
	for _, s := range []string{"192.0.2.1:80/tcp", "[2001:db8::1]:53/udp", "192.0.2.1:80", "192.0.2.1:80/sctp", "/tcp", "1:2:3/udp", "[fe80::1%eth0]:1/tcp"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		k, err := ParseServiceKey(s)
		if err != nil {
			if k != (ServiceKey{}) || !strings.Contains(err.Error(), "service ") {
				t.Fatalf("%q: %v, %v", s, k, err)
			}
			return
		}
		if again, err := ParseServiceKey(k.String()); err != nil || again != k {
			t.Fatalf("%q: %v, and back %v, %v", s, k, again, err)
		}
	})
}
