package golden

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// listener keeps what is said of a difference.
type listener struct {
	testing.TB
	says string
}

func (l *listener) Errorf(format string, a ...any) { l.says += fmt.Sprintf(format, a...) }

func TestCheck(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.Mkdir("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("testdata/status.txt", []byte("active\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	check := func(got string, rewrite bool) string {
		before := *update
		defer func() { *update = before }()
		*update = rewrite
		l := &listener{TB: t}
		Check(l, "status.txt", []byte(got))
		return l.says
	}
	if says := check("active\n", false); says != "" {
		t.Errorf("the same text: %s", says)
	}
	for _, got := range []string{"standby\n", "active", ""} {
		if says := check(got, false); !strings.HasPrefix(says, "testdata/status.txt (-want +got):\n") {
			t.Errorf("%q: says %q", got, says)
		}
	}
	if says := check("standby\n", true); says != "" {
		t.Errorf("with -update: %s", says)
	}
	if text, err := os.ReadFile("testdata/status.txt"); err != nil || string(text) != "standby\n" {
		t.Errorf("after -update the file is %q, %v", text, err)
	}
}
