package demo

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// printer writes the demo for people, as it happens.
type printer struct {
	w        io.Writer
	colour   bool
	progress bool // a line may be written over
}

// newPrinter prints nowhere for JSON, in colour on a terminal, and without
// where the NO_COLOR variable is set (no-color.org) or the terminal is dumb.
func newPrinter(o Options) *printer {
	p := &printer{w: o.Out}
	if o.JSON {
		p.w = io.Discard
		return p
	}
	if f, ok := o.Out.(*os.File); ok && isTerminal(f) && os.Getenv("TERM") != "dumb" {
		p.progress = true
		p.colour = os.Getenv("NO_COLOR") == ""
	}
	return p
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// Colours, as haproxy and ip(8) use them; never the only sign.
const (
	green = "32"
	red   = "31"
	cyan  = "36"
	grey  = "90"
	bold  = "1"
)

func (p *printer) paint(code, s string) string {
	if !p.colour || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p *printer) printf(format string, args ...any) {
	fmt.Fprintf(p.w, format, args...)
}

const picture = `
  client   192.168.145.1   ──┐
  node1    192.168.145.10  ──┤            directors: one has the virtual address
  node2    192.168.145.11  ──┼── switch   192.168.145.101   80/tcp 53/udp 53/tcp
  server1  192.168.145.200 ──┤            rr, gate (direct routing)
  server2  192.168.145.201 ──┘            keepalive 100 ms, deadtime 300 ms

`

func (p *printer) opening() {
	p.printf("%s: two directors, two real servers, one client, in network namespaces\n%s", p.paint(bold, "Systole"), picture)
}

// begin shows the step that runs, where that line can be written over.
func (p *printer) begin(s *Step) {
	if p.progress {
		p.printf("%s", p.paint(grey, fmt.Sprintf("%3d  ...           %s", s.Number, s.Name)))
	}
}

func (p *printer) end(s *Step) {
	if p.progress {
		p.printf("\r\x1b[K")
	}
	verdict := p.paint(green, "ok    ")
	if !s.OK {
		verdict = p.paint(red, "FAILED")
	}
	p.printf("%3d  %s %6s  %s\n", s.Number, verdict, seconds(s.Took), p.paint(bold, s.Name))
	p.block("expected", cyan, s.Expected)
	p.block("seen", cyan, s.Seen)
	p.block("wrong", red, s.Failures)
}

// block prints lines with a label before the first.
func (p *printer) block(label, code string, lines []string) {
	for i, l := range lines {
		if i > 0 {
			label = ""
		}
		indented := strings.ReplaceAll(l, "\n", "\n"+strings.Repeat(" ", 29))
		p.printf("%19s%s%s\n", "", p.paint(cmp.Or(code, grey), fmt.Sprintf("%-10s", label)), indented)
	}
}

func (p *printer) ask() {
	p.printf("%s", p.paint(grey, "     -- press Enter for the next step --\n"))
}

func (p *printer) closing(r Report) {
	verdict, code := "every step held", green
	if !r.OK {
		verdict, code = r.Error, red
	}
	p.printf("\n%s, %s s in all\n", p.paint(code, verdict), seconds(r.Took))
}

// seconds prints milliseconds for people.
func seconds(ms float64) string { return fmt.Sprintf("%.2f", ms/1000) }

// short prints a duration with two digits that matter.
func short(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d)/1e6)
	case d < 10*time.Second:
		return fmt.Sprintf("%.0f ms", float64(d)/1e6)
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
