package interop

import (
	"regexp"
	"strings"
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
