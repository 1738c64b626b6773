package interop

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// loud are the lines that say something is wrong, in either one's log.
var loud = regexp.MustCompile(`\b(ERROR|CRIT|EMERG|ALERT):|level=ERROR|[Hh]ist queue|[Ii]rretrievably|assert`)

// complaints are lines of weight that are not among the known ones.
func complaints(log string, known ...string) []string {
	var out []string
	for line := range strings.Lines(log) {
		if !loud.MatchString(line) {
			continue
		}
		ok := false
		for _, k := range known {
			ok = ok || strings.Contains(line, k)
		}
		if !ok {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out
}

// late is the complaint of a node that heard nothing for longer than the dead
// time, and for how many milliseconds.
var late = regexp.MustCompile(`Late heartbeat: .*interval (\d+) ms`)

// excused: the machine below took so much of the CPUs meanwhile that nobody could
// have been heard. It must be half of what the line complains of.
func excused(line string, stolen time.Duration) bool {
	m := late.FindStringSubmatch(line)
	if m == nil {
		return false
	}
	ms, err := strconv.Atoi(m[1])
	return err == nil && stolen >= time.Duration(ms)*time.Millisecond/2
}

func TestExcused(t *testing.T) {
	const line = "heartbeat: [7]: CRIT: Late heartbeat: Node node2: interval 2050 ms (> deadtime)"
	for _, test := range []struct {
		line   string
		stolen time.Duration
		want   bool
	}{
		{line, 1025 * time.Millisecond, true},
		{line, time.Second, false},
		{"heartbeat: [7]: ERROR: Both machines own our resources!", time.Minute, false},
	} {
		if got := excused(test.line, test.stolen); got != test.want {
			t.Errorf("%q after %v: %t", test.line, test.stolen, got)
		}
	}
}
