package netlab

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// Tick is the unit of times in /proc: USER_HZ is 100 on every Linux.
const Tick = 10 * time.Millisecond

// Steal is how long the machine below a virtual one has kept a CPU for itself
// since the start ("steal" of proc_stat(5)): "cpu0", or all of them: "cpu".
func Steal(cpu string) (time.Duration, error) {
	f, err := os.Open("/proc/stat")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return stealOf(f, cpu)
}

func stealOf(stat io.Reader, cpu string) (time.Duration, error) {
	lines := bufio.NewScanner(stat)
	for lines.Scan() {
		if w := strings.Fields(lines.Text()); len(w) > 8 && w[0] == cpu {
			ticks, err := strconv.ParseInt(w[8], 10, 64)
			return time.Duration(ticks) * Tick, err
		}
	}
	return 0, fmt.Errorf("/proc/stat: nothing of %s: %w", cpu, lines.Err())
}
