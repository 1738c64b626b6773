package vm

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestClosure(t *testing.T) {
	const dep = `kernel/net/ip-vs.ko: kernel/net/conntrack.ko kernel/lib/crc.ko
kernel/net/ip_vs_rr.ko: kernel/net/ip-vs.ko kernel/net/conntrack.ko kernel/lib/crc.ko
kernel/net/conntrack.ko: kernel/lib/crc.ko
kernel/lib/crc.ko:
kernel/drivers/sound.ko:
`
	for _, tt := range []struct {
		patterns []string
		want     string
	}{
		{[]string{"ip_vs*"}, "kernel/net/ip-vs.ko kernel/net/conntrack.ko kernel/lib/crc.ko kernel/net/ip_vs_rr.ko"},
		{[]string{"crc", "built_in"}, "kernel/lib/crc.ko"},
	} {
		got, err := closure(dep, tt.patterns)
		if err != nil || strings.Join(got, " ") != tt.want {
			t.Errorf("%s: %s, %v; want %s", tt.patterns, got, err, tt.want)
		}
	}
	for _, bad := range []struct{ dep, pattern string }{{dep, "nosuch"}, {"no colon", "*"}, {dep, "["}} {
		if got, err := closure(bad.dep, []string{bad.pattern}); err == nil {
			t.Errorf("%q in %q: %s", bad.pattern, bad.dep, got)
		}
	}
}

// A shell reads the arguments as they were.
func TestQuoted(t *testing.T) {
	want := []string{"a b", "it's", "$HOME", "", `\`, "-test.run=^(A|B)$"}
	out, err := exec.CommandContext(stopped, "sh", "-c", `printf '%s\n' `+quoted(want)).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n"); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestMissing(t *testing.T) {
	if _, err := newHost("2.4"); err == nil || !strings.Contains(err.Error(), "sh test/") {
		t.Errorf("%v, want an error that says what to do", err)
	}
}
