package hbtest

import (
	"strings"
	"testing"
)

// TestScriptErrors: a script that is wrong says where.
func TestScriptErrors(t *testing.T) {
	for _, test := range []struct{ script, text string }{
		{"> start a", "line 1: start a: first say which nodes"},
		{"# x\n> nodes a b deadtime=x", "line 2: nodes a b deadtime=x: time: invalid duration"},
		{"> nodes a b\n> nodes a speed=1", "line 2: nodes a speed=1: unknown option speed"},
		{"> nodes a b\n> start c", `line 2: start c: hbtest: no node "c"`},
		{"> nodes a deadtime=1ms\n> start a", "must exceed 2 x keepalive"},
		{"> nodes a b\n> drop a b status", "line 2: drop a b status: runtime error"},
		{"> nodes a b\n> drop a b status x", "invalid syntax"},
		{"> nodes a b\n> again a b status", "a has sent no status"},
		{"> nodes a b\n> faults gravity=1", "unknown fault"},
		{"> nodes a b\n> faults loss=x", "invalid syntax"},
		{"> nodes a b\n> dance", "line 2: dance: unknown command"},
		{"hello", "line 1: neither comment"},
		{"> ", "line 1: : no command"},
	} {
		if _, err := script(test.script); err == nil || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%q: got %v, want %q", test.script, err, test.text)
		}
	}
}

// TestScriptOutput: output is made anew, all else is kept; the first line that
// differs is found.
func TestScriptOutput(t *testing.T) {
	const text = "# why\n\n> nodes a deadtime=3s\n  stale output\n> log all\n> start a\n  more of it\n"
	got, err := script(text)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(got, "# why\n\n> nodes a deadtime=3s\n> log all\n> start a\n     0.000 a: sends status #1 st=init dt=5000\n") {
		t.Error(got)
	}
	if again, _ := script(got); again != got {
		t.Errorf("not the same a second time:\n%s", again)
	}
	if d := firstDifference(text, got); !strings.HasPrefix(d, "line 4:\n  want \"  stale output\"") {
		t.Error(d)
	}
}

// TestPauseKeepsPackets: a paused node finds at most a socket's worth of
// packets when it goes on.
func TestPauseKeepsPackets(t *testing.T) {
	got, err := script("> nodes a b keepalive=10ms deadtime=30s\n> start a b\n> log events\n> run 1s\n> pause b\n> run 20s\n> resume b\n> run 100ms\n> view b\n")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(got, "b: stood still for 19.99") || !strings.Contains(got, "missing 0 lost 15") {
		t.Error(got)
	}
}
