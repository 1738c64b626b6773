package xdp

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseCPUs(t *testing.T) {
	for _, tt := range []struct {
		list string
		want []int
	}{
		{"0\n", []int{0}}, {"0-1\n", []int{0, 1}}, {"0,2-4,7\n", []int{0, 2, 3, 4, 7}},
		{"", nil}, {"0-", nil}, {"3-1", nil}, {"a", nil}, {"0,", nil}, {"-1", nil},
	} {
		got, err := parseCPUs([]byte(tt.list))
		if !slices.Equal(got, tt.want) || (err == nil) != (tt.want != nil) {
			t.Errorf("%q: %v, %v; want %v", tt.list, got, err, tt.want)
		}
	}
}

func FuzzParseCPUs(f *testing.F) {
	f.Add([]byte("0-3,8\n"))
	f.Fuzz(func(t *testing.T, list []byte) {
		cpus, err := parseCPUs(list)
		if err == nil && (len(cpus) == 0 || !strings.ContainsAny(string(list), "0123456789")) {
			t.Errorf("%q: %v", list, cpus)
		}
	})
}

// Where the tests run every CPU can be visited; if not, Apply still works, but
// twenty times a second at most.
func TestVisitCPUs(t *testing.T) {
	begin := time.Now()
	const visits = 100
	for range visits {
		if err := visitCPUs(); err != nil {
			t.Skip("this machine does not let us run on all of its CPUs:", err)
		}
	}
	t.Logf("%v for a visit", time.Since(begin)/visits)
	begin = time.Now()
	waitForReaders()
	t.Logf("%v for a wait", time.Since(begin))
}
