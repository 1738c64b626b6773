package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"time"
)

// Report is what the demo saw; the form of `systole demo --json`.
type Report struct {
	OK    bool    `json:"ok"`
	Took  float64 `json:"took_ms"`
	Error string  `json:"error,omitempty"`
	Lab   Lab     `json:"lab"`
	Steps []Step  `json:"steps,omitempty"`
}

// Lab describes the network.
type Lab struct {
	VIP   string            `json:"vip"`
	Hosts map[string]string `json:"hosts"` // name -> address
	// Keepalive and Deadtime are those of the config.
	Keepalive float64 `json:"keepalive_ms"`
	Deadtime  float64 `json:"deadtime_ms"`
}

// Step is one step of the walk.
type Step struct {
	Number   int      `json:"number"`
	Name     string   `json:"name"`
	OK       bool     `json:"ok"`
	Took     float64  `json:"took_ms"`
	Expected []string `json:"expected"`
	Seen     []string `json:"seen"`
	Failures []string `json:"failures,omitempty"`
	// Figures are what was measured; the unit ends the name ("gap_ms"),
	// counts have none.
	Figures map[string]float64 `json:"figures"`
}

// expect says what should happen; before it does.
func (s *Step) expect(format string, args ...any) {
	s.Expected = append(s.Expected, fmt.Sprintf(format, args...))
}

// saw says what did.
func (s *Step) saw(format string, args ...any) {
	s.Seen = append(s.Seen, fmt.Sprintf(format, args...))
}

// require notes a failure unless ok; the step goes on.
func (s *Step) require(ok bool, format string, args ...any) {
	if !ok {
		s.Failures = append(s.Failures, fmt.Sprintf(format, args...))
	}
}

// figure keeps a number, durations in milliseconds.
func (s *Step) figure(name string, v any) {
	switch v := v.(type) {
	case time.Duration:
		s.Figures[name+"_ms"] = millis(v)
	case int:
		s.Figures[name] = float64(v)
	default:
		panic(fmt.Sprintf("demo: figure %s is a %T", name, v))
	}
}

// millis is a duration in milliseconds, to the hundredth.
func millis(d time.Duration) float64 {
	return math.Round(float64(d)/float64(10*time.Microsecond)) / 100
}

func (r Report) write(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}
