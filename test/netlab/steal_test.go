package netlab

import (
	"strings"
	"testing"
)

func TestSteal(t *testing.T) {
	const stat = "cpu  3 2 9 3 1 0 6 263888 0 0\ncpu0 1886215 1080182 432505 1700618 2938 0 42888 131782 0 0\n"
	for cpu, want := range map[string]int{"cpu": 263888, "cpu0": 131782} {
		if d, err := stealOf(strings.NewReader(stat), cpu); err != nil || int(d/Tick) != want {
			t.Errorf("%s: %v, %v", cpu, d, err)
		}
	}
	if _, err := stealOf(strings.NewReader(stat), "cpu1"); err == nil {
		t.Error("no error without the CPU")
	}
}
