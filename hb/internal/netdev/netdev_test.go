package netdev

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAsk(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if i, err := Index(fd, "lo"); err != nil || i == 0 {
		t.Errorf("lo is %d, %v", i, err)
	}
	if _, err := HasCarrier(fd, "lo"); err != nil {
		t.Error(err)
	}
	_, err = Index(fd, "absent0")
	if !errors.Is(err, unix.ENODEV) || !strings.Contains(err.Error(), "interface absent0 does not exist") {
		t.Errorf("absent: %v", err)
	}
	if _, err := Index(fd, strings.Repeat("a", unix.IFNAMSIZ)); err == nil {
		t.Error("a name that is too long is asked for")
	}
	for name, want := range map[string]bool{"": false, "e": true, "a23456789012345": true, "a234567890123456": false} {
		if ValidName(name) != want {
			t.Errorf("name %q: want %v", name, want)
		}
	}
}
