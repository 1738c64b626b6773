package demo

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"systole/test/golden"
)

// sample is a report with everything in it.
func sample() Report {
	good := Step{Number: 2, Name: "100 HTTP requests, strictly in turn", OK: true, Took: 42.4, Figures: map[string]float64{}}
	good.expect("web1, web2, web1, ... : %d each", 50)
	good.saw("50 x web1, 50 x web2")
	good.saw("a table\nof two lines")
	good.figure("out_of_turn", 0)
	bad := Step{Number: 9, Name: "the active node's cable is cut", Took: 3310, Figures: map[string]float64{}}
	bad.expect("gap at most %s", short(gapLimit))
	bad.saw("gap %s", short(481*time.Millisecond))
	bad.figure("gap", 481*time.Millisecond)
	bad.require(true, "not said")
	bad.require(false, "gap %s, want at most %s", short(481*time.Millisecond), short(gapLimit))
	return Report{
		Took: 3352.4, Error: "the demo did not go as it should: 1 of 12 steps did not hold",
		Lab:   (*demo)(nil).description(),
		Steps: []Step{good, bad},
	}
}

func render(p *printer, r Report) {
	p.opening()
	for i := range r.Steps {
		p.begin(&r.Steps[i])
		p.end(&r.Steps[i])
	}
	p.ask()
	p.closing(r)
}

func TestTextIsAsPrinted(t *testing.T) {
	var plain bytes.Buffer
	render(newPrinter(Options{Out: &plain}), sample())
	golden.Check(t, "plain.txt", plain.Bytes())
	if strings.ContainsAny(plain.String(), "\x1b\r") {
		t.Error("control characters, though it is no terminal")
	}

	var coloured bytes.Buffer
	render(&printer{w: &coloured, colour: true, progress: true}, sample())
	golden.Check(t, "terminal.txt", coloured.Bytes())
}

// NO_COLOR takes the colour, and only that.
func TestNoColour(t *testing.T) {
	var out bytes.Buffer
	render(&printer{w: &out, progress: true}, sample())
	if s := out.String(); strings.Contains(strings.ReplaceAll(s, "\x1b[K", ""), "\x1b") {
		t.Error("colour without colour")
	}
	if !strings.Contains(out.String(), "FAILED") {
		t.Error("colour was the only sign")
	}
}

func TestJSONIsOneDocument(t *testing.T) {
	var text, doc bytes.Buffer
	p := newPrinter(Options{Out: &text, JSON: true})
	render(p, sample())
	if text.Len() != 0 {
		t.Errorf("text beside the document: %q", text.String())
	}
	r := sample()
	if err := r.write(&doc); err != nil {
		t.Fatal(err)
	}
	golden.Check(t, "report.json", doc.Bytes())
	var back Report
	dec := json.NewDecoder(&doc)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sample(), back); diff != "" {
		t.Errorf("not what was written: %s", diff)
	}
	if _, err := dec.Token(); err != io.EOF {
		t.Error("more than one document")
	}
}

func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.0 ms", 1234 * time.Microsecond: "1.2 ms", 310 * time.Millisecond: "310 ms",
		9999 * time.Millisecond: "9999 ms", 12340 * time.Millisecond: "12.3 s",
	} {
		if got := short(d); got != want {
			t.Errorf("short(%v) = %q, want %q", d, got, want)
		}
	}
}
