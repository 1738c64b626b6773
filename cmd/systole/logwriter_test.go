package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// gate is a place to write to that can be shut.
type gate struct {
	open chan struct{} // closed: it is open
	b    bytes.Buffer
}

func (g *gate) Write(p []byte) (int, error) {
	<-g.open
	return g.b.Write(p)
}

func TestLogThatHangsHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{})}
		w := newLogWriter(g)
		const lines = logQueue + 100
		for i := range lines {
			fmt.Fprintf(w, "line %d\n", i) // would deadlock if it waited
		}
		synctest.Wait()
		close(g.open)
		w.Close()
		got := strings.Split(strings.TrimSpace(g.b.String()), "\n")
		written, omitted := 0, 0
		for _, line := range got {
			if strings.Contains(line, "left out here") {
				fmt.Sscanf(line, "%d", &omitted)
				continue
			}
			if line != fmt.Sprintf("line %d", written) {
				t.Fatalf("%q after %d lines", line, written)
			}
			written++
		}
		if omitted == 0 || written+omitted != lines {
			t.Errorf("%d lines written and %d said to be left out, of %d", written, omitted, lines)
		}
	})
}

func TestEndDoesNotWaitForALogThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{})}
		w := newLogWriter(g)
		fmt.Fprintln(w, "last words")
		begin := time.Now()
		w.Close()
		if took := time.Since(begin); took != logFlush {
			t.Errorf("waited %v", took)
		}
		close(g.open) // the writer ends with the process in life
	})
}
