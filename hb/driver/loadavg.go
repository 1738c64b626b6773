package driver

import (
	"os"
	"strings"
)

// LoadAverage returns the text of /proc/loadavg, for Config.Load; "" if it
// cannot be read. It is for people only (heartbeat-wire.md section 4).
func LoadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
