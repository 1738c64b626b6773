package need

import (
	"fmt"
	"strings"
	"testing"
)

// verdict keeps what a test is told instead of ending it.
type verdict struct {
	testing.TB
	says string
}

func (v *verdict) Helper()                        {}
func (v *verdict) Fatalf(format string, a ...any) { v.says += "FAIL " + fmt.Sprintf(format, a...) }
func (v *verdict) Skipf(format string, a ...any)  { v.says += "SKIP " + fmt.Sprintf(format, a...) }

func TestRoot(t *testing.T) {
	for _, c := range []struct {
		euid     int
		ci, want string
	}{
		{0, "", ""},
		{0, "1", ""},
		{1000, "", "SKIP needs root: BPF programs"},
		{1000, "0", "SKIP needs root: BPF programs"},
		{1000, "1", "FAIL needs root: BPF programs"},
	} {
		v := &verdict{TB: t}
		if root(v, "BPF programs", c.euid, c.ci); v.says != c.want {
			t.Errorf("user %d, SYSTOLE_CI=%q: %q, want %q", c.euid, c.ci, v.says, c.want)
		}
	}
}

func TestProgram(t *testing.T) {
	const absent = "/nonexistent/program"
	for _, c := range []struct {
		name, ci, path, want string
	}{
		{"sh", "1", "/sh", ""},
		{"/bin/sh", "1", "/bin/sh", ""},
		{absent, "", "", "SKIP needs " + absent + ", which `sh test/deps.sh` installs"},
		{absent, "1", "", "FAIL needs " + absent + ", which `sh test/deps.sh` installs"},
	} {
		v := &verdict{TB: t}
		path := program(v, c.name, c.ci)
		if v.says != c.want || !strings.HasSuffix(path, c.path) {
			t.Errorf("%s, SYSTOLE_CI=%q: %q, %q, want %q", c.name, c.ci, path, v.says, c.want)
		}
	}
}
