package main

import (
	"fmt"
	"html"
	"io"
	"math"
	"strings"
)

// bar is one line of a plot: a value with the range of its samples.
type bar struct {
	label       string
	value       float64
	least, most float64
	goal        float64 // 0: none
	pale        bool
}

// plot writes bars as an SVG, with a legend below its title. A plotting library
// would bring fonts and rasters for what are a few rectangles and texts. A
// logarithmic scale begins at from.
func plot(out io.Writer, title, legend, unit string, bars []bar, from float64) error {
	const left, width, line, top = 220, 490, 30, 76
	high := 0.0
	for _, b := range bars {
		high = max(high, b.most, b.goal)
	}
	x := func(v float64) float64 {
		if from > 0 {
			return left + width*max(0, math.Log(v/from))/math.Log(high/from)
		}
		return left + width*max(0, v)/high
	}
	var s strings.Builder
	height := top + line*len(bars) + 30
	fmt.Fprintf(&s, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 860 %d\" font-family=\"system-ui, 'DejaVu Sans', sans-serif\" font-size=\"14\">\n", height)
	fmt.Fprintf(&s, "  <title>%s</title>\n  <rect width=\"860\" height=\"%d\" fill=\"#ffffff\"/>\n", html.EscapeString(title), height)
	fmt.Fprintf(&s, "  <text x=\"24\" y=\"32\" font-weight=\"bold\">%s</text>\n", html.EscapeString(title))
	fmt.Fprintf(&s, "  <text x=\"24\" y=\"54\" fill=\"#333\">%s</text>\n", html.EscapeString(legend))
	for i, b := range bars {
		y := top + line*i
		fill := "#1f5fa8"
		if b.pale {
			fill = "#a9c3e2"
		}
		fmt.Fprintf(&s, "  <text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", left-10, y+15, html.EscapeString(b.label))
		fmt.Fprintf(&s, "  <rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"18\" fill=\"%s\"/>\n", left, y+1, max(1, x(b.value)-left), fill)
		fmt.Fprintf(&s, "  <line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%[2]d\" stroke=\"#555\" stroke-width=\"1.5\"/>\n", x(b.least), y+10, x(b.most))
		if b.goal != 0 {
			fmt.Fprintf(&s, "  <line x1=\"%.1f\" y1=\"%d\" x2=\"%.1[1]f\" y2=\"%[3]d\" stroke=\"#c23b22\" stroke-width=\"2\"/>\n", x(b.goal), y-2, y+22)
		}
		fmt.Fprintf(&s, "  <text x=\"%.1f\" y=\"%d\" fill=\"#333\">%s %s</text>\n", max(x(b.most), x(b.goal))+10, y+15, short(b.value), unit)
	}
	_, err := io.WriteString(out, s.String()+"</svg>\n")
	return err
}

// short is a number with two or three digits that count.
func short(v float64) string {
	if v < 10 {
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

func (r *report) plotPackets(out io.Writer) error {
	var bars []bar
	for _, p := range r.Packets {
		label := p.Name
		if p.Verdict != "forwarded" {
			label += ", passed"
		}
		bars = append(bars, bar{label, p.Net.median(), p.Net.least(), p.Net.most(), p.Goal, p.Verdict != "forwarded"})
	}
	return plot(out, "What the XDP program costs, ns per packet",
		"net of the loop, median; line: best to worst; red: the goal; logarithmic", "ns", bars, 2)
}

func (r *report) plotApplies(out io.Writer) error {
	var bars []bar
	for _, a := range r.Applies {
		bars = append(bars, bar{a.name(), a.Visible.median(), a.Visible.least(), a.Visible.most(), 1000, false})
	}
	return plot(out, "From Apply to the first packet by the new configuration, µs",
		"median; line: best to worst; red: the goal; logarithmic", "µs", bars, 10)
}
